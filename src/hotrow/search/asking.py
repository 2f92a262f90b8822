"""What is near an id, a vector or several of either."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import ArgumentError, UnknownIdError
from hotrow.models.ranking import check_k, named
from hotrow.search import analogies, kept
from hotrow.search.graph import Graph, usearch_index
from hotrow.search.space import SPARE, Space, check_finite, leave_out, most_of

if TYPE_CHECKING:
    from hotrow.models.folders import Folder
    from hotrow.models.sides import Vectors

Progress = Callable[[int, int, dict[str, Any]], None]
LARGE = 300_000
"""Rows from which on "auto" takes an index, if usearch is installed."""
METHODS = ("auto", "exact", "usearch")
FEW = 20_000
"""Rows of a filter that are gone through one by one: it takes no longer than a walk that meets mostly others."""
_MOST = 2_000  # candidates that a walk is asked for


class Search:
    """The nearest vectors of one side; any number of threads may ask.

    vectors   the side, `folder.side("item")` or `Vectors.of(ids, vectors)`
    metric    "cosine" (the default), "dot" (the product) or "euclidean" (the distance)
    method    "exact" compares with every vector, "usearch" goes by an index of theirs (the extra "search"), "auto" by
              an index from 300,000 rows on if usearch is there
    progress  callable(vectors added, in all, {}) while an index is built, at the end with {"recall"}

    What is found by an index is measured again, so scores are the same whichever way; `recall` says how much of it is
    found, and is None where all is. ArgumentError for vectors that aren't finite, MissingExtraError without usearch.

    >>> from hotrow.models import Vectors
    >>> from hotrow.search import Search
    >>> search = Search(Vectors.of(["cup", "mug", "lamp"], [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]))
    >>> search.similar(["cup"], k=1)
    ([['mug']], [[0.800000011920929]])
    """

    def __init__(
        self, vectors: Vectors, *, metric: str = "cosine", method: str = "auto", progress: Progress | None = None
    ) -> None:
        chosen = choose(method, len(vectors))
        space = Space.of(vectors.vectors(), metric)
        self._set(vectors, method, space, Graph.build(space, progress) if chosen == "usearch" else None)

    @classmethod
    def open(
        cls,
        folder: Folder,
        side: str | None = None,
        *,
        metric: str = "cosine",
        method: str = "auto",
        progress: Progress | None = None,
    ) -> Search:
        """The same of one side of a folder, whose index is kept in the folder and used again.

        Where the vectors have changed since, the index is updated by what is new, gone or moved. Where the folder can't
        be written to, the index is in memory alone, which the log says once.
        """
        vectors = folder.side(side)
        space = Space.of(vectors.vectors(), metric)
        graph = kept.graph_of(folder, vectors, space, progress) if choose(method, len(vectors)) == "usearch" else None
        return cls._made(vectors, method, space, graph)

    @classmethod
    def _made(cls, vectors: Vectors, method: str, space: Space, graph: Graph | None) -> Search:
        search = cls.__new__(cls)
        search._set(vectors, method, space, graph)
        return search

    def _set(self, vectors: Vectors, method: str, space: Space, graph: Graph | None) -> None:
        self.vectors, self._asked_for, self._space, self._graph = vectors, method, space, graph

    def __repr__(self) -> str:
        return f"<Search of {len(self.vectors):,} {self.vectors.name}s by {self.metric}, {self.method}>"

    @property
    def metric(self) -> str:
        """What near is: "cosine", "dot" or "euclidean"."""
        return self._space.metric

    @property
    def method(self) -> str:
        """How it is found: "exact" or "usearch"."""
        return "exact" if self._graph is None else "usearch"

    @property
    def recall(self) -> float | None:
        """The share of the ten nearest that the index finds; None where all are compared.

        Measured on 256 rows, and on 256 vectors that lie as new rows would; by product on points between two rows.
        """
        return None if self._graph is None else self._graph.usual.recall

    @property
    def mixed_recall(self) -> float | None:
        """The same of mixtures, as `most_similar` and `similar_by_vector` ask by longer walks: measured on 256 points
        between two rows, and on 256 of the kind a + b − c.
        """
        return None if self._graph is None else self._graph.mixed.recall

    def updated(self, vectors: Vectors, progress: Progress | None = None) -> Search:
        """The same search over the side as it is now. This one goes on answering as before, also meanwhile.

        An index is changed by what is new, gone or moved, and built anew only where most of it is, or where it would
        find less than it did.
        """
        if self._graph is None or choose(self._asked_for, len(vectors)) == "exact":
            return Search(vectors, metric=self.metric, method=self._asked_for, progress=progress)
        space = Space.of(vectors.vectors(), self.metric)
        return self._made(vectors, self._asked_for, space, self._graph.updated(space, progress))

    # --- ask -----------------------------------------------------------------------------------------------------

    def near(
        self,
        queries: Any,
        k: int = 10,
        *,
        within: Any = None,
        without: Iterable[Any] | None = None,
        mixed: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest rows of each query, best first: int64 (q, k), −1 where there are no more, and scores.

        queries  float32 (q, dim)
        within   what may come: bool (n,), as `Metadata.where` returns, or ids; of ids that aren't there none comes
        without  for each query what may not: None, or a list of arrays of rows
        mixed    the queries are mixtures of vectors, or otherwise far from all: walks through an index are longer, and
                 `mixed_recall` says what they find

        The answer is as wide as k, also where there are fewer: no more than `len(search.vectors)` are worth asking.
        Scores float32 (q, k): the cosine, the product, or for "euclidean" the distance, the smallest first. A filter
        never leaves fewer than there are, whatever the index finds.
        """
        check_k(k)
        asked = np.ascontiguousarray(queries, np.float32)
        if asked.ndim != 2 or asked.shape[1] != self.vectors.dim:
            raise ArgumentError(f"queries are (q, {self.vectors.dim}) floats; got the shape {asked.shape}")
        check_finite(asked, "the query in row")
        left = None if without is None else [np.asarray(() if o is None else o, np.int64) for o in without]
        if left is not None and len(left) != len(asked):
            raise ArgumentError(
                f"without has the rows left out for each query; got {len(left)} for {len(asked)} queries"
            )
        mask = None if within is None else self._mask(within)
        return self._near(asked, k, mask, left, mixed=mixed)

    def _near(
        self, queries: np.ndarray, k: int, mask: np.ndarray | None, without: list[np.ndarray] | None, *, mixed: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = None if mask is None else np.flatnonzero(mask)
        count = len(self.vectors) if rows is None else len(rows)
        wanted = (k + SPARE + most_of(without)) * (1 if rows is None else 1.5 * len(self.vectors) / max(1, count))
        if self._graph is None or wanted > _MOST or (rows is not None and count <= FEW):
            return self._space.near(queries, k, rows, without)
        walk = self._graph.mixed if mixed else self._graph.usual
        candidates = self._graph.find(queries, int(wanted), walk.expansion)
        if mask is not None:
            candidates[~mask[candidates]] = -1  # −1 itself stays −1, whatever the last of the mask says
        leave_out(candidates, without)
        found = self._space.measured(queries, candidates, k)
        short = np.flatnonzero((found[0] >= 0).sum(axis=1) < min(k, count))
        if len(short):  # a filter, or many of equals, left too few of what the walk has met
            again = self._space.near(queries[short], k, rows, without and [without[i] for i in short])
            found[0][short], found[1][short] = again
        return found

    def _mask(self, within: Any) -> np.ndarray:
        if isinstance(within, np.ndarray) and within.dtype == bool:
            if within.shape != (len(self.vectors),):
                raise ArgumentError(f"within is bool ({len(self.vectors):,},), one a row, or ids; got {within.shape}")
            return within
        mask = np.zeros(len(self.vectors), bool)
        if isinstance(within, str | bytes | int | np.integer):
            within = [within]
        given = within if isinstance(within, np.ndarray) or hasattr(within, "type") else list(within)
        rows = self.vectors.rows(given) if len(given) else np.zeros(0, np.int64)
        mask[rows[rows >= 0]] = True
        return mask

    def rows_of(self, ids: Any) -> np.ndarray:
        """The rows of ids: int64 (n,). UnknownIdError, with ids that are written alike, for one that isn't there."""
        given: Any = [ids] if isinstance(ids, str | bytes | int | np.integer) else ids
        if not len(given):
            return np.zeros(0, np.int64)
        rows = self.vectors.rows(given)
        if (rows < 0).any():
            strange: Any = given[int(np.argmin(rows))]
            strange = strange.as_py() if hasattr(strange, "as_py") else strange
            alike = ", ".join(map(repr, self.vectors.alike(strange)))
            raise UnknownIdError(f"id {strange!r:.200} has no vector here{f'; there are {alike}' if alike else ''}")
        return rows

    def similar(self, ids: Any, k: int = 10, *, within: Any = None) -> tuple[list[list[Any]], list[list[float]]]:
        """The k nearest of each id, itself left out: ids and scores, nearest first.

        Raises UnknownIdError, with ids that are written alike, for one that isn't there.
        """
        check_k(k)
        rows = self.rows_of(ids)
        queries = self.vectors.vectors()[rows]
        return self.named(*self.near(queries, self._at_most(k), within=within, without=list(rows[:, None])))

    def _at_most(self, k: int) -> int:
        return max(1, min(k, len(self.vectors)))

    def named(self, rows: np.ndarray, scores: np.ndarray) -> tuple[list[list[Any]], list[list[float]]]:
        """What `near` returns with ids in place of rows; places that nothing fills are left out."""
        return named(self.vectors.ids(), rows, scores)

    # --- as gensim's users know them ---------------------------------------------------------------------------------

    def most_similar(
        self, positive: Any = (), negative: Any = (), topn: int = 10, within: Any = None
    ) -> list[tuple[Any, float]]:
        """What is nearest to some ids or vectors, and far from others: (id, cosine), nearest first.

        Ids are taken at length 1, vectors as they are, a pair (id, weight) with its weight; the query is their mean,
        those of `negative` subtracted; ids that were given don't come. As gensim's `KeyedVectors.most_similar`, but
        that there a weight in `negative` is added. By cosine: ArgumentError from a search by another metric, or without
        anything given.
        """
        query, rows = analogies.mean_of(self, positive, negative)
        check_k(topn)
        found, scores = self.near(query[None], self._at_most(topn), within=within, without=[rows], mixed=True)
        return self._pairs(found, scores)

    def similar_by_vector(self, vector: Any, topn: int = 10, within: Any = None) -> list[tuple[Any, float]]:
        """What is nearest to a vector, float32 (dim,): (id, score), nearest first."""
        asked = np.asarray(vector, np.float32)
        if asked.ndim != 1:
            raise ArgumentError(f"a vector is ({self.vectors.dim},) floats; got the shape {asked.shape}")
        check_k(topn)
        return self._pairs(*self.near(asked[None], self._at_most(topn), within=within, mixed=True))

    def doesnt_match(self, ids: Any) -> Any:
        """Which of these ids is the farthest by cosine from the mean of all, each at length 1; of equals the first."""
        return analogies.stranger(self, ids)

    def _pairs(self, rows: np.ndarray, scores: np.ndarray) -> list[tuple[Any, float]]:
        (ids,), (values,) = self.named(rows, scores)
        return list(zip(ids, values, strict=True))


def choose(method: str, rows: int) -> str:
    """How: "exact" or "usearch". ArgumentError for another method, MissingExtraError for "usearch" without it."""
    if method not in METHODS:
        raise ArgumentError(f"method must be one of {', '.join(map(repr, METHODS))}; got {method!r:.100}")
    if method == "usearch":
        usearch_index()
    if method == "auto":
        return "usearch" if rows >= LARGE and find_spec("usearch") else "exact"
    return method
