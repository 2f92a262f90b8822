"""Bare matrices in: safetensors and .npy, whose ids come from a file beside them or are the numbers of the rows.

A safetensors file may be a `state_dict` of torch's, of which one tensor is taken.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hotrow.errors import CorruptError, DataError
from hotrow.exchange.incoming import Incoming, Part, listed
from hotrow.store.strict_json import MalformedError, naturals, object_of, parse_object

HEADER = 64 << 20
"""Bytes of a safetensors header at most; the format itself ends at 100 MB."""
_DTYPES = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "I8": "<i1", "U8": "<u1", "BOOL": "<u1", "I16": "<i2",
    "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8", "U64": "<u8",
}  # fmt: skip
FLOATS = ("F16", "F32", "F64", "BF16")


@dataclass(frozen=True)
class Tensor:
    """An array of a safetensors file, its bytes mapped; `dtype` by its safetensors name."""

    dtype: str
    array: np.ndarray

    def floats(self) -> np.ndarray:
        """As NumPy has it; bfloat16, which NumPy hasn't, as float32 of the same value."""
        if self.dtype != "BF16":
            return self.array
        return (self.array.astype(np.uint32) << np.uint32(16)).view(np.float32)


@dataclass(frozen=True)
class Tensors:
    """A safetensors file: its tensors by name, those of types that vectors can't be left out, and its metadata."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def open_safetensors(path: Path) -> Tensors:
    """The header, checked against the size of the file; CorruptError, naming the file, for what can't be one."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        try:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, HEADER):
                raise MalformedError(f"claims a header of {length:,} bytes, in a file of {size:,}; at most {HEADER:,}")
            header = parse_object(file.read(length))
            metadata = header.pop("__metadata__", {})
            if not isinstance(metadata, dict):
                raise MalformedError("has __metadata__ that is no object")
            spans = {name: _span(name, told, 8 + length, size) for name, told in header.items()}
        except MalformedError as error:
            raise CorruptError(f"{path}: {error}") from error
        data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    found = {
        name: Tensor(dtype, data[start:stop].view(_DTYPES[dtype]).reshape(shape))
        for name, span in spans.items()
        if span is not None
        for dtype, shape, start, stop in [span]
    }
    return Tensors(path, found, {str(key): str(value) for key, value in metadata.items()})


def _span(name: str, told: Any, origin: int, size: int) -> tuple[str, tuple[int, ...], int, int] | None:
    """Type, shape and place of a tensor; None for a type that NumPy can't hold and no vectors have."""
    fields = object_of(told, {"dtype", "shape", "data_offsets"})
    shape, offsets = (None, None) if fields is None else (naturals(fields["shape"]), naturals(fields["data_offsets"]))
    if fields is None or shape is None or offsets is None or len(offsets) != 2 or len(shape) > 8:
        raise MalformedError(f"the entry of {name!r:.80} isn't a dtype, a shape and data_offsets")
    start, stop = origin + offsets[0], origin + offsets[1]
    if not start <= stop <= size:
        raise MalformedError(f"{name!r:.80} has bytes {start:,} to {stop:,} of a file of {size:,}")
    if fields["dtype"] not in _DTYPES:
        return None
    width = np.dtype(_DTYPES[fields["dtype"]]).itemsize
    if math.prod(shape) * width != stop - start or max(shape, default=0) > 1 << 60:
        raise MalformedError(f"{name!r:.80} of shape {list(shape)} doesn't fill its {stop - start:,} bytes")
    return fields["dtype"], shape, start, stop


def matrix_of(file: Tensors, name: str | None) -> np.ndarray:
    """The tensor of this name, floating (n, dim), or the only one that is such. DataError lists what there is."""
    fitting = [key for key, one in file.tensors.items() if one.dtype in FLOATS and one.array.ndim == 2]
    if name is not None and name not in file.tensors:
        raise DataError(f"{file.path} has no tensor {name!r}. It has {listed(list(file.tensors)) or 'none'}")
    if name is not None and name not in fitting:
        one = file.tensors[name]
        raise DataError(
            f"{file.path}: {name!r} is {one.dtype} of shape {list(one.array.shape)}; expected floats [n, dim]. "
            f"Of such there are {listed(fitting) or 'none'}"
        )
    if name is None and len(fitting) != 1:
        raise DataError(
            f"{file.path} has {len(fitting)} tensors of floats [n, dim]: {listed(fitting) or 'none'}. "
            "Say which: --tensor NAME"
        )
    return file.tensors[fitting[0] if name is None else name].floats()


def mapped_npy(path: Path) -> np.ndarray:
    """The array of an .npy file, mapped; CorruptError, naming the file, for what isn't one of plain numbers."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy gives the header to Python's own parsers, whose errors have no root
        raise CorruptError(f"{path}: isn't a whole .npy file of numbers ({error!s:.200})") from error


def open_npy(path: Path) -> np.ndarray:
    """The vectors of an .npy file, floating (n, dim); DataError for another shape or type."""
    array = mapped_npy(path)
    if array.ndim != 2 or array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise DataError(f"{path} is {array.dtype} of shape {array.shape}; expected floats (n, dim)")
    return array


# --- ids beside ------------------------------------------------------------------------------------------------------


def read_ids(path: Path) -> Any:
    """The ids of rows, in their order: a list of texts, or an integer array of an .npy file.

    Text has one id a line, as vocab.txt; a `.json` is a list, or an object of id → row, as vocab.json; `.npy` integers
    or texts. DataError, naming the file and the place, for anything else.
    """
    with path.open("rb") as file:
        magic = file.read(6)
    if magic == b"\x93NUMPY":
        return _npy_ids(path)
    text = path.read_bytes()
    if path.suffix.lower() == ".json":
        return _json_ids(path, text)
    lines = text.removesuffix(b"\n").split(b"\n") if text else []
    found: list[str] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(line.removesuffix(b"\r").decode())
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: isn't UTF-8 ({error.reason}): {line[:60]!r}") from error
    return found


def _npy_ids(path: Path) -> Any:
    array = mapped_npy(path)
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise DataError(f"{path} is {array.dtype} of shape {array.shape}; expected integers or texts (n,)")
    return array.tolist() if array.dtype.kind == "U" else np.array(array)


def _json_ids(path: Path, text: bytes) -> list[str]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: isn't valid JSON: {error!s:.200}") from error
    if isinstance(given, dict):
        numbered: dict[str, Any] = given
        ids = sorted(numbered, key=lambda one: numbered[one] if type(numbered[one]) is int else -1)
        if [numbered[id] for id in ids] != list(range(len(ids))):
            raise DataError(f"{path}: its numbers aren't 0 to {len(ids) - 1}, each once: a row for each id is needed")
        return ids
    if isinstance(given, list) and all(type(id) is str for id in given):
        return given
    raise DataError(f"{path}: expected a list of texts, or an object of id → row, as vocab.json")


def ids_of(rows: int, where: str, ids: Path | None, *, number_rows: bool) -> Any:
    """The ids of so many rows: of a file, or their numbers; DataError, with the right call, if neither is asked for."""
    if number_rows:
        return np.arange(rows, dtype=np.int64)
    if ids is None:
        raise DataError(
            f"{where} has vectors and no ids: give --ids FILE, one id a line, or --number-rows, for ids 0 to {rows - 1}"
        )
    found = read_ids(ids)
    if len(found) != rows:
        raise DataError(f"{ids} has {len(found):,} ids, and {where} {rows:,} rows: they must be as many")
    return found


def own_ids(file: Tensors) -> Any:
    """The ids that `hotrow export --to safetensors` wrote beside the vectors; None if there are none."""
    ids = file.tensors.get("ids")
    if ids is not None and ids.dtype in {"I64", "U64"} and ids.array.ndim == 1:
        return np.array(ids.array)
    offsets, text = file.tensors.get("ids.offsets"), file.tensors.get("ids.utf8")
    if offsets is None or text is None or offsets.dtype != "I64" or text.dtype != "U8":
        return None
    ends, data = offsets.array, text.array.tobytes()
    fine = ends.ndim == 1 and len(ends) and ends[0] == 0 and ends[-1] == len(data) and bool((np.diff(ends) >= 0).all())
    try:
        if fine:
            places = ends.tolist()
            return [data[start:stop].decode() for start, stop in pairwise(places)]
    except UnicodeDecodeError as error:
        raise CorruptError(f"{file.path}: an id in ids.utf8 isn't UTF-8 ({error.reason})") from error
    raise CorruptError(f"{file.path}: its ids.offsets don't lie in its ids.utf8")


def without(given: Incoming, row: int) -> Incoming:
    """All but this row, which is no id's."""
    if given.rows is None or not 0 <= row < given.rows:
        raise DataError(f"{given.name} has no row {row} to leave out: it has {given.rows} rows")

    def parts() -> Iterator[Part]:
        first = 0
        for part in given.parts():
            count = len(part.vectors)
            if first <= row < first + count:
                yield _cut(part, 0, row - first)
                yield _cut(part, row - first + 1, count)
            else:
                yield part
            first += count

    return replace(given, parts=parts, rows=given.rows - 1, notes=[*given.notes, f"row {row} was left out, as asked"])


def _cut(part: Part, start: int, stop: int) -> Part:
    return Part(part.ids[start:stop], part.vectors[start:stop], part.done, lambda i: part.where(start + i))
