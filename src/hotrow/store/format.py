"""Arrays in one file, in the safetensors layout: written in a stream, read into memory or mapped.

```
┌────────────────────┬──────────────────────────────────────────┬────────────────┐
│ length of header   │ header: JSON, then spaces up to a        │ the arrays,    │
│ 8 bytes, little-   │ multiple of 64 bytes from the start      │ end to end     │
│ endian             │ name → dtype, shape, data_offsets        │                │
└────────────────────┴──────────────────────────────────────────┴────────────────┘
```
`docs/format.md` says it in full.
"""

from __future__ import annotations

import io
import json
import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from hotrow.errors import ArgumentError, CorruptError
from hotrow.store.files import PIECE, Advance, Output, Part, check_size, open_part, read_checked, reading, size_of
from hotrow.store.strict_json import MalformedError, naturals, object_of, parse_object

ALIGNMENT = 64
"""The arrays begin at a multiple of this, so that maps are aligned to cache lines."""
HEADER_LIMIT = 1 << 20
"""A longer header is refused: ours have some hundred bytes."""
DIMENSIONS = 8
"""More than any of our arrays has; NumPy itself ends at 64."""
METADATA = "__metadata__"

DTYPES = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I8": np.dtype("<i1"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("<u1"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
}
"""safetensors' names of the types that we write, always little-endian."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}

Expected = Mapping[str, tuple[str, tuple[int | None, ...]]]
"""name → (dtype by its safetensors name, shape), where None is any length."""


@dataclass(frozen=True)
class Span:
    """Where an array lies: its bytes are [start, stop) of the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int


# --- write -----------------------------------------------------------------------------------------------------


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], advance: Advance | None = None) -> Part:
    """Write arrays to a new file and return its size and checksums; on return the disk has it.

    An array may be a strided view or a memory map, of any of DTYPES: it passes through two buffers of PIECE bytes.
    They are also what the checksum is of, so that bytes and checksum agree even if the array changes.
    The widest types come first, for then each array is aligned to its type.

    ArgumentError for a dtype or a name that can't be written; OSError with the path from the system.

    >>> rows = np.zeros((1000, 96), np.float32)
    >>> part = write_arrays(Path("weights.safetensors"), {"weights": rows[:, :32]})
    >>> part.name, part.size, part.crc32
    ('weights.safetensors', 128128, (687745169,))
    """
    ordered = dict(sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize))
    header = header_of({name: (_dtype_name(name, array), array.shape) for name, array in ordered.items()})
    with Output(path) as out:
        out.write(header)
        for array in ordered.values():
            for piece in _pieces(array):
                out.write(piece)
                if advance:
                    advance(piece.nbytes)
        out.finish()
    return out.part()


class ArrayOutput:
    """A new file of one array whose shape is known and whose rows come one part after the other.

    dtype: by its safetensors name. What is given to `write` may change after the next `write`.
    """

    def __init__(
        self, path: Path, name: str, dtype: str, shape: tuple[int, ...], advance: Advance | None = None
    ) -> None:
        self._dtype, self._advance = DTYPES[dtype], advance
        self._left = math.prod(shape) * self._dtype.itemsize
        self._out = Output(path)
        try:
            self._out.write(header_of({name: (dtype, shape)}))
        except BaseException:
            self._out.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()

    def write(self, rows: np.ndarray) -> None:
        """Append some rows. OSError with the path, on a full disk for example."""
        data = np.ascontiguousarray(rows, self._dtype)
        if data.nbytes:
            self._out.write(data.reshape(-1).view(np.uint8))
        self._left -= data.nbytes
        if self._advance:
            self._advance(data.nbytes)

    def finish(self) -> Part:
        """Return once the disk has it all. Not before all rows have come."""
        assert self._left == 0
        self._out.finish()
        return self._out.part()


def header_of(arrays: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None) -> bytes:
    """The first bytes of a file of these arrays, end to end: name → (dtype by its safetensors name, shape)."""
    entries: dict[str, Any] = {METADATA: {"hotrow": "1", **(metadata or {})}}
    start = 0
    for name, (dtype, shape) in arrays.items():
        stop = start + math.prod(shape) * DTYPES[dtype].itemsize
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    if len(text) > HEADER_LIMIT:
        raise ArgumentError(f"{len(arrays)} arrays need a header of {len(text):,} bytes; at most {HEADER_LIMIT:,}")
    return len(text).to_bytes(8, "little") + text


def _dtype_name(name: str, array: np.ndarray) -> str:
    if name == METADATA:
        raise ArgumentError(f"an array can't be called {METADATA}: the layout keeps that name for itself")
    if (found := _NAMES.get(array.dtype.newbyteorder("<"))) is None:
        raise ArgumentError(f"array {name!r} is {array.dtype}; expected one of {', '.join(map(str, _NAMES))}")
    return found


def _pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """The array's bytes in row order, little-endian, about PIECE at a time: uint8 views of two buffers in turn.

    While the caller writes one piece, the next is laid in the other buffer.
    """
    if array.size == 0:
        return
    array = array.reshape(1) if array.ndim == 0 else array
    step = max(1, PIECE // (array.nbytes // len(array)))
    shape = (min(step, len(array)), *array.shape[1:])
    buffers = cycle([np.empty(shape, array.dtype.newbyteorder("<")) for _ in range(2)])
    for start, buffer in zip(range(0, len(array), step), buffers, strict=False):
        part = array[start : start + step]
        np.copyto(buffer[: len(part)], part)
        yield buffer[: len(part)].reshape(-1).view(np.uint8)


# --- read ------------------------------------------------------------------------------------------------------


def read_arrays(
    path: Path, expected: Expected, part: Part | None = None, advance: Advance | None = None
) -> dict[str, np.ndarray]:
    """Read a file into memory: name → array, writable. With `part`, every checksum is compared.

    CorruptError if the file isn't as `part` says, isn't well formed, or hasn't just the `expected` arrays. The
    header is checked before memory is taken, and no more is taken than the file has bytes.

    >>> part = write_arrays(Path("keys.safetensors"), {"keys": np.arange(3, dtype=np.uint64)})
    >>> read_arrays(Path("keys.safetensors"), {"keys": ("U64", (None,))}, part)["keys"].tolist()
    [0, 1, 2]
    """
    with open_part(path) as file:
        head = _check_head(file, path, expected, part)
    buffer = read_checked(path, part, advance)
    if buffer[: len(head.text)].tobytes() != head.text:
        raise CorruptError(f"{path}: changed while it was being read")
    return {name: _array(buffer, span) for name, span in head.spans.items()}


def map_arrays(path: Path, expected: Expected, part: Part | None = None) -> dict[str, np.ndarray]:
    """Map a file: name → read-only array whose bytes come from disk when they are touched.

    Sizes, header and offsets are checked as in `read_arrays`, checksums are not: see `files.check_part`.
    """
    with open_part(path) as file:
        head = _check_head(file, path, expected, part)
        buffer = map_bytes(file, path)
    return {name: _array(buffer, span) for name, span in head.spans.items()}


def spans_of(path: Path, expected: Expected, part: Part) -> dict[str, Span]:
    """Where the arrays of a file lie, for whoever reads them piece by piece; checked as in `map_arrays`."""
    with open_part(path) as file:
        return _check_head(file, path, expected, part).spans


def map_bytes(file: io.FileIO, path: Path) -> np.ndarray:
    """All bytes of an open file, mapped read-only: uint8 (size,). The map outlives the file's handle and name."""
    if size_of(file) == 0:
        return np.frombuffer(b"", np.uint8)
    try:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except (OSError, ValueError) as error:
        raise CorruptError(f"{path}: can't be mapped: {error}") from error


def _array(buffer: np.ndarray, span: Span) -> np.ndarray:
    return buffer[span.start : span.stop].view(span.dtype).reshape(span.shape)


# --- check -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Head:
    """The first bytes of a file, and where its arrays lie according to them."""

    text: bytes
    spans: dict[str, Span]


def _check_head(file: io.FileIO, path: Path, expected: Expected, part: Part | None) -> _Head:
    """All that can be checked without the arrays' own bytes. CorruptError names the file and what is wrong."""
    check_size(path, size := size_of(file), part)
    try:
        with reading(path):
            text = file.read(8)
            text += file.read(min(_length(text, size), HEADER_LIMIT))
        spans = _parse(text)
        _check_cover(spans, len(text), size)
        _check_expected(spans, expected)
    except MalformedError as error:
        raise CorruptError(f"{path}: {error}") from error
    return _Head(text, spans)


def _length(first: bytes, size: int) -> int:
    length = int.from_bytes(first, "little")
    if size < 8 or length > size - 8 or length > HEADER_LIMIT:
        raise MalformedError(f"claims a header of {length:,} bytes, in a file of {size:,}; at most {HEADER_LIMIT:,}")
    if (8 + length) % ALIGNMENT:
        raise MalformedError(f"its arrays begin at byte {8 + length}, which isn't a multiple of {ALIGNMENT}")
    return length


def _parse(text: bytes) -> dict[str, Span]:
    header = parse_object(text[8:])
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(type(v) is str for v in cast("dict[str, Any]", metadata).values()):
        raise MalformedError(f"{METADATA} isn't an object of strings")
    return {name: _span(name, entry, len(text)) for name, entry in header.items()}


def _span(name: str, entry: Any, origin: int) -> Span:
    fields = object_of(entry, {"dtype", "shape", "data_offsets"})
    if fields is None:
        raise MalformedError(f"the entry of {name!r} isn't dtype, shape and data_offsets")
    dtype = DTYPES.get(fields["dtype"]) if type(fields["dtype"]) is str else None
    shape, offsets = naturals(fields["shape"]), naturals(fields["data_offsets"])
    if dtype is None or shape is None or offsets is None or len(offsets) != 2 or len(shape) > DIMENSIONS:
        raise MalformedError(f"the entry of {name!r} has a dtype, shape or offsets that can't be: {fields!s:.200}")
    if math.prod(max(1, length) for length in shape) >= 1 << 60:  # NumPy can't describe it, even if a length is 0
        raise MalformedError(f"the shape of {name!r} is too large: {shape}")
    start, stop = offsets
    if stop - start != math.prod(shape) * dtype.itemsize:
        raise MalformedError(
            f"{name!r} is {fields['dtype']} of shape {shape}, which doesn't fill bytes {start} to {stop}"
        )
    if start % dtype.itemsize:
        raise MalformedError(f"{name!r} begins at byte {start} of the data, out of step with its {fields['dtype']}")
    return Span(dtype, shape, origin + start, origin + stop)


def _check_cover(spans: dict[str, Span], origin: int, size: int) -> None:
    """The arrays fill the file end to end: no overlap, no hole, nothing after them, nothing missing."""
    position = origin
    for name, span in sorted(spans.items(), key=lambda item: (item[1].start, item[1].stop)):
        if span.start != position:
            raise MalformedError(
                f"{name!r} begins at byte {span.start:,}, expected {position:,}: arrays lie end to end"
            )
        position = span.stop
    if position != size:
        raise MalformedError(f"its arrays end at byte {position:,}, the file at {size:,}")


def _check_expected(spans: dict[str, Span], expected: Expected) -> None:
    if set(spans) != set(expected):
        raise MalformedError(f"has the arrays {sorted(spans)}, expected {sorted(expected)}")
    for name, (dtype, shape) in expected.items():
        span = spans[name]
        fits = len(span.shape) == len(shape) and all(b in (None, a) for a, b in zip(span.shape, shape, strict=True))
        if span.dtype != DTYPES[dtype] or not fits:
            wanted = ", ".join("any" if length is None else str(length) for length in shape)
            raise MalformedError(f"{name!r} is {span.dtype} of shape {span.shape}, expected {dtype} of ({wanted})")
