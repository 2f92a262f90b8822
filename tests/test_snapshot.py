"""Snapshots: what is saved comes back, whatever interrupts it and whatever happens to its files."""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from test_format import PAGE, block

import hotrow.store
from hotrow.errors import ArgumentError, CorruptError, DataError, HotrowError, LockedError
from hotrow.store import generations as folders
from hotrow.store import manifest as manifests
from hotrow.store import snapshot
from hotrow.store.checks import cells_problem
from hotrow.store.files import PIECE
from hotrow.store.format import write_arrays
from hotrow.store.generation import map_generation, read_generation
from hotrow.store.lock import lock
from hotrow.store.snapshot import generations, verify
from hotrow.store.writing import save
from hotrow.table.index import cells_of
from hotrow.table.state import State

TEXTS = ["", "a", "\0", "a\0b", "ä", "漢字", "🦜", "x" * 3000, "\ufeff", "\u0301"]


def state(n=5, dim=3, *, texts=None, seed=0, slots=(("momentum", 3), ("sum", 1))) -> State:
    """A table's state with an index of the right form; the arrays are views of one matrix, as a table's are."""
    random_ = np.random.default_rng(seed)
    n = len(texts) if texts is not None else n
    matrix = random_.random((n, dim + sum(width for _, width in slots)), np.float32)
    places, column = {}, dim
    for name, width in slots:
        places[name] = matrix[:, column : column + width]
        column += width
    kind = "uint64" if texts is None else "string"
    names = {"optimizer": {"name": "adam", "rate": 1e-3}, "initializer": {"name": "zeros"}}
    config = {"dim": dim, "ids": kind, "seed": seed, "steps": 7, "aliases": 0} | names
    strings = None if texts is None else pa.array(texts, pa.large_string())
    keys = random_.integers(0, 1 << 64, n, dtype=np.uint64)
    return State(config, keys, matrix[:, :dim], cells_of(keys), places, strings)


def same(a: State, b: State, *, slots: bool = True) -> bool:
    arrays = [("keys", a.keys, b.keys), ("weights", a.weights, b.weights), ("cells", a.cells, b.cells)]
    if slots:
        assert list(a.slots) == list(b.slots)
        arrays += [(name, a.slots[name], b.slots[name]) for name in a.slots]
    strings = a.strings is b.strings is None or (a.strings is not None and a.strings.equals(b.strings))
    return a.config == b.config and strings and all(x.dtype == y.dtype and np.array_equal(x, y) for _, x, y in arrays)


def open_mapped(path, generation=None) -> State:
    return snapshot.use(path, generation, lambda chain: map_generation(*chain.links[-1]))


def read(path, generation=None, *, progress=None) -> State:
    """One generation in memory, checked: a table, or what has changed."""

    def one(chain):
        folder, manifest = chain.links[-1]
        return read_generation(folder, manifest, manifest.slots(), progress)

    return snapshot.use(path, generation, one)


def newest(path: Path) -> Path:
    return path / f"generation-{generations(path)[-1]:06d}"


def sign(folder: Path, fields: dict | str) -> None:
    """Write a manifest whose checksum is right, whatever it says."""
    text = fields if isinstance(fields, str) else json.dumps({k: v for k, v in fields.items() if k != "sha256"})
    start = (text.rstrip()[:-1] + ', "sha256": "').encode()
    (folder / "manifest.json").write_bytes(start + hashlib.sha256(start).hexdigest().encode() + b'"\n}\n')


def fields_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_bytes())


def sign_again(folder: Path) -> None:
    """Let the manifest agree with whatever the files have become."""
    fields = fields_of(folder)
    for file in fields["files"]:
        data = (folder / file["name"]).read_bytes()
        sums = [zlib.crc32(data[i : i + file["chunk"]]) for i in range(0, len(data), file["chunk"])]
        file |= {"bytes": len(data), "crc32": "".join(f"{one:08x}" for one in sums)}
    sign(folder, fields)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "items"


@pytest.fixture
def saved(path):
    """A snapshot of strings in its first generation: the path, the folder, the state."""
    given = state(texts=TEXTS)
    save(path, given)
    return path, newest(path), given


# --- it comes back ---------------------------------------------------------------------------------------------------


@given(
    n=st.integers(0, 20),
    dim=st.integers(1, 5),
    texts=st.none() | st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20),
    slots=st.sampled_from([(), (("sum", 1),), (("m", 5), ("V_2", 2))]),
)
def test_what_is_saved_comes_back_read_and_mapped(tmp_path_factory, n, dim, texts, slots):
    path = tmp_path_factory.mktemp("snapshot")
    given = state(n, dim, texts=texts, slots=slots)
    assert save(path, given) == 1
    assert same(read(path), given)
    assert same(open_mapped(path), given, slots=False)
    assert verify(path) == []


@pytest.mark.parametrize("texts", [TEXTS, [""], ["", "", ""], []])
def test_strings_come_back_empty_with_nul_and_any_unicode_and_arrow_reads_them_too(path, texts):
    save(path, state(texts=texts))
    assert read(path).strings.to_pylist() == texts
    assert open_mapped(path).strings.to_pylist() == texts
    with pa.ipc.open_file(newest(path) / "strings.arrow") as file:
        assert file.read_all()["strings"].to_pylist() == texts


def test_a_slice_of_strings_is_saved_as_what_it_shows(path):
    around = pa.array(["before", *TEXTS, "after"], pa.large_string())
    save(path, replace(state(texts=TEXTS), strings=around[1:-1]))
    assert read(path).strings.to_pylist() == TEXTS
    written = (newest(path) / "strings.arrow").read_bytes()
    assert b"before" not in written
    assert b"after" not in written
    save(path, replace(state(0), strings=around[2:2]))
    assert read(path).strings.to_pylist() == []


def test_a_table_without_rows_and_without_a_kind_of_ids_comes_back(path):
    given = state(0)
    given.config["ids"] = None
    save(path, given)
    assert same(read(path), given)
    assert open_mapped(path).weights.shape == (0, 3)


def test_safetensors_reads_every_file_and_weights_lie_apart_from_slots(path):
    given = state()
    save(path, given)
    found = {}
    for file in newest(path).glob("*.safetensors"):
        (array,) = safetensors.numpy.load_file(file).items()
        found[file.stem] = array[1]
    assert set(found) == {"keys", "weights", "index", "slot-momentum", "slot-sum"}
    assert np.array_equal(found["weights"], given.weights)
    assert np.array_equal(found["slot-momentum"], given.slots["momentum"])


def test_what_is_read_may_be_written_to_and_what_is_mapped_may_not(path):
    save(path, state(texts=["a", "b"]))
    read(path).weights[0, 0] = 1.0
    mapped = open_mapped(path)
    assert mapped.slots == {}
    for array in (mapped.keys, mapped.weights, mapped.cells):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert all(not buffer.is_mutable for buffer in mapped.strings.buffers() if buffer)


def test_a_map_shows_the_same_while_later_saves_replace_its_generation(path):
    given = state(1000, texts=[str(i) for i in range(1000)])
    save(path, given)
    mapped = open_mapped(path)
    for seed in (1, 2, 3):
        save(path, state(seed=seed), keep=1)
    assert generations(path) == [4]
    assert same(mapped, given, slots=False)


@pytest.mark.compiled
def test_a_map_opens_in_the_same_time_whatever_the_number_of_rows(tmp_path):
    times = {}
    for n in (10, 200_000):
        save(tmp_path / str(n), state(n, texts=[str(i) for i in range(n)], slots=()))
    for _ in range(20):
        for n in (10, 200_000):
            start = time.perf_counter()
            open_mapped(tmp_path / str(n))
            times[n] = min(times.get(n, 1.0), time.perf_counter() - start)
    assert times[200_000] < 3 * times[10]


def test_progress_hears_of_every_file_and_ends_at_all_bytes(path):
    heard = []
    save(path, state(texts=TEXTS), progress=lambda done, total, facts: heard.append((done, total, facts)))
    assert heard[-1][0] == heard[-1][1]
    assert [done for done, *_ in heard] == sorted(done for done, *_ in heard)
    assert {facts["file"] for *_, facts in heard} == {file.name for file in newest(path).iterdir()} - {"manifest.json"}
    assert heard[0][2]["generation"] == 1
    for look in (read, verify):
        heard.clear()
        look(path, progress=lambda done, total, facts: heard.append((done, total, facts)))
        assert heard[-1][0] == heard[-1][1] == sum(file["bytes"] for file in fields_of(newest(path))["files"])


@pytest.mark.compiled
def test_saving_takes_little_memory_however_large_the_table(path):
    given = state(200_000, 32, slots=(("m", 32), ("v", 32)))
    size = 3 * given.weights.nbytes
    tracemalloc.start()
    save(path, given)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 8 * PIECE
    assert peak < 2 * PIECE + (1 << 20)
    assert same(read(path), given)


@pytest.mark.compiled
def test_a_whole_snapshot_is_verified_in_little_memory(path):
    save(path, state(200_000, 32, slots=(("m", 32), ("v", 32))))
    tracemalloc.start()
    assert verify(path) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * PIECE


# --- generations -----------------------------------------------------------------------------------------------------


def test_each_save_is_a_generation_and_the_newest_two_are_kept(path):
    given = [state(seed=seed) for seed in range(4)]
    assert [save(path, one) for one in given] == [1, 2, 3, 4]
    assert generations(path) == [3, 4]
    assert same(read(path), given[3])
    assert same(read(path, 3), given[2])
    assert same(open_mapped(path, generation=3), given[2], slots=False)


def test_keep_says_how_many_stay(path):
    for keep, stay in [(3, [1]), (3, [1, 2]), (3, [1, 2, 3]), (3, [2, 3, 4]), (1, [5]), (9, [5, 6])]:
        save(path, state(), keep=keep)
        assert generations(path) == stay


@pytest.mark.parametrize("keep", [0, -1, True, 2.0, None])
def test_to_keep_none_or_a_half_is_refused(path, keep):
    with pytest.raises(ArgumentError, match="at least 1"):
        save(path, state(), keep=keep)
    assert not path.exists()


def test_another_table_over_a_path_is_a_new_generation(path):
    first, second = state(texts=TEXTS), state(3, 8, slots=())
    save(path, first)
    save(path, second)
    assert same(read(path), second)
    assert same(read(path, 1), first)


def test_numbers_go_on_beyond_six_digits(path):
    save(path, state(), keep=3)
    (path / "generation-000001").rename(path / "generation-999999")
    assert save(path, state(seed=1), keep=3) == 1_000_000
    assert generations(path) == [999_999, 1_000_000]
    assert same(read(path), state(seed=1))


def test_other_things_in_the_folder_are_left_alone(path):
    path.mkdir()
    for name in ("generation-1", "generation-0000001", "generation-00000a", "notes"):
        (path / name).mkdir()
    (path / "generation-old").write_text("mine")
    save(path, state(), keep=1)
    save(path, state(), keep=1)
    mine = {"generation-1", "generation-0000001", "generation-00000a", "generation-old", "notes"}
    assert {entry.name for entry in path.iterdir()} == mine | {"generation-000002", "lock"}


def test_what_an_interrupted_save_left_is_ignored_and_removed_by_the_next(path):
    given = state()
    save(path, given)
    (path / "generation-000002" / "deep").mkdir(parents=True)
    (path / "generation-000002" / "weights.safetensors").write_bytes(b"half")
    (path / "generation-000002" / "manifest.json.tmp").write_bytes(b"{")
    (path / "generation-000003").symlink_to(path / "generation-000001")
    (path / "generation-000003").unlink()
    (path / "generation-000003").symlink_to("/nowhere")
    assert generations(path) == [1]
    assert same(read(path), given)
    assert save(path, state(seed=1)) == 2
    assert {entry.name for entry in path.iterdir()} == {"generation-000001", "generation-000002", "lock"}


def test_a_reader_that_is_overtaken_by_saves_reads_the_newest(path, monkeypatch):
    save(path, state())
    honest = folders.read_manifest

    def overtaken(folder):
        monkeypatch.setattr(folders, "read_manifest", honest)
        found = honest(folder)
        save(path, state(seed=1), keep=1)
        return found

    monkeypatch.setattr(folders, "read_manifest", overtaken)
    assert same(read(path), state(seed=1))


def test_a_generation_that_a_save_removes_while_it_is_verified_is_no_damage(path):
    save(path, state())
    seeds = iter([1])

    def overtake(done, total, facts):
        for seed in seeds:
            save(path, state(seed=seed), keep=1)

    assert verify(path, progress=overtake) == []
    assert generations(path) == [2]


def test_an_error_of_the_progress_is_not_taken_for_one_of_the_file(path):
    def broken(done, total, facts):
        raise BrokenPipeError("nobody listens")

    save(path, state())
    for call in (read, verify, lambda *_, **options: save(path, state(), **options)):
        with pytest.raises(BrokenPipeError):
            call(path, progress=broken)
    assert generations(path) == [1]


def test_a_generation_that_cannot_be_removed_is_left_to_the_next_save(path, monkeypatch, caplog):
    save(path, state())
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "hotrow"):
        patch.setattr(snapshot.folders.shutil, "rmtree", lambda _: (_ for _ in ()).throw(PermissionError(13, "in use")))
        assert save(path, state(seed=1), keep=1) == 2
    assert "generation-000001 couldn't be removed" in caplog.text
    assert generations(path) == [2]
    assert save(path, state(seed=2), keep=1) == 3
    assert [entry.name for entry in sorted(path.iterdir())] == ["generation-000003", "lock"]


# --- where there is none ---------------------------------------------------------------------------------------------


def test_a_path_without_a_snapshot_is_told_by_what_is_there(tmp_path):
    save(tmp_path / "model" / "items", state())
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "begun" / "generation-000001").mkdir(parents=True)
    told = {
        "nowhere": "there is nothing here",
        "file": "this is a file",
        "model": "no snapshot here, but in items",
        "begun": "the only save here, generation 1, never ended",
    }
    for name, reason in told.items():
        for look in (read, open_mapped, verify):
            with pytest.raises(DataError, match=f"{name}: {reason}; expected a folder with generation-000001/manifest"):
                look(tmp_path / name)
    with pytest.raises(DataError, match="nothing here"):
        generations(tmp_path / "nowhere")
    assert generations(tmp_path / "begun") == []


def test_a_generation_that_is_not_there_is_told_with_those_that_are(path):
    save(path, state())
    save(path, state())
    for look in (read, open_mapped, verify):
        with pytest.raises(DataError, match="has no generation 7; it has 1, 2"):
            look(path, 7)


# --- what can't be a table -------------------------------------------------------------------------------------------


def impossible():
    good, words = state(5), state(texts=["a", "b"])
    config = good.config
    yield "keys must be", replace(good, keys=good.keys.astype(np.int64))
    yield "keys must be", replace(good, keys=good.keys.reshape(-1, 1))
    yield "weights must be", replace(good, weights=good.weights[:3])
    yield "weights must be", replace(good, weights=good.weights.astype(np.float64))
    yield "cells must be", replace(good, cells=good.cells.astype(np.uint32))
    yield "power of two", replace(good, cells=good.cells[:-1])
    yield "power of two", replace(good, cells=good.cells[:0])
    yield "don't fit", replace(good, cells=np.zeros(8, np.uint64))
    yield "slot sum must be", replace(good, slots={"sum": good.keys})
    yield "letters, digits", replace(good, slots={"../sum": good.weights})
    yield "ids are strings, and there are none", replace(words, strings=None)
    yield "no null", replace(words, strings=pa.array(["a", None], pa.large_string()))
    yield "large_string", replace(words, strings=pa.array(["a", "b"]))
    yield "large_string", replace(words, strings=pa.array(["a"], pa.large_string()))
    for name, value in [("dim", 4), ("dim", True), ("dim", None), ("steps", -1), ("steps", 1.0), ("seed", "1")]:
        yield f"{name} = ", replace(good, config=config | {name: value})
    yield "ids = 'int32'", replace(good, config=config | {"ids": "int32"})
    yield "aliases = None", replace(words, config=words.config | {"aliases": None})
    yield "optimizer = None", replace(good, config={k: v for k, v in config.items() if k != "optimizer"})
    for value in (np.float32(1), {1, 2}, float("nan"), (1, 2), {1: 2}):
        yield "JSON", replace(good, config=config | {"more": value})


@pytest.mark.parametrize(("reason", "wrong"), [pytest.param(*case, id=f"{i}") for i, case in enumerate(impossible())])
def test_what_could_not_be_read_back_is_refused_before_anything_is_written(path, reason, wrong):
    with pytest.raises(ArgumentError, match=r"this table can't be saved: ") as caught:
        save(path, wrong)
    assert reason in str(caught.value)
    assert not path.exists()


# --- interruptions ---------------------------------------------------------------------------------------------------


def test_ctrl_c_in_a_save_leaves_nothing_of_it(path):
    save(path, state())

    def press(done, total, facts):
        if facts["file"] == "weights.safetensors":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(path, state(seed=1), progress=press)
    assert sorted(entry.name for entry in path.iterdir()) == ["generation-000001", "lock"]
    assert same(read(path), state())


# --- damage ----------------------------------------------------------------------------------------------------------


def damaged(folder: Path):
    """(file, data) of every file of a generation."""
    return [(file, file.read_bytes()) for file in sorted(folder.iterdir())]


def must_be_noticed(path: Path, file: Path, *, mapped: bool = False):
    with pytest.raises(CorruptError, match=re.escape(str(file))):
        read(path)
    problems = verify(path)
    assert problems
    assert str(file) in problems[0]
    if mapped:
        with pytest.raises(CorruptError, match=re.escape(str(file))):
            open_mapped(path)


def test_flipped_bits_of_every_file_are_noticed_by_read_and_by_verify(saved):
    path, folder, _ = saved
    random_ = random.Random(0)
    for file, data in damaged(folder):
        for bit in random_.sample(range(8 * len(data)), 40):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            file.write_bytes(flipped)
            must_be_noticed(path, file, mapped=file.name == "manifest.json")
        file.write_bytes(data)
    assert verify(path) == []


@pytest.mark.long
def test_each_flipped_bit_of_every_file_is_noticed(saved):
    path, folder, _ = saved
    for file, data in damaged(folder):
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            file.write_bytes(flipped)
            must_be_noticed(path, file)
        file.write_bytes(data)


def test_a_file_cut_short_made_longer_or_taken_away_is_noticed(saved):
    path, folder, _ = saved
    for file, data in damaged(folder):
        mapped = not file.name.startswith("slot-")
        for changed in (data[:-1], data[: len(data) // 2], data[:8], b"", data + b"\0"):
            file.write_bytes(changed)
            must_be_noticed(path, file, mapped=mapped)
        file.unlink()
        if file.name != "manifest.json":
            must_be_noticed(path, file, mapped=mapped)
        file.write_bytes(data)


def test_a_damaged_newest_generation_is_never_replaced_in_silence_but_the_one_before_is_offered(path):
    save(path, state())
    save(path, state(seed=1))
    (newest(path) / "weights.safetensors").write_bytes(b"gone")
    for look in (read, open_mapped):
        with pytest.raises(CorruptError, match=r"000002/weights.*; another generation is there: generation=1"):
            look(path)
    assert same(read(path, generation=1), state())
    assert len(verify(path)) == 1
    assert verify(path, 1) == []
    (path / "generation-000001" / "keys.safetensors").unlink()
    with pytest.raises(CorruptError) as caught:
        read(path)
    assert "another generation" not in str(caught.value)
    with pytest.raises(CorruptError, match=r"000001/keys.*missing"):
        read(path, 1)


# --- manifests and files by someone else -----------------------------------------------------------------------------


def changed(fields, file=0, **changes):
    return fields | {"files": [entry | (changes if i == file else {}) for i, entry in enumerate(fields["files"])]}


def without(fields, name):
    return fields | {"files": [entry for entry in fields["files"] if entry["name"] != name]}


HOSTILE = {
    "a path upwards": (lambda f: changed(f, name="../keys.safetensors"), "no snapshot has"),
    "an absolute path": (lambda f: changed(f, name="/etc/passwd"), "no snapshot has"),
    "a slot upwards": (lambda f: changed(f, 3, name="slot-../x.safetensors"), "no snapshot has"),
    "an unknown file": (lambda f: changed(f, name="model.pkl"), "no snapshot has"),
    "a name that is a number": (lambda f: changed(f, name=1), "no snapshot has"),
    "a newline after a name": (lambda f: changed(f, 3, name="slot-sum.safetensors\n"), "no snapshot has"),
    "a file twice": (lambda f: f | {"files": f["files"] + f["files"][:1]}, "one twice"),
    "no weights": (lambda f: without(f, "weights.safetensors"), "one missing"),
    "no strings": (lambda f: without(f, "strings.arrow"), "is missing"),
    "strings where ids are numbers": (lambda f: f | {"config": f["config"] | {"ids": "int64"}}, "is there"),
    "files that are an object": (lambda f: f | {"files": {}}, "not a list"),
    "a file that is text": (lambda f: f | {"files": ["keys.safetensors"]}, "no snapshot has"),
    "a field more": (lambda f: f | {"more": 1}, "expected"),
    "a field less": (lambda f: {k: v for k, v in f.items() if k != "rows"}, "expected"),
    "format 0": (lambda f: f | {"format": 0}, "format 1"),
    "a format of true": (lambda f: f | {"format": True}, "format 1"),
    "a format of text": (lambda f: f | {"format": "1"}, "format 1"),
    "a library of numbers": (lambda f: f | {"library": 1}, "library"),
    "an empty chunk": (lambda f: changed(f, chunk=0), "can't be"),
    "a chunk of true": (lambda f: changed(f, chunk=True), "can't be"),
    "a negative size": (lambda f: changed(f, bytes=-1), "can't be"),
    "a size beyond the checksums": (lambda f: changed(f, bytes=1 << 40), "checksums for"),
    "a size beyond the file": (lambda f: changed(f, bytes=1 << 19), "has 192 bytes|has 2,?.*were written"),
    "checksums of text": (lambda f: changed(f, crc32="abc"), "can't be"),
    "checksums that are numbers": (lambda f: changed(f, crc32=[1]), "can't be"),
    "checksums in other digits": (lambda f: changed(f, crc32="٠" * 8), "can't be"),
    "a wrong checksum": (lambda f: changed(f, crc32="00000001"), "checksum differs"),
    "more rows": (lambda f: f | {"rows": f["rows"] + 1}, "expected"),
    "less rows": (lambda f: f | {"rows": 1}, "expected"),
    "no end of rows": (lambda f: f | {"rows": 1 << 62}, "don't fit"),
    "negative rows": (lambda f: f | {"rows": -1}, "rows"),
    "rows of 10.0": (lambda f: f | {"rows": 10.0}, "rows"),
    "another dim": (lambda f: f | {"config": f["config"] | {"dim": 2}}, r"expected F32 of \(10, 2\)"),
    "an endless dim": (lambda f: f | {"config": f["config"] | {"dim": 1 << 40}}, "dim"),
    "a dim of text": (lambda f: f | {"config": f["config"] | {"dim": "3"}}, "dim"),
    "a dim of a list": (lambda f: f | {"config": f["config"] | {"dim": [3]}}, "dim"),
    "ids of a list": (lambda f: f | {"config": f["config"] | {"ids": ["string"]}}, "ids"),
    "negative steps": (lambda f: f | {"config": f["config"] | {"steps": -1}}, "steps"),
    "a config of text": (lambda f: f | {"config": "dim"}, "config"),
    "a place outside": (lambda f: changed(f, 5, at={"offsets": [0, 1 << 40], "text": [0, 0]}), "outside"),
    "a place backwards": (lambda f: changed(f, 5, at={"offsets": [8, 0], "text": [0, 0]}), "outside"),
    "a place of text": (lambda f: changed(f, 5, at={"offsets": "08", "text": [0, 0]}), "outside"),
    "a short place": (lambda f: changed(f, 5, at={"offsets": [0, 8], "text": [0, 0]}), "bytes of offsets"),
    "a crooked place": (lambda f: changed(f, 5, at={"offsets": [1, 89], "text": [0, 0]}), "aligned"),
    "no places": (lambda f: changed(f, 5, at={}), "doesn't say"),
    "places that are a list": (lambda f: changed(f, 5, at=[]), "aren't an object"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_with_a_right_checksum_is_refused(saved, name):
    path, folder, _ = saved
    change, reason = HOSTILE[name]
    sign(folder, change(fields_of(folder)))
    for look in (read, lambda p: [verify(p), read(p)]) if name == "a wrong checksum" else (read, open_mapped):
        with pytest.raises(CorruptError, match=str(folder)) as caught:
            look(path)
        assert re.search(reason, str(caught.value)), caught.value
    assert verify(path)


@pytest.mark.parametrize("text", ["[]", '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": ' + "[" * 200_000 + "}", '{"a" 1}'])
def test_a_manifest_that_is_no_plain_json_object_is_refused(saved, text):
    path, folder, _ = saved
    sign(folder, text)
    with pytest.raises(CorruptError, match=r"manifest\.json: "):
        read(path)


def test_a_manifest_too_long_to_be_one_is_not_read(saved):
    path, folder, _ = saved
    os.truncate(folder / "manifest.json", 1 << 40)
    with pytest.raises(CorruptError, match="more than any manifest"):
        read(path)


def test_a_later_format_is_told_from_damage(saved):
    path, folder, _ = saved
    sign(folder, fields_of(folder) | {"format": 2, "more": 1})
    with pytest.raises(DataError, match=r"format 2, and this.*pip install --upgrade"):
        read(path)
    assert "format 2" in verify(path)[0]


def test_links_and_pipes_are_never_followed(saved, tmp_path):
    path, folder, given = saved
    keys = folder / "keys.safetensors"
    keys.rename(tmp_path / "outside")
    keys.symlink_to(tmp_path / "outside")
    must_be_noticed(path, keys, mapped=True)
    keys.unlink()
    os.mkfifo(keys)
    must_be_noticed(path, keys, mapped=True)
    keys.unlink()
    (tmp_path / "outside").rename(keys)
    assert same(read(path), given)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    must_be_noticed(path, folder, mapped=True)
    assert save(path, given, keep=1) == 2
    assert (tmp_path / "elsewhere" / "manifest.json").exists()
    assert not folder.is_symlink()


def test_a_snapshot_may_be_reached_by_a_link(saved, tmp_path):
    path, _, given = saved
    (tmp_path / "link").symlink_to(path)
    assert same(read(tmp_path / "link"), given)
    assert save(tmp_path / "link", given) == 2


NUMBERS = {  # the second half of a bucket, as 32-bit numbers
    "a row twice": ([1, 1, 3, 0, 0, 0], "3 cells point to 2 different rows"),
    "a row beyond": ([1, 2, 4, 0, 0, 0], "points to a row beyond the last"),
    "a row missing": ([1, 2, 0, 0, 0, 0], "2 cells"),
    "a row too many": ([1, 2, 3, 3, 0, 0], "4 cells"),
    "a hole": ([1, 0, 2, 3, 0, 0], "from the left"),
    "something behind": ([1, 2, 3, 0, 0, 9], "behind its cells"),
}


def bucket(numbers):
    """The words of an index of one bucket."""
    return np.concatenate([np.arange(5, dtype=np.uint64), np.array(numbers, np.uint32).view(np.uint64)])


@pytest.mark.parametrize("name", NUMBERS)
def test_an_index_that_is_none_is_refused_even_if_it_is_what_was_written(path, name):
    numbers, reason = NUMBERS[name]
    save(path, state(3))
    (newest(path) / "index.safetensors").unlink()
    write_arrays(newest(path) / "index.safetensors", {"cells": bucket(numbers)})
    sign_again(newest(path))
    with pytest.raises(CorruptError, match=rf"index\.safetensors: .*{reason}"):
        read(path)
    assert reason in verify(path)[0]


@pytest.mark.compiled
def test_an_index_is_checked_piece_by_piece():
    n = 300_000
    cells = cells_of(np.random.default_rng(0).permutation(n).astype(np.uint64))
    assert cells_problem(cells, n) == ""
    assert cells_problem(cells, n + 1)
    cells[-3] = n + 1
    assert cells_problem(cells, n)


def strings_file(folder: Path) -> tuple[Path, np.ndarray, slice, slice]:
    file = folder / "strings.arrow"
    at = next(entry["at"] for entry in fields_of(folder)["files"] if "at" in entry)
    return file, np.fromfile(file, np.uint8), slice(*at["offsets"]), slice(*at["text"])


@pytest.mark.parametrize("offsets", [[0, 1 << 40, 1, 4], [0, 3, 1, 4], [0, -8, 1, 4], [1, 2, 3, 4], [0, 1, 2, 5]])
def test_offsets_that_leave_the_text_are_refused_even_if_the_checksums_agree(path, offsets):
    save(path, state(texts=["ab", "c", "d"]))
    file, data, place, _ = strings_file(newest(path))
    data[place] = np.array(offsets, "<i8").view(np.uint8)
    data.tofile(file)
    sign_again(newest(path))
    must_be_noticed(path, file)


def test_text_that_is_not_utf8_is_refused_even_if_the_checksums_agree(path):
    save(path, state(texts=["ab", "c", "d"]))
    file, data, _, place = strings_file(newest(path))
    data[place.start + 2] = 0xFF
    data.tofile(file)
    sign_again(newest(path))
    must_be_noticed(path, file)


# --- locks -----------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from hotrow.store.lock import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_refused_and_told_who_the_first_is_until_that_one_is_gone(path):
    save(path, state())
    arguments = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"{path}: process {holder.pid} is saving"):
            save(path, state(seed=1))
        assert same(read(path), state())
        assert verify(path) == []
        holder.kill()
    assert save(path, state(seed=1)) == 2


def test_a_second_thread_is_refused_too(path):
    save(path, state())
    held, done = threading.Event(), threading.Event()

    def hold():
        with lock(path):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    with pytest.raises(LockedError, match=f"process {os.getpid()} is saving"):
        save(path, state())
    done.set()
    thread.join()
    assert save(path, state()) == 2


def test_the_lock_is_given_back_after_a_save_that_failed(path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            save(path, state(), progress=lambda *_: 1 // 0)
    assert save(path, state()) == 1


FORK = """
import os, signal, sys, time
from pathlib import Path
from hotrow.store.lock import lock
with lock(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_during_a_save_does_not_keep_the_lock_of_a_dead_parent(path):
    path.mkdir()
    with subprocess.Popen([sys.executable, "-c", FORK, str(path)], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert parent.wait(60) == -signal.SIGKILL
        try:
            assert save(path, state()) == 1
        finally:
            os.kill(child, signal.SIGKILL)


def test_saving_where_nothing_can_be_made_is_an_error_of_the_system_with_the_path(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(OSError, match=str(tmp_path / "file")) as caught:
            save(path, state())
        assert not isinstance(caught.value, HotrowError)


def test_missing_folders_above_are_made(tmp_path):
    save(tmp_path / "a" / "b" / "c", state())
    assert same(read(str(tmp_path / "a" / "b" / "c")), state())


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_shows_a_manifest_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "library", lambda: "hotrow 0.1.0")
    weights = np.array([[0.5, -1.0], [2.0, 0.25]], np.float32)
    names = {"optimizer": {"name": "SGD", "learning_rate": 0.1}, "initializer": {"name": "Zeros"}}
    config = {"dim": 2, "ids": "uint64", "seed": 0, "steps": 1, "aliases": 0} | names
    keys = np.array([7, 2**63], np.uint64)
    save(tmp_path, State(config, keys, weights, cells_of(keys)))
    assert block("manifest") == (newest(tmp_path) / "manifest.json").read_text("utf-8")


def test_the_reader_on_the_page_needs_numpy_alone_and_reads_what_was_saved(saved):
    path, folder, given = saved
    code = block("reader")
    assert len(code.splitlines()) <= 60
    tree = ast.parse(code)
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imports} - set(sys.stdlib_module_names) == {"numpy"}
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    manifest, arrays = names["read_generation"](path, 1)
    assert manifest["config"] == given.config
    assert np.array_equal(arrays["keys"], given.keys)
    assert np.array_equal(arrays["weights"], given.weights)
    assert np.array_equal(arrays["cells"], given.cells)
    assert all(np.array_equal(arrays[name], given.slots[name]) for name in given.slots)
    assert arrays["strings"] == TEXTS
    for file, data in damaged(folder):
        file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        with pytest.raises(ValueError, match=file.name):
            names["read_generation"](path, 1)
        file.write_bytes(data)


def test_no_file_needs_pickle_and_reading_one_runs_nothing(saved, monkeypatch):
    path, folder, given = saved
    monkeypatch.setitem(sys.modules, "pickle", None)
    assert same(read(path), given)
    assert all(not data.startswith(b"\x80") for _, data in damaged(folder))
    for file in Path(hotrow.store.__file__).parent.glob("*.py"):
        assert "pickle" not in file.read_text("utf-8")
