"""A user or an item taken out of a model that goes by row: its row, and the pairs that it is in."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotrow.models.pairs import join, split
from hotrow.table.table import Receipt, Table


def forget(table: Table, ids: Any, pairs: np.ndarray, *, users: bool) -> tuple[Receipt, np.ndarray, np.ndarray]:
    """Take ids out of a table of users, or of items, with its rows end to end again.

    pairs: uint64 (n,), see `hotrow.models.pairs`. → what was taken out, bool (rows before,) of those that stay, and the
    pairs that are left, numbered anew.
    """
    batch = table.find(ids)
    stays = np.ones(len(table), bool)
    stays[batch.distinct[batch.distinct >= 0]] = False
    receipt = table.forget(ids)
    table.restore(table.state())
    sides = list(split(pairs))
    mine = 0 if users else 1
    kept, number = stays[sides[mine]], np.cumsum(stays) - 1
    sides[mine] = number[sides[mine]]
    return receipt, stays, join(sides[0][kept], sides[1][kept])
