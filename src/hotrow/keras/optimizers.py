"""Keras's optimizers, as the table's: the same formula and numbers, on the rows of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from hotrow.bridges.rules import Rule
from hotrow.errors import ArgumentError
from hotrow.table import optimizers
from hotrow.table.optimizers import Optimizer

_WITHOUT = {
    "Adafactor": "it factors the whole matrix",
    "Lamb": "its step depends on the norm of the whole matrix",
    "Muon": "it makes the whole matrix orthogonal",
}


def inner(optimizer: Any) -> Any:
    """The optimizer itself, without the one that scales the loss."""
    while isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return optimizer


def every_of(optimizer: Any) -> int:
    """Backward passes to one step of a model with this optimizer."""
    return inner(optimizer).gradient_accumulation_steps or 1


def is_scaled(optimizer: Any) -> bool:
    """Whether a model with this optimizer scales its loss."""
    return inner(optimizer) is not optimizer or inner(optimizer).loss_scale_factor is not None


def translate(optimizer: Any, hook: Any = None, rate: float | None = None) -> tuple[Optimizer, Rule]:
    """What a table does to follow a Keras optimizer.

    hook  the variable by which Keras would know the layer, for `exclude_from_weight_decay`
    rate  the learning rate; None: that of now, or 0 for a schedule

    Raises ArgumentError for what can't be done on the rows of a batch alone, by name.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer, Rule()
    given = keras.optimizers.get(optimizer)
    optimizer = inner(given)
    kind = type(optimizer).__name__
    _refuse(optimizer, kind)
    numbers = _KINDS[kind](optimizer)
    if optimizer.weight_decay and (hook is None or optimizer._use_weight_decay(hook)):
        numbers["weight_decay"] = float(optimizer.weight_decay)
    elif kind == "AdamW":
        numbers["weight_decay"] = 0.0
    rule = Rule(every_of(given), is_scaled(given), optimizer.clipvalue or None, optimizer.clipnorm or None)
    rate = _rate(optimizer) if rate is None else rate
    return getattr(optimizers, kind)(learning_rate=rate, **numbers), rule


def _rate(optimizer: Any) -> float:
    if has_schedule(optimizer):
        return 0.0
    return to_float(optimizer.learning_rate)


def to_float(value: Any) -> float:
    """A scalar, of a variable or not."""
    tensor: Any = keras.ops.convert_to_numpy(getattr(value, "value", value))
    return float(tensor)


def has_schedule(optimizer: Any) -> bool:
    """Whether its learning rate is another at each step by itself."""
    rate = inner(optimizer)._learning_rate
    return isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) or (
        callable(rate) and not isinstance(rate, keras.Variable)
    )


def _refuse(optimizer: Any, kind: str) -> None:
    if kind not in _KINDS or not type(optimizer).__module__.startswith("keras."):  # on torch each is a subclass
        why = _WITHOUT.get(kind, "it isn't one of Keras's own that a table knows")
        raise ArgumentError(
            f"a table can't follow {kind}: {why}. Expected one of {', '.join(_KINDS)}; or give the layer an optimizer "
            "of its own, hotrow.keras.Embedding(…, optimizer=hotrow.Adam(1e-3)); the model keeps this one for the rest"
        )
    for name, why in (
        ("global_clipnorm", "the norm of all gradients together isn't known when a table's are summed; use clipnorm="),
        ("use_ema", "averaging would touch every row at every step"),
    ):
        if getattr(optimizer, name, None):
            raise ArgumentError(f"a table can't follow {kind}({name}={getattr(optimizer, name)!r}): {why}")


def _adam(o: Any) -> dict[str, Any]:
    return {"beta_1": o.beta_1, "beta_2": o.beta_2, "epsilon": o.epsilon}


_KINDS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "SGD": lambda o: {"momentum": o.momentum, "nesterov": o.nesterov},
    "RMSprop": lambda o: {
        "rho": o.rho, "momentum": o.momentum, "epsilon": 0.0, "epsilon_in_root": o.epsilon, "centered": o.centered
    },
    "Adagrad": lambda o: {
        "epsilon": 0.0, "epsilon_in_root": o.epsilon, "initial_accumulator": o.initial_accumulator_value
    },
    "Adadelta": lambda o: {"rho": o.rho, "epsilon": o.epsilon},
    "Adam": lambda o: {**_adam(o), "amsgrad": o.amsgrad},
    "AdamW": lambda o: {**_adam(o), "amsgrad": o.amsgrad},
    "Adamax": _adam,
    "Nadam": lambda o: {**_adam(o), "momentum_decay": 1.0},
    "Lion": lambda o: {"beta_1": o.beta_1, "beta_2": o.beta_2},
    "Ftrl": lambda o: {
        "learning_rate_power": o.learning_rate_power,
        "initial_accumulator": o.initial_accumulator_value,
        "l1": o.l1_regularization_strength,
        "l2": o.l2_regularization_strength,
        "l2_shrinkage": o.l2_shrinkage_regularization_strength,
        "beta": o.beta,
    },
}  # fmt: skip
"""How each of Keras's numbers is called by the table's optimizer of the same name."""
