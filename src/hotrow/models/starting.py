"""Where new users and items start: where their pairs say that they belong, not at random."""

from __future__ import annotations

import numpy as np

from hotrow.models.losses import normalize
from hotrow.models.ranking import Known
from hotrow.models.spectral import spectral
from hotrow.models.towers import Side
from hotrow.models.training import Pairs

_TOGETHER = 1 << 16  # pairs whose vectors are added up at a time
_FIRST_VALUE = 0.02  # what stays of the first value: a direction for those that no singular vector reaches


def start(users: Side, items: Side, pairs: Pairs, known: Known, random: np.random.Generator) -> None:
    """Place what is new in these pairs: of a first fit by singular vectors, later beside what has been learned.

    known: the pairs of earlier fits. The others' vectors stay as they are.
    """
    new_users, new_items = np.unique(pairs.users), np.unique(pairs.items)
    new_users = new_users[known.starts[new_users] == known.starts[new_users + 1]]
    new_items = new_items[~np.isin(new_items, known.items)]
    _start_biases(items, new_items, pairs)
    if not len(known.items):
        sizes = len(users.table), len(items.table), users.table.dim
        placed = zip((users, items), (new_users, new_items), spectral(pairs, *sizes, random), strict=True)
        for side, new, vectors in placed:
            _place(side, new, vectors[new])
        return
    old = ~np.isin(pairs.users, new_users)
    _start_amid(items, new_items, users, pairs.items[old], pairs.users[old])
    items.settle()
    _start_amid(users, new_users, items, pairs.users, pairs.items)


def _start_biases(items: Side, rows: np.ndarray, pairs: Pairs) -> None:
    """The bias, the last column: half the log of how often the item comes, or that is the first thing to be learned."""
    batch, vectors = items.look(rows)
    counts = np.bincount(pairs.items, minlength=len(items.table))[rows]
    vectors[:, -1] = 0.5 * np.log(np.maximum(counts, 1))
    items.table.set(batch, vectors)


def _place(side: Side, rows: np.ndarray, directions: np.ndarray) -> None:
    """Let vectors be `directions`, of length 1, and a trace of their first values."""
    batch, vectors = side.look(rows)
    mine = vectors[:, : directions.shape[1]]
    mine *= np.float32(_FIRST_VALUE)
    mine += directions
    side.table.set(batch, vectors)


def _start_amid(side: Side, new: np.ndarray, others: Side, rows: np.ndarray, beside: np.ndarray) -> None:
    """Put `new` of a side in the direction of the mean of those they come with, each of length 1; the length stays.

    rows, beside int64 (n,): pairs of this side and the other. So one who comes to a trained model begins well placed,
    and not as long as those there are, so that it is moved soon.
    """
    is_new = np.zeros(len(side.table), bool)
    is_new[new] = True
    mine = np.flatnonzero(is_new[rows])
    mine = mine[np.argsort(rows[mine], kind="stable")]
    dim = min(side.table.dim, others.table.dim)  # without the items' bias
    for begin, end in _whole(rows[mine]):
        some = mine[begin:end]
        first = np.flatnonzero(np.r_[True, np.diff(rows[some]) != 0])
        batch, vectors = side.look(rows[some[first]])
        unit = normalize(others.look(beside[some])[1][:, :dim])[0]
        direction = normalize(np.add.reduceat(unit, first, axis=0))[0]
        vectors[:, :dim] = direction * normalize(vectors[:, :dim])[1]
        side.table.set(batch, vectors)


def _whole(rows: np.ndarray) -> list[tuple[int, int]]:
    """Slices of sorted rows, no two equal ones apart, of about _TOGETHER each."""
    n = len(rows)
    ends = np.flatnonzero(np.r_[rows[1:] != rows[:-1], True])[: n or 0] + 1
    bounds, start = list[tuple[int, int]](), 0
    while start < n:
        stop = int(ends[np.searchsorted(ends, min(n, start + _TOGETHER))])
        bounds.append((start, stop))
        start = stop
    return bounds
