"""The users of a step and its candidate items, as arrays, and how users are cut into blocks.

```
 a step    [  block 0  |  block 1  |  block 2  |  block 3  ]     by the number of its users alone
            slice slice slice …                                  128 users, whose scores stay in a core's cache
```
Sums over the users of a step are of blocks, in their order. So they are the same to the bit for any number of threads,
and in any process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from hotrow.kernels import threads

Cells = tuple[np.ndarray, np.ndarray]


@dataclass
class Block:
    """Vectors of one step, or of some users of it, and what is known of their cells.

    users   float32 (r, dim)       distinct users
    items   float32 (c, dim)       the candidates: the distinct items of the pairs, and those drawn
    bias    float32 (c,)           the items' biases
    pairs   int (b,), int (b,)     row and column of each pair: distinct, rows ascending
    known   int (m,), int (m,)     cells of other pairs that are known to have happened, rows ascending
    log_q   float32 (c,)           log of the chance that an item is among the candidates
    drawn   int (n,)               columns of the items drawn, as often as they were
    scores  float32 (r, c)         overwritten; for whoever computes, and nobody else
    count   how many pairs the step has in all; 0: those here
    before  how many of them come before those here
    """

    users: np.ndarray
    items: np.ndarray
    bias: np.ndarray
    pairs: Cells
    known: Cells
    log_q: np.ndarray
    drawn: np.ndarray
    scores: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    count: int = 0
    before: int = 0

    def among(self, keep: np.ndarray) -> Block:
        """The same with those candidates alone, int64 (n,) ascending, among which are those of all pairs."""
        place = np.full(len(self.items), -1, np.int64)
        place[keep] = np.arange(len(keep))
        there = place[self.known[1]] >= 0
        drawn = place[self.drawn]
        return replace(
            self,
            items=self.items[keep],
            bias=self.bias[keep],
            pairs=(self.pairs[0], place[self.pairs[1]]),
            known=(self.known[0][there], place[self.known[1]][there]),
            log_q=self.log_q[keep],
            drawn=drawn[drawn >= 0],
        )

    def cut(self, start: int, stop: int, scores: np.ndarray | None = None) -> Block:
        """That of the users from `start` to `stop` alone, with scores of its own, or the part of those here."""
        scores = self.scores[start:stop] if scores is None else scores
        pairs, known = (_between(cells, start, stop) for cells in (self.pairs, self.known))
        some, count = self.users[start:stop], self.count or len(self.pairs[0])
        before = self.before + int(np.searchsorted(self.pairs[0], start))
        return replace(self, users=some, pairs=pairs, known=known, scores=scores, count=count, before=before)

    def per_user(self, values: np.ndarray) -> np.ndarray:
        """A number for each pair, added up by user, for the mean over all pairs of the step: float32 (users, 1)."""
        sums = np.bincount(self.pairs[0], values, len(self.scores))
        return (sums / (self.count or len(self.pairs[0]))).astype(np.float32)[:, None]


@dataclass(frozen=True)
class Share:
    """What some users of a step come to.

    loss   what their pairs add to the mean loss
    users  float32 (n, dim), their gradients
    items  float32 (c, dim), what they add to the gradients of the candidates as they are scored: see `of_items`
    bias   float32 (c,), what they add to those of the biases
    """

    loss: float
    users: np.ndarray
    items: np.ndarray
    bias: np.ndarray


def _between(cells: Cells, start: int, stop: int) -> Cells:
    row, column = cells
    first, last = np.searchsorted(row, (start, stop))
    return row[first:last] - start, column[first:last]


class Scratch:
    """Memory for the scores of a step, the same for every one: pages that are fresh cost more than the arithmetic."""

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.float32)

    def take(self, rows: int, columns: int) -> np.ndarray:
        """float32 (rows, columns) of whatever was there before."""
        if self._buffer.size < rows * columns:
            self._buffer = np.empty(rows * columns * 5 // 4, np.float32)
        return self._buffer[: rows * columns].reshape(rows, columns)


_SLICE = 128  # rows that are worked on together: their scores stay in a core's own cache
_BLOCKS, _MOST = 8, 4  # of a step, about, of so many slices at most


def blocks(users: int) -> list[int]:
    """Bounds of the blocks of a step of so many users: of whole slices but for the last, up to 512 in large steps.

    Smaller ones would share work more evenly, and each costs an addition for all candidates.
    """
    size = _SLICE * max(1, min(_MOST, -(-users // (_SLICE * _BLOCKS))))
    return [*range(0, users, size), users] if users else [0, 0]


def slices(bounds: list[int]) -> list[tuple[int, int]]:
    """From where to where each slice of each block is."""
    return [
        (start, min(last, start + _SLICE)) for first, last in pairwise(bounds) for start in range(first, last, _SLICE)
    ]


def in_slices(function: Callable[[int, int], None], bounds: list[int]) -> None:
    """Call function(start, stop) for all slices, on hotrow's threads; BLAS must be held to one in each."""
    every = slices(bounds)

    def of_several(first: int, last: int) -> None:
        for start, stop in every[first:last]:
            function(start, stop)

    threads.run(of_several, threads.even(len(every), 1))
