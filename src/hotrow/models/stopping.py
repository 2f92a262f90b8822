"""When to stop: a model is measured on pairs of its own choosing after each epoch, and the best one stays."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

from hotrow.table.state import State
from hotrow.table.table import Table

Measure = Callable[[], float]


class Best:
    """The tables as they were when `measure` was highest.

    measure   called after each epoch; higher is better
    patience  epochs without a better one, after which training stops
    """

    def __init__(self, tables: tuple[Table, ...], measure: Measure, patience: int) -> None:
        self.tables, self.measure, self.patience = tables, measure, patience
        self.measured: list[float] = []
        self.epoch = 0  # the best one, from 1 on
        self._states: list[State] | None = None

    def enough(self) -> bool:
        """Measure after an epoch; whether to stop."""
        self.measured.append(self.measure())
        if self.epoch == 0 or self.measured[-1] > self.measured[self.epoch - 1]:
            self.epoch = len(self.measured)
            self._states = [deepcopy(table.state()) for table in self.tables]
        return len(self.measured) - self.epoch >= self.patience

    def restore(self) -> None:
        """Let the tables be the best ones again, if later epochs came."""
        if self._states is not None and self.epoch < len(self.measured):
            for table, state in zip(self.tables, self._states, strict=True):
                table.restore(state)
