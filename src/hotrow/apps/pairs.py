"""From columns to training: every pair once, some of them held out to measure with.

    user  a a a b a          by time                          without times
    item  x y x x z          repeated  a x, the second time   repeated  the same
    time  1 2 3 1 3          held out  a z, a's last          held out  a random tenth

A pair that comes several times counts once, at its first time. With times, the last pair of each user is held out; of
several at one time the one that comes last in the file is later. Without, a random tenth of all pairs, drawn by the
seed. Either way every user keeps a pair to train on, so users with a single pair stay in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hotrow.apps.arrow import Array
from hotrow.apps.reading import Progress, Report, counted, read_columns
from hotrow.apps.sources import TableSource

_SHARE = 10  # one in so many is held out


@dataclass(frozen=True)
class Split:
    """The pairs in codes, int32, each part in the order of the file.

    by_time      whether the held-out pairs are the last ones of their users
    repeated     rows that said again what an earlier row had said
    unreachable  held-out pairs whose item isn't in any training pair: no model can find them
    """

    train_user: np.ndarray
    train_item: np.ndarray
    test_user: np.ndarray
    test_item: np.ndarray
    by_time: bool
    repeated: int
    unreachable: int

    def counts(self) -> dict[str, int]:
        """How many pairs are where."""
        return {
            "repeated": self.repeated,
            "training": len(self.train_user),
            "held_out": len(self.test_user),
            "unreachable": self.unreachable,
        }

    def sentences(self) -> list[str]:
        """The counts for people, a line each."""
        how = "the last pair of each user that has two or more" if self.by_time else "a random tenth"
        lines = [f"{counted(len(self.train_user), 'pair')} to train on, {len(self.test_user):,} held out: {how}"]
        if self.repeated:
            lines.insert(
                0, f"{counted(self.repeated, 'row')} skipped: the pair is in another, and counts at its first time"
            )
        if self.unreachable:
            pairs = counted(self.unreachable, "held-out pair")
            lines.append(f"{pairs} that nothing can find: the item is in no training pair")
        return lines


@dataclass(frozen=True)
class Dataset:
    """Pairs ready to train on: users[split.train_user[i]] has items[split.train_item[i]], in ids as they were."""

    users: Array
    items: Array
    split: Split
    report: Report

    def sentences(self) -> list[str]:
        """What was read and what was made of it, a line each."""
        ids = f"{counted(len(self.users), 'user')}, {counted(len(self.items), 'item')}"
        return [*self.report.sentences(), ids, *self.split.sentences()]


def load_pairs(
    path: Any = None,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    time_format: str | None = None,
    seed: int = 0,
    *,
    skip_bad_lines: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Read pairs as `read_columns` does, drop repetitions, hold some out. Without a path: the Debian packages.

    >>> from hotrow.apps.pairs import load_pairs
    >>> load_pairs().sentences()[-1]
    '... held-out pairs that nothing can find: the item is in no training pair'
    """
    if path is None:
        from hotrow.data import debian_pairs

        path = TableSource(debian_pairs(), "the packages of Debian and what they depend on")
    roles = {"user": user, "item": item, "time": time}
    columns = read_columns(path, roles, time_format=time_format, skip_bad_lines=skip_bad_lines, progress=progress)
    parts = split(columns.user.codes, columns.item.codes, columns.time, seed)
    return Dataset(columns.user.values, columns.item.values, parts, columns.report)


def split(user: np.ndarray, item: np.ndarray, time: np.ndarray | None, seed: int) -> Split:
    """Drop repeated pairs and hold some of the others out: int32 codes (n,), times (n,) or None."""
    order = None if time is None else _order(time)
    first = _first(_take(user, order), _take(item, order))
    rows = first if order is None else order[first]  # of the distinct pairs, one time after the other
    held_out = _last(user[rows]) if time is not None else _random(user[rows], seed)
    train, test = np.zeros(len(user), bool), np.zeros(len(user), bool)
    train[rows] = True
    train[rows[held_out]] = False
    test[rows[held_out]] = True
    known = np.zeros(int(item.max(initial=-1)) + 1, bool)
    known[item[train]] = True
    return Split(
        user[train], item[train], user[test], item[test],
        by_time=time is not None, repeated=len(user) - len(rows), unreachable=int((~known[item[test]]).sum()),
    )  # fmt: skip


def _order(time: np.ndarray) -> np.ndarray | None:
    """The rows one time after the other, those of one time as in the file; None if that is how they are."""
    if (time[1:] >= time[:-1]).all():
        return None
    return np.argsort(time, kind="stable")


def _take(codes: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    return codes if order is None else codes[order]


def _first(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Where each distinct pair is first, ascending: int64 (m,)."""
    users, items, rows = (int(most).bit_length() for most in (user.max(initial=0), item.max(initial=0), len(user)))
    if users + items + rows <= 64:
        # User, item and place in one number: sorted in place, and much quicker than by way of an order.
        keys = user.astype(np.uint64)
        keys <<= np.uint64(items)
        keys |= item.astype(np.uint64)
        keys <<= np.uint64(rows)
        keys |= np.arange(len(user), dtype=np.uint64)
        keys.sort()
        places = (keys & np.uint64((1 << rows) - 1)).astype(np.int64)
        keys >>= np.uint64(rows)
        new = _changes(keys)
    else:
        places = np.lexsort((item, user))
        new = _changes(user[places]) | _changes(item[places])
    first = places[new]
    first.sort()
    return first


def _changes(values: np.ndarray) -> np.ndarray:
    """Whether a value isn't the one before it."""
    new = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return new


def _last(user: np.ndarray) -> np.ndarray:
    """Where the last pair of each user is that has several."""
    last = _last_places(user)
    return last[np.bincount(user) > 1]


def _last_places(user: np.ndarray) -> np.ndarray:
    last = np.full(int(user.max(initial=-1)) + 1, -1)
    np.maximum.at(last, user, np.arange(len(user)))
    return last


def _random(user: np.ndarray, seed: int) -> np.ndarray:
    """The places of a tenth of the pairs, rounded up; of each user one that is drawn is left out."""
    drawn = np.random.default_rng(seed % 2**64).permutation(len(user))
    keeps = np.zeros(len(user), bool)
    last = _last_places(user[drawn])
    keeps[last[last >= 0]] = True
    return drawn[~keeps][: -(-len(user) // _SHARE)]
