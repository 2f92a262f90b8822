"""usearch: a graph in which each vector knows some near ones, and a walk through it finds the nearest to a query.

The graph knows no ids and no rows. Each distinct vector is in it once, named by a checksum of its floats: so rows that
are equal, by the thousand if need be, are one place in the graph; and what has changed between two saves is what has
another checksum, whichever ids are new, gone, moved or trained.

```
 rows        0     1     2     3                     4
 vectors     a     b     a     c     trained: b → d, and a new one, e
 graph       ‹a›   ‹b›   ‹c›                ‹a› ‹b› ‹c› ‹d› ‹e›: ‹b› is dead, no row has it
```
Walks still go through what is dead, whose neighbours would else lose their way: after ten changes of a tenth each, an
index that usearch had removed them from found .99 of the nearest, or .975 by product, and one that kept them .999.
In the graph vectors are float16 within the unit ball; what it finds is measured again by `Space`.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np

from hotrow.errors import MissingExtraError
from hotrow.kernels import fingerprint, readonly, threads
from hotrow.models.losses import normalize
from hotrow.search.space import SPARE, Space, squares

log = logging.getLogger("hotrow")

Progress = Callable[[int, int, dict[str, Any]], None]
CONNECTIVITY, EXPANSION_ADD = 16, 128
"""With fewer tried when a vector is added, some clusters can't be reached: .8 % of the rows then found none of their
nearest, and longer walks didn't help them."""
EXPANSIONS = (32, 64, 128, 256, 512, 1024)
"""How many places a walk keeps in view: as few as find what they are to."""
ENOUGH = 0.99
"""The recall at which no more are tried."""
LOST = 0.02
"""The recall that a graph may lose by changes before it is built anew."""
SAMPLE, LENGTH = 512, 10
"""Recall is of so many queries' nearest, of either kind of question."""
SLACK = 1.2  # how much longer than the longest a vector may become under "dot" before all is built anew
DEAD = 0.5
"""Dead places for each that a row has, beyond which all is built anew."""
WORTH = 1000
"""Once a thousandth of the places has changed, recall is measured again."""
_BLOCK = 4096  # vectors added between two words of progress
_SHARE = 16  # queries that are worth a thread
_SHARE_ADDED = 2048
"""Vectors added that are worth a thread: with several, which of them become neighbours is a matter of chance, so small
graphs are built by one, and are the same each time."""
_FARTHEST = 100.0  # that a query may lie outside the unit ball, for float16's sake


@dataclass(frozen=True)
class Walk:
    """How many places a walk keeps in view, and the share of the 10 nearest that it finds so."""

    expansion: int = 0
    recall: float = 0.0


@dataclass(frozen=True)
class Graph:
    """A graph of the vectors of one space; `find` may be called by many threads.

    space      whose vectors are in it
    index      usearch's
    reach      the length that is 1 in it
    centre     float32 (dim,), the vector that is 0 in it: the mean when it was built for "euclidean"
    places     which rows are in which place
    held       int64 (any,), ascending: the marks of all places of the graph, of dead ones, too
    lock       of usearch, whose calls take turns
    usual      of questions near a row: how long a walk is, and what it finds
    mixed      the same of mixtures of several rows, which lie where no row is: walks are longer
    built      the recall of usual ones when it was last built as a whole
    changed    how many places have changed since recall was measured
    """

    space: Space
    index: Any
    reach: float
    centre: np.ndarray
    places: Places
    held: np.ndarray
    lock: Any
    usual: Walk = Walk()
    mixed: Walk = Walk()
    built: float = 0.0
    changed: int = 0

    @classmethod
    def build(cls, space: Space, progress: Progress | None = None) -> Graph:
        """A new one. progress: callable(vectors added, in all, {}), at the end with {"recall"}."""
        longest = float(np.sqrt(squares(space.factors).max(initial=0))) or 1.0
        reach = {"cosine": 1.0, "dot": SLACK * longest, "euclidean": longest}[space.metric]
        places = Places.of(space.vectors)
        index = make_index(space)
        empty = cls(space, index, reach, space.centre, places, places.marks, Lock())
        empty.add(np.arange(len(places)), progress)
        made = empty.tuned()
        if progress is not None:
            progress(len(places), len(places), {"recall": made.usual.recall})
        return replace(made, built=made.usual.recall)

    def updated(self, space: Space, progress: Progress | None = None) -> Graph:
        """The graph of the vectors as they are now, by what has changed; this one stays as it is.

        Built anew where too much of it is dead, or where recall has suffered.
        """
        places = Places.of(space.vectors)
        new = np.flatnonzero(~np.isin(places.marks, self.held, assume_unique=True))
        held = np.union1d(self.held, places.marks)
        moved = replace(self, space=space, places=places, held=held, changed=self.changed + len(new))
        if len(held) - len(places) > DEAD * len(places) or moved.longest(new) > 1:
            return Graph.build(space, progress)
        if not len(new):
            return moved
        with self.lock:
            index = self.index.copy()
        moved = replace(moved, index=index, lock=Lock())
        moved.add(new, progress)
        if moved.changed * WORTH > len(places):
            moved = replace(moved.tuned(places.some_row(new)), changed=0)
        if moved.usual.recall < self.built - LOST:
            log.info("the index finds %.1f %% now, and %.1f %% when it was built: it is built anew",
                     100 * moved.usual.recall, 100 * self.built)  # fmt: skip
            return Graph.build(space, progress)
        if progress is not None:
            progress(len(new), len(new), {"recall": moved.usual.recall})
        return moved

    def longest(self, new: np.ndarray) -> float:
        """Of the vectors at these places, the greatest length as the graph would have it; 0 where any will do."""
        if self.space.metric != "dot" or not len(new):
            return 0.0
        return float(np.sqrt(squares(self.space.vectors[self.places.some_row(new)]).max())) / self.reach

    def add(self, new: np.ndarray, progress: Progress | None) -> None:
        """Add the vectors at these places."""
        for start in range(0, len(new), _BLOCK):
            part = new[start : start + _BLOCK]
            shaped = self.shaped(self.space.vectors[self.places.some_row(part)], query=False)
            self.index.add(self.places.marks[part].astype(np.uint64), shaped, threads=workers(len(part), _SHARE_ADDED))
            if progress is not None:
                progress(min(len(new), start + _BLOCK), len(new), {})

    def shaped(self, vectors: np.ndarray, *, query: bool) -> np.ndarray:
        """Vectors as the graph has them: float32 (n, dim), for "dot" one float more.

        With that all are of one length, and the nearest by angle is the one with the largest product: Bachrach et al.,
        "Speeding up the Xbox recommender system using a Euclidean transformation", RecSys 2014.
        """
        if self.space.metric == "euclidean":
            return ((vectors - self.centre) / np.float32(self.reach)).astype(np.float32)
        if self.space.metric == "cosine":
            return normalize(vectors)[0]
        if query:
            return np.pad(normalize(vectors)[0], ((0, 0), (0, 1)))
        scaled = vectors / np.float32(self.reach)
        last = np.sqrt(np.maximum(0, 1 - squares(scaled))).astype(np.float32)
        return np.hstack([scaled, last[:, None]])

    def find(self, queries: np.ndarray, count: int, expansion: int) -> np.ndarray:
        """Candidates for each query: rows int64 (q, count), −1 for none; all −1 for a query too far out to be asked."""
        if not len(self.places):
            return np.full((len(queries), count), -1, np.int64)
        shaped = self.shaped(queries, query=True)
        far = squares(shaped) > _FARTHEST**2
        shaped[far] = 0
        most = math.ceil(count * len(self.held) / len(self.places))
        if most > count:  # what is dead lies beside what it was, so here and there it is the greater part
            most += count // 2
        with self.lock:
            self.index.expansion_search = max(expansion, most)
            matches = self.index.search(shaped, most, threads=workers(len(queries)))
        marks, counts = np.atleast_2d(matches.keys), np.atleast_1d(getattr(matches, "counts", len(matches.keys)))
        there = np.arange(marks.shape[1]) < counts[:, None]
        there[far] = False
        return self.places.rows(marks.astype(np.int64), there, count)

    def tuned(self, more: np.ndarray | None = None) -> Graph:
        """With as few places in view as find enough, and the recall that was measured.

        more: rows of which some are asked for as well, such as those that are new

        Every second of the usual questions is a row, which the graph leads to as to no other query; the others lie as
        new rows would, or under "dot" between two: who asks by product is mostly no row itself, but a user among items.
        """
        space, random = self.space, np.random.default_rng(0)
        if not len(space):
            return replace(self, usual=replace(self.usual, recall=1.0), mixed=replace(self.mixed, recall=1.0))
        rows = random.choice(len(space), min(SAMPLE, len(space)), replace=False)
        if more is not None and len(more):
            rows = np.concatenate([rows, random.choice(more, min(SAMPLE, len(more)), replace=False)])
        vectors = self._mixable(rows)
        other, third = random.permutation(vectors), random.permutation(vectors)
        even = np.arange(len(rows))[:, None] % 2 == 0
        usual = np.where(even, vectors, (vectors + other) / 2 if space.metric == "dot" else self._new(rows, vectors))
        mixed = np.where(even, (vectors + other) / 2, (vectors + other - third) / 3)
        itself = np.where(even, rows[:, None], -2)
        return replace(self, usual=self._walk(self.usual, usual, itself), mixed=self._walk(self.mixed, mixed, None))

    def _mixable(self, rows: np.ndarray) -> np.ndarray:
        vectors = self.space.vectors[rows]
        return normalize(vectors)[0] if self.space.metric == "cosine" else vectors

    def _new(self, rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Vectors that lie as new rows would: of four of a cluster, (a + b + c − d) / 2 has their mean and spread."""
        near = self.space.near(self.space.vectors[rows], LENGTH, without=list(rows[:, None]))[0]
        near = np.where(near < 0, rows[:, None], near)
        b, c, d = (self._mixable(near[:, place]) for place in (LENGTH // 4, LENGTH // 2, LENGTH - 1))
        return (vectors + b + c - d) / 2

    def _walk(self, before: Walk, queries: np.ndarray, without: np.ndarray | None) -> Walk:
        """The shortest walk that finds enough of what is nearest to these, and is no shorter than before."""
        space, tried = self.space, before
        best = space.near(queries, LENGTH, without=None if without is None else list(without))[1]
        for expansion in (e for e in EXPANSIONS if e >= before.expansion):
            candidates = self.find(queries, LENGTH + SPARE, expansion)
            if without is not None:
                candidates[candidates == without] = -1
            found = space.measured(queries, candidates, LENGTH)[1]
            tried = Walk(expansion, _recall(best, found, smallest_first=space.metric == "euclidean"))
            if tried.recall >= ENOUGH:
                break
        return tried


def _recall(best: np.ndarray, found: np.ndarray, *, smallest_first: bool) -> float:
    """The share of the best that were found, by scores: which one of equal rows comes is nobody's matter."""
    if smallest_first:
        best, found = -best, -found
    there = np.isfinite(best)
    bar = np.where(there, best, np.inf).min(axis=1, initial=np.inf)
    good = (found >= bar[:, None]) & np.isfinite(found)
    return float(good.sum() / there.sum()) if there.any() else 1.0


@dataclass(frozen=True)
class Places:
    """The distinct vectors, by their checksums, and which rows have each.

    marks  int64 (places,), ascending, none negative
    order  int64 (n,): the rows of place p are order[starts[p] : starts[p + 1]], ascending
    """

    marks: np.ndarray
    starts: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Places:
        """Those of all rows."""
        n, dim = vectors.shape
        sums = np.zeros(n, np.uint64)
        data = readonly(vectors.reshape(-1).view(np.uint8))
        offsets = readonly(np.arange(n + 1, dtype=np.int64) * (4 * dim))
        threads.run(fingerprint.fingerprint64, threads.even(n, 4096), data, offsets, sums)
        of_row = (sums >> np.uint64(1)).astype(np.int64)  # usearch keeps the largest number for itself
        order = np.argsort(of_row, kind="stable")
        marks, starts = np.unique(of_row[order], return_index=True)
        return cls(marks, np.append(starts, n).astype(np.int64), order)

    def __len__(self) -> int:
        return len(self.marks)

    def some_row(self, places: np.ndarray) -> np.ndarray:
        """A row of each place, the first."""
        return self.order[self.starts[places]]

    def rows(self, marks: np.ndarray, there: np.ndarray, most: int) -> np.ndarray:
        """The rows of what was found, −1 where nothing was: int64 (q, at least `most`), of equal ones the first."""
        places = np.minimum(np.searchsorted(self.marks, marks), len(self) - 1)
        there &= self.marks[places] == marks
        found = np.where(there, self.order[self.starts[places]], -1)
        if len(self) == len(self.order):
            return found
        several = np.where(there, self.starts[places + 1] - self.starts[places], 0)
        wide = np.full((len(found), most + 1), -1, np.int64)
        for row, counts, at, kept in zip(found, several, places, wide, strict=True):
            if counts.max(initial=0) < 2:
                kept[: len(row)] = row[: most + 1]
                continue
            taken = np.minimum(counts, most + 1)
            begin = np.repeat(self.starts[at] - np.cumsum(taken) + taken, taken)
            filled = self.order[(begin + np.arange(len(begin)))[: most + 1]]
            kept[: len(filled)] = filled
        return wide


def make_index(space: Space) -> Any:
    """An empty index of usearch's for the vectors of a space. MissingExtraError without the extra."""
    usearch = usearch_index()
    return usearch.Index(
        ndim=space.vectors.shape[1] + (space.metric == "dot"),
        metric="l2sq" if space.metric == "euclidean" else "ip",
        dtype="f16",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSIONS[0],
    )


def usearch_index() -> Any:
    """usearch's module. MissingExtraError, with the call that brings it."""
    try:
        from usearch import index
    except ImportError as error:
        raise MissingExtraError(f'an index needs usearch ({error}): pip install "hotrow[search]"') from error
    return index


def workers(count: int, share: int = _SHARE) -> int:
    """How many threads usearch is given for so many vectors, a share for each: starting one takes as long as a walk,
    and it refuses more than the machine has.
    """
    return max(1, min(threads.get_threads(), os.cpu_count() or 1, count // share))
