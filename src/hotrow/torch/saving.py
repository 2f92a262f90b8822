"""A table within a module's state_dict: tensors alone, by the names of `hotrow.store.arrays`.

emb.table.config   uint8     emb.table.keys    int64 (n,), the bits of the uint64 keys
emb.table.weights  float32 (n, dim)    emb.table.sum     uint8 (4,), the checksum    emb.table.slot_m, …
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hotrow.errors import ArgumentError, CorruptError
from hotrow.store.arrays import from_arrays, to_arrays
from hotrow.table.state import State
from hotrow.table.table import Table

_NAMES = ("config", "keys", "weights", "sum")  # that every table has
_OTHERS = ("text", "offsets")


def to_tensors(table: Table, prefix: str) -> dict[str, Any]:
    """The table's arrays as tensors, copies."""
    arrays = to_arrays(table.state())
    arrays["keys"] = arrays["keys"].view(np.int64)  # uint64 is new in torch, and not every file knows it
    arrays["config"] = arrays["config"].copy()
    return {f"{prefix}table.{name}": torch.from_numpy(array) for name, array in arrays.items()}


def from_tensors(
    table: Table, tensors: dict[str, Any], prefix: str, missing: list[str], unexpected: list[str], errors: list[str]
) -> None:
    """Become the table whose tensors these are; what isn't so is told as torch tells it.

    Raises CorruptError, with this table as it was, for tensors that no table has written.
    """
    mine = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    named = {name.removeprefix("table."): value for name, value in mine.items() if name.startswith("table.")}
    known = {name: value for name, value in named.items() if name in (*_NAMES, *_OTHERS) or name.startswith("slot_")}
    unexpected += [prefix + name for name in mine if name.removeprefix("table.") not in known]
    lacking = [f"{prefix}table.{name}" for name in _NAMES if name not in known]
    missing += lacking
    if lacking:
        return
    where = f"state_dict, {prefix or 'the module'}".rstrip(".")
    state = from_arrays({name: _array(value, name, where) for name, value in known.items()}, where)
    if state.config["dim"] != table.dim:
        errors.append(
            f"size mismatch for {prefix}table.weights: vectors of {state.config['dim']} floats, and this table's have "
            f"{table.dim}"
        )
        return
    _restore(table, state, where)


def _restore(table: Table, state: State, where: str) -> None:
    try:
        table.restore(state)
    except ArgumentError as error:
        raise CorruptError(f"{where}: {error}") from error


def _array(value: Any, name: str, where: str) -> np.ndarray:
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.dtype == torch.bfloat16:
        raise CorruptError(f"{where}: {name} isn't a plain tensor; expected what hotrow has written")
    try:
        array = value.numpy(force=True)
    except (RuntimeError, TypeError) as error:  # without data, as on the device "meta", or of a type that NumPy hasn't
        raise CorruptError(f"{where}: {name} has no values that can be read: {error}") from error
    return array.view(np.uint64) if name == "keys" and array.dtype == np.int64 and array.ndim else array
