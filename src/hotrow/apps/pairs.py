"""From columns to training: every pair once, some of them held out to measure with, as `hotrow.models.cuts` draws it.

With times the last pair of each user is held out, without a random tenth, unless asked otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hotrow.apps.arrow import Array
from hotrow.apps.reading import Progress, Report, counted, read_columns
from hotrow.apps.sources import Reading, TableSource, one_by_one
from hotrow.models.cuts import check_way, cut

DEBIAN = "the packages of Debian and what they depend on"
"""How reports call the pairs that come with hotrow."""
HOW = {
    "last": "the last pair of each user that has two or more",
    "latest": "the latest tenth; none to train on is as late",
    "random": "a random tenth",
}
"""How pairs are held out, in words, by the way of `hotrow.models.cuts`."""


@dataclass(frozen=True)
class Split:
    """The pairs in codes, int32, each part in the order of the file.

    train_time   when the pairs to train on were, (n,), if times were read
    way          how pairs are held out; see `hotrow.models.cuts`
    repeated     rows that said again what an earlier row had said
    unreachable  held-out pairs whose item isn't in any training pair: no model can find them
    """

    train_user: np.ndarray
    train_item: np.ndarray
    test_user: np.ndarray
    test_item: np.ndarray
    train_time: np.ndarray | None
    way: str
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
        counts = f"{counted(len(self.train_user), 'pair')} to train on, {len(self.test_user):,} held out"
        lines = [f"{counts}: {HOW[self.way]}"]
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
    way: str | None = None,
    skip_bad_lines: bool = False,
    progress: Progress | None = None,
    reading: Reading = one_by_one,
) -> Dataset:
    """Read pairs as `read_columns` does, drop repetitions, hold some out. Without a path: the Debian packages.

    >>> from hotrow.apps.pairs import load_pairs
    >>> load_pairs().sentences()[-1]
    '... held-out pairs that nothing can find: the item is in no training pair'
    """
    check_way(way, timed=time is not None)  # before a long file is read
    if path is None:
        from hotrow.data import debian_pairs

        path = TableSource(debian_pairs(), DEBIAN)
    roles = {"user": user, "item": item, "time": time}
    columns = read_columns(
        path, roles, time_format=time_format, skip_bad_lines=skip_bad_lines, progress=progress, reading=reading
    )
    parts = split(columns.user.codes, columns.item.codes, columns.time, seed, way)
    return Dataset(columns.user.values, columns.item.values, parts, columns.report)


def split(user: np.ndarray, item: np.ndarray, time: np.ndarray | None, seed: int, way: str | None = None) -> Split:
    """Drop repeated pairs and hold some of the others out: int32 codes (n,), times (n,) or None."""
    parts = cut(user, item, time, seed, way)
    train, test = parts.train, parts.test
    known = np.zeros(int(item.max(initial=-1)) + 1, bool)
    known[item[train]] = True
    return Split(
        user[train], item[train], user[test], item[test],
        train_time=None if time is None else time[train], way=parts.way, repeated=parts.repeated,
        unreachable=int((~known[item[test]]).sum()),
    )  # fmt: skip
