"""How a gradient moves a row. An optimizer is a kernel, what its slots start with, and its numbers at a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.kernels import stepping


@dataclass(frozen=True)
class Optimizer:
    """The seam. A new optimizer is a kernel in `kernels/stepping.py` and a class of this kind."""

    learning_rate: float

    kernel: ClassVar[Callable[..., None]]
    """A step, with the face that `kernels/stepping.py` tells."""

    def slot_widths(self, dim: int) -> dict[str, int]:
        """Name → floats a row of each slot, in the order they lie behind the weights."""
        return {}

    def slots(self, dim: int) -> int:
        """Floats a row beside the weights."""
        return sum(self.slot_widths(dim).values())

    def first_slots(self, dim: int) -> np.ndarray:
        """What the slots of a new row hold: float32 (slots(dim),)."""
        return np.zeros(self.slots(dim), np.float32)

    def numbers(self, step: int, learning_rate: float) -> np.ndarray:
        """What the kernel needs at this step (the first is 1): float32."""
        return np.array([learning_rate], np.float32)

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            most = 1.0 if name.startswith("beta") else math.inf
            if not 0 <= value < most:
                span = "from 0 to below 1" if name.startswith("beta") else "finite and not negative"
                raise ArgumentError(f"{type(self).__name__}({name}=…) must be {span}; got {value!r}")


@dataclass(frozen=True)
class SGD(Optimizer):
    """Plain stochastic gradient descent, w −= lr · g."""

    learning_rate: float = 1e-2
    kernel = staticmethod(stepping.sgd)


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan, Singer 2011), with torch's defaults; a slot as wide as the row."""

    learning_rate: float = 1e-2
    epsilon: float = 1e-10
    initial_accumulator: float = 0.0
    kernel = staticmethod(stepping.adagrad)

    def slot_widths(self, dim: int) -> dict[str, int]:
        return {"accumulator": dim}

    def first_slots(self, dim: int) -> np.ndarray:
        return np.full(self.slots(dim), self.initial_accumulator, np.float32)

    def numbers(self, step: int, learning_rate: float) -> np.ndarray:
        return np.array([learning_rate, self.epsilon], np.float32)


@dataclass(frozen=True)
class RowwiseAdagrad(Adagrad):
    """Adagrad with one accumulator a row, fed the mean of the row's squared gradients, as FBGEMM's: 4 bytes a row."""

    epsilon: float = 1e-8
    kernel = staticmethod(stepping.rowwise_adagrad)

    def slot_widths(self, dim: int) -> dict[str, int]:
        return {"accumulator": 1}


@dataclass(frozen=True)
class Adam(Optimizer):
    """Lazy Adam (Kingma, Ba 2015): only the batch's rows move, as torch's SparseAdam, whose defaults these are.

    The bias correction counts the table's steps, not the row's.
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    kernel = staticmethod(stepping.adam)

    def slot_widths(self, dim: int) -> dict[str, int]:
        return {"m": dim, "v": dim}

    def numbers(self, step: int, learning_rate: float) -> np.ndarray:
        rate = learning_rate * math.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        return np.array([rate, self.beta_1, 1 - self.beta_1, self.beta_2, 1 - self.beta_2, self.epsilon], np.float32)


OPTIMIZERS = {cls.__name__: cls for cls in (SGD, Adagrad, RowwiseAdagrad, Adam)}


def to_config(optimizer: Optimizer) -> dict[str, Any]:
    """JSON values from which `from_config` makes an equal optimizer."""
    return {"name": type(optimizer).__name__, **asdict(optimizer)}


def from_config(config: dict[str, Any]) -> Optimizer:
    """The inverse of `to_config`; KeyError or TypeError on what isn't one."""
    numbers = {name: float(value) for name, value in config.items() if name != "name"}
    return OPTIMIZERS[config["name"]](**numbers)
