"""What a row starts with: a function of the table's seed and the id's key, whatever the order of arrival."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from hotrow.errors import ArgumentError
from hotrow.kernels import drawing


@dataclass(frozen=True)
class Initializer:
    """The seam: an initializer is a kind that `kernels/drawing.py` knows, and its two numbers."""

    kind: ClassVar[int]

    def numbers(self) -> tuple[float, float]:
        """The kernel's (a, b)."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not math.isfinite(value):
                raise ArgumentError(f"{type(self).__name__}({name}=…) must be a finite number; got {value!r}")


@dataclass(frozen=True)
class Constant(Initializer):
    """Every weight starts at `value`.

    >>> import hotrow
    >>> hotrow.Table(2, initializer=hotrow.Constant(0.5)).lookup([7]).tolist()
    [[0.5, 0.5]]
    """

    value: float = 0.0
    kind = drawing.CONSTANT

    def numbers(self) -> tuple[float, float]:
        return float(self.value), 0.0


@dataclass(frozen=True)
class Zeros(Constant):
    """Every weight starts at zero."""

    def __init__(self) -> None:
        object.__setattr__(self, "value", 0.0)


@dataclass(frozen=True)
class Uniform(Initializer):
    """Each weight is drawn evenly from [mean − scale, mean + scale); Keras's Embedding has 0.05 and 0."""

    scale: float = 0.05
    mean: float = 0.0
    kind = drawing.UNIFORM

    def numbers(self) -> tuple[float, float]:
        return float(self.mean) - float(self.scale), float(self.mean) + float(self.scale)


@dataclass(frozen=True)
class Normal(Initializer):
    """Each weight is drawn from the normal distribution; torch's Embedding is Normal(1.0)."""

    std: float = 0.05
    mean: float = 0.0
    kind = drawing.NORMAL

    def numbers(self) -> tuple[float, float]:
        return float(self.mean), float(self.std)


@dataclass(frozen=True)
class TruncatedNormal(Normal):
    """As Normal, but what lies beyond two standard deviations is drawn again."""

    kind = drawing.TRUNCATED_NORMAL


INITIALIZERS = {cls.__name__: cls for cls in (Uniform, Normal, TruncatedNormal, Constant, Zeros)}


def to_config(initializer: Initializer) -> dict[str, Any]:
    """JSON values from which `from_config` makes an equal initializer."""
    return {"name": type(initializer).__name__} | ({} if isinstance(initializer, Zeros) else asdict(initializer))


def from_config(config: dict[str, Any]) -> Initializer:
    """The inverse of `to_config`; KeyError or TypeError on what isn't one."""
    numbers = {name: float(value) for name, value in config.items() if name != "name"}
    return INITIALIZERS[config["name"]](**numbers)
