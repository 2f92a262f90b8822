"""The protocols that papers and libraries report on: files, splits and metrics, with ids as numbers from 0 on.

Files are in $HOTROW_DATA, else in ../shared/data; what isn't there is left out, and said. Each has a cut for validation
that is a part of its training pairs: settings are chosen on it, and never on the test.

gowalla   Gowalla_m1 (BARS): train.txt and valid.txt to train on, 810,128 pairs; test.txt; known items left out
ml75      MovieLens 100K, a quarter of each user's ratings held out, all ratings count, known items left out: the
          protocol of github.com/recommenders-team/recommenders, examples/06_benchmarks
tfrs      MovieLens 100K, shuffled, 80,000 to train on and 20,000 to test, known items stay: tutorial of TensorFlow
          Recommenders; the share of test pairs whose item is among the first k of all items
beauty    Amazon Beauty, 5-core: the last item of each user held out, the one before for validation; known items left
          out, as S3-Rec's full ranking does; for the test all but the last is learned from
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hotrow.models import metrics
from hotrow.models.ranking import Known

FOLDER = Path(os.environ.get("HOTROW_DATA", Path(__file__).parents[2] / "shared" / "data"))
MOVIES = FOLDER / "ml100k" / "ml-100k.inter"

Pairs = tuple[np.ndarray, np.ndarray]
"""Users and items, int64 (n,) each."""


@dataclass(frozen=True)
class Cut:
    """What to learn from, and what is held out of it; numbers of users and of items."""

    train: Pairs
    held_out: Pairs
    users: int
    items: int

    def known(self, *, seen_kept: bool = False) -> Known:
        """The pairs that no list of its user may hold."""
        if seen_kept:
            return Known.nothing(self.users)
        order = np.argsort(self.train[0], kind="stable")
        return Known.of(self.train[0][order], self.train[1][order], self.users)

    def asked(self) -> tuple[np.ndarray, np.ndarray]:
        """The users with held-out pairs, ascending, and for each such pair whose it is."""
        return np.unique(self.held_out[0], return_inverse=True)


@dataclass(frozen=True)
class Protocol:
    """One way to measure: its title, its file, its cuts by (seed, whether it is for validation), and its metrics."""

    title: str
    files: tuple[Path, ...]
    cut: Callable[[int, bool], Cut]
    metrics: tuple[str, ...]
    seen_kept: bool = False

    @property
    def longest(self) -> int:
        """The longest list that a metric reads."""
        return max(int(name.split("@")[1]) for name in self.metrics)

    def missing(self) -> list[Path]:
        """The files that aren't there."""
        return [file for file in self.files if not file.is_file()]

    def measure(self, best: np.ndarray, cut: Cut) -> dict[str, float]:
        """The metrics of lists int (asked users, k), best first, −1 for no item."""
        _, place = cut.asked()
        found, counts = metrics.hits(best, place, cut.held_out[1], cut.items)
        return {name: _metric(name, found, counts) for name in self.metrics}


def _metric(name: str, found: np.ndarray, counts: np.ndarray) -> float:
    kind, k = name.split("@")
    if kind == "top":  # over pairs, not over users
        return float(found[:, : int(k)].sum() / counts.sum())
    if kind in {"recall", "ndcg"}:
        return getattr(metrics, kind)(found, counts, int(k))
    return getattr(metrics, kind)(found, int(k))


def lines_of(file: Path) -> Pairs:
    """Users and items of a file with a user and then its items a line, in their order."""
    users, items = list[np.ndarray](), list[np.ndarray]()
    for line in file.read_text("utf-8").splitlines():
        first, *rest = map(int, line.split())
        users.append(np.full(len(rest), first, np.int64))
        items.append(np.array(rest, np.int64))
    return np.concatenate(users), np.concatenate(items)


def movies(file: Path = MOVIES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and ratings of MovieLens 100K, numbers from 0 on: int64, int64 and float32 (100,000,)."""
    rows = np.loadtxt(file, skiprows=1, usecols=(0, 1, 2))
    return rows[:, 0].astype(np.int64) - 1, rows[:, 1].astype(np.int64) - 1, rows[:, 2].astype(np.float32)


def taken(pairs: Pairs, chosen: np.ndarray) -> Pairs:
    """Those of the pairs."""
    return pairs[0][chosen], pairs[1][chosen]


def stratified(pairs: Pairs, share: float, seed: int) -> tuple[Pairs, Pairs]:
    """A random share of each user's pairs, rounded, as the second part; the rest as the first."""
    shuffled = np.random.default_rng(seed).permutation(len(pairs[0]))
    order = shuffled[np.argsort(pairs[0][shuffled], kind="stable")]
    counts = np.bincount(pairs[0])
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = np.round(counts * (1 - share)).astype(np.int64)[pairs[0][order]]
    return taken(pairs, order[place < kept]), taken(pairs, order[place >= kept])


def _cut(train: Pairs, held_out: Pairs) -> Cut:
    sizes = [int(max(a.max(initial=-1), b.max(initial=-1))) + 1 for a, b in zip(train, held_out, strict=True)]
    return Cut(train, held_out, *sizes)


def gowalla(_seed: int, validation: bool) -> Cut:
    """The published split: train.txt and valid.txt have no pair in common, and together are what one trains on."""
    folder = FOLDER / "gowalla"
    train, valid, test = (lines_of(folder / f"{name}.txt") for name in ("train", "valid", "test"))
    if validation:
        return _cut(train, valid)
    both = np.concatenate([train[0], valid[0]]), np.concatenate([train[1], valid[1]])
    return _cut(both, test)


def ml75(seed: int, validation: bool) -> Cut:
    """A quarter of each user's ratings; for validation a tenth of each user's others."""
    train, test = stratified(movies()[:2], 0.25, seed)
    return _cut(*stratified(train, 0.1, seed)) if validation else _cut(train, test)


def tfrs(seed: int, validation: bool) -> Cut:
    """The last 20,000 of shuffled ratings; for validation the last 8,000 of the others."""
    pairs = movies()[:2]
    order = np.random.default_rng(seed).permutation(len(pairs[0]))
    first, last = (72_000, 80_000) if validation else (80_000, 100_000)
    return Cut(taken(pairs, order[:first]), taken(pairs, order[first:last]), 943, 1682)


def beauty(_seed: int, validation: bool) -> Cut:
    """Each user's last item, or for validation the one before, without the last."""
    users, items = lines_of(FOLDER / "beauty" / "Beauty.txt")
    ends = np.flatnonzero(np.append(users[1:] != users[:-1], True))
    if validation:
        left = np.ones(len(users), bool)
        left[ends] = False
        users, items = users[left], items[left]
        ends = np.flatnonzero(np.append(users[1:] != users[:-1], True))
    train = np.ones(len(users), bool)
    train[ends] = False
    return _cut((users[train], items[train]), (users[ends], items[ends]))


def made_up(seed: int, validation: bool) -> Cut:
    """300 users who like one in four of 80 items: for quick runs and tests."""
    rng = np.random.default_rng([seed, 5])
    users = np.repeat(np.arange(300), 12)
    items = np.concatenate([rng.choice(20, 12, replace=False) * 4 + u % 4 for u in range(300)])
    train, test = stratified((users, items), 0.25, seed)
    return _cut(*stratified(train, 0.15, seed)) if validation else _cut(train, test)


def folds(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Five random folds of the 100,000 ratings: what is learned from and what is measured, as row numbers."""
    parts = np.array_split(np.random.default_rng(seed).permutation(100_000), 5)
    return [(np.concatenate(parts[:i] + parts[i + 1 :]), parts[i]) for i in range(5)]


PROTOCOLS = {
    "gowalla": Protocol(
        "Gowalla_m1",
        tuple(FOLDER / "gowalla" / f"{name}.txt" for name in ("train", "valid", "test")),
        gowalla,
        ("recall@20", "ndcg@20"),
    ),
    "ml75": Protocol("MovieLens 100K, 75 : 25", (MOVIES,), ml75, ("ndcg@10", "precision@10", "recall@10")),
    "tfrs": Protocol("MovieLens 100K, TFRS's", (MOVIES,), tfrs, ("top@10", "top@50", "top@100"), seen_kept=True),
    "beauty": Protocol(
        "Amazon Beauty, last item", (FOLDER / "beauty" / "Beauty.txt",), beauty, ("recall@10", "ndcg@10")
    ),
    "made_up": Protocol("Made up", (), made_up, ("recall@10", "ndcg@10")),
}
