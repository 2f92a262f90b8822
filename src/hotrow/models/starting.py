"""Where new users and items start, if their pairs say something of it: near what they go with."""

from __future__ import annotations

import numpy as np

from hotrow.models.losses import normalize
from hotrow.models.training import Pairs, Side

_TOGETHER = 1 << 16  # pairs whose vectors are added up at a time


def start_items(items: Side, rows: np.ndarray, pairs: Pairs) -> None:
    """The bias, the last column: half the log of how often the item comes, or that is the first thing to be learned."""
    batch, vectors = items.look(rows)
    counts = np.bincount(pairs.items, minlength=len(items.table))[rows]
    vectors[:, -1] = 0.5 * np.log(np.maximum(counts, 1))
    items.table.set(batch, vectors)


def start_users(users: Side, rows: np.ndarray, items: Side, pairs: Pairs) -> None:
    """The direction of the mean of the user's items, each of length 1; the length that a first value has.

    So a user begins beside those who have the same items, and a user who comes to a trained model begins well placed:
    on pairs of packages this halves the epochs that are needed, and ends better.
    """
    new = np.zeros(len(users.table), bool)
    new[rows] = True
    mine = np.flatnonzero(new[pairs.users])  # by user, as the pairs are
    for start, stop in _whole_users(pairs.users[mine]):
        some = mine[start:stop]
        first = np.flatnonzero(np.r_[True, np.diff(pairs.users[some]) != 0])
        batch, vectors = users.look(pairs.users[some[first]])
        unit = normalize(items.look(pairs.items[some])[1][:, :-1])[0]
        direction = normalize(np.add.reduceat(unit, first, axis=0))[0]
        users.table.set(batch, direction * normalize(vectors)[1])


def _whole_users(users: np.ndarray) -> list[tuple[int, int]]:
    """Slices of sorted users, none of them cut, of about _TOGETHER each."""
    n = len(users)
    ends = np.flatnonzero(np.r_[users[1:] != users[:-1], True])[: n or 0] + 1
    bounds, start = list[tuple[int, int]](), 0
    while start < n:
        stop = int(ends[np.searchsorted(ends, min(n, start + _TOGETHER))])
        bounds.append((start, stop))
        start = stop
    return bounds
