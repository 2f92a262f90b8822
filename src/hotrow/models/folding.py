"""Users that no fit has seen, from their items alone: items stay as they are, each user goes where it fits them.

A user starts amid its items, rare ones counting more, and takes some steps of the loss that the model was trained by,
with all its items at once, against a sample of all items that is the same for everyone. So where it ends depends on
nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hotrow.errors import ArgumentError, KindError
from hotrow.kernels import pooling
from hotrow.models.blocks import Block
from hotrow.models.losses import Loss, normalize
from hotrow.models.pairs import join, split
from hotrow.models.ranking import Known, blas_on_one_thread
from hotrow.models.sequences import take_histories
from hotrow.models.spectral import POWER, Weighted
from hotrow.models.training import falling
from hotrow.table.batch import Bags

STEPS, RATE = 4, 1.0  # chosen on Gowalla's validation cut: more steps gain nothing
AGAINST = 2048  # items that are the negatives, about
_TOGETHER = 256  # users in one block


@dataclass(frozen=True)
class Folder:
    """Places users among items that have learned.

    items    float32 (n, dim + 1)   vectors, and the bias
    weights  float32 (n,)           what an item counts where a user starts
    against  int64 (m,), ascending  the negatives
    log_q    float32 (n,)           log of the chance that an item is one of them; ∞ for one that isn't: it never counts
    """

    loss: Loss
    items: np.ndarray
    weights: np.ndarray
    against: np.ndarray
    log_q: np.ndarray

    @classmethod
    def of(cls, loss: Loss, items: np.ndarray, counts: np.ndarray, random: np.random.Generator) -> Folder:
        """counts int (n,): how often each item comes in the pairs that the model has learned from.

        An item is a negative by its own draw, half by its share of the pairs, half by chance.
        """
        n = len(items)
        chance = np.minimum(1, AGAINST * (0.5 * counts / max(1, counts.sum()) + 0.5 / max(1, n)))
        chosen = random.random(n) < chance
        log_q = np.where(chosen, np.log(np.maximum(chance, 1e-30)), np.inf).astype(np.float32)
        weights = (np.maximum(counts, 1) ** -POWER).astype(np.float32)
        return cls(loss, items, weights, np.flatnonzero(chosen), log_q)

    def place(self, histories: Known) -> np.ndarray:
        """Vectors of users by their distinct items: float32 (users, dim); zeros without an item."""
        unit = normalize(self.items[:, :-1])[0]
        bags = Bags(histories.starts, self.weights[histories.items], pooling.SUM)
        vectors = normalize(Weighted(bags, histories.items).times(unit))[0]
        with blas_on_one_thread:
            for first in range(0, len(vectors), _TOGETHER):
                some = slice(first, min(len(vectors), first + _TOGETHER))
                starts = histories.starts[some.start : some.stop + 1]
                own = Known(starts - starts[0], histories.items[starts[0] : starts[-1]])
                if len(own.items):
                    vectors[some] = self._moved(vectors[some], own)
        return vectors

    def _moved(self, vectors: np.ndarray, own: Known) -> np.ndarray:
        lengths = np.diff(own.starts)
        block = self._block(vectors, own, np.repeat(np.arange(len(vectors)), lengths))
        # of the mean over the pairs of all, to that over a user's own
        mean = (len(own.items) / (np.maximum(lengths, 1) * self.loss.scale)).astype(np.float32)[:, None]
        for number in range(STEPS):
            rate = np.float32(falling(RATE, number, STEPS))
            gradient = self.loss.gradients(block, frozen=True)[1] * mean
            users = block.users - rate * gradient
            block = replace(block, users=normalize(users)[0] if self.loss.normalized else users)
        return block.users

    def _block(self, vectors: np.ndarray, own: Known, row: np.ndarray) -> Block:
        candidates = np.union1d(own.items, self.against)
        chosen, none = self.items[candidates], np.zeros(0, np.int64)
        return Block(
            users=vectors,
            items=np.ascontiguousarray(chosen[:, :-1]),
            bias=np.ascontiguousarray(chosen[:, -1]),
            pairs=(row, np.searchsorted(candidates, own.items)),
            known=(none, none),
            log_q=self.log_q[candidates],
            drawn=np.searchsorted(candidates, self.against),
            scores=np.empty((len(vectors), len(candidates)), np.float32),
        )


def flat(histories: Any) -> tuple[Any, np.ndarray]:
    """The items of all histories and offsets, see `take_histories`; ArgumentError for what isn't one list a user."""
    try:
        return take_histories(histories)
    except KindError as error:
        raise ArgumentError(f"histories are a list of items for each user, or (items, offsets): {error}") from error


def distinct(rows: np.ndarray, offsets: np.ndarray) -> Known:
    """The distinct rows of each user, int (n,)."""
    users, items = split(np.unique(join(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)), rows)))
    return Known.of(users, items, len(offsets) - 1)
