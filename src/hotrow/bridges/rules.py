"""What happens to the gradients of a step on their way to the table, and to the rows after it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hotrow.errors import ArgumentError


@dataclass(frozen=True)
class Rule:
    """What the optimizer of a model does to gradients before it steps.

    every      backward passes to one step, whose gradients are averaged (accumulation); None: the hook tells
    scaled     whether the loss is scaled; None: it is where its factor is a power of two above 1, as mixed precision's
    clipvalue  each number is held to ±clipvalue
    clipnorm   the gradient of the step, all its rows together, is scaled down to this norm
    """

    every: int | None = None
    scaled: bool | None = None
    clipvalue: float | None = None
    clipnorm: float | None = None

    def scale(self, factor: float) -> float:
        """By what the optimizer divides gradients, where the gradient of the penalty is `factor`.

        A loop of one's own may multiply its loss by anything, and means it; only a loss scale is taken out again.
        Raises ArgumentError where it should be seen and isn't.
        """
        if self.scaled is None:
            return factor if factor > 1 and math.frexp(factor)[0] == 0.5 else 1.0
        if self.scaled and factor == 0:
            raise ArgumentError(
                "the optimizer scales the loss, and a table learns by how much from the model's own losses, which this "
                "loss doesn't have; expected loss = optimizer.scale_loss(loss + sum(model.losses))"
            )
        return factor if self.scaled else 1.0

    def apply(self, gradient: np.ndarray, every: int) -> np.ndarray:
        """The sum of `every` gradients, float32 (m, dim), which may be written, to the gradient of the step."""
        if every > 1:
            gradient /= np.float32(every)
        if self.clipvalue is not None:
            np.clip(gradient, -self.clipvalue, self.clipvalue, out=gradient)
        if self.clipnorm is not None:
            norm = float(np.sqrt(np.vdot(gradient, gradient)))
            if norm > self.clipnorm:
                gradient *= np.float32(self.clipnorm / norm)
        return gradient


@dataclass(frozen=True)
class Penalty:
    """l1 · Σ|w| + l2 · Σw² over the distinct rows of a batch."""

    l1: float = 0.0
    l2: float = 0.0

    def value(self, rows: np.ndarray) -> float:
        """Of rows float32 (m, dim)."""
        return self.l1 * float(np.abs(rows).sum()) + self.l2 * float(np.vdot(rows, rows))

    def gradient(self, rows: np.ndarray) -> np.ndarray:
        """float32 (m, dim) → float32 (m, dim)."""
        return np.float32(self.l1) * np.sign(rows) + np.float32(2 * self.l2) * rows
