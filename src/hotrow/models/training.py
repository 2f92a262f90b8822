"""One fit: pairs in a random order, cut into batches, and a step of both tables for each."""

from __future__ import annotations

import math
from collections import deque
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
from hotrow.models.blocks import Block, Cells
from hotrow.models.crews import Calculator, Crew
from hotrow.models.ctrl_c import CtrlC
from hotrow.models.losses import Gradients, Loss
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

    def rate(self, number: int) -> float:
        """The learning rate of step `number`, from 0 on."""
        return falling(self.learning_rate, number, self.epochs * self.an_epoch)

    def run(self, taken: Iterable[tuple[S, float]], best: Best | None = None) -> None:
        """Go through steps as they are taken, each with its loss, until there are no more or `best` has enough."""
        steps = self.epochs * self.an_epoch
        started, pairs, recent = perf_counter(), 0, 0.0
        for number, (step, loss) in enumerate(taken):
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


Taken = tuple[Step, np.ndarray, np.ndarray, float, Callable[[], Gradients]]
"""A step under way: the own rows of its users and items as they were, its learning rate, what gives its gradients."""


class Trainer:
    """Steps of the two tables.

    known  the pairs of earlier fits, which are no negatives
    crew   who computes gradients; None: this process
    """

    def __init__(
        self,
        loss: Loss,
        plan: Plan,
        users: Side,
        items: Side,
        pairs: Pairs,
        known: Known,
        random: np.random.Generator,
        crew: Crew | None = None,
    ) -> None:
        self.plan, self.users, self.items = plan, users, items
        self.pairs, self.known, self.random = pairs, known, random
        self._pool = plan.negatives * plan.hard
        self.drawable = self._drawable()
        self.log_q = self._log_q()
        self.column_of = np.full(len(items.table), -1, np.int32)
        self.cells = np.empty((2, 1 << 16), np.int32)
        self.calculator, self.staleness = Calculator(loss, crew), 0 if crew is None else crew.staleness

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
            course.run(self._taken(ready, course), best)

    def _taken(self, ready: Iterable[Step], course: Course) -> Iterator[tuple[Step, float]]:
        """Steps and their losses, in order. A step's vectors lack what the last `staleness` steps have changed.

        An epoch ends with all of its steps taken, so the next one lacks nothing at first. Which steps lack what, the
        staleness alone decides, and not how long anything takes.
        """
        under_way = deque[Taken]()
        for number, step in enumerate(ready):
            under_way.append(self._begin(step, course.rate(number)))
            last = (number + 1) % course.an_epoch == 0
            while len(under_way) > (0 if last else self.staleness):
                yield self._end(under_way.popleft())

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

    def _begin(self, step: Step, rate: float) -> Taken:
        user_vectors, own_users = self.users.compose(step.users)
        item_vectors, own_items = self.items.compose(step.items)
        block = Block(
            users=user_vectors,
            items=np.ascontiguousarray(item_vectors[:, :-1]),
            bias=np.ascontiguousarray(item_vectors[:, -1]),
            pairs=step.pairs,
            known=step.known,
            log_q=step.log_q,
            drawn=step.drawn,
        )
        if self.plan.hard > 1:
            keep = self._hardest(block)
            block = block.among(keep)
            step, own_items = replace(step, items=self.items.some(step.items, keep)), own_items[keep]
        return step, own_users, own_items, rate, self.calculator.begin(block)

    def _end(self, taken: Taken) -> tuple[Step, float]:
        """Both tables take the step; it comes back with the mean loss of its pairs."""
        step, own_users, own_items, rate, gradients = taken
        loss, g_users, g_items, g_bias = gradients()
        self.users.update(step.users, g_users, own_users, self.plan.l2, rate)
        self.items.update(step.items, np.column_stack([g_items, g_bias]), own_items, self.plan.l2, rate)
        return step, loss

    def _hardest(self, block: Block) -> np.ndarray:
        """Which candidates are kept, int64 (n,) ascending: the items of its pairs, and as many of those drawn.

        Those are kept that score highest for any of its users.

        What they are chosen from counts as drawn: those left out would have added next to nothing to the sum over the
        negatives, and that is all that they are for.
        """
        highest = self.calculator.highest(block)
        highest[block.pairs[1]] = np.inf
        own = len(np.unique(block.pairs[1]))
        return np.sort(np.argsort(-highest, kind="stable")[: own + self.plan.negatives])

    def _known_cells(self, users: np.ndarray) -> Cells:
        most = int((self.known.starts[users + 1] - self.known.starts[users]).sum())
        if most > self.cells.shape[1]:
            self.cells = np.empty((2, 2 * most), np.int32)
        arrays = readonly(users), readonly(self.known.starts), readonly(self.known.items), readonly(self.column_of)
        count = kernels.cells(*arrays, self.cells[0], self.cells[1])
        return self.cells[0, :count].copy(), self.cells[1, :count].copy()
