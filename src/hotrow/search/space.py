"""All vectors of a side under one metric: the best of them for each query, by a product in blocks.

```
            rows ──▶                      each thread has some of the blocks, and a heap of candidates for each query;
 queries  ┌──────┬──────┬──────┬────      in the end the candidates are measured again, in float64, and ordered: what
    │     │ block│ block│ block│ …        a score is doesn't depend on who found the row, nor on the batch it came in
    ▼     └──────┴──────┴──────┴────
```
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.kernels import ranking, readonly, threads
from hotrow.models.ranking import blas_on_one_thread

METRICS = {"dot": 0, "cosine": 1, "euclidean": 2}
"""The metrics, and what the kernel calls them."""
SPARE = 8
"""Candidates beyond k. Where float32 can't tell the k-th from what isn't among them, all that may be are measured."""
LARGEST = 1e16
"""Of a number of a vector: the square of a larger one is soon none."""
_SCORES = 1 << 18  # that a thread makes at a time: 1 MB
_QUERIES = 256  # at a time


@dataclass(frozen=True)
class Space:
    """Vectors, and what a metric makes of them before it multiplies.

    metric   "cosine", "dot" or "euclidean"
    vectors  float32 (n, dim), as they are
    factors  float32 (n, dim), what queries are multiplied by: those less their mean for "euclidean"
    scale    float32 (n,), times which a product is taken: 1 / length for "cosine"
    shift    float32 (n,), less which it is taken: half the squared length for "euclidean"
    centre   float32 (dim,), the mean; zeros but for "euclidean"
    longest  of the factors times their scale
    """

    metric: str
    vectors: np.ndarray
    factors: np.ndarray
    scale: np.ndarray | None
    shift: np.ndarray | None
    centre: np.ndarray
    longest: float

    @classmethod
    def of(cls, vectors: np.ndarray, metric: str) -> Space:
        """ArgumentError for a metric that isn't one, and for a vector that isn't finite."""
        if metric not in METRICS:
            raise ArgumentError(f"metric must be one of {', '.join(map(repr, METRICS))}; got {metric!r:.100}")
        check_finite(vectors, "the vector in row")
        vectors = readonly(np.ascontiguousarray(vectors, np.float32))
        centre = np.zeros(vectors.shape[1], np.float32)
        if metric == "dot":
            return cls(metric, vectors, vectors, None, None, centre, _longest(squares(vectors)))
        if metric == "cosine":
            lengths = np.sqrt(squares(vectors))
            scale = np.where(lengths > 0, 1 / np.maximum(lengths, 1e-30), 0).astype(np.float32)
            return cls(metric, vectors, vectors, scale, None, centre, 1.0)
        if len(vectors):
            centre = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        factors = vectors - centre
        shift = squares(factors) / 2
        return cls(metric, vectors, factors, None, shift.astype(np.float32), centre, _longest(2 * shift))

    def __len__(self) -> int:
        return len(self.vectors)

    def near(
        self, queries: np.ndarray, k: int, within: np.ndarray | None = None, without: list[np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best rows of each query, and their scores: int64 (q, k), −1 for none, and float32 (q, k).

        within: the rows that may come, int64, ascending; without: rows that may not, for each query.

        Candidates are found by float32, and where the k-th of them is no farther from what was left out than float32
        errs, every row that may be above it is measured, too: so the answer is that of float64.
        """
        count = len(self) if within is None else len(within)
        wanted = min(count, k + SPARE + most_of(without))
        found = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), self.worst, np.float32)
        for start in range(0, len(queries), _QUERIES):
            part = slice(start, start + _QUERIES)
            asked, out = queries[part], without and without[part]
            candidates, bar = self._candidates(asked, wanted, within)
            leave_out(candidates, out)
            rows, values = self._best(asked, candidates, k)
            left = np.flatnonzero(bar > -np.inf) if wanted < count else np.zeros(0, np.int64)
            if len(left):
                least = self._as_made(asked[left], values[left, k - 1]) - self._error(asked[left])
                for i, bound in zip(left, least, strict=True):
                    if bound > bar[i]:
                        continue
                    again = self._above(asked[i], bound, within)
                    leave_out(again, out and [out[i]])
                    (rows[i],), (values[i],) = self._best(asked[i : i + 1], again, k)
            found[0][part], found[1][part] = self._scored(rows, values, k)
        return found

    def _candidates(self, queries: np.ndarray, k: int, within: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The k best rows of each query by float32, of each thread's share of them: int64 (q, k · threads), and what
        none of the others is above: float32 (q,), −∞ if there are no others.
        """
        count = len(self) if within is None else len(within)
        if not k or not len(queries):
            return np.zeros((len(queries), 0), np.int64), np.full(len(queries), -np.inf, np.float32)
        step = min(count, max(2048, _SCORES // len(queries)))
        asked = np.ascontiguousarray(queries - self.centre)

        def of_several(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
            best, values = np.full((len(asked), k), -1, np.int32), np.full((len(asked), k), -np.inf, np.float32)
            buffer = np.empty(len(asked) * step, np.float32)
            for start in range(first * step, min(count, last * step), step):
                part = slice(start, min(count, start + step))
                scores = buffer[: len(asked) * (part.stop - start)].reshape(len(asked), -1)
                self._scores(asked, part if within is None else within[part], scores)
                ranking.more(scores, start, best, values, 0, len(asked))
            return best, values[:, 0]

        with blas_on_one_thread:
            parts = threads.run(of_several, threads.even(-(-count // step), 1))
        found, bar = np.concatenate([best for best, _ in parts], axis=1), np.max([worst for _, worst in parts], axis=0)
        return (found.astype(np.int64) if within is None else np.where(found < 0, -1, within[found])), bar

    def _scores(self, asked: np.ndarray, rows: slice | np.ndarray, out: np.ndarray) -> None:
        """What float32 makes of queries, less the centre, and rows: float32 (q, rows), the larger the better."""
        np.matmul(asked, self.factors[rows].T, out=out)
        if self.scale is not None:
            out *= self.scale[rows]
        if self.shift is not None:
            out -= self.shift[rows]

    def _error(self, queries: np.ndarray) -> np.ndarray:
        """How far `_scores` may be from what float64 makes of the vectors, at most: float64 (q,).

        A sum of n products errs by n units in the last place of the sum of their sizes at most, in whatever order it is
        taken: Higham, "Accuracy and stability of numerical algorithms", section 3.1. A few more are for the roundings
        before and after it.
        """
        lengths = np.sqrt(squares(queries - self.centre))
        error = (queries.shape[1] + 6) * lengths * self.longest
        if self.metric == "euclidean":
            error += 6 * self.longest**2
        return error * 2.0**-24

    def _as_made(self, queries: np.ndarray, values: np.ndarray) -> np.ndarray:
        """A score of each query as `_scores` has it: float64 (q,)."""
        of_query = squares(queries.astype(np.float64) - self.centre)
        if self.metric == "dot":
            return values
        return values * np.sqrt(of_query) if self.metric == "cosine" else (of_query + values) / 2

    def _above(self, query: np.ndarray, bound: float, within: np.ndarray | None) -> np.ndarray:
        """The rows that float32 doesn't put below a bound: int64 (1, any)."""
        asked, count = (query - self.centre)[None], len(self) if within is None else len(within)
        bar = np.nextafter(np.float32(bound), np.float32(-np.inf))

        def of_several(first: int, last: int) -> np.ndarray:
            scores = np.empty((1, last - first), np.float32)
            self._scores(asked, slice(first, last) if within is None else within[first:last], scores)
            return np.flatnonzero(scores[0] >= bar) + first

        with blas_on_one_thread:
            near = np.concatenate(threads.run(of_several, threads.even(count, 4096)))
        return (near if within is None else within[near])[None]

    def measured(self, queries: np.ndarray, candidates: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best of candidates, as `near` has them; a candidate of −1 is none, and one may come twice."""
        return self._scored(*self._best(queries, candidates, k), k)

    def _best(self, queries: np.ndarray, candidates: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best of candidates, or fewer: rows, −1 for none, and float64, the larger the better."""
        rows = np.sort(candidates, axis=1)
        values = np.empty(rows.shape, np.float64)
        arrays = self.vectors, readonly(np.ascontiguousarray(queries)), METRICS[self.metric], readonly(rows)
        threads.run(ranking.measure, threads.even(len(rows), 64), *arrays, values)
        best = np.argsort(-values, axis=1, kind="stable")[:, :k]  # of equal ones the lower row comes first
        rows, values = np.take_along_axis(rows, best, 1), np.take_along_axis(values, best, 1)
        return np.where(np.isneginf(values), -1, rows), values

    def _scored(self, rows: np.ndarray, values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """What was found as `near` has it."""
        scores = np.sqrt(-values) + 0.0 if self.metric == "euclidean" else values  # √−0 is −0
        found = np.full((len(rows), k), -1, np.int64), np.full((len(rows), k), self.worst, np.float32)
        found[0][:, : rows.shape[1]] = rows
        found[1][:, : rows.shape[1]] = np.where(rows < 0, self.worst, scores)
        return found

    @property
    def worst(self) -> float:
        """The score of nothing."""
        return np.inf if self.metric == "euclidean" else -np.inf


def _longest(squared: np.ndarray) -> float:
    return float(np.sqrt(squared.max(initial=0)))


def squares(vectors: np.ndarray) -> np.ndarray:
    """The squared length of each: float64 (n,)."""
    return np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)


def check_finite(vectors: np.ndarray, what: str) -> None:
    """ArgumentError, naming the first row, for numbers that aren't finite, or whose squares wouldn't be."""
    if vectors.size and not (vectors.max() <= LARGEST and vectors.min() >= -LARGEST):  # NaN is neither
        with np.errstate(invalid="ignore"):
            row = int(np.argmin((np.abs(vectors) <= LARGEST).all(axis=1)))
        raise ArgumentError(
            f"{what} {row:,} isn't finite, or has numbers beyond {LARGEST:g}, so nothing is near it or far: "
            f"{vectors[row].tolist()!s:.100}"
        )


def most_of(without: list[np.ndarray] | None) -> int:
    """How many rows are left out for one query at most."""
    return max(map(len, without), default=0) if without else 0


def leave_out(candidates: np.ndarray, without: list[np.ndarray] | None) -> None:
    """Let rows that may not come for a query be none."""
    for found, out in zip(candidates, without or (), strict=False):
        if len(out):
            found[np.isin(found, out)] = -1
