"""The original strings of a table, in an Arrow IPC file of one record batch.

Arrow's own reader isn't used to read them: the manifest says where in the file the batch's two buffers lie, and
they are taken from there. So a file needs no parser but NumPy, opens in the same time whatever its size, and a
hostile one meets no code but the checks below.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hotrow.errors import CorruptError
from hotrow.store.files import Advance, Output, Part, check_size, open_part, read_checked, size_of
from hotrow.store.format import map_bytes

if TYPE_CHECKING:
    import pyarrow as pa

COLUMN = "strings"


def write_strings(path: Path, strings: pa.LargeStringArray, advance: Advance | None = None) -> Part:
    """Write `strings`, which has no nulls, to a new Arrow file; on return the disk has it.

    The buffers go to the file as they lie in memory, with no copy of the whole.
    """
    import pyarrow as pa

    batch = pa.record_batch([_trimmed(strings)], names=[COLUMN])
    with Output(path) as out:
        sink = pa.PythonFile(out, mode="w")
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        out.finish()
    if advance:
        advance(strings.nbytes)
    return replace(out.part(), at=_places(path))


def _trimmed(strings: pa.LargeStringArray) -> pa.LargeStringArray:
    """The same strings without the text around them: of a slice, Arrow would write its neighbours' too."""
    import pyarrow as pa

    if len(strings) == 0:
        return pa.array([], pa.large_string())
    _, offsets, text = strings.buffers()
    numbers = np.frombuffer(offsets, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    first, last = int(numbers[0]), int(numbers[-1])
    numbers = numbers - first if first else numbers
    text = text.slice(first, last - first) if text else pa.py_buffer(b"")
    return pa.LargeStringArray.from_buffers(len(strings), pa.py_buffer(numbers), text)


def _places(path: Path) -> dict[str, tuple[int, int]]:
    """Where in the file Arrow has put the offsets and the text."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        whole = file.read_buffer()
        _, offsets, text = pa.ipc.open_file(whole).get_batch(0).column(0).buffers()
        return {name: _place(whole, part) for name, part in (("offsets", offsets), ("text", text))}


def _place(whole: pa.Buffer, part: pa.Buffer | None) -> tuple[int, int]:
    if part is None or part.size == 0:
        return 0, 0
    start = part.address - whole.address
    return start, start + part.size


def read_strings(path: Path, part: Part, rows: int, advance: Advance | None = None) -> pa.LargeStringArray:
    """All strings in memory, checked: the file's checksums, the offsets, the UTF-8. CorruptError otherwise."""
    strings = _strings(path, read_checked(path, part, advance), part, rows)
    check_text(path, strings)
    return strings


def map_strings(path: Path, part: Part, rows: int) -> pa.LargeStringArray:
    """The strings of a mapped file. Sizes are checked, checksums and offsets aren't: see `check_text`."""
    with open_part(path) as file:
        check_size(path, size_of(file), part)
        return _strings(path, map_bytes(file, path), part, rows)


def check_text(path: Path, strings: pa.LargeStringArray) -> None:
    """CorruptError unless every offset lies within the text, in order, and the text is UTF-8."""
    import pyarrow as pa

    try:
        strings.validate(full=True)
    except pa.ArrowException as error:
        raise CorruptError(f"{path}: {error}") from error


def _strings(path: Path, buffer: np.ndarray, part: Part, rows: int) -> pa.LargeStringArray:
    import pyarrow as pa

    if set(part.at) != {"offsets", "text"}:
        raise CorruptError(f"{path}: its manifest doesn't say where its offsets and text are")
    if rows == 0:
        return pa.array([], pa.large_string())
    offsets, text = (buffer[slice(*part.at[name])] for name in ("offsets", "text"))
    if len(offsets) != 8 * (rows + 1) or part.at["offsets"][0] % 8:
        raise CorruptError(f"{path}: has {len(offsets):,} bytes of offsets, expected {8 * (rows + 1):,}, aligned to 8")
    first, last = (int(offsets.view("<i8")[i]) for i in (0, -1))
    if first != 0 or last != len(text):
        raise CorruptError(f"{path}: its offsets go from {first:,} to {last:,}, its text from 0 to {len(text):,}")
    return pa.LargeStringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(text))
