"""Pairs that happened, and items drawn that didn't: the rows of a click model, split before anything is drawn.

    user  item  when     label        a positive
    ann   tea   morning  1            a row of the file
    ann   mug   morning  0            its negative: another item, which ann has in no row, all else as it was

What belongs to the item, such as its price, a negative has of its own item: kept, it would give the negative away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hotrow.apps.arrow import Array, pa

_TRIES = 200  # draws for a negative, until its user counts as one who has nearly everything
_ITS_OWN = 0.99  # of the rows that aren't the commonest value, for a column to count as the item's


@dataclass(frozen=True)
class Drawn:
    """Rows of one part: row i is `rows[i]` of the file, with the item of row `items[i]`, its first; labels 1 or 0."""

    rows: np.ndarray
    items: np.ndarray
    labels: np.ndarray


def codes_of(column: Array) -> np.ndarray:
    """Which value each row has, int64 (n,), null as one of them."""
    if pa.types.is_nested(column.type):
        column = pa.array([repr(value) for value in column.to_pylist()], pa.large_string())
    return column.dictionary_encode(null_encoding="encode").indices.to_numpy(zero_copy_only=False).astype(np.int64)


def belongs_to(items: np.ndarray, values: np.ndarray) -> bool:
    """Whether a column's values, int64 (n,), are the items': nearly always the same where the item is.

    >>> import numpy as np
    >>> items = np.array([0, 0, 1, 1])
    >>> belongs_to(items, np.array([7, 7, 8, 8])), belongs_to(items, np.array([7, 8, 8, 7]))
    (True, False)
    """
    several = np.bincount(items)[items] > 1
    items, values = items[several], values[several]
    if not len(items):
        return False
    pairs, counts = np.unique(items * (int(values.max()) + 1) + values, return_counts=True)
    most = np.zeros(int(items.max()) + 1, np.int64)
    np.maximum.at(most, pairs // (int(values.max()) + 1), counts)
    share, commonest = most.sum() / len(items), np.bincount(values).max() / len(items)
    return bool(share > commonest + _ITS_OWN * (1 - commonest))


def is_items_own(users: np.ndarray, items: np.ndarray, values: np.ndarray) -> bool:
    """Whether a column's values belong to the items, and not, where an item has but few users, to those.

    users, items, values  int64 (n,), numbered from 0

    >>> import numpy as np
    >>> users, items = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> is_items_own(users, items, np.array([7, 8, 7, 8])), is_items_own(users, items, np.array([7, 7, 8, 8]))
    (True, False)
    """
    pairs = np.unique(users * (int(items.max()) + 1) + items, return_inverse=True)[1]
    # a user who has one item again and again has its price each time, which isn't the user's: a pair counts once
    once = np.unique(pairs * (int(values.max()) + 1) + values, return_index=True)[1]
    return belongs_to(items, values) and not belongs_to(users[once], values[once])


def draw(
    users: np.ndarray, items: np.ndarray, parts: list[np.ndarray], count: int, seed: int
) -> tuple[list[Drawn], int]:
    """`count` negatives for each positive of each part, none of them a pair of any; and how many couldn't be found.

    users, items  int64 (n,), of all rows, numbered from 0
    parts         the rows of each part
    """
    n_items = int(items.max()) + 1
    have = np.unique(users * n_items + items)
    first = np.full(n_items, -1)
    first[items[::-1]] = np.arange(len(items))[::-1]
    random = np.random.default_rng([seed % 2**64, 2])
    made, missing = [], 0
    for part in parts:
        rows = np.repeat(part, count + 1)
        labels = np.tile(np.arange(count + 1) == 0, len(part)).astype(np.int64)
        chosen = items[rows]
        todo = np.flatnonzero(labels == 0)
        for _ in range(_TRIES):
            chosen[todo] = random.integers(0, n_items, len(todo))
            todo = todo[_in(have, users[rows[todo]] * n_items + chosen[todo])]
            if not len(todo):
                break
        missing += len(todo)
        kept = np.ones(len(rows), bool)
        kept[todo] = False
        made.append(Drawn(rows[kept], first[chosen[kept]], labels[kept]))
    return made, missing


def _in(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    places = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return ordered[places] == values


def taken(column: Array, drawn: Drawn, *, of_item: bool) -> Any:
    """A column for the rows of a part."""
    return column.take(pa.array(drawn.items if of_item else drawn.rows))
