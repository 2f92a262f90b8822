"""What a table is, as plain values: the waist that every bridge, save and snapshot goes through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hotrow.errors import ArgumentError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


@dataclass(frozen=True)
class State:
    """A table as arrays and a config; row i of each array belongs to the same id. Or what has changed of one.

    config   JSON values: "dim", "ids" (kind or None), "seed", "steps", "optimizer", "initializer"
    keys     uint64 (n,)        the key of each row (an int64 id is its two's complement)
    weights  float32 (n, dim)   may be a strided view of live rows, or a memory map
    slots    name → float32 (n, width)   the optimizer's arrays, same remarks
    cells    uint64 (8 · power of two,)  the hash index over `keys`, rows as in these arrays
    strings  LargeStringArray (n,) of the original ids, or None where ids are integers
    gone     uint64 (m,): of a change, the keys that were erased before its rows came, which are those that are other or
             new since; the config is that of the whole table, and cells are empty. None for a whole table
    """

    config: dict[str, Any]
    keys: np.ndarray
    weights: np.ndarray
    cells: np.ndarray
    slots: dict[str, np.ndarray] = field(default_factory=dict[str, "np.ndarray"])
    strings: pa.LargeStringArray | None = None
    gone: np.ndarray | None = None

    def check_rows(self, dim: int, slots: dict[str, int]) -> None:
        """ArgumentError unless weights and slots are those of each row; slots: the width of each that there must be."""
        if self.slots.keys() != slots.keys():
            raise ArgumentError(f"expected the slots {sorted(slots)}; got {sorted(self.slots)}")
        arrays = [("weights", self.weights, dim), *((f"slot {name}", self.slots[name], slots[name]) for name in slots)]
        for name, array, width in arrays:
            if array.shape != (len(self.keys), width):
                raise ArgumentError(f"expected {name} of shape {(len(self.keys), width)}; got {array.shape}")
