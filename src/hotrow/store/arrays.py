"""A table's state as named NumPy arrays, and back: how it lies inside a file of somebody else's, such as Keras's HDF5.

    config        uint8 (bytes,)       JSON
    keys          uint64 (n,)
    weights       float32 (n, dim)
    slot_NAME     float32 (n, width)   one for each slot of the optimizer
    text          uint8 (bytes,)       where ids are strings: all of them, UTF-8, one after the other …
    offsets       int64 (n + 1,)       … and where each begins and ends
    sum           uint8 (4,)           CRC-32 of all of these: see `sealed`

The index isn't in it: it is made from the keys.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hotrow.errors import CorruptError
from hotrow.store.checks import MAX_ROWS, check_state, config_problem
from hotrow.store.strict_json import MalformedError, parse_object
from hotrow.table import ids
from hotrow.table.index import cells_of
from hotrow.table.state import State
from hotrow.table.utf8 import buffers

_SLOT = "slot_"
_TEXTS = ("text", "offsets")
_SUM = "sum"
_DTYPES = {"uint8", "uint64", "int64", "float32"}
Arrays = dict[str, np.ndarray]


def to_arrays(state: State) -> Arrays:
    """The arrays of a state; those of live rows are copied. ArgumentError for a state that couldn't be read back."""
    check_state(state)
    arrays: Arrays = {
        "config": np.frombuffer(json.dumps(state.config).encode(), np.uint8),
        "keys": np.array(state.keys),
        "weights": np.array(state.weights),
    }
    arrays |= {_SLOT + name: np.array(slot) for name, slot in state.slots.items()}
    if state.config["ids"] == "string":
        text, offsets = np.zeros(0, np.uint8), np.zeros(1, np.int64)
        if state.strings is not None:
            text, offsets = buffers(state.strings)
        arrays |= {"text": text[offsets[0] : offsets[-1]].copy(), "offsets": offsets - offsets[0]}
    return sealed(arrays)


def sealed(arrays: Mapping[str, Any]) -> Arrays:
    """These arrays with their checksum in `sum`, little-endian, in place of the one that is there.

    It is the CRC-32 of one array after the other, in the order of their names: of the text "NAME DTYPE LENGTH×LENGTH"
    and a line feed, then of the array's bytes in row order. MalformedError for an array of a type that no table has.
    """
    if not all(isinstance(name, str) for name in arrays):  # HDF5 gives a name that isn't UTF-8 as bytes
        raise MalformedError("has arrays whose names aren't text")
    crc, others = 0, {name: arrays[name] for name in sorted(arrays) if name != _SUM}
    for name, array in others.items():
        if str(array.dtype) not in _DTYPES:
            raise MalformedError(f"{name} is {array.dtype}, expected one of {', '.join(sorted(_DTYPES))}")
        crc = zlib.crc32(f"{name} {array.dtype} {'×'.join(map(str, array.shape))}\n".encode(), crc)
        crc = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, crc)
    return others | {_SUM: np.array([crc], "<u4").view(np.uint8)}


def from_arrays(arrays: Mapping[str, Any], where: str) -> State:
    """The state of these arrays, checked: CorruptError, naming `where`, for what no table has written."""
    try:
        if not np.array_equal(_array(arrays, _SUM, "uint8", 4), sealed(arrays)[_SUM]):
            raise MalformedError("isn't what was written (its checksum differs)")
        config = parse_object(_array(arrays, "config", "uint8", None).tobytes())
        if problem := config_problem(config):
            raise MalformedError(problem)
        keys = _array(arrays, "keys", "uint64", None)
        n = len(keys)
        if n > MAX_ROWS or len(np.unique(keys)) < n or (n and config["ids"] is None):
            raise MalformedError(f"{n:,} keys are too many, stand there twice, or are of no kind of ids")
        weights = _array(arrays, "weights", "float32", n, config["dim"])
        slots = {name: _array(arrays, name, "float32", n, None) for name in arrays if name.startswith(_SLOT)}
        strings = _strings(arrays, keys, config["aliases"]) if config["ids"] == "string" else None
        known = {"config", "keys", "weights", _SUM, *slots, *(_TEXTS if strings is not None else ())}
        if unknown := arrays.keys() - known:
            raise MalformedError(f"has {', '.join(sorted(map(str, unknown)))} besides")
    except MalformedError as error:
        raise CorruptError(f"{where}: {error}; expected what hotrow has written") from error
    named = {name.removeprefix(_SLOT): slot for name, slot in slots.items()}
    return State(config, keys, weights, cells_of(keys), named, strings)


def _array(arrays: Mapping[str, Any], name: str, dtype: str, *shape: int | None) -> np.ndarray:
    if name not in arrays:
        raise MalformedError(f"has no {name}")
    given = arrays[name]
    fits = len(given.shape) == len(shape) and all(b in {None, a} for a, b in zip(given.shape, shape, strict=True))
    if str(given.dtype) != dtype or not fits:
        raise MalformedError(f"{name} is {given.dtype} of shape {given.shape}, expected {dtype} of {shape}")
    return np.ascontiguousarray(given)


def _strings(arrays: Mapping[str, Any], keys: np.ndarray, aliases: int) -> Any:
    import pyarrow as pa

    text = _array(arrays, "text", "uint8", None)
    offsets = _array(arrays, "offsets", "int64", len(keys) + 1)
    if offsets[0] != 0 or offsets[-1] != len(text) or (offsets[1:] < offsets[:-1]).any():
        raise MalformedError("offsets don't begin at 0, fall, or don't end where the text does")
    strings = pa.LargeStringArray.from_buffers(len(keys), pa.py_buffer(offsets), pa.py_buffer(text))
    try:
        strings.validate(full=True)
    except pa.ArrowException as error:
        raise MalformedError(f"its text isn't UTF-8: {error}") from error
    other = np.count_nonzero(ids.to_keys(strings, "string").keys != keys) if len(keys) else 0
    if other != aliases or (aliases and len(strings.unique()) < len(keys)):
        raise MalformedError("some keys aren't those of their strings, or some strings stand there twice")
    return strings
