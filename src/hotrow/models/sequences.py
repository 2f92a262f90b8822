"""What came after what: the sequences of users, and of every item in them the history before it.

```
 users   a  b  a  a  b         sequences   a: x y z    b: x w          histories, last=2     x → y     x y → z     x → w
 items   x  x  y  z  w
```
A history ends before the item that comes next, so an item is never in the input that is to predict it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from hotrow.bridges.ragged import take_apart
from hotrow.errors import ArgumentError
from hotrow.models.pairs import names_of_columns
from hotrow.table.optimizers import SGD
from hotrow.table.table import Table

_EXPECTED = "Try fit((users, items)), pairs in time order, or fit((users, items, times))"


@dataclass(frozen=True)
class Sequences:
    """Items one after the other, of one user after the other: those of user u are items[starts[u]:starts[u + 1]].

    starts int64 (users + 1,), items int64 (n,), of whatever numbers stand for items.
    """

    starts: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, times: np.ndarray | None) -> Sequences:
        """From pairs, users numbered from 0 on. Pairs of one time, or without times, stay in the order they have."""
        if times is not None:
            order = np.argsort(times, kind="stable")
            order = order[np.argsort(users[order], kind="stable")]
        else:
            order = np.argsort(users, kind="stable")
        starts = np.r_[0, np.cumsum(np.bincount(users, minlength=0))].astype(np.int64)
        return cls(starts, items[order])

    def targets(self) -> np.ndarray:
        """The places of the items that come after another: int64, ascending."""
        follows = np.ones(len(self.items), bool)
        follows[self.starts[:-1][self.starts[:-1] < self.starts[1:]]] = False
        return np.flatnonzero(follows)

    def first_of(self) -> np.ndarray:
        """For each item, the place where its user's sequence begins: int64 (n,)."""
        return np.repeat(self.starts[:-1], np.diff(self.starts))


@dataclass(frozen=True)
class Histories:
    """Items that came last, of several examples: those of example e are items[offsets[e]:offsets[e + 1]].

    age  how many items came after each, within its history: 0 is the last, int64 (n,)
    """

    items: np.ndarray
    offsets: np.ndarray
    age: np.ndarray

    @classmethod
    def before(cls, items: np.ndarray, first: np.ndarray, ends: np.ndarray, last: int) -> Histories:
        """Of items[first[e]:ends[e]] the `last` ones, for each example e."""
        lengths = np.minimum(ends - first, last)
        offsets = np.r_[0, np.cumsum(lengths)].astype(np.int64)
        number = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        age = np.repeat(lengths, lengths) - 1 - number
        return cls(items[np.repeat(ends, lengths) - 1 - age], offsets, age)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def example(self) -> np.ndarray:
        """Which example each item is in: int64 (n,), ascending."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def kept(self, stays: np.ndarray) -> Histories:
        """Without the items where `stays`, bool (n,), is False; ages stay."""
        offsets = np.r_[0, np.cumsum(stays)][self.offsets]
        return Histories(self.items[stays], offsets, self.age[stays])


def take_pairs(pairs: Any) -> tuple[Any, Any, np.ndarray | None]:
    """The columns of what was given as pairs in time order: users, items, and times if there are any."""
    names = names_of_columns(pairs)
    if isinstance(pairs, np.ndarray) and pairs.ndim == 2:
        given = [pairs[:, column] for column in range(pairs.shape[1])]
    elif names is not None:
        given = [pairs[name] for name in names]
    elif isinstance(pairs, tuple | list):
        given = list(cast("list[Any]", pairs))
    else:
        raise ArgumentError(f"got {type(pairs).__name__} for pairs. {_EXPECTED}")
    if len(given) not in {2, 3}:
        raise ArgumentError(f"got {len(given)} columns for pairs. {_EXPECTED}")
    return given[0], given[1], None if len(given) == 2 else _times(given[2])


def _times(times: Any) -> np.ndarray:
    given = np.asarray(times)
    if given.ndim != 1 or given.dtype.kind not in "iufM":
        raise ArgumentError(f"times are numbers or NumPy's datetime64, one a pair; got {given.dtype} {given.shape}")
    if (np.isnat(given) if given.dtype.kind == "M" else np.isnan(given)).any():
        raise ArgumentError("a time is missing (NaN or NaT): leave such pairs out")
    return given


def numbered(ids: Any) -> np.ndarray:
    """Numbers for ids of any kind, from 0 on in the order in which they are first seen: int64 (n,)."""
    return Table(1, optimizer=SGD(0.0)).find(ids).inverse.astype(np.int64)


def take_histories(histories: Any) -> tuple[Any, np.ndarray]:
    """The ids of all histories, one after the other, and offsets int64 (histories + 1,).

    histories: lists of ids, in all forms that bags have; or a tuple (ids, offsets).
    """
    if not isinstance(histories, tuple):
        return take_apart(histories)
    given = cast("tuple[Any, ...]", histories)
    if len(given) != 2:
        raise ArgumentError(f"got {len(given)} things for (ids, offsets). Try a list of lists: [['tea', 'mug'], []]")
    offsets = np.asarray(given[1])
    if (
        offsets.ndim != 1
        or offsets.dtype.kind not in "iu"
        or not len(offsets)
        or offsets[0] != 0
        or (np.diff(offsets.astype(np.int64)) < 0).any()
        or offsets[-1] != len(given[0])
    ):
        raise ArgumentError(
            f"offsets are whole numbers that ascend from 0 to {len(given[0])}, how many ids there are; got "
            f"{offsets!r:.80}. Or give a list of lists: [['tea', 'mug'], []]"
        )
    return given[0], offsets.astype(np.int64)


def hold_out(pairs: Any) -> tuple[tuple[np.ndarray, np.ndarray], Histories, np.ndarray]:
    """Places of pairs: hold each user's last pair out, of those that have two or more.

    → the places of the pairs to train on, by user and in time order, with the users' numbers; the histories of those
    that have a pair held out, and the places of what comes next, as places in the columns given.

    >>> (places, users), histories, wanted = hold_out((["a", "b", "a", "a"], ["x", "x", "y", "z"]))
    >>> places.tolist(), users.tolist(), histories.items.tolist(), wanted.tolist()
    ([0, 2, 1], [0, 0, 1], [0, 2], [3])
    """
    user_ids, item_ids, times = take_pairs(pairs)
    users = numbered(user_ids)
    check_lengths(users, item_ids, times)
    sequences = Sequences.of(users, np.arange(len(users)), times)
    lengths = np.diff(sequences.starts)
    ends = sequences.starts[1:][lengths > 1] - 1
    stays = np.ones(len(users), bool)
    stays[ends] = False
    histories = Histories.before(sequences.items, sequences.starts[:-1][lengths > 1], ends, len(users))
    places = sequences.items[stays]
    return (places, users[places]), histories, sequences.items[ends]


def check_lengths(users: Any, items: Any, times: Any) -> None:
    """ArgumentError unless the columns are as long as each other."""
    lengths = [len(column) for column in (users, items, times) if column is not None]
    if len(set(lengths)) != 1:
        raise ArgumentError(f"columns of pairs are as long as each other; got {lengths}. {_EXPECTED}")
