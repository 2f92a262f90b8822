"""What a fit needs to go on after a crash: tables, net, optimizer and counters, all of one step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import PathLike
from typing import Any

import keras
import numpy as np

from hotrow.bridges import generators
from hotrow.errors import ArgumentError, CorruptError
from hotrow.keras import backend, routes, tokens
from hotrow.keras.optimizers import every_of, inner
from hotrow.store.beside import Beside, Told
from hotrow.store.checkpoint import Arrays, Checkpoint, Checkpoints
from hotrow.store.description import Description
from hotrow.store.format import DTYPES
from hotrow.store.strict_json import natural
from hotrow.table.table import Table

log = logging.getLogger("hotrow")
_STORED = {"bfloat16": np.float32, "bool": np.uint8, "int16": np.int32, "uint16": np.int32}
"""Types that a file doesn't know, and what holds all their values."""


class SnapshotCallback(keras.callbacks.Callback, Told):
    """Saves what a fit needs to go on: tables, the net's weights, the optimizer's variables, counters, of one step.

    path    a folder for this alone: older checkpoints are removed from it
    every   "epoch", or after how many batches
    keep    how many checkpoints stay
    deltas  how many may follow one before the next whole one, which write only the rows that have changed; `keep`
            counts whole ones, and those after them stay too

    Training isn't held up: everything is copied or cut at once, and threads write. If one is due while another is being
    written it is left out, and counted in `skipped`. If one fails, on a full disk for example, those before stay whole,
    training goes on, the log has a warning each time, and `error` is what went wrong, until one succeeds. At its end
    fit waits for the last one, and writes one of the end if there is none; for a failed one it raises nothing, since
    the model is trained.

    `restore` goes on from the newest, and `restored` says of which step, epoch and batch that is. Works with
    `hotrow.keras.Model`, `Sequential` and Keras's own models.

    >>> import hotrow, keras
    >>> model = hotrow.keras.Sequential([hotrow.keras.Embedding(None, 4), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> saving = hotrow.keras.SnapshotCallback("run")
    >>> _ = model.fit(["lantern", "cup"], [1.0, 0.0], epochs=3, verbose=0, callbacks=[saving])
    >>> saving.restore(model)                                  # in a new process: the epoch to go on with
    3
    """

    def __init__(
        self, path: str | PathLike[str], *, every: str | int = "epoch", keep: int = 2, deltas: int = 0
    ) -> None:
        super().__init__()
        if every != "epoch" and (type(every) is not int or every < 1):
            raise ArgumentError(f'every = {every!r}: expected "epoch", or after how many batches, from 1 on')
        self.every = every
        self._beside = Beside(Checkpoints(path, keep=keep, deltas=deltas))
        self.restored: dict[str, int] = {}
        self._random: Arrays = {}
        self._epoch = self._batch = 0
        self._behind = 0  # batches of which nothing is saved
        self._due = 0

    # --- during fit ----------------------------------------------------------------------------------------------

    def on_train_begin(self, logs: Any = None) -> None:
        """Refuse a folder that can't be written to, before anything is trained."""
        self._beside.wait()
        self._beside.checkpoints.open()
        self._batch = self._behind = self._due = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Count; and fit has drawn from random generators on its way here."""
        self._epoch, self._batch = epoch, 0
        if not self.restored.get("batch"):
            self._put_generators_back()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """After a restore from within an epoch: fit has drawn from them for an epoch that had begun already."""
        self._put_generators_back()

    def _put_generators_back(self) -> None:
        generators.put_back(self._random)
        self._random = {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save, if it is time."""
        new, self._batch = batch + 1 - self._batch, batch + 1
        self._behind += new
        self._due += new
        if self.every != "epoch" and self._due >= int(self.every) and not self._is_accumulating():
            self._due = 0
            self._save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save, if it is time."""
        self._epoch, self._batch = epoch + 1, 0
        if self.every == "epoch":
            self._save()

    def on_train_end(self, logs: Any = None) -> None:
        """Wait for what is being written; save the end."""
        self._beside.wait()
        if self._behind or self.error is not None:
            self._save()
            self._beside.wait()
        if self.error is not None:
            log.warning("%s: what fit has ended with isn't saved: %s", self._beside.checkpoints.root, self.error)

    def _is_accumulating(self) -> bool:
        """Whether gradients wait for more, which are in no file."""
        model: Any = self._model  # which doesn't ask JAX for its state
        every = every_of(_optimizer(model)) if _optimizer(model) is not None else 1
        return every > 1 and _step(_optimizer(self.model)) % every > 0

    def _save(self) -> None:
        if self._beside.is_busy():
            self._beside.skip()
            return
        model: Any = self.model  # on JAX, this brings the trainer's state to the variables
        facts = {"kind": "keras", "backend": backend.NAME, "optimizer": _name(_optimizer(model))}
        facts |= {"step": _step(_optimizer(model)), "epoch": self._epoch, "batch": self._batch}
        arrays = {name: _to_array(variable) for name, variable in _variables(model).items()}
        self._behind = 0
        self._beside.begin(_tables(model), arrays | generators.capture(), facts)

    # --- to go on ------------------------------------------------------------------------------------------------

    def restore(self, model: Any, number: int | None = None) -> int:
        """Make a model what it was at the newest checkpoint, or at this number; return the epoch to go on with.

        0 if there is none yet, so that one script begins and goes on:

            model.fit(x, y, epochs=20, initial_epoch=saving.restore(model), callbacks=[saving])

        The model must be built, and compiled as it was. A checkpoint of another backend fits, too. One from within an
        epoch returns that epoch, and `restored["batch"]` is how many batches of it are done. The global random
        generators of Python, NumPy and torch go on from where they were, too.

        CorruptError for one that is damaged: another is never taken in its place. ArgumentError for another model.
        Nothing has changed then.
        """
        if not model.built:
            raise ArgumentError(
                "this model isn't built, so it has no weights to restore; expected one call before: model(x[:1])"
            )
        self._beside.wait()
        tables = _tables(model)
        where = str(self._beside.checkpoints.root)

        def fits(described: Description) -> list[Any]:
            _check_fits(model, described, where)
            return [table.path for table in tables]

        found = self._beside.checkpoints.read(number, fits=fits)
        if found is None:
            return 0
        self._random = _put_back(model, found, where)
        generators.put_back(self._random)
        self._beside.checkpoints.go_on_from(found.number, tables)
        self.restored = {name: found.facts[name] for name in ("step", "epoch", "batch")}
        return self.restored["epoch"]


# --- what a model is made of -----------------------------------------------------------------------------------------


def _tables(model: Any) -> list[Table]:
    return list(dict.fromkeys(layer.table for layer in routes.embeddings(model)))


def _variables(model: Any) -> dict[str, Any]:
    """The variables of net and optimizer by the names that they have in the file. Seeds are among them."""
    optimizer = _optimizer(model)
    found = {f"net.{i}": variable for i, variable in enumerate(model.variables)}
    return found | {f"optimizer.{i}": variable for i, variable in enumerate(optimizer.variables if optimizer else [])}


def _optimizer(model: Any) -> Any:
    """What it was compiled with, or None."""
    return getattr(model, "optimizer", None)


def _name(optimizer: Any) -> str | None:
    return None if optimizer is None else type(inner(optimizer)).__name__


def _step(optimizer: Any) -> int:
    return 0 if optimizer is None else int(_to_array(inner(optimizer)._iterations))


def _to_array(variable: Any) -> np.ndarray:
    """A copy of the value, as a file has it. Past `variable.numpy()`, for a hook's brings its table along."""
    array = np.array(keras.ops.convert_to_numpy(variable.value))
    return array.astype(_STORED.get(array.dtype.name, array.dtype))


def _check_fits(model: Any, described: Description, where: str) -> None:
    """ArgumentError for a checkpoint of another model."""
    facts = described.facts
    if facts.get("kind") != "keras":
        raise ArgumentError(f"{where}: has a checkpoint of {facts.get('kind')!s:.20}, expected one of a Keras model")
    if not (natural(facts.get("epoch")) and natural(facts.get("batch")) and natural(facts.get("step"))):
        raise CorruptError(f"{where}: checkpoint {described.number} doesn't say of which epoch it is")
    if len(described.tables) != len(_tables(model)):
        raise ArgumentError(
            f"{where}: has {len(described.tables)} tables, this model has {len(_tables(model))}; expected the model "
            "that was trained"
        )
    optimizer = _optimizer(model)
    if optimizer is not None:
        if facts.get("optimizer") != _name(optimizer):
            raise ArgumentError(
                f"{where}: was trained by {facts.get('optimizer')!s:.40}, this model is compiled with "
                f"{_name(optimizer)}; expected it compiled as it was"
            )
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
    own = _variables(model)
    apart = generators.PREFIX if optimizer is not None else (generators.PREFIX, "optimizer.")
    saved = {name: of for name, of in described.arrays.items() if not name.startswith(apart)}
    if own.keys() != saved.keys():
        raise ArgumentError(
            f"{where}: has {len(saved)} variables of net and optimizer, this model has {len(own)}; expected the model "
            "that was trained, compiled as it was"
        )
    for name, variable in own.items():
        _check_variable(name, variable, saved[name], where)


def _check_variable(name: str, variable: Any, saved: tuple[str, Sequence[int | None]], where: str) -> None:
    dtype, shape = DTYPES[saved[0]], tuple(saved[1])
    own = np.dtype(_STORED.get(variable.dtype, variable.dtype))
    # Backends count in integers of their own widths.
    same = dtype == own or (dtype.kind in "iu" and own.kind in "iu")
    if shape != tuple(variable.shape) or not same:
        raise ArgumentError(
            f"{where}: {name} is {dtype} of shape {shape}, and {variable.path} of this model is {own} of "
            f"{tuple(variable.shape)}; expected the model that was trained, compiled as it was"
        )


def _put_back(model: Any, found: Checkpoint, where: str) -> Arrays:
    """First all checks, then all of it; what random generators are to be."""
    layers, tables = routes.embeddings(model), _tables(model)
    states = {id(table): saved.state() for table, saved in zip(tables, found.tables, strict=True)}
    for layer in layers:
        tokens.check_fits(layer, states[id(layer.table)], where)
    generators.check(found.arrays, where)
    for name, variable in _variables(model).items():
        # A tensor, for an array is for a hook what carries a table.
        variable.assign(keras.ops.convert_to_tensor(found.arrays[name], dtype=variable.dtype))
    for table in tables:
        saved = found.tables.pop(0)  # so that its memory is given back
        layer = next(layer for layer in layers if layer.table is table)
        tokens.become(layer, states.pop(id(table)), where, saved.saved)
    return {name: array for name, array in found.arrays.items() if name.startswith(generators.PREFIX)}
