"""One fit of ratings: pairs in a random order, cut into batches, and a step of both tables for each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from hotrow.models import rating_steps as steps
from hotrow.models.ctrl_c import CtrlC
from hotrow.models.stopping import Best
from hotrow.models.training import Progress, falling
from hotrow.table.batch import Batch
from hotrow.table.table import Table

_BIAS = 0.2  # of l2: a bias is one number of many ratings, and is shrunk less


@dataclass(frozen=True)
class Trainer:
    """Distinct pairs, what they were rated, and the numbers that a fit goes by; see `Ratings`.

    tables, batches  of users and of items: pair i is at place i of both batches
    targets          float32 (n,): ratings around the centre, in units
    unit             what an error of 1 is in ratings, for those who watch
    """

    tables: tuple[Table, Table]
    batches: tuple[Batch, Batch]
    targets: np.ndarray
    epochs: int
    batch_size: int
    learning_rate: float
    l2: float
    unit: float
    random: np.random.Generator

    def run(self, best: Best | None, progress: Progress | None, ctrl_c: CtrlC) -> None:
        """All epochs; `best` measures after each. The learning rate falls to 0 along half a cosine."""
        n = len(self.targets)
        total, number, squares, started = self.epochs * -(-n // self.batch_size), 0, 0.0, perf_counter()
        for epoch in range(1, self.epochs + 1):
            order = self.random.permutation(n)
            for start in range(0, n, self.batch_size):
                chosen = order[start : start + self.batch_size]
                square = self._step(chosen, falling(self.learning_rate, number, total))
                squares = square if number == 0 else 0.98 * squares + 0.02 * square
                number += 1
                if progress is not None:
                    speed = ((epoch - 1) * n + start + len(chosen)) / (perf_counter() - started)
                    told = {"rmse": self.unit * math.sqrt(squares), "pairs_per_second": speed, "epoch": epoch}
                    progress(number, total, told)
                ctrl_c.check()
            if best is not None:
                best.enough()

    def _step(self, chosen: np.ndarray, rate: float) -> float:
        """A step of both tables; the mean squared error of its pairs before it, in units."""
        users, items = (batch.take(chosen) for batch in self.batches)
        of_user, of_item = self.tables[0].lookup(users), self.tables[1].lookup(items)
        l2 = np.full(of_user.shape[1], self.l2, np.float32)
        l2[-1] *= _BIAS
        errors, g_users, g_items = steps.gradients(of_user, of_item, self.targets[chosen], l2)
        steps.limit(g_users, users.inverse)
        steps.limit(g_items, items.inverse)
        self.tables[0].update(users, g_users, learning_rate=rate)
        self.tables[1].update(items, g_items, learning_rate=rate)
        return float(np.mean(errors * errors))
