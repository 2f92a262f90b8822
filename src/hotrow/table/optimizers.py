"""How a gradient moves a row. An optimizer is a kernel, what its slots start with, and its numbers at a step.

Only the rows of a batch move. Where every row is in every batch, an optimizer ends where torch's and Keras's of the
same name end. The defaults are torch's; Lion's and Ftrl's, which torch hasn't got, are Keras's.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.kernels import stepping

_BOOL = ("bool", bool)
"""The type of a field that is one, as dataclasses give it."""


@dataclass(frozen=True)
class Optimizer:
    """The seam. A new optimizer is a kernel in `kernels/stepping.py` and a class of this kind.

    weight_decay: before a step, w −= weight_decay · learning_rate · w for its rows (Loshchilov and Hutter 2019), as
    Keras's and as torch's AdamW; the weight_decay of torch's other optimizers is part of the gradient.
    """

    learning_rate: float
    weight_decay: float = field(default=0.0, kw_only=True)

    kernel: ClassVar[Callable[..., None]]
    """A step, with the face that `kernels/stepping.py` tells."""

    def slot_widths(self, dim: int) -> dict[str, int]:
        """Name → floats a row of each slot, in the order they lie behind the weights."""
        return {}

    def slots(self, dim: int) -> int:
        """Floats a row beside the weights."""
        return sum(self.slot_widths(dim).values())

    def slot_columns(self, dim: int) -> dict[str, slice]:
        """Name → where each slot lies in a row of `dim` weights and all slots."""
        widths = self.slot_widths(dim)
        ends = dim + np.cumsum([*widths.values()], dtype=np.int64)
        return {name: slice(end - widths[name], end) for name, end in zip(widths, ends.tolist(), strict=True)}

    def first_slots(self, dim: int) -> np.ndarray:
        """What the slots of a new row hold: float32 (slots(dim),)."""
        return np.zeros(self.slots(dim), np.float32)

    def rate(self, given: float | None) -> float:
        """The learning rate of a step: the one given for it, or the optimizer's own. ArgumentError if it can't be."""
        rate = self.learning_rate if given is None else float(given)
        if not 0 <= rate < math.inf:
            raise ArgumentError(f"learning_rate must be finite and not negative; got {given!r}")
        return rate

    def numbers(self, step: int, learning_rate: float) -> np.ndarray:
        """What the kernel needs at this step (the first is 1), the decay first: float32."""
        return np.array([learning_rate * self.weight_decay, *self.constants(step, learning_rate)], np.float32)

    def constants(self, step: int, learning_rate: float) -> tuple[float, ...]:
        """The kernel's own numbers at this step, those after the decay."""
        return (learning_rate,)

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            fits, span = _span(one.name, one.type, value)
            if not fits:
                raise ArgumentError(f"{type(self).__name__}({one.name}=…) must be {span}; got {value!r}")


def _span(name: str, kind: Any, value: Any) -> tuple[bool, str]:
    """Whether `value` can be that field's, and what can."""
    if kind in _BOOL:
        return isinstance(value, bool), "True or False"
    if name in {"momentum", "rho"} or name.startswith("beta_"):
        return 0 <= value < 1, "from 0 to below 1"
    if name == "learning_rate_power":
        return -math.inf < value <= 0, "finite and not positive"
    return 0 <= value < math.inf, "finite and not negative"


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, w −= lr · g; with momentum, m ← momentum · m − lr · g and w += m.

    The momentum is Keras's; while the learning rate stays as it is, torch's is the same. momentum_of_gradients: torch's
    also where it changes, m ← momentum · m − g and w += lr · m. nesterov: w += momentum · m − lr · g (Sutskever et al.
    2013). One slot, if there is momentum.
    """

    learning_rate: float = 1e-2
    momentum: float = 0.0
    nesterov: bool = False
    momentum_of_gradients: bool = False
    kernel = staticmethod(stepping.sgd)

    def slot_widths(self, dim: int) -> dict[str, int]:
        return {"momentum": dim} if self.momentum > 0 else {}

    def constants(self, step: int, learning_rate: float) -> tuple[float, ...]:
        rate, after = (1.0, learning_rate) if self.momentum_of_gradients and self.momentum else (learning_rate, 1.0)
        return rate, self.momentum, self.nesterov, after


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan, Singer 2011), with torch's defaults; a slot as wide as the row.

    The step is divided by √(accumulator + epsilon_in_root) + epsilon: Keras's epsilon is the one in the root.
    """

    learning_rate: float = 1e-2
    epsilon: float = 1e-10
    initial_accumulator: float = 0.0
    epsilon_in_root: float = 0.0
    kernel = staticmethod(stepping.adagrad)

    def slot_widths(self, dim: int) -> dict[str, int]:
        return {"accumulator": dim}

    def first_slots(self, dim: int) -> np.ndarray:
        return np.full(self.slots(dim), self.initial_accumulator, np.float32)

    def constants(self, step: int, learning_rate: float) -> tuple[float, ...]:
        return learning_rate, self.epsilon, self.epsilon_in_root


@dataclass(frozen=True)
class RowwiseAdagrad(Adagrad):
    """Adagrad with one accumulator a row, fed the mean of the row's squared gradients, as FBGEMM's: 4 bytes a row."""

    epsilon: float = 1e-8
    kernel = staticmethod(stepping.rowwise_adagrad)

    def slot_widths(self, dim: int) -> dict[str, int]:
        return {"accumulator": 1}


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop (Tieleman, Hinton 2012): w −= lr · g / (√(v + epsilon_in_root) + epsilon), v the moving mean of g².

    centered subtracts the square of the moving mean of g from v (Graves 2013); momentum gathers the steps, or, with
    momentum_of_gradients, what they are before the learning rate, as torch's. Each has a slot of its own. The defaults
    are torch's; Keras's epsilon is the one in the root.
    """

    learning_rate: float = 1e-2
    rho: float = 0.99
    momentum: float = 0.0
    epsilon: float = 1e-8
    epsilon_in_root: float = 0.0
    centered: bool = False
    momentum_of_gradients: bool = False
    kernel = staticmethod(stepping.rmsprop)

    def slot_widths(self, dim: int) -> dict[str, int]:
        return {"v": dim} | ({"mean": dim} if self.centered else {}) | ({"momentum": dim} if self.momentum > 0 else {})

    def constants(self, step: int, learning_rate: float) -> tuple[float, ...]:
        means = self.rho, 1 - self.rho
        rate, after = (1.0, learning_rate) if self.momentum_of_gradients and self.momentum else (learning_rate, 1.0)
        return rate, *means, self.epsilon, self.epsilon_in_root, self.centered, self.momentum, after


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012): w −= lr · Δ, Δ = g · √(d + ε) / √(v + ε); v and d are moving means of g² and Δ²."""

    learning_rate: float = 1.0
    rho: float = 0.9
    epsilon: float = 1e-6
    kernel = staticmethod(stepping.adadelta)

    def slot_widths(self, dim: int) -> dict[str, int]:
        return {"v": dim, "delta": dim}

    def constants(self, step: int, learning_rate: float) -> tuple[float, ...]:
        return learning_rate, self.rho, 1 - self.rho, self.epsilon


@dataclass(frozen=True)
class Adam(Optimizer):
    """Lazy Adam (Kingma, Ba 2015): only the batch's rows move, as torch's SparseAdam, whose defaults these are.

    The bias correction counts the table's steps, not the row's. amsgrad divides by the largest v so far, one more slot
    (Reddi, Kale, Kumar 2018).
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    amsgrad: bool = False
    kernel = staticmethod(stepping.adam)

    def slot_widths(self, dim: int) -> dict[str, int]:
        return {"m": dim, "v": dim} | ({"v_max": dim} if self.amsgrad else {})

    def constants(self, step: int, learning_rate: float) -> tuple[float, ...]:
        rate = learning_rate * math.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        return rate, self.beta_1, 1 - self.beta_1, self.beta_2, 1 - self.beta_2, self.epsilon, self.amsgrad


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with weight decay (Loshchilov, Hutter 2019), as much as torch's; a row's weights decay when it moves."""

    weight_decay: float = field(default=1e-2, kw_only=True)


@dataclass(frozen=True)
class Adamax(Optimizer):
    """Adamax (Kingma, Ba 2015): w −= lr / (1 − β1ᵗ) · m / (u + ε), m the moving mean of g, u ← max(β2 · u, |g|)."""

    learning_rate: float = 2e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    kernel = staticmethod(stepping.adamax)

    def slot_widths(self, dim: int) -> dict[str, int]:
        return {"m": dim, "u": dim}

    def constants(self, step: int, learning_rate: float) -> tuple[float, ...]:
        rate = learning_rate / (1 - self.beta_1**step)
        return rate, self.beta_1, 1 - self.beta_1, self.beta_2, self.epsilon


@dataclass(frozen=True)
class Nadam(Optimizer):
    """Adam with Nesterov's momentum (Dozat 2016), which grows by a schedule: at step t β1 · (1 − 0.96ᵗᵈ / 2).

    d is momentum_decay, 0.004 in the paper and in torch; in Keras it is 1. t counts the table's steps.
    """

    learning_rate: float = 2e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    momentum_decay: float = 4e-3
    kernel = staticmethod(stepping.nadam)

    def slot_widths(self, dim: int) -> dict[str, int]:
        return {"m": dim, "v": dim}

    def constants(self, step: int, learning_rate: float) -> tuple[float, ...]:
        now, after = (float(_schedule(self.beta_1, self.momentum_decay, t)) for t in (step, step + 1))
        product = _product(self.beta_1, self.momentum_decay, step)
        p, q = learning_rate * after / (1 - product * after), learning_rate * (1 - now) / (1 - product)
        correction = 1 / (1 - self.beta_2**step)
        return p, q, correction, self.beta_1, 1 - self.beta_1, self.beta_2, 1 - self.beta_2, self.epsilon


def _schedule(beta_1: float, decay: float, t: Any) -> Any:
    """Nadam's momentum at step t, or at each of them."""
    return beta_1 * (1 - 0.5 * 0.96 ** (t * decay))


def _product(beta_1: float, decay: float, step: int) -> float:
    """The product of Nadam's schedule over the first steps, up to `step`."""
    if beta_1**step < 2.0**-60:  # and the product is less: nothing of it is left in 1 − product
        return 0.0
    return float(_products(beta_1, decay, 1 << step.bit_length())[step])


@lru_cache(maxsize=64)
def _products(beta_1: float, decay: float, n: int) -> np.ndarray:
    """The products of the first 0, 1, … n − 1 factors of the schedule."""
    return np.cumprod([1.0, *_schedule(beta_1, decay, np.arange(1, n))])


@dataclass(frozen=True)
class Lion(Optimizer):
    """Lion (Chen et al. 2023): w −= lr · sign(β1 · m + (1 − β1) · g), then m ← β2 · m + (1 − β2) · g."""

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.99
    kernel = staticmethod(stepping.lion)

    def slot_widths(self, dim: int) -> dict[str, int]:
        return {"m": dim}

    def constants(self, step: int, learning_rate: float) -> tuple[float, ...]:
        return learning_rate, self.beta_1, 1 - self.beta_1, self.beta_2, 1 - self.beta_2


@dataclass(frozen=True)
class Ftrl(Optimizer):
    """Follow the regularized leader (McMahan et al. 2013), as Keras's: l1 makes weights exactly 0.

    A new row has gathered no gradients, so its first step keeps little of its first value. l2 is held against the
    weights, l2_shrinkage against their gradient; beta is the paper's, the smoothing of the learning rate. The learning
    rate can't be 0, for a step divides by it.
    """

    learning_rate: float = 1e-3
    learning_rate_power: float = -0.5
    initial_accumulator: float = 0.1
    l1: float = 0.0
    l2: float = 0.0
    l2_shrinkage: float = 0.0
    beta: float = 0.0
    kernel = staticmethod(stepping.ftrl)

    def slot_widths(self, dim: int) -> dict[str, int]:
        return {"accumulator": dim, "linear": dim}

    def first_slots(self, dim: int) -> np.ndarray:
        return np.repeat(np.array([self.initial_accumulator, 0], np.float32), dim)

    def constants(self, step: int, learning_rate: float) -> tuple[float, ...]:
        if not learning_rate:
            raise ArgumentError("Ftrl divides by the learning rate: expected one above 0, got 0; leave the update out")
        inverse = 1 / learning_rate
        return inverse, -self.learning_rate_power, self.l1, 2 * self.l2 + self.beta * inverse, 2 * self.l2_shrinkage


_CLASSES = (SGD, Adagrad, RowwiseAdagrad, RMSprop, Adadelta, Adam, AdamW, Adamax, Nadam, Lion, Ftrl)
OPTIMIZERS: dict[str, type[Optimizer]] = {cls.__name__: cls for cls in _CLASSES}


def to_config(optimizer: Optimizer) -> dict[str, Any]:
    """JSON values from which `from_config` makes an equal optimizer."""
    told = {name: value if isinstance(value, bool) else float(value) for name, value in asdict(optimizer).items()}
    return {"name": type(optimizer).__name__, **told}


def from_config(config: dict[str, Any]) -> Optimizer:
    """The inverse of `to_config`; KeyError, TypeError or ArgumentError on what isn't one.

    A field that isn't there has its default, for it is younger than the config.
    """
    cls = OPTIMIZERS[config["name"]]
    kinds = {one.name: one.type for one in fields(cls)}
    return cls(**{name: _plain(kinds[name], value) for name, value in config.items() if name != "name"})


def _plain(kind: Any, value: Any) -> bool | float:
    """A field's value, of the type that it has in JSON."""
    if kind in _BOOL:
        if type(value) is not bool:
            raise TypeError(f"expected true or false, got {value!r:.100}")
        return value
    if type(value) not in {int, float} or not abs(value) <= sys.float_info.max:
        raise TypeError(f"expected a finite number, got {value!r:.100}")
    return float(value)
