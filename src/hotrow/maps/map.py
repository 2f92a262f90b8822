"""A map: a point for each vector of a side, in the order of its ids, that stays where it is while the side grows."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hotrow.errors import ArgumentError, CorruptError, HotrowError
from hotrow.maps import kept
from hotrow.maps.neighbours import Progress, nearest_of_all, placed, scattered
from hotrow.maps.plane import Plane, check_finite, product
from hotrow.maps.unfolding import check_umap, unfolded
from hotrow.models.folders import Folder
from hotrow.models.sides import Vectors
from hotrow.search import Search

METHODS = ("pca", "umap")
SAMPLE = 100_000
"""Vectors that UMAP sees at most: a spread sample, amid whose points the others are placed."""
FEWEST = 5
"""Vectors that there must be for UMAP; fewer have no neighbourhoods."""
_NEIGHBOURS = 14  # of each vector, beside itself, that UMAP keeps together
_TURNED = 0.2  # 2 − 2 · cosine: a vector that turned by more than 26 degrees, to a cosine below .9, is placed anew
_HALF = 0.5  # of the points at least must stay, or the whole map is made anew
_QUICK = 1e12  # products for which a search is not worth an index
_TRIES = 3  # to keep a map of what is newest, while others save
_log = logging.getLogger("hotrow")
_said: set[Path] = set()  # where maps can't be kept, which is said once


@dataclass(frozen=True, eq=False)
class Map:
    """Points in the plane for the vectors of a side: those that are near each other are alike.

    vectors  of the side; `ids` are in the order of the points
    points   float32 (n, 2), read-only
    method   "pca": the plane in which the directions of the vectors differ most; "umap": neighbourhoods laid side by
             side, by UMAP, which shows clusters and is slow
    late     bool (n,): points that were placed after the map was made, new or clearly changed ones
    sampled  how many of the vectors UMAP has seen, if not all, else 0

    `Map.open` has the map of a folder's side, `Map.of` makes one of vectors in memory. Points stay where they are when
    vectors change a little. A new id, or one whose vector has turned to a cosine below .9 since it was placed (that is
    estimated, from 16 numbers that are kept of each vector), is placed as PCA projects it, or of UMAP amid the places
    of its 15 nearest.

    >>> import numpy as np
    >>> from hotrow.maps import Map
    >>> from hotrow.models import Vectors
    >>> vectors = np.random.default_rng(0).standard_normal((100, 8), np.float32)
    >>> first = Map.of(Vectors.of(np.arange(100), vectors))
    >>> first.points.shape, first.method, first.stale
    ((100, 2), 'pca', 0.0)
    >>> more = np.concatenate([vectors, vectors[:1] + 0.5])
    >>> second = first.updated(Vectors.of(np.arange(101), more))
    >>> bool((second.points[:100] == first.points).all()), round(second.stale, 4)
    (True, 0.0099)
    """

    vectors: Vectors
    points: np.ndarray
    method: str
    late: np.ndarray
    sampled: int
    _sketch: np.ndarray  # float16 (n, kept.SKETCH), of each vector as it was when it was placed
    _plane: Plane
    _folder: Folder | None = None

    # --- make ----------------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, vectors: Vectors) -> Map:
        """The map of vectors in memory, by PCA. DataError for a vector that isn't all finite numbers."""
        check_finite(vectors)
        every = vectors.vectors()
        plane = Plane.of(every)
        points = _still(plane.points(every))
        return cls(vectors, points, "pca", np.zeros(len(every), bool), 0, _sketches(every), plane)

    @classmethod
    def open(
        cls,
        folder: Folder,
        side: str | None = None,
        *,
        method: str | None = None,
        anew: bool = False,
        before: Map | None = None,
        progress: Progress | None = None,
    ) -> Map:
        """The map of a side: the one that is kept in `folder.derived()`, brought up to date, or else a new one.

        method    "pca"; "umap", which is made if none is kept; None: UMAP's if it is kept, else PCA's, which takes a
                  second or two for a million vectors
        anew      make a new one, by PCA if no method is said, whatever is kept
        before    a map as it was, whose places are to stay; None: as the kept one has them
        progress  told of UMAP's way: see `better`

        What is made is kept, and if it can't be, that is logged once. ArgumentError for a side that isn't there, for a
        method that is none; DataError for a vector that isn't all finite numbers.
        """
        if method is not None and method not in METHODS:
            raise ArgumentError(f"method is {' or '.join(map(repr, METHODS))}; got {method!r:.100}")
        vectors = folder.side(side)
        found = before if before is not None and method in (None, before.method) else None
        if found is None and not anew:
            found = _read(folder, vectors, METHODS[::-1] if method is None else (method,))
        if not anew and found is not None and (found.vectors.kind, found.vectors.dim) == (vectors.kind, vectors.dim):
            made = replace(found.updated(vectors), _folder=folder)
            if method in (None, made.method):
                if made.stamp != found.stamp:
                    made._keep(found.method)
                return made
        made = replace(cls.of(vectors), _folder=folder)
        made._keep(None if anew or found is None or method is not None else found.method)
        return made.better(progress) if method == "umap" else made

    def better(self, progress: Progress | None = None) -> Map:
        """The same vectors, laid out by UMAP from where PCA has put them: minutes for tens of thousands.

        It runs in a process of its own, on one thread. Of more than 100,000 vectors it sees a spread sample, and the
        others are put amid those of the sample that are nearest to them. progress: callable(done, total, {"stage"});
        what it raises ends the process, and this.

        MissingExtraError without `hotrow[umap]`; ArgumentError for fewer than 5 vectors.
        """
        check_umap()
        vectors, n = self.vectors.vectors(), len(self)
        if n < FEWEST:
            raise ArgumentError(f"UMAP needs at least {FEWEST} vectors, and there are {n}: method='pca' shows so few")
        tell = _in_one(progress, n > SAMPLE)
        some = spread(n, SAMPLE)
        seen = self.vectors if len(some) == n else Vectors.of(self.ids.take(some), vectors[some])
        search = Search(seen, metric="cosine")
        plane = Plane.of(vectors)
        rows, scores = nearest_of_all(search, min(_NEIGHBOURS, len(some) - 2), tell(0))
        epochs = tell(1)
        points = np.empty((n, 2), np.float32)
        points[some] = unfolded(
            plane.points(vectors[some]), rows, scores, lambda done, total: epochs(done, total, {"stage": "unfolding"})
        )
        others = np.setdiff1d(np.arange(n), some)
        if len(others):
            points[others] = scattered(
                placed(search, vectors[others], points[some], progress=tell(2)), others, _span(points[some])
            )
        made = replace(
            self, points=_still(points), method="umap", late=np.zeros(n, bool), _plane=plane,
            sampled=len(some) if len(others) else 0, _sketch=_sketches(vectors),
        )  # fmt: skip
        made._keep()
        return made

    def updated(self, vectors: Vectors) -> Map:
        """The map of the side as it is now: points stay, new and clearly changed ids are placed, those gone are left
        out. If not even half of the points stay, or half of those of PCA are late, PCA makes the whole map anew.

        ArgumentError for vectors of another length, or ids of another kind.
        """
        if (vectors.kind, vectors.dim) != (self.vectors.kind, self.vectors.dim):
            raise ArgumentError(
                f"a map of {self.vectors.kind} ids × {self.vectors.dim} floats can't go on with {vectors.kind} ids × "
                f"{vectors.dim}: Map.of(vectors) makes another"
            )
        check_finite(vectors)
        every, n = vectors.vectors(), len(vectors)
        at = vectors.rows(self.ids) if len(self) else np.zeros(0, np.int64)
        old = np.full(n, -1)
        old[at[at >= 0]] = np.flatnonzero(at >= 0)
        sketch = _sketches(every)
        turned = ((sketch.astype(np.float32) - self._sketch[old]) ** 2).sum(1) > _TURNED if len(self) else old < 0
        stay = (old >= 0) & ~turned
        late, points = ~stay, np.zeros((n, 2), np.float32)
        late[stay], points[stay], sketch[stay] = self.late[old[stay]], self.points[old[stay]], self._sketch[old[stay]]
        if n == 0 or stay.mean() < _HALF or (self.method == "pca" and late.mean() > _HALF):
            return replace(Map.of(vectors), _folder=self._folder)
        new = np.flatnonzero(~stay)
        if len(new):
            points[new] = self._placed(vectors, new, points, stay)
        elif n == len(self) and (old == np.arange(n)).all():
            return replace(self, vectors=vectors)
        return replace(self, vectors=vectors, points=_still(points), late=late, _sketch=sketch)

    def _placed(self, vectors: Vectors, new: np.ndarray, points: np.ndarray, stay: np.ndarray) -> np.ndarray:
        """Where the vectors at `new` go amid those that stay: float32 (len(new), 2)."""
        queries = vectors.vectors()[new]
        if self.method == "pca":
            return self._plane.points(queries)
        quick = len(new) * len(vectors) * vectors.dim < _QUICK
        search = Search(vectors, metric="cosine", method="exact" if quick else "auto")
        return scattered(placed(search, queries, points, stay), new, _span(points[stay]))

    # --- ask -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.points)

    @property
    def ids(self) -> Any:
        """The ids in the order of the points, as `Vectors.ids`."""
        return self.vectors.ids()

    @cached_property
    def stamp(self) -> str:
        """16 hexadecimal digits, others if any point is another."""
        text = f"{self.method} {self.vectors.name} {len(self)} ".encode()
        return hashlib.sha256(text + self.points.tobytes()).hexdigest()[:16]

    @property
    def stale(self) -> float:
        """The share of points that weren't there when the map was made, or are of vectors that have clearly changed."""
        return float(self.late.mean()) if len(self) else 0.0

    # --- keep ----------------------------------------------------------------------------------------------------

    def _keep(self, before: str | None = None) -> None:
        """Write it to its folder, with the ids that are there now: one that was forgotten meanwhile must not come back.

        before: the method of the map that it has come from. Is it another, that one can't go on, and isn't kept: it
        would be taken for this side's again and again, and all points be laid out anew each time.
        Where that can't be, it is said once, and the map is as good as any.
        """
        if self._folder is None:
            return
        made, folder = self, self._folder
        try:
            for _ in range(_TRIES):  # looked at before and after: between the two somebody may have forgotten an id
                newer = folder.refreshed()
                if newer is not folder:
                    made, folder = made.updated(newer.side(self.vectors.name)), newer
                kept.keep(folder.derived() / "maps", made._to_keep())
                for method in {before or self.method, self.method} - {made.method}:
                    kept.remove(folder.derived() / "maps", self.vectors.name, method)
                if folder.refreshed() is folder:
                    return
        except (OSError, HotrowError) as error:
            if self._folder.path not in _said:
                _said.add(self._folder.path)
                _log.warning("the map of %s can't be kept: %s", self._folder.path, error)

    def _to_keep(self) -> kept.Kept:
        arrays = {
            "points": self.points, "sketch": self._sketch, "late": self.late.astype(np.uint8),
            "centre": self._plane.centre, "axes": self._plane.axes,
        }  # fmt: skip
        vectors = self.vectors
        return kept.Kept(vectors.name, self.method, vectors.kind, vectors.dim, self.sampled, arrays, self.ids)


class _Then(Vectors):
    """The ids of a map that was kept; which vectors they had then, nobody knows any more."""

    def __init__(self, found: kept.Kept) -> None:
        super().__init__(found.side, found.kind, found.dim)
        self._then = found.ids

    def ids(self) -> Any:
        return self._then


def _read(folder: Folder, vectors: Vectors, methods: tuple[str, ...]) -> Map | None:
    """The first of these maps that is kept; one that is broken is as good as none."""
    for method in methods:
        try:
            found = kept.read(folder.derived() / "maps", vectors.name, method)
        except (CorruptError, OSError) as error:
            _log.warning("the map is made anew: %s", error)
            continue
        if found is not None:
            arrays = found.arrays
            then = _Then(found)
            plane = Plane(arrays["centre"], arrays["axes"])
            late = arrays["late"].astype(bool)
            return Map(then, _still(arrays["points"]), method, late, found.sampled, arrays["sketch"], plane, folder)
    return None


def spread(n: int, most: int) -> np.ndarray:
    """Positions of a sample of `most` of n, evenly spread, ascending: int64; all of them if there aren't more."""
    return np.arange(n) if n <= most else np.arange(most) * n // most


def _in_one(progress: Progress | None, sampled: bool) -> Callable[[int], Progress]:
    """Tells one caller of several stages, in thousandths of all: `tell(i)` is the progress of stage i."""
    ends = (0, 0.2, 0.75 if sampled else 1, 1)

    def tell(stage: int) -> Progress:
        def told(done: int, total: int, facts: dict[str, Any]) -> None:
            if progress is not None:
                share = ends[stage] + (ends[stage + 1] - ends[stage]) * done / max(1, total)
                progress(round(1000 * share), 1000, facts)

        return told

    return tell


def _sketches(vectors: np.ndarray) -> np.ndarray:
    """A few numbers of each direction, whose squared distances are about those of the directions: float16 (n, 16)."""
    random = np.random.default_rng(0)
    mixing = random.standard_normal((vectors.shape[1], kept.SKETCH), np.float32) / np.float32(np.sqrt(kept.SKETCH))
    return product(vectors, mixing).astype(np.float16)


def _span(points: np.ndarray) -> float:
    return float(np.ptp(points, axis=0).max())


def _still(points: np.ndarray) -> np.ndarray:
    points.flags.writeable = False
    return points
