"""One fit: pairs in a random order, cut into batches, and a step of both tables for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from time import perf_counter
from typing import Any, Protocol, TypeVar

import numpy as np

from hotrow.bridges.ahead import ahead
from hotrow.kernels import ranking as kernels
from hotrow.kernels import readonly
from hotrow.models.ctrl_c import CtrlC
from hotrow.models.losses import Block, Cells, Loss
from hotrow.models.ranking import Known
from hotrow.models.stopping import Best
from hotrow.models.towers import Rows, Side

Progress = Callable[[int, int, dict[str, Any]], None]
TOGETHER = 8  # pairs of a user that are put in one batch: each row of scores then serves several


@dataclass(frozen=True)
class Plan:
    """The numbers that a fit goes by; see `Retrieval`."""

    epochs: int
    batch_size: int
    negatives: int
    learning_rate: float
    l2: float
    hard: int = 1
    features_alone: float = 0.0


@dataclass(frozen=True)
class Pairs:
    """Distinct pairs, as rows of the two tables, ordered by user: int64 (n,), int64 (n,)."""

    users: np.ndarray
    items: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Step:
    """What a step needs of its pairs, and no vector: so it is made ready while the step before it computes.

    pairs int64 (p,) twice, which of the users and of the items each pair is; drawn int64 (d,), which of the items.
    """

    users: Rows
    items: Rows
    pairs: tuple[np.ndarray, np.ndarray]
    known: Cells
    log_q: np.ndarray
    drawn: np.ndarray
    epoch: int

    def __len__(self) -> int:
        """How many pairs it has."""
        return len(self.pairs[0])


def falling(rate: float, number: int, steps: int) -> float:
    """A learning rate that falls to 0 along half a cosine (Loshchilov, Hutter 2017), at step `number` from 0 on."""
    return rate * 0.5 * (1 + math.cos(math.pi * number / steps))


def log_chance(share: np.ndarray, size: int, drawn: int, among: int) -> np.ndarray:
    """Log of the chance that an item is among the candidates of a step, by one of its pairs or drawn: float32 (items,).

    share float64 (items,): its share of all pairs; size: pairs a step; drawn: evenly, so many `among` so many items.
    """
    left_out = size * np.log1p(-np.minimum(share, 1 - 1e-9)) + drawn * math.log1p(-1 / (among + 1))
    return np.log(-np.expm1(np.minimum(left_out, -1e-9))).astype(np.float32)


class Scratch:
    """Memory for the scores of a step, the same for every one: pages that are fresh cost more than the arithmetic."""

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.float32)

    def take(self, rows: int, columns: int) -> np.ndarray:
        """float32 (rows, columns) of whatever was there before."""
        if self._buffer.size < rows * columns:
            self._buffer = np.empty(rows * columns * 5 // 4, np.float32)
        return self._buffer[: rows * columns].reshape(rows, columns)


class Prepared(Protocol):
    """A step that is ready to be taken: how many pairs it has, and of which epoch it is."""

    def __len__(self) -> int: ...

    @property
    def epoch(self) -> int:
        """From 1 on."""
        ...


S = TypeVar("S", bound=Prepared)


@dataclass(frozen=True)
class Course:
    """The way that training takes, step by step, and who is told of it."""

    epochs: int
    an_epoch: int
    learning_rate: float
    progress: Progress | None
    ctrl_c: CtrlC

    def run(self, ready: Iterable[S], take: Callable[[S, float], float], best: Best | None = None) -> None:
        """Take steps, `take(step, learning rate)` → its loss, until there are no more or `best` has enough."""
        steps = self.epochs * self.an_epoch
        started, pairs, recent = perf_counter(), 0, 0.0
        for number, step in enumerate(ready):
            loss = take(step, falling(self.learning_rate, number, steps))
            pairs += len(step)
            recent = loss if number == 0 else 0.98 * recent + 0.02 * loss
            enough = best is not None and (number + 1) % self.an_epoch == 0 and best.enough()
            if self.progress is not None:
                speed = pairs / (perf_counter() - started)
                facts = {"loss": recent, "pairs_per_second": speed, "epoch": step.epoch}
                if best is not None and best.measured:
                    facts["validation"] = best.measured[-1]
                self.progress(number + 1, steps, facts)
            self.ctrl_c.check()
            if enough:
                break


class Trainer:
    """Steps of the two tables. `known`: the pairs of earlier fits, which are no negatives."""

    def __init__(
        self, loss: Loss, plan: Plan, users: Side, items: Side, pairs: Pairs, known: Known, random: np.random.Generator
    ) -> None:
        self.loss, self.plan, self.users, self.items = loss, plan, users, items
        self.pairs, self.known, self.random = pairs, known, random
        self._pool = plan.negatives * plan.hard
        self.drawable = self._drawable()
        self.log_q = self._log_q()
        self.column_of = np.full(len(items.table), -1, np.int32)
        self.cells = np.empty((2, 1 << 16), np.int32)
        self.scores = Scratch()

    def _drawable(self) -> np.ndarray | None:
        """The items that negatives are drawn from, int64 (n,); None for all of them.

        An item that has features and no pair isn't drawn: it would only ever be pushed away, and its features with it.
        """
        if not self.items.features:
            return None
        paired = np.union1d(self.pairs.items, self.known.items)
        return None if len(paired) == len(self.items.table) else paired

    def _log_q(self) -> np.ndarray:
        """Log of the chance that an item is among a step's candidates, by a pair or drawn: float32 (items,)."""
        count, size = len(self.items.table), min(self.plan.batch_size, len(self.pairs))
        share = np.bincount(self.pairs.items, minlength=count) / len(self.pairs)
        return log_chance(share, size, self._pool, count if self.drawable is None else len(self.drawable))

    def run(self, progress: Progress | None, ctrl_c: CtrlC, best: Best | None = None) -> None:
        """All epochs, or until `best` has enough."""
        epochs = chain.from_iterable(self._batches(epoch) for epoch in range(1, self.plan.epochs + 1))
        an_epoch = -(-len(self.pairs) // self.plan.batch_size)
        course = Course(self.plan.epochs, an_epoch, self.plan.learning_rate, progress, ctrl_c)
        with closing(ahead(epochs, self._prepare)) as ready:
            course.run(ready, self._step, best)

    def _batches(self, epoch: int) -> Iterator[tuple[int, np.ndarray]]:
        """All pairs once, in a random order, but up to TOGETHER of a user side by side."""
        n = len(self.pairs)
        shuffled = self.random.permutation(n)
        order = shuffled[np.argsort(self.pairs.users[shuffled], kind="stable")]
        user = self.pairs.users[order]
        first = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
        number = np.arange(n) - np.repeat(first, np.diff(np.r_[first, n]))
        group = np.cumsum(number % TOGETHER == 0) - 1
        order = order[np.argsort(self.random.permutation(group[-1] + 1)[group], kind="stable")]
        for start in range(0, n, self.plan.batch_size):
            yield epoch, order[start : start + self.plan.batch_size]

    def _prepare(self, batch: tuple[int, np.ndarray]) -> Step:
        """Called for one batch after the other, for it draws."""
        epoch, chosen = batch
        chosen = chosen[np.argsort(self.pairs.users[chosen], kind="stable")]
        users, row = np.unique(self.pairs.users[chosen], return_inverse=True)
        drawn = self._draw()
        items = np.unique(np.concatenate([self.pairs.items[chosen], drawn]))
        self.column_of[items] = np.arange(len(items), dtype=np.int32)
        step = Step(
            users=self.users.rows(users, self.random, self.plan.features_alone),
            items=self.items.rows(items, self.random, self.plan.features_alone),
            pairs=(row, self.column_of[self.pairs.items[chosen]]),
            known=self._known_cells(users),
            log_q=self.log_q[items],
            drawn=self.column_of[drawn],
            epoch=epoch,
        )
        self.column_of[items] = -1
        return step

    def _draw(self) -> np.ndarray:
        if self.drawable is None:
            return self.random.integers(0, len(self.items.table), self._pool)
        return self.drawable[self.random.integers(0, len(self.drawable), self._pool)]

    def _step(self, step: Step, rate: float) -> float:
        """One step; returns the mean loss of its pairs."""
        user_vectors, own_users = self.users.compose(step.users)
        item_vectors, own_items = self.items.compose(step.items)
        if self.plan.hard > 1:
            step, item_vectors, own_items = self._hardest(step, user_vectors, item_vectors, own_items)
        block = Block(
            users=user_vectors,
            items=np.ascontiguousarray(item_vectors[:, :-1]),
            bias=np.ascontiguousarray(item_vectors[:, -1]),
            pairs=step.pairs,
            known=step.known,
            log_q=step.log_q,
            drawn=step.drawn,
            scores=self.scores.take(len(step.users), len(step.items)),
        )
        loss, g_users, g_items, g_bias = self.loss.gradients(block)
        self.users.update(step.users, g_users, own_users, self.plan.l2, rate)
        self.items.update(step.items, np.column_stack([g_items, g_bias]), own_items, self.plan.l2, rate)
        return loss

    def _hardest(
        self, step: Step, users: np.ndarray, items: np.ndarray, own_rows: np.ndarray
    ) -> tuple[Step, np.ndarray, np.ndarray]:
        """The step, its items' vectors and their own rows, with as many of the items drawn as are to be kept.

        Those are kept that score highest for any of its users.

        What they are chosen from counts as drawn: those left out would have added next to nothing to the sum over the
        negatives, and that is all that they are for.
        """
        scores = self.scores.take(len(users), len(items))
        self.loss.score(users, items, scores)
        scores[step.pairs] = scores[step.known] = -np.inf
        highest = scores.max(0)
        highest[step.pairs[1]] = np.inf
        own = len(np.unique(step.pairs[1]))
        keep = np.sort(np.argsort(-highest, kind="stable")[: own + self.plan.negatives])
        place = np.full(len(items), -1, np.int64)
        place[keep] = np.arange(len(keep))
        known = tuple(side[place[step.known[1]] >= 0] for side in step.known)
        drawn = place[step.drawn]
        step = replace(
            step,
            items=self.items.some(step.items, keep),
            pairs=(step.pairs[0], place[step.pairs[1]]),
            known=(known[0], place[known[1]]),
            log_q=step.log_q[keep],
            drawn=drawn[drawn >= 0],
        )
        return step, items[keep], own_rows[keep]

    def _known_cells(self, users: np.ndarray) -> Cells:
        most = int((self.known.starts[users + 1] - self.known.starts[users]).sum())
        if most > self.cells.shape[1]:
            self.cells = np.empty((2, 2 * most), np.int32)
        arrays = readonly(users), readonly(self.known.starts), readonly(self.known.items), readonly(self.column_of)
        count = kernels.cells(*arrays, self.cells[0], self.cells[1])
        return self.cells[0, :count].copy(), self.cells[1, :count].copy()
