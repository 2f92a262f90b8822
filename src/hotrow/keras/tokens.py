"""How a layer's table goes where Keras takes weights: files, `get_weights`, `set_weights`.

Keras knows one weight of the layer, the hook. So the hook's value, when Keras asks for it as NumPy, is a `Token`: the
number, and the state of the table at that moment. Given back, it restores the table. By this
`EarlyStopping(restore_best_weights=True)` keeps net and table at one step, in whatever model the layer is.

A table that comes back keeps the optimizer that trains it now: slots of the same kind come back with the rows, others
begin anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self
from weakref import WeakKeyDictionary, ref

import numpy as np

from hotrow.bridges.stage import Stage
from hotrow.errors import ArgumentError, CorruptError, HotrowError
from hotrow.keras import following
from hotrow.store.arrays import Arrays, from_arrays, to_arrays
from hotrow.store.checks import made_of
from hotrow.table.ids import restore as restored
from hotrow.table.kept import Saved
from hotrow.table.state import State
from hotrow.table.table import Table

_refused: WeakKeyDictionary[Any, tuple[ref[Any] | None, HotrowError]] = WeakKeyDictionary()
"""What was wrong with the latest part that a layer was to load, and of which file it was."""


class Token(np.ndarray):
    """An array that carries the state of a table, float32 of any shape.

    A copy of it carries the state too, also by `copy.deepcopy` or pickle; what is calculated from it carries nothing.
    """

    state: Arrays | None

    @classmethod
    def of(cls, table: Table, value: Any) -> Self:
        """`value`, and the table as it is now."""
        token = np.asarray(value, np.float32).view(cls)
        token.state = _arrays(table)
        return token

    def __array_finalize__(self, _: Any) -> None:
        self.state = None

    def copy(self, order: Any = "C") -> Self:
        """An equal one."""
        twin = super().copy(order)
        twin.state = self.state
        return twin

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, _: Any) -> Self:
        return self.copy()

    def __reduce__(self) -> Any:
        make, arguments, array = super().__reduce__()
        return make, arguments, (array, self.state)

    def __setstate__(self, given: Any) -> None:
        array, self.state = given
        super().__setstate__(array)


def restore(layer: Any, token: Any) -> None:
    """Make a layer's table what it was when the token was taken; ArgumentError for an array that carries none."""
    state = getattr(token, "state", None)
    if state is None:
        raise ArgumentError(
            f"these weights hold nothing of the table of layer {layer.name!r}, whose rows aren't Keras's; expected "
            "what get_weights() returned, or a file: model.save_weights(…), model.load_weights(…). A matrix of vectors "
            "goes in by layer.table.set(ids, vectors)"
        )
    _restore(layer, from_arrays(state, "a token"), "a token")


def store(table: Table, into: Any) -> None:
    """Write the table to a part of a Keras file."""
    for name, array in _arrays(table).items():
        into[name] = array


def load(layer: Any, part: Any) -> None:
    """Make a layer's table what a part of a Keras file says; CorruptError, with nothing changed, for what isn't one."""
    where = f"the part of layer {layer.name!r}"
    arrays = _read(part, where)
    if not arrays:
        of, error = _refused.get(layer, (None, None))
        if of is not None and of() is part and error is not None:
            raise error  # Keras looks in each place where a layer might be, and tells what was wrong in the last
        raise CorruptError(f"{where} isn't in the file, or is empty; expected a file of a model with this layer")
    try:
        _restore(layer, from_arrays(arrays, where), where)
    except HotrowError as error:
        of = ref(part) if type(part).__weakrefoffset__ else None
        _refused[layer] = of, type(error)(str(error))
        raise


def _arrays(table: Table) -> Arrays:
    return table.read_state(to_arrays)


def _read(part: Any, where: str) -> Mapping[str, np.ndarray]:
    try:
        found = {name: part[name] for name in part.keys()}  # noqa: SIM118 — Keras's stores aren't quite dicts
        _check_stored(found, where)
        arrays = {name: np.asarray(array) for name, array in found.items()}
    except CorruptError:
        raise
    except Exception as error:
        raise CorruptError(f"{where} can't be read: {error}") from error
    return arrays


def _check_stored(found: Mapping[str, Any], where: str) -> None:
    """CorruptError, before anything is read, for arrays of HDF5 that aren't plain numbers within the file.

    HDF5 knows arrays whose bytes are in other files, and arrays of terabytes that take none in this one.
    """
    stored = {name: array for name, array in found.items() if hasattr(getattr(array, "id", None), "get_storage_size")}
    for name, array in stored.items():
        if array.external or array.is_virtual or array.dtype.kind not in "uif":
            raise CorruptError(f"{where}: {name} isn't an array of numbers in this file; expected what hotrow writes")
        if array.id.get_storage_size() < array.nbytes:
            raise CorruptError(f"{where}: {name} claims {array.nbytes:,} bytes, more than are stored of it")
    files = {array.file.id: array.file.id.get_filesize() for array in stored.values()}
    claimed = sum(array.nbytes for array in stored.values())
    if claimed > sum(files.values()):
        raise CorruptError(f"{where}: claims {claimed:,} bytes, in a file of {sum(files.values()):,}")


def _restore(layer: Any, state: State, where: str) -> None:
    check_fits(layer, state, where)
    become(layer, state, where)


def become(layer: Any, state: State, where: str, saved: Saved | None = None) -> None:
    """Make a layer's table what this state, which fits it, says. saved: as what it was saved, for deltas."""
    table: Table = layer.table
    optimizer = table.optimizer
    with made_of(where):
        table.restore(state)
    if saved is not None:
        table.follow_from(saved)
    table.kind = table.kind or _kind(layer)
    if following.is_decided(Stage.of(table)) and table.optimizer != optimizer:
        table.set_optimizer(optimizer)


def _kind(layer: Any) -> str | None:
    """The kind of a layer's ids, if it is given."""
    return layer.ids or (None if layer.input_dim is None else "int64")


def check_fits(layer: Any, state: State, where: str) -> None:
    """ArgumentError for the table of another kind of layer."""
    wanted = _kind(layer)
    dim, kind, bound = state.config["dim"], state.config["ids"], layer.input_dim
    if dim != layer.output_dim:
        raise ArgumentError(
            f"{where} has vectors of {dim} floats, layer {layer.name!r} has {layer.output_dim}; expected the weights "
            f"of a layer like it, or hotrow.keras.Embedding({bound}, {dim})"
        )
    if wanted is not None and kind not in {None, wanted}:
        raise ArgumentError(
            f"{where} has ids of kind {kind}, layer {layer.name!r} takes {wanted}; expected the weights of a layer "
            f"like it, or hotrow.keras.Embedding(None, {dim}, ids={kind!r})"
        )
    if bound is None or wanted == "string":
        return
    outside = state.keys[state.keys >= np.uint64(bound)]
    if len(outside):
        first = restored(outside[:1], kind or "int64")[0]
        raise ArgumentError(
            f"{where} has id {first}, layer {layer.name!r} takes 0 to {bound - 1}; expected the weights of a layer "
            f"like it, or hotrow.keras.Embedding(None, {dim})"
        )
