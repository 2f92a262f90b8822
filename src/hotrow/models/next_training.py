"""One fit of a next-item model: every item of a sequence that has a history, in a random order, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from hotrow.bridges.ahead import ahead
from hotrow.models.blocks import Block, Cells, Scratch
from hotrow.models.ctrl_c import CtrlC
from hotrow.models.losses import Loss
from hotrow.models.sequences import Histories, Sequences
from hotrow.models.training import Course, Progress, Side, log_chance
from hotrow.table.batch import Batch


@dataclass(frozen=True)
class NextPlan:
    """The numbers that a fit goes by; see `NextItem`."""

    epochs: int
    batch_size: int
    negatives: int
    learning_rate: float
    l2: float
    last: int
    decay: float
    dropout: float
    repeats: bool


@dataclass(frozen=True)
class Step:
    """What a step needs of its examples, and no vector: so it is made ready while the step before it computes.

    batch   the rows of all histories, one after the other, and then those of the candidates
    column  int64 (examples,), which candidate each example's next item is
    own     cells of candidates that are in an example's history, and so are no negatives
    """

    batch: Batch
    histories: Histories
    column: np.ndarray
    own: Cells
    log_q: np.ndarray
    drawn: np.ndarray
    epoch: int

    def __len__(self) -> int:
        """How many examples it has."""
        return len(self.column)


class NextTrainer:
    """Steps of the table. A row: the item's vector, its bias, and what is added to the vector in a history."""

    def __init__(
        self, loss: Loss, plan: NextPlan, items: Side, sequences: Sequences, random: np.random.Generator
    ) -> None:
        self.loss, self.plan, self.items, self.sequences, self.random = loss, plan, items, sequences, random
        self.first, self.targets = sequences.first_of(), sequences.targets()
        self.log_q = self._log_q()
        self.column_of = np.full(len(items.table), -1, np.int64)
        self.scores = Scratch()

    def _log_q(self) -> np.ndarray:
        """Log of the chance that an item is among a step's candidates, as a next item or drawn: float32 (items,)."""
        count, size = len(self.items.table), min(self.plan.batch_size, len(self.targets))
        share = np.bincount(self.sequences.items[self.targets], minlength=count) / len(self.targets)
        return log_chance(share, size, self.plan.negatives, count)

    def run(self, progress: Progress | None, ctrl_c: CtrlC) -> None:
        """All epochs."""
        an_epoch = -(-len(self.targets) // self.plan.batch_size)
        course = Course(self.plan.epochs, an_epoch, self.plan.learning_rate, progress, ctrl_c)
        with closing(ahead(self._batches(), self._prepare)) as ready:
            course.run((step, self._step(step, course.rate(number))) for number, step in enumerate(ready))

    def _batches(self) -> Iterator[tuple[int, np.ndarray]]:
        for epoch in range(1, self.plan.epochs + 1):
            order = self.random.permutation(self.targets)
            for start in range(0, len(order), self.plan.batch_size):
                yield epoch, order[start : start + self.plan.batch_size]

    def _prepare(self, batch: tuple[int, np.ndarray]) -> Step:
        """Called for one batch after the other, for it draws."""
        epoch, places = batch
        histories = self._histories(places)
        wanted = self.sequences.items[places]
        drawn = self.random.integers(0, len(self.items.table), self.plan.negatives)
        candidates = np.unique(np.concatenate([wanted, drawn]))
        self.column_of[candidates] = np.arange(len(candidates))
        step = Step(
            batch=self.items.rows(np.concatenate([histories.items, candidates])).own,
            histories=histories,
            column=self.column_of[wanted],
            own=self._own(places),
            log_q=self.log_q[candidates],
            drawn=self.column_of[drawn],
            epoch=epoch,
        )
        self.column_of[candidates] = -1
        return step

    def _histories(self, places: np.ndarray) -> Histories:
        """What came before each place, some of it left out at random: never all of it."""
        histories = Histories.before(self.sequences.items, self.first[places], places, self.plan.last)
        stays = self.random.random(len(histories.items)) >= self.plan.dropout
        empty = np.add.reduceat(stays, histories.offsets[:-1], dtype=np.int64) == 0
        stays[histories.offsets[1:][empty] - 1] = True
        return histories.kept(stays)

    def _own(self, places: np.ndarray) -> Cells:
        if self.plan.repeats:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        whole = Histories.before(self.sequences.items, self.first[places], places, self.plan.last)
        column = self.column_of[whole.items]
        there = column >= 0
        return whole.example()[there], column[there]

    def _step(self, step: Step, rate: float) -> float:
        """One step; returns the mean loss of its examples."""
        table, dim, inputs = self.items.table, (self.items.table.dim - 1) // 2, len(step.histories.items)
        rows = table.lookup(step.batch)
        taken, candidates = rows[:inputs], rows[inputs:]
        weights = weigh(step.histories, self.plan.decay)
        count = len(step.column)
        block = Block(
            users=pool(taken, step.histories, weights),
            items=np.ascontiguousarray(candidates[:, :dim]),
            bias=np.ascontiguousarray(candidates[:, dim]),
            pairs=(np.arange(count), step.column),
            known=step.own,
            log_q=step.log_q,
            drawn=step.drawn,
            scores=self.scores.take(count, len(candidates)),
        )
        loss, g_users, g_items, g_bias = self.loss.gradients(block)
        gradients = rows * np.float32(self.plan.l2)
        g_inputs = g_users[step.histories.example()] * weights
        gradients[:inputs, :dim] += g_inputs
        gradients[:inputs, dim + 1 :] += g_inputs
        gradients[inputs:, :dim] += g_items
        gradients[inputs:, dim] += g_bias
        table.update(step.batch, gradients, learning_rate=rate)
        return loss


def weigh(histories: Histories, decay: float) -> np.ndarray:
    """How much each item of a history counts: decay ** age, float32 (n, 1)."""
    return np.power(np.float32(decay), histories.age.astype(np.float32))[:, None]


def pool(rows: np.ndarray, histories: Histories, weights: np.ndarray) -> np.ndarray:
    """A history as one vector, the weighted sum of its items'; zeros for one that is empty.

    rows float32 (n, 2 · dim + 1), weights float32 (n, 1) → float32 (histories, dim)
    """
    dim = (rows.shape[1] - 1) // 2
    vectors = (rows[:, :dim] + rows[:, dim + 1 :]) * weights
    pooled = np.zeros((len(histories), dim), np.float32)
    filled = np.diff(histories.offsets) > 0
    if filled.any():
        pooled[filled] = np.add.reduceat(vectors, histories.offsets[:-1][filled], axis=0)
    return pooled
