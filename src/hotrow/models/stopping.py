"""When to stop: a model is measured on pairs of its own choosing after each epoch, and the best one stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hotrow.models.pairs import join
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
            self._states = [_kept(table.state()) for table in self.tables]
        return len(self.measured) - self.epoch >= self.patience

    def restore(self) -> None:
        """Let the tables be the best ones again, if later epochs came."""
        if self._states is not None and self.epoch < len(self.measured):
            for table, state in zip(self.tables, self._states, strict=True):
                table.restore(state)


def _kept(state: State) -> State:
    """With weights and slots of its own: the rest stays, as no row is made or goes between two epochs."""
    return replace(state, weights=state.weights.copy(), slots={name: slot.copy() for name, slot in state.slots.items()})


def measurable(tables: tuple[Table, Table], pairs: tuple[Any, Any], validation: tuple[Any, Any]) -> bool:
    """Whether, once these pairs are known, there are others to measure: of users that are known by then.

    Each is users and items; the tables' rows stay as they are.
    """
    numbers = [_numbered(table.kind, *ids) for table, *ids in zip(tables, pairs, validation, strict=True)]
    train, held_out = (join(users, items) for users, items in zip(*numbers, strict=True))
    known = np.isin(held_out >> np.uint64(32), train >> np.uint64(32)) | (tables[0].find(validation[0]).rows >= 0)
    return bool((known & ~np.isin(held_out, train)).any())


def _numbered(kind: str | None, ids: Any, others: Any) -> tuple[np.ndarray, np.ndarray]:
    """The same numbers for the same ids in both."""
    table = Table(1, ids=kind)
    return table.find(ids, grow=True).rows, table.find(others, grow=True).rows
