"""Strings, whatever holds them, to one Arrow array: large_string in one chunk, no nulls, all of it checked.

    given                              how
    lists of str                       joined by NULs, encoded at once, and taken apart again
    NumPy arrays U and S               from their memory: no Python object for a string
    NumPy arrays of StringDType        by Arrow
    Arrow arrays of strings or binary  as they are; a kernel proves what Arrow's types promise

Where a quick way finds fault, the slow one, Arrow's or Python's own, has the last word and the message.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from hotrow.errors import IdError
from hotrow.kernels import readonly, texts, threads
from hotrow.table import refusals
from hotrow.table.refusals import Shape

LargeStringArray = Any  # pyarrow's, which has no types

_GRAIN = 1 << 15  # strings that are worth a thread
_OFFSETS = "its offsets fall or lead out of its bytes"


def pyarrow() -> Any:
    """The module, imported when there are strings or Arrow data: integers do without it."""
    import pyarrow as pa

    return pa


def buffers(array: LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of an Arrow array of n strings, and where each begins and ends, without copying.

    Returns data uint8 and offsets int64 (n + 1,): string i is data[offsets[i] : offsets[i + 1]]. Offsets don't begin
    at 0 in a slice. Those of an array with 32-bit offsets are copied.

    >>> import pyarrow as pa
    >>> from hotrow.table.utf8 import buffers
    >>> buffers(pa.array(["cat", "dog"], pa.large_string()))[1]
    array([0, 3, 6])
    """
    _, places, data = array.buffers()
    if not len(array):  # Arrow may leave out either buffer then
        return readonly(np.zeros(0, np.uint8)), readonly(np.zeros(1, np.int64))
    width = np.dtype(np.int64 if wide_type(array.type) == array.type else np.int32)
    offsets = np.frombuffer(places, width, len(array) + 1, width.itemsize * array.offset)
    held = np.frombuffer(b"" if data is None else data, np.uint8)
    return readonly(held), readonly(offsets.astype(np.int64, copy=False))


def arrow(data: np.ndarray, offsets: np.ndarray) -> LargeStringArray:
    """The Arrow array that these buffers are."""
    pa = pyarrow()
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))


def _faults(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Whether offsets fall or lead out of the data, and, if not, whether a string between them isn't UTF-8."""
    faults = np.zeros(2, np.uint8)
    threads.run(texts.check, threads.even(len(offsets) - 1, _GRAIN), data, offsets, faults)
    return faults


# --- Python and NumPy -------------------------------------------------------------------------------------------------


def of_list(flat: Sequence[Any], shape: Shape, family: str) -> LargeStringArray:
    """A list of str or of bytes, as `family` says; at least one.

    Raises IdError for one that has a lone surrogate or isn't UTF-8, TypeError for what is no str among them.
    """
    pa = pyarrow()
    try:
        found = _split("\0".join(flat).encode() if family == "str" else b"\0".join(flat), len(flat))
        if found is None:
            wide = pa.large_string() if family == "str" else pa.large_binary()
            found = buffers(pa.array(flat, wide))
    except UnicodeEncodeError as error:
        raise refusals.bad_text(list(flat), shape) from error
    if family == "bytes" and _faults(*map(readonly, found)).any():
        raise refusals.bad_text(list(flat), shape)
    return arrow(*found)


def _split(joined: bytes, n: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Data and offsets of n strings with a NUL between each two; None if there are NULs within them."""
    raw = np.frombuffer(joined, np.uint8)
    ends = np.flatnonzero(raw == 0)
    if len(ends) != n - 1:
        return None
    offsets = np.empty(n + 1, np.int64)
    offsets[0], offsets[n] = 0, len(raw) - len(ends)
    np.subtract(ends, np.arange(n - 1), out=offsets[1:n])
    data = np.empty(offsets[n], np.uint8)
    threads.run(texts.close, threads.even(n, _GRAIN), readonly(raw), readonly(offsets), data)
    return data, offsets


def of_numpy(array: np.ndarray) -> LargeStringArray:
    """A NumPy array of strings, U, S or StringDType, with at least one; None for one that only Python can read."""
    if array.dtype.kind == "T":
        return _of_string_dtype(array)
    unit = 4 if array.dtype.kind == "U" else 1
    width = array.itemsize // unit
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
    units = readonly(native.view(np.uint8) if width else np.zeros(0, np.uint8))
    offsets = np.zeros(array.size + 1, np.int64)
    bounds = threads.even(array.size, _GRAIN)
    threads.run(texts.measure, bounds, units, unit, width, offsets[1:])
    if offsets.min() < 0:
        i = int(np.argmin(offsets)) - 1
        most = int(native[i : i + 1].view("<u4").max())
        if most > sys.maxunicode:  # Python itself can't read it
            raise refusals.beyond_unicode(most, array.shape, i)
        return None
    np.cumsum(offsets, out=offsets)
    data = np.empty(offsets[-1], np.uint8)
    threads.run(texts.encode, bounds, units, unit, width, readonly(offsets), data)
    return None if unit == 1 and _faults(readonly(data), readonly(offsets)).any() else arrow(data, offsets)


def _of_string_dtype(array: np.ndarray) -> LargeStringArray:
    pa = pyarrow()
    try:
        found = pa.array(array.reshape(-1), pa.large_string())
    except pa.ArrowException:  # older ones don't know the dtype
        return None
    return None if found.null_count else found


# --- Arrow ------------------------------------------------------------------------------------------------------------


def wide_type(type_: Any) -> Any:
    """The type with 64-bit offsets for a type of strings or binary; None for any other type."""
    pa = pyarrow()
    if type_ in (pa.string(), pa.large_string(), pa.string_view()):
        return pa.large_string()
    return pa.large_binary() if type_ in (pa.binary(), pa.large_binary(), pa.binary_view()) else None


def _is_view(array: Any) -> bool:
    return array.type in (pyarrow().string_view(), pyarrow().binary_view())


def of_arrow(array: Any) -> LargeStringArray:
    """An Arrow Array or ChunkedArray of strings or binary without nulls.

    Raises IdError for a broken array, and for one that isn't UTF-8.
    """
    pa = pyarrow()
    try:
        chunks = [_of_chunk(chunk) for chunk in getattr(array, "chunks", [array])]
    except pa.ArrowException as error:
        if "UTF8" not in str(error):  # broken offsets: not to be read at all
            raise broken(str(error)) from error
        raw = [text for chunk in getattr(array, "chunks", [array]) for text in to_bytes(chunk, np.arange(len(chunk)))]
        raise refusals.bad_text(raw, (len(array),)) from error
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)


def _of_chunk(chunk: Any) -> LargeStringArray:
    """One Array, checked by a kernel, and by Arrow if that finds fault. ArrowException if it is bad."""
    pa = pyarrow()
    if not _is_view(chunk):
        chunk.validate()  # the sizes of its buffers
        data, offsets = buffers(chunk)
        if not _faults(data, offsets).any():
            return chunk if chunk.type == pa.large_string() else arrow(data, offsets)
    chunk.validate(full=True)  # Arrow's string type is a promise that others made
    return chunk.cast(pa.large_string())


def taken(values: Any, at: np.ndarray) -> LargeStringArray:
    """The strings at these places, int64 (n,), of an Arrow array of strings or binary, of which no other is looked at.

    None if one of them isn't UTF-8. Raises IdError for a broken array.
    """
    data, offsets = _taken(values, at)
    is_broken, is_no_text = _faults(data, offsets).tolist()
    if is_broken:
        raise broken(_OFFSETS)
    return None if is_no_text else arrow(data, offsets)


def to_bytes(values: Any, at: np.ndarray) -> list[bytes]:
    """As `taken`, whatever bytes they are."""
    data, offsets = _taken(values, at)
    return [data[a:b].tobytes() for a, b in pairwise(offsets.tolist())]


def _taken(values: Any, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    data, places = buffers(bounded(values) if _is_view(values) else values)
    if len(at) == len(values) and (at == np.arange(len(at))).all():
        return data, places
    offsets = np.zeros(len(at) + 1, np.int64)
    bounds, at = threads.even(len(at), _GRAIN), readonly(at)
    threads.run(texts.sizes, bounds, places, 1, len(data), at, offsets[1:])
    if offsets.min() < 0:
        raise broken(_OFFSETS)
    np.cumsum(offsets, out=offsets)
    out = np.empty(offsets[-1], np.uint8)
    threads.run(texts.gather, bounds, data, places, 1, at, readonly(offsets), out)
    return readonly(out), readonly(offsets)


def bounded(values: Any) -> Any:
    """Strings or binary as large_string or large_binary, whose offsets are checked and whose bytes may be any.

    Other arrays stay as they are. Raises IdError for a broken one.
    """
    pa, wide = pyarrow(), wide_type(values.type)
    if wide is None:
        return values
    if _is_view(values):
        raw = values.view(pa.binary_view())  # of these Arrow checks where they lead alone
        try:
            raw.validate(full=True)
        except pa.ArrowException as error:
            raise broken(str(error)) from error
    elif _faults(*buffers(values))[0]:
        raise broken(_OFFSETS)
    return values.cast(wide)


def broken(why: str) -> IdError:
    """The error for an Arrow array that isn't what its type promises."""
    return IdError(f"got a broken Arrow array ({why}); expected one that passes ids.validate()")
