"""torch's optimizers, as the table's: the same formula and numbers, on the rows of the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from hotrow.errors import ArgumentError
from hotrow.table import optimizers
from hotrow.table.optimizers import Optimizer

_OWN = "hotrow.torch.Embedding(…, optimizer=hotrow.{}), which then steps when this one does"
_WITHOUT = {
    "Adafactor": ("it factors the whole matrix", "RowwiseAdagrad(0.01)"),
    "Muon": ("it makes the whole matrix orthogonal", "Adam(1e-3)"),
    "RAdam": ("hotrow has no such optimizer", "Adam(1e-3)"),
    "ASGD": ("it averages every row at every step", "SGD(0.01)"),
    "Rprop": ("it compares the signs of whole gradients", "Adam(1e-3)"),
}


@dataclass(frozen=True)
class Plan:
    """How a table steps, to follow an optimizer.

    l2        this times the weights of the batch's rows is added to their gradient
    maximize  the gradient is negated
    lr_decay  Adagrad's
    """

    optimizer: Optimizer
    l2: float = 0.0
    maximize: bool = False
    lr_decay: float = 0.0


def check(optimizer: Any, *, explicit: bool) -> None:
    """ArgumentError for an optimizer that a table can't follow; explicit: not even in when it steps."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ArgumentError(
            f"expected an optimizer of torch.optim; got {type(optimizer).__name__}. One of hotrow's own is given to "
            "the module: hotrow.torch.Embedding(None, 32, optimizer=hotrow.Adam(1e-3)), and emb.step() steps it"
        )
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ArgumentError(
            "a table can't follow LBFGS, which evaluates the loss many times a step and needs all gradients of the "
            "past; expected one of " + ", ".join(_KINDS)
        )
    name = type(optimizer).__name__
    if explicit or type(optimizer) in _CLASSES:
        return
    why, instead = _WITHOUT.get(name, ("it isn't one of torch's own that a table knows", "Adam(1e-3)"))
    raise ArgumentError(
        f"a table can't follow {name}: {why}. Expected one of {', '.join(_KINDS)}; or an optimizer of its own: "
        + _OWN.format(instead)
    )


def translate(optimizer: Any, group: dict[str, Any]) -> Plan:
    """What a table does to follow this optimizer with the numbers of this group; ArgumentError for what it can't."""
    kind = type(optimizer).__name__
    cls, numbers = _KINDS[kind](group)
    decay = float(group.get("weight_decay", 0.0))
    if decay and (kind == "AdamW" or group.get("decoupled_weight_decay")):
        cls, numbers["weight_decay"], decay = (_decayed(cls), decay, 0.0)
    own = cls(learning_rate=float(group["lr"]), **numbers)
    return Plan(own, decay, bool(group.get("maximize")), float(group.get("lr_decay", 0.0)))


def _decayed(cls: type[Optimizer]) -> type[Optimizer]:
    return optimizers.AdamW if cls is optimizers.Adam else cls


def _sgd(g: dict[str, Any]) -> tuple[type[Optimizer], dict[str, Any]]:
    if g["momentum"] and g["dampening"]:
        raise ArgumentError(
            f"a table can't follow SGD(dampening={g['dampening']!r}); expected dampening=0, or an optimizer of its "
            "own: " + _OWN.format(f"SGD({float(g['lr'])!r}, momentum={g['momentum']!r})")
        )
    momentum = float(g["momentum"])
    return optimizers.SGD, {
        "momentum": momentum, "nesterov": bool(g["nesterov"]), "momentum_of_gradients": momentum > 0
    }  # fmt: skip


def _adam(g: dict[str, Any]) -> dict[str, Any]:
    return {"beta_1": float(g["betas"][0]), "beta_2": float(g["betas"][1]), "epsilon": float(g["eps"])}


_KINDS: dict[str, Callable[[dict[str, Any]], tuple[type[Optimizer], dict[str, Any]]]] = {
    "SGD": _sgd,
    "Adagrad": lambda g: (
        optimizers.Adagrad, {"epsilon": float(g["eps"]), "initial_accumulator": float(g["initial_accumulator_value"])}
    ),
    "RMSprop": lambda g: (
        optimizers.RMSprop,
        {
            "rho": float(g["alpha"]),
            "momentum": float(g["momentum"]),
            "epsilon": float(g["eps"]),
            "centered": bool(g["centered"]),
            "momentum_of_gradients": g["momentum"] > 0,
        },
    ),
    "Adadelta": lambda g: (optimizers.Adadelta, {"rho": float(g["rho"]), "epsilon": float(g["eps"])}),
    "Adam": lambda g: (optimizers.Adam, {**_adam(g), "amsgrad": bool(g["amsgrad"])}),
    "AdamW": lambda g: (optimizers.Adam, {**_adam(g), "amsgrad": bool(g["amsgrad"])}),
    "SparseAdam": lambda g: (optimizers.Adam, _adam(g)),
    "Adamax": lambda g: (optimizers.Adamax, _adam(g)),
    "NAdam": lambda g: (optimizers.Nadam, {**_adam(g), "momentum_decay": float(g["momentum_decay"])}),
}  # fmt: skip
"""The table's optimizer for each of torch's, and how it calls their numbers."""

_CLASSES = {getattr(torch.optim, name) for name in _KINDS}
