"""What the parts of a cluster's step cost in seconds of one core, and how many of a batch's ids are distinct.

owner   ids ──dedupe──▶ distinct ──split──▶ a request a shard ──fill──▶ vectors      gradients ──merge──▶ sums
shard   keys ──fetch──▶ vectors                                                      sums ──step──▶ rows
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hotrow.errors import ArgumentError

_BINS = 4096  # of ranks, for sums over more ids than one would go through


@dataclass(frozen=True)
class Cost:
    """Seconds of one core: for a call, for each item of it (an id, a row, a byte), and for each float of an item."""

    call: float = 0.0
    item: float = 0.0
    number: float = 0.0

    def of(self, items: float, numbers: int = 0) -> float:
        """The seconds of a call with so many items of so many floats each.

        >>> Cost(1e-6, 2e-9, 1e-10).of(1000, 30)
        6e-06
        """
        return self.call + items * (self.item + numbers * self.number)


@dataclass(frozen=True)
class Costs:
    """What one machine takes for the parts of a step; `hotrow.cluster.planning.measuring.measure` finds it out.

    dedupe, split, group, fill, merge   the owner's kernels: of ids, distinct ids, ids, ids × dim, ids × dim
    step_call, request, served          Python around them: the owner's for a step and a request, a shard's for one
    fetch, step                         a shard's kernels: of rows × dim, and of rows × (dim + slots)
    message                             for whoever sends and for whoever receives, of bytes
    hop                                 seconds until a message is there that no core works for
    spread                              how a part's time differs from its mean: quantiles, from the least to the most
    """

    machine: str
    dedupe: Cost
    split: Cost
    group: Cost
    fill: Cost
    merge: Cost
    step_call: float
    request: float
    served: float
    fetch: Cost
    step: Cost
    message: Cost
    hop: float
    spread: tuple[float, ...] = (1.0,)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Costs:
        """The inverse of `dataclasses.asdict`, after a way through JSON."""
        given: dict[str, Any] = {name: Cost(**one) if isinstance(one, dict) else one for name, one in told.items()}
        given["spread"] = tuple(told["spread"])
        return cls(**given)


def distinct(ids: int, rows: int, zipf: float | None) -> float:
    """How many distinct ids a batch of `ids` has on average, drawn from `rows` ids.

    zipf   by Zipf's law with this exponent, the id of rank r as often as r^−zipf; None: each as often as all others

    Raises ArgumentError for an exponent that is negative or not finite.

    >>> round(distinct(40_000, 1_000_000, None)), round(distinct(40_000, 1_000_000, 1.2))
    (39211, 7129)
    """
    if zipf is not None and not (np.isfinite(zipf) and zipf >= 0):
        raise ArgumentError(f"the exponent of Zipf's law must be 0 or more; got {zipf!r}. Try 1.1, or None for uniform")
    ranks, each = _ranks(rows)
    weights = ranks ** -(zipf or 0.0)
    chances = weights / float(np.sum(weights * each))
    return float(np.sum(each * -np.expm1(ids * np.log1p(-np.minimum(chances, 1 - 1e-12)))))


def _ranks(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks from 1 to `rows`, and for how many each stands: the first ones by themselves, the others in bins."""
    if rows <= _BINS:
        return np.arange(1.0, rows + 1), np.ones(rows)
    bounds = np.geomspace(_BINS, rows + 1, _BINS)
    few = np.arange(1.0, _BINS)
    return np.concatenate([few, np.sqrt(bounds[1:] * bounds[:-1])]), np.concatenate(
        [np.ones(len(few)), np.diff(bounds)]
    )


def exponent(ids: int, rows: int, seen: float) -> float:
    """The exponent of Zipf's law by which a batch of `ids` from `rows` ids has `seen` distinct ones on average.

    >>> round(exponent(40_000, 1_000_000, distinct(40_000, 1_000_000, 1.2)), 3)
    1.2
    """
    low, high = 0.0, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if distinct(ids, rows, middle) > seen else (low, middle)
    return low
