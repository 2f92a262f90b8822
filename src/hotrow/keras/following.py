"""Whose optimizer trains a table: its own, or the one that the model was compiled with."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import keras

from hotrow.bridges.stage import Stage
from hotrow.errors import ArgumentError
from hotrow.keras import backend
from hotrow.keras.optimizers import has_schedule, inner, translate
from hotrow.table.table import Table


@dataclass
class Following:
    """explicit: the table has an optimizer of its own. optimizer: Keras's, that it follows otherwise."""

    explicit: bool
    optimizer: Any = None


_following: WeakKeyDictionary[Stage, Following] = WeakKeyDictionary()
_traced: ContextVar[tuple[Any, Any] | None] = ContextVar("traced", default=None)


def of(stage: Stage) -> Following:
    """How the table of this stage is trained."""
    return _following[stage]


def begin(stage: Stage, table: Table, optimizer: Any, *, brought: bool) -> None:
    """A layer with this `optimizer=` joins. brought: the table was given to it, with its own optimizer."""
    known = _following.setdefault(stage, Following(explicit=brought))
    if optimizer is None:
        return
    own, rule = translate(optimizer)
    if not isinstance(optimizer, (str, type(own))) and has_schedule(optimizer):
        raise ArgumentError(
            "a layer's own optimizer has a learning rate, not a schedule; expected a number, or no optimizer= in "
            "hotrow.keras.Model, whose schedule the table then follows"
        )
    if known.explicit and table.optimizer != own and len(stage) > 1:
        raise ArgumentError(f"this table is trained by {table.optimizer!r} already, and was given {own!r} too")
    table.set_optimizer(own)
    stage.rule, known.explicit = rule, True


def follow(stage: Stage, table: Table, optimizer: Any, hook: Any, *, unless_told: bool = False) -> None:
    """Train the table as a Keras optimizer does. unless_told: leave one that has its own optimizer alone."""
    known = _following[stage]
    if known.explicit:
        if unless_told:
            return
        raise ArgumentError(
            f"this table has an optimizer of its own, {table.optimizer!r}; leave optimizer= out to follow"
        )
    if known.optimizer is optimizer:
        return
    own, rule = translate(optimizer, hook)
    # Another one for a table that was following: begin anew, as Keras does. The first one may find a loaded table.
    table.set_optimizer(own, fresh=known.optimizer is not None)
    stage.rule, known.optimizer = rule, optimizer


def rate(stage: Stage, layer: str) -> Any:
    """The learning rate of this step, float32 (), below 0 for the table's own; ArgumentError if nobody trains it."""
    known = _following[stage]
    if known.explicit:
        return -1.0
    if known.optimizer is None:
        raise ArgumentError(
            f"layer {layer!r} doesn't know how to train its table, for a layer can't see the optimizer of a model that "
            "isn't hotrow's; expected hotrow.keras.Model(…) or Sequential in place of Keras's, or an optimizer of its "
            "own: hotrow.keras.Embedding(None, 32, optimizer=hotrow.Adam(1e-3)), or layer.follow(optimizer)"
        )
    optimizer = inner(known.optimizer)
    if backend.NAME == "jax":
        traced = _traced.get()
        if traced is not None and traced[0] is optimizer:
            return traced[1]
        if has_schedule(optimizer):
            raise ArgumentError(
                f"on JAX the schedule of {type(optimizer).__name__} can be read only in the train_step of "
                "hotrow.keras.Model; expected that, or a learning rate that is a number"
            )
    return keras.ops.cast(optimizer.learning_rate, "float32")


@contextmanager
def traced(optimizer: Any, variables: Any) -> Generator[None]:
    """Within, the learning rate is that of these variables of the optimizer, which on JAX alone are its state."""
    if optimizer is None or variables is None:
        yield
        return
    with keras.StatelessScope(state_mapping=zip(optimizer.variables, variables, strict=True)):
        own = inner(optimizer)
        value = keras.ops.cast(own.learning_rate, "float32")
    token = _traced.set((own, value))
    try:
        yield
    finally:
        _traced.reset(token)
