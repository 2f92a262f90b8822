"""Whose optimizer trains a table: its own, or the one that the model was compiled with."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakSet

import keras
from keras.src.backend.common.stateless_scope import in_stateless_scope

from hotrow.bridges.stage import Stage
from hotrow.errors import ArgumentError
from hotrow.keras import backend, modes
from hotrow.keras.optimizers import every_of, has_schedule, inner, is_scaled, to_float, translate
from hotrow.table.table import Table


@dataclass
class Following:
    """explicit: the table has an optimizer of its own, given. optimizer: Keras's, that it follows otherwise."""

    explicit: bool
    given: Any = None
    optimizer: Any = None
    asked: Any = None  # the optimizer that was asked whether the layer's weights decay
    past: WeakSet[Any] = field(default_factory=WeakSet)


_traced: ContextVar[tuple[Any, Any] | None] = ContextVar("traced", default=None)


def of(stage: Stage) -> Following:
    """How the table of this stage is trained."""
    return stage.follows  # there, and in no dictionary of ours: an optimizer knows its variables, and they the stage


def is_decided(stage: Stage) -> bool:
    """Whether anything says how the table of this stage is trained."""
    known = of(stage)
    return known.explicit or known.optimizer is not None


def begin(stage: Stage, table: Table, optimizer: Any, *, brought: bool) -> None:
    """A layer with this `optimizer=` joins. brought: the table was given to it, with its own optimizer."""
    if stage.follows is None:
        stage.follows = Following(explicit=brought)
    known = of(stage)
    if optimizer is None:
        return
    optimizer = keras.optimizers.get(optimizer) if isinstance(optimizer, str) else optimizer
    own, rule = translate(optimizer)
    if not isinstance(optimizer, type(own)):
        _refuse_own(optimizer)
    if known.explicit and table.optimizer != own and len(stage) > 1:
        raise ArgumentError(f"this table is trained by {table.optimizer!r} already, and was given {own!r} too")
    table.set_optimizer(own)
    stage.rule = replace(rule, every=None, scaled=rule.scaled or None)  # these two are the model's to decide
    known.explicit, known.given = True, optimizer


def _refuse_own(optimizer: Any) -> None:
    """ArgumentError for what a layer's own optimizer can't have."""
    if has_schedule(optimizer):
        raise ArgumentError(
            "a layer's own optimizer has a learning rate, not a schedule; expected a number, or no optimizer= in "
            "hotrow.keras.Model, whose schedule the table then follows"
        )
    if every_of(optimizer) > 1:
        raise ArgumentError(
            f"a layer's own optimizer got gradient_accumulation_steps={every_of(optimizer)}; leave it out, for the "
            "table steps when the model does, whatever that accumulates"
        )


def called(stage: Stage, table: Table, hook: Any) -> None:
    """A layer is called, so it is built, and an optimizer can be asked whether its weights decay."""
    known = of(stage)
    optimizer = known.given if known.explicit else known.optimizer
    tracing_shapes = backend.NAME == "tensorflow" and in_stateless_scope()  # there variables aren't themselves
    if optimizer is None or optimizer is known.asked or tracing_shapes:
        return
    known.asked = optimizer
    _refresh(table, translate(optimizer, hook, table.optimizer.learning_rate)[0])


def _refresh(table: Table, own: Any) -> None:
    if table.optimizer != own:
        table.set_optimizer(own)


def follow(stage: Stage, table: Table, optimizer: Any, hook: Any, *, unless_told: bool = False) -> None:
    """Train the table as a Keras optimizer does. unless_told: leave one that has its own optimizer alone."""
    known = of(stage)
    if known.explicit:
        if unless_told:  # but when it steps, and on which gradients, is the model's
            stage.rule = replace(stage.rule, every=every_of(optimizer), scaled=is_scaled(optimizer))
            return
        raise ArgumentError(
            f"this table has an optimizer of its own, {table.optimizer!r}; leave optimizer= out to follow"
        )
    own, rule = translate(optimizer, hook)
    if known.optimizer is optimizer:
        _refresh(table, own)  # a loaded table brings the optimizer that it was saved with
    else:
        _refuse_turns(known, optimizer, table)
        # Another one, or one that hasn't stepped: begin anew, as Keras does. Else the table was loaded with it.
        table.set_optimizer(own, fresh=known.optimizer is not None or modes.read(inner(optimizer)._iterations) == 0)
        known.past.add(optimizer)
    stage.rule, known.optimizer = rule, optimizer


def _refuse_turns(known: Following, optimizer: Any, table: Table) -> None:
    if optimizer in known.past and table.optimizer.slots(table.dim):
        raise ArgumentError(
            f"this table was trained as {type(optimizer).__name__} before, then by another model's "
            f"{type(known.optimizer).__name__}, and can't go back: a row has slots for one optimizer. Expected one "
            "optimizer for both models, or the layer's own: hotrow.keras.Embedding(…, optimizer=hotrow.Adam(1e-3))"
        )


def is_following(stage: Stage, optimizer: Any) -> bool:
    """Whether nothing is left to do for this table to be trained by a model with this optimizer."""
    known = of(stage)
    if known.explicit:
        return stage.rule.every is not None
    return known.optimizer is optimizer


def followed(stage: Stage, layer: str, training: bool) -> Any:
    """The optimizer whose learning rate a step has; None for the table's own. ArgumentError if nobody trains it."""
    known = of(stage)
    if training and not is_decided(stage):
        _nobody(layer)
    return None if known.explicit else known.optimizer


def rate(stage: Stage, training: bool) -> Any:
    """The learning rate of this step by the optimizer that is followed, float32 (): NaN where `host_rate` knows it."""
    known = of(stage)
    optimizer = inner(known.optimizer)
    if backend.NAME == "jax":
        traced = _traced.get()
        if traced is not None and traced[0] is optimizer:
            return traced[1]
        if training and has_schedule(optimizer):
            _refuse_schedule(optimizer)
        return float("nan")
    return keras.ops.cast(optimizer.learning_rate, "float32")


def host_rate(stage: Stage, layer: str, given: float) -> float | None:
    """The learning rate of a step for which the graph gave this one; None for the table's own.

    Raises ArgumentError where nobody can know it, or nobody trains the table.
    """
    known = of(stage)
    if known.explicit:
        return None
    if known.optimizer is None:
        return _nobody(layer)
    if not math.isnan(given):
        return given
    optimizer = inner(known.optimizer)
    if has_schedule(optimizer):
        _refuse_schedule(optimizer)
    if optimizer._learning_rate._value is None:  # it is in the state of a JAX trainer
        raise ArgumentError(
            "in a fit on JAX the host can't read the learning rate; expected hotrow.keras.Model, whose train_step, if "
            "it is your own, calls self.compute_loss_and_updates(…, optimizer_variables=…), or an optimizer of the "
            "layer's own: hotrow.keras.Embedding(…, optimizer=hotrow.Adam(1e-3))"
        )
    return to_float(optimizer.learning_rate)


def _nobody(layer: str) -> float:
    raise ArgumentError(
        f"layer {layer!r} doesn't know how to train its table, for a layer can't see the optimizer of a model that "
        "isn't hotrow's; expected hotrow.keras.Model(…) or Sequential in place of Keras's, or an optimizer of its "
        "own: hotrow.keras.Embedding(None, 32, optimizer=hotrow.Adam(1e-3)), or layer.follow(optimizer)"
    )


def _refuse_schedule(optimizer: Any) -> None:
    raise ArgumentError(
        f"on JAX the schedule of {type(optimizer).__name__} can be read only in the train_step of "
        "hotrow.keras.Model; expected that, or a learning rate that is a number"
    )


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
