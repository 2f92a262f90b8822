"""The layout of single files, and the page that describes it: docs/format.md is run and its bytes are compared."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from hotrow.errors import ArgumentError, CorruptError, HotrowError
from hotrow.store import files
from hotrow.store import format as layout
from hotrow.store.files import CHUNK, PIECE, check_part, read_checked
from hotrow.store.format import DTYPES, map_arrays, read_arrays, write_arrays

PAGE = Path(__file__).parents[1] / "docs" / "format.md"
EXPECTED = {"keys": ("U64", (2,))}
KEYS = np.array([7, 2**63], np.uint64)


def block(name: str) -> str:
    """The fenced block of the page that follows the comment `<!-- name -->`."""
    return re.search(rf"<!-- {name} -->\n+```\w*\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[1]


def raw(path: Path, header: object, data: bytes = b"", *, pad: bool = True) -> Path:
    """A file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64 if pad else 0)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(shape=(2,), offsets=(0, 16), dtype="U64"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def expecting(arrays):
    names = {dtype: name for name, dtype in DTYPES.items()}
    return {name: (names[array.dtype.newbyteorder("<")], array.shape) for name, array in arrays.items()}


# --- what is written -------------------------------------------------------------------------------------------------


def test_the_page_shows_the_bytes_of_a_file_as_they_are(tmp_path):
    write_arrays(tmp_path / "keys.safetensors", {"keys": KEYS})
    shown = [line[5:52] for line in block("bytes").splitlines()]
    assert bytes.fromhex("".join(shown)) == (tmp_path / "keys.safetensors").read_bytes()


@given(
    rows=st.integers(0, 5),
    width=st.integers(1, 4),
    dtypes=st.lists(st.sampled_from(list(DTYPES)), min_size=1, max_size=4),
)
def test_arrays_come_back_read_and_mapped_and_safetensors_reads_them_too(tmp_path_factory, rows, width, dtypes):
    path = tmp_path_factory.mktemp("file") / "some.safetensors"
    numbers = np.arange(rows * width).reshape(rows, width)
    arrays = {f"array {i}": (numbers + i).astype(DTYPES[dtype]) for i, dtype in enumerate(dtypes)}
    part = write_arrays(path, arrays)
    assert (part.name, part.size) == (path.name, path.stat().st_size)
    ours = read_arrays(path, expecting(arrays), part), map_arrays(path, expecting(arrays), part)
    for found in (*ours, safetensors.numpy.load_file(path)):
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)


def test_the_data_begins_at_a_multiple_of_64_bytes_and_each_array_at_one_of_its_width(tmp_path):
    path = tmp_path / "mixed.safetensors"
    arrays = {"a": np.ones(3, np.uint8), "b": np.ones(1, np.float32), "c": np.ones(1, np.uint64)}
    write_arrays(path, arrays)
    assert (8 + int.from_bytes(path.read_bytes()[:8], "little")) % 64 == 0
    mapped = map_arrays(path, expecting(arrays))
    assert all(array.flags.aligned for array in mapped.values())
    assert mapped["c"].ctypes.data % 64 == 0


def test_strided_reversed_big_endian_and_mapped_arrays_are_written_by_value(tmp_path):
    rows = np.arange(60, dtype=np.float32).reshape(10, 6)
    on_disk = np.memmap(tmp_path / "raw", np.float32, "w+", shape=(10, 2))
    on_disk[:] = rows[:, 2:4]
    arrays = {"left": rows[:, :2], "back": rows[::-1, 4:], "big": rows.astype(">f4"), "mapped": on_disk}
    write_arrays(tmp_path / "a", arrays)
    found = read_arrays(tmp_path / "a", expecting(arrays))
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())


def test_an_array_of_many_pieces_is_written_in_little_memory(tmp_path):
    rows = np.arange(3 * 4_000_000, dtype=np.float32).reshape(-1, 48)
    weights = rows[:, :32]
    assert weights.nbytes > 7 * PIECE
    tracemalloc.start()
    part = write_arrays(tmp_path / "weights", {"weights": weights})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * PIECE + (1 << 20)
    assert np.array_equal(read_arrays(tmp_path / "weights", expecting({"weights": weights}), part)["weights"], weights)


def test_checksums_are_of_each_chunk_of_the_file_in_order(tmp_path):
    part = write_arrays(tmp_path / "a", {"a": np.arange(CHUNK // 4 + 5, dtype=np.uint64)})
    data = (tmp_path / "a").read_bytes()
    assert part.chunk == CHUNK
    assert part.crc32 == tuple(zlib.crc32(data[i : i + CHUNK]) for i in range(0, len(data), CHUNK))
    assert len(part.crc32) == 3


def test_progress_counts_every_byte_of_the_arrays_once(tmp_path):
    counts = []
    weights = np.zeros((3, PIECE // 4), np.float32)
    part = write_arrays(tmp_path / "a", {"a": weights}, counts.append)
    assert sum(counts) == weights.nbytes
    read = []
    read_checked(tmp_path / "a", part, read.append)
    assert sum(read) == part.size


def test_a_file_that_is_there_is_never_overwritten(tmp_path):
    (tmp_path / "a").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        write_arrays(tmp_path / "a", {"keys": KEYS})
    assert (tmp_path / "a").read_bytes() == b"precious"


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.zeros(2, complex)])
def test_only_plain_numbers_can_be_written(tmp_path, array):
    with pytest.raises(ArgumentError, match="expected one of float16"):
        write_arrays(tmp_path / "a", {"a": array})
    assert not (tmp_path / "a").exists()


def test_the_name_that_the_layout_keeps_for_itself_and_endless_headers_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="__metadata__"):
        write_arrays(tmp_path / "a", {"__metadata__": KEYS})
    with pytest.raises(ArgumentError, match="header"):
        write_arrays(tmp_path / "a", {"k" * (1 << 20): KEYS})


def test_a_full_disk_is_an_error_that_names_the_file_and_keeps_its_number(tmp_path, monkeypatch):
    def full(handle, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left.*keys\.safetensors") as caught:
        write_arrays(tmp_path / "keys.safetensors", {"keys": KEYS})
    assert caught.value.errno == 28
    assert not isinstance(caught.value, HotrowError)


def test_a_system_that_takes_few_bytes_at_a_time_gets_them_all(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:5]))
    part = write_arrays(tmp_path / "a", {"keys": KEYS})
    monkeypatch.undo()
    assert np.array_equal(read_arrays(tmp_path / "a", EXPECTED, part)["keys"], KEYS)


def test_a_file_is_replaced_in_one_step_whatever_an_earlier_try_left(tmp_path):
    (tmp_path / "model.json").write_bytes(b"old")
    (tmp_path / "model.json.tmp").write_bytes(b"half")
    files.write_durably(tmp_path / "model.json", b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("model.json", b"new")]


# --- what is refused -------------------------------------------------------------------------------------------------

LONG = 1 << 40
HOSTILE = {
    "no object": ([], "JSON object"),
    "no JSON": (b"{", "valid JSON"),
    "no UTF-8": (b'{"\xff": 1}', "valid JSON"),
    "a bottomless pit": (b"[" * 200_000, "valid JSON"),
    "a number without end": (b'{"a": ' + b"9" * 5_000 + b"}", "valid JSON"),
    "a name twice": (b'{"keys": 1, "keys": 2}', "twice"),
    "NaN": (b'{"keys": NaN}', "NaN"),
    "an infinite number": (b'{"keys": 1e999}', "too large"),
    "metadata of numbers": ({"__metadata__": {"a": 1}, "keys": entry()}, "__metadata__"),
    "no array": ({}, "end at byte 64"),
    "an unknown array": ({"other": entry()}, r"arrays \['other'\], expected \['keys'\]"),
    "one array too many": ({"keys": entry(), "more": entry((0,), (16, 16))}, "more"),
    "an entry that is a list": ({"keys": [1, 2]}, "isn't dtype, shape"),
    "an entry with more": ({"keys": entry() | {"more": 1}}, "isn't dtype, shape"),
    "an unknown dtype": ({"keys": entry(dtype="C64")}, "can't be"),
    "a dtype that is a list": ({"keys": entry(dtype=["U64"])}, "can't be"),
    "another dtype": ({"keys": entry(dtype="I64")}, "expected U64"),
    "another shape": ({"keys": entry((2, 1))}, r"expected U64 of \(2\)"),
    "a negative length": ({"keys": entry((-2,))}, "can't be"),
    "a length that is true": ({"keys": entry((True,), (0, 8))}, "can't be"),
    "a length that is 2.0": ({"keys": entry((2.0,))}, "can't be"),
    "a shape that is text": ({"keys": {"dtype": "U64", "shape": "2", "data_offsets": [0, 16]}}, "can't be"),
    "three offsets": ({"keys": entry(offsets=(0, 8, 16))}, "can't be"),
    "too many axes": ({"keys": entry((1,) * 9 + (2,))}, "can't be"),
    "a shape beyond the offsets": ({"keys": entry((3,))}, "doesn't fill"),
    "offsets backwards": ({"keys": entry(offsets=(16, 0))}, "doesn't fill"),
    "a gigantic array": ({"keys": entry((LONG,), (0, 8 * LONG))}, "end at byte"),
    "an overflowing shape": ({"keys": entry((1 << 62, 1 << 62), (0, 16))}, "too large"),
    "an empty overflowing shape": ({"keys": entry((0, 1 << 62), (0, 0))}, "too large"),
    "bytes before": ({"keys": entry((1,), (8, 16))}, "end to end"),
    "an overlap": ({"keys": entry(), "more": entry((1,), (8, 16))}, "end to end"),
    "a misaligned array": ({"a": entry((4,), (0, 4), "U8"), "keys": entry((1,), (4, 12))}, "out of step"),
    "bytes after": ({"keys": entry((1,), (0, 8))}, "end at byte"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_that_is_not_as_it_must_be_is_refused_with_the_file_and_the_reason(tmp_path, name):
    header, reason = HOSTILE[name]
    path = raw(tmp_path / "keys.safetensors", header, KEYS.tobytes())
    for open_ in (read_arrays, map_arrays):
        with pytest.raises(CorruptError, match=r"keys\.safetensors: ") as caught:
            open_(path, EXPECTED)
        assert re.search(reason, str(caught.value)), caught.value


def test_the_arrays_of_a_well_formed_header_are_read(tmp_path):
    path = raw(tmp_path / "a", {"keys": entry()}, KEYS.tobytes())
    assert np.array_equal(read_arrays(path, EXPECTED)["keys"], KEYS)


@pytest.mark.parametrize("length", [0, 7, 1 << 20, (1 << 20) + 56, 1 << 63, (1 << 64) - 1])
def test_a_header_longer_than_a_megabyte_or_than_the_file_is_refused(tmp_path, length):
    (tmp_path / "a").write_bytes(length.to_bytes(8, "little") + b"{}" + bytes(54))
    with pytest.raises(CorruptError, match=r"header of|begin at byte"):
        read_arrays(tmp_path / "a", EXPECTED)


def test_a_header_that_ends_between_multiples_of_64_is_refused(tmp_path):
    with pytest.raises(CorruptError, match="multiple of 64"):
        read_arrays(raw(tmp_path / "a", {"keys": entry()}, KEYS.tobytes(), pad=False), EXPECTED)


def test_a_claim_of_many_bytes_takes_no_memory(tmp_path):
    path = raw(tmp_path / "a", {"keys": entry((LONG,), (0, 8 * LONG))}, KEYS.tobytes())
    tracemalloc.start()
    with pytest.raises(CorruptError):
        read_arrays(path, {"keys": ("U64", (None,))})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_file_cut_at_any_byte_is_refused(tmp_path):
    path = tmp_path / "keys.safetensors"
    part = write_arrays(path, {"keys": KEYS})
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        for open_ in (read_arrays, map_arrays):
            with pytest.raises(CorruptError, match=r"keys\.safetensors: "):
                open_(path, EXPECTED, part)
            with pytest.raises(CorruptError):
                open_(path, EXPECTED)
        assert len(check_part(path, part)) == 1


def test_flipped_bits_are_noticed_and_placed(tmp_path):
    path = tmp_path / "keys.safetensors"
    part = write_arrays(path, {"keys": KEYS})
    data = path.read_bytes()
    for bit in range(0, 8 * len(data), 5):  # of each byte at least one
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(CorruptError, match=r"keys\.safetensors: "):
            read_arrays(path, EXPECTED, part)
        assert check_part(path, part) == [f"{path}: bytes 0 to 144 aren't what was written (their checksum differs)"]


def test_damage_is_placed_in_its_chunk_however_long_the_file(tmp_path):
    path = tmp_path / "long"
    part = write_arrays(path, {"a": np.arange(2 * PIECE // 8 + 3, dtype=np.uint64)})
    with path.open("r+b") as file:
        for at in (3 * CHUNK + 18, part.size - 1):
            file.seek(at)
            file.write(b"\xff")
    first, last = check_part(path, part)
    assert f"bytes {3 * CHUNK:,} to {4 * CHUNK:,} " in first
    assert f"to {part.size:,} " in last
    with pytest.raises(CorruptError, match=f"bytes {3 * CHUNK:,} to"):
        read_checked(path, part)


def test_a_file_that_changes_between_two_looks_is_refused(tmp_path, monkeypatch):
    path = raw(tmp_path / "a", {"keys": entry()}, KEYS.tobytes())
    monkeypatch.setattr(layout, "read_checked", lambda *_: np.zeros(path.stat().st_size, np.uint8))
    with pytest.raises(CorruptError, match="changed while it was being read"):
        read_arrays(path, EXPECTED)


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a"
    part = write_arrays(path, {"keys": KEYS})
    os.truncate(path, 100)
    monkeypatch.setattr(files, "size_of", lambda file: part.size)
    with pytest.raises(CorruptError, match="ends while it is being read"):
        read_checked(path, part)
    assert "ends while it is being read" in check_part(path, part)[0]


def test_only_plain_files_are_opened(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")  # opening one for reading would wait for ever
    for name, reason in {"folder": "plain file", "link": "symbolic link", "pipe": "plain", "none": "missing"}.items():
        with pytest.raises(CorruptError, match=rf"{name}: .*{reason}"):
            read_arrays(tmp_path / name, EXPECTED)


def test_what_the_system_says_against_reading_is_a_corrupt_error(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(bytes(200))

    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "open", broken)
    with pytest.raises(CorruptError, match="a: can't be read: Input/output error"):
        read_arrays(tmp_path / "a", EXPECTED)


def test_a_map_is_read_only_and_outlives_its_file(tmp_path):
    write_arrays(tmp_path / "a", {"keys": KEYS})
    mapped = map_arrays(tmp_path / "a", EXPECTED)["keys"]
    (tmp_path / "a").unlink()
    assert np.array_equal(mapped, KEYS)
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        mapped.flags.writeable = True
