"""How a layer's table goes where Keras takes weights: files, `get_weights`, `set_weights`.

Keras knows one weight of the layer, the hook. So the hook's value, when Keras asks for it as NumPy, is a `Token`: the
number, and the state of the table at that moment. Given back, it restores the table. By this
`EarlyStopping(restore_best_weights=True)` keeps net and table at one step, in whatever model the layer is.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.store.arrays import from_arrays, to_arrays
from hotrow.table.table import Table


class Token(np.ndarray):
    """An array that carries the state of a table, float32 of any shape; what is calculated from it carries nothing."""

    state: dict[str, np.ndarray] | None

    @classmethod
    def of(cls, table: Table, value: Any) -> Self:
        """`value`, and the table as it is now."""
        token = np.asarray(value, np.float32).view(cls)
        token.state = to_arrays(table.state())
        return token

    def __array_finalize__(self, _: Any) -> None:
        self.state = None


def restore(table: Table, token: Any, layer: str) -> None:
    """Make the table what it was when the token was taken; ArgumentError for an array that carries none."""
    state = getattr(token, "state", None)
    if state is None:
        raise ArgumentError(
            f"these weights hold nothing of the table of layer {layer!r}, whose rows aren't Keras's; expected what "
            "get_weights() returned, in the same process, or a file: model.save_weights(…), model.load_weights(…). A "
            "matrix of vectors goes in by layer.table.set(ids, vectors)"
        )
    table.restore(from_arrays(state, "a token"))


def store(table: Table, into: Any) -> None:
    """Write the table to a part of a Keras file."""
    for name, array in to_arrays(table.state()).items():
        into[name] = array


def load(table: Table, part: Any, layer: str) -> None:
    """Make the table what a part of a Keras file says; CorruptError, with nothing changed, for what isn't one."""
    state = from_arrays({name: np.asarray(part[name]) for name in part.keys()}, f"the part of layer {layer!r}")  # noqa: SIM118 — Keras's stores aren't quite dicts
    table.restore(state)
