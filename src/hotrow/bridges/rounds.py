"""A layer's hook, and how its value says which rounds of forward and backward a step was of.

In each round the hook's gradient is a number of its own, a small whole one times 2⁻⁴⁴, one less each time:

    round            1     2     3     4        the optimizer wrote   so it stepped on
    gradient         131   130   129   128      128                   round 4; what 1, 2, 3 brought was for no step
                                                130                   2, 3, 4: Keras accumulates hooks by their maximum
                                                129 + 128             3, 4: a loop of one's own added gradients up
                                                anything else         4: an optimizer took the hook for a weight

(131 stands for 131,071.) After a step the numbers begin again from another top, so that any step moves the hook.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hotrow.bridges.rules import Penalty
from hotrow.errors import ArgumentError
from hotrow.table.batch import Batch

KEPT = 64
"""Rounds that may be waiting for a step."""
_UNIT = 2.0**-44  # so small that no optimizer is disturbed, should it treat the hook as any other weight
_TOPS = (131_071, 196_607)  # and sums of KEPT of them are exact in float32
_SPAN = 65_536  # numbers below a top


Origin = tuple[Any, np.ndarray]
"""Where a Batch comes from: whose lookup, and what the framework brought to it."""


@dataclass(eq=False)
class Hook:
    """What the stage knows of one layer: its last value, and what the layer does to its rows.

    read        the hook's value now, for reads between steps; None where nobody can tell
    peek        whether it can be read while another layer's forward pass goes on
    penalty     added to the loss, for each batch
    constraint  float32 (m, dim) → float32 (m, dim): what the rows of a step become after it
    """

    read: Callable[[], float | None]
    peek: bool = False
    penalty: Penalty | None = None
    constraint: Callable[[np.ndarray], np.ndarray] | None = None
    seen: float | None = None
    round: int = 0
    pulls: int = 0
    pushes: int = 0
    number: int = 0
    lost: bool = False  # parts of rounds that no step had taken
    place: int = 0  # among the layers of its table
    remembered: list[tuple[Origin, Batch]] = field(default_factory=list)
    _top: int = _TOPS[0]
    _first: int | None = None  # the round whose number is the top

    def enter(self, round: int) -> None:
        """A forward pass begins, in this round."""
        if round != self.round:
            self.round, self.pulls, self.pushes = round, 0, 0
        self.pulls += 1

    def gradient(self, finite: bool) -> np.float32:
        """What backward returns: this round's number, once; what isn't finite where the table's gradient isn't."""
        self.pushes += 1
        if self.pushes == 1:
            if self._first is None or self.round - self._first >= _SPAN:
                self._first = self.round
            self.number = self._top - (self.round - self._first)
        if not finite:  # so that whoever skips such steps skips this one; and never the same twice
            return np.float32(np.nan if self.seen == math.inf else np.inf)
        return np.float32(self.number * _UNIT if self.pushes == 1 else 0.0)

    def observe(self, value: float) -> bool:
        """Take the hook's value; return whether it moved."""
        known = self.seen is not None
        moved = not (value == self.seen or (known and math.isnan(value) and math.isnan(self.seen or 0)))
        self.seen = value
        if moved:
            self._first = None
            self._top = next((top for top in _TOPS if not _reaches(top, value / _UNIT)), _TOPS[0])
        return moved and known


def _reaches(top: int, n: float) -> bool:
    """Whether rounds numbered from this top on could write n."""
    if not math.isfinite(n) or n <= 0:
        return False
    k = math.ceil(n / top)
    return top - _SPAN < n <= top or k * top - k * (k - 1) // 2 == n


@dataclass(frozen=True)
class Part:
    """What one backward pass has brought.

    rate     the step's learning rate, None for the optimizer's own
    scale    by what the optimizer divides gradients: the gradient here is divided already
    carried  whether the framework has added it to the gradient of the round before
    """

    hook: Hook
    batch: Batch
    gradient: np.ndarray
    rate: float | None
    round: int
    number: int
    scale: float
    carried: bool


def stepped_on(parts: list[Part], value: float, every: int | None) -> tuple[list[Part], int]:
    """Which parts of a layer are of the step that wrote this value to its hook, and by how many that step divided.

    every: how many rounds a step is of; None where nobody knows.
    """
    numbers = {part.round: part.number for part in parts}
    rounds, n = list(numbers), value / _UNIT
    begun = next((i for i in range(len(rounds) - 1, -1, -1) if numbers[rounds[i]] == n), None)
    count = 1
    if begun is not None and every == 1:
        taken = [rounds[begun]]
    elif begun is not None:
        taken = _unskipped(rounds[begun:], parts)
        count = every or len(taken)
    elif not math.isfinite(n):
        count = every or 1
        taken = rounds[-count:]
    else:
        _check_kept(parts[0].hook, n)
        taken = _added_up(rounds, numbers, n) or _carried(rounds, parts)
    return [part for part in parts if part.round in taken], count


def _unskipped(rounds: list[int], parts: list[Part]) -> list[int]:
    """Without those that Keras skipped, for their gradients overflowed: it halves the loss's scale for the next."""
    scales = [next(part.scale for part in parts if part.round == round) for round in rounds]
    return [round for i, round in enumerate(rounds) if scales[i] <= scales[min(i + 1, len(scales) - 1)]]


def _added_up(rounds: list[int], numbers: dict[int, int], n: float) -> list[int]:
    """The latest rounds whose numbers add up to n."""
    total = 0
    for i in range(len(rounds) - 1, -1, -1):
        total += numbers[rounds[i]]
        if total == n:
            return rounds[i:]
    return []


def _carried(rounds: list[int], parts: list[Part]) -> list[int]:
    """The latest round, and those before whose gradients the framework has kept for it."""
    i = len(rounds) - 1
    while i > 0 and any(part.carried for part in parts if part.round == rounds[i]):
        i -= 1
    return rounds[i:]


def _check_kept(hook: Hook, n: float) -> None:
    if hook.lost and any(top - _SPAN < n <= top for top in _TOPS):
        raise ArgumentError(
            f"an optimizer's step was of more than {KEPT} backward passes, of which the first are kept no longer; "
            f"expected at most {KEPT}, or hotrow.keras.Model, which is told how many to keep"
        )
