"""Full ranking: every user against every item, block by block, with known pairs left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from hotrow.errors import ArgumentError
from hotrow.kernels import ranking, readonly, threads
from hotrow.models.losses import normalize

_SCORES = 1 << 21  # that a thread holds at a time: 8 MB, used again


@dataclass(frozen=True)
class Known:
    """Pairs that happened, by user: those of user u are items[starts[u]:starts[u + 1]].

    starts int64 (users + 1,), items int32 (n,).
    """

    starts: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, n_users: int) -> Known:
        """From pairs that are ordered by user."""
        starts = np.zeros(n_users + 1, np.int64)
        np.cumsum(np.bincount(users, minlength=n_users), out=starts[1:])
        return cls(starts, np.ascontiguousarray(items, np.int32))

    @classmethod
    def nothing(cls, n_users: int) -> Known:
        """No pair at all."""
        return cls(np.zeros(n_users + 1, np.int64), np.zeros(0, np.int32))


def rank(
    user_factors: np.ndarray, item_factors: np.ndarray, users: np.ndarray, known: Known, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k items with the largest products for each row of `user_factors`, best first, ties to the lower item.

    user_factors float32 (n, d), row i that of user users[i] of `known`; item_factors float32 (items, d)
    → items int32 (n, k), −1 where a user has fewer left, and scores float32 (n, k).

    Scores are made and read some users at a time; users × items floats are never there together.
    """
    n, count = len(user_factors), len(item_factors)
    best, values = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    rows = max(1, min(n, _SCORES // max(1, count)))
    users = readonly(np.ascontiguousarray(users, np.int64))
    arrays = readonly(known.starts), readonly(known.items)

    def of_several(first: int, last: int) -> None:
        buffer = np.empty((rows, count), np.float32)
        for start in range(first * rows, min(n, last * rows), rows):
            part = slice(start, min(n, start + rows))
            scores = np.matmul(user_factors[part], item_factors.T, out=buffer[: part.stop - start])
            ranking.top(scores, users[part], *arrays, best[part], values[part], 0, len(scores))

    with blas_on_one_thread:
        threads.run(of_several, threads.even(-(-n // rows), 1))
    return best, values


def named(ids: Any, best: np.ndarray, values: np.ndarray) -> tuple[list[list[Any]], list[list[float]]]:
    """What `rank` returns with ids, by row, in place of rows; places that nothing fills are left out."""
    names = [ids.take(row[row >= 0]).tolist() for row in best]
    return names, [v[row >= 0].tolist() for row, v in zip(best, values, strict=True)]


def nearest(vectors: np.ndarray, rows: np.ndarray, ids: Any, k: int) -> tuple[list[list[Any]], list[list[float]]]:
    """The k nearest by cosine of these rows of vectors, float32 (n, dim), themselves left out: ids and cosines."""
    unit = normalize(vectors)[0]
    itself = Known(np.arange(len(unit) + 1), np.arange(len(unit), dtype=np.int32))
    return named(ids, *rank(unit[rows], unit, rows, itself, min(k, len(unit))))


def check_k(k: int) -> None:
    """ArgumentError unless k is the length of a list."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ArgumentError(f"k must be a whole number from 1 on; got {k!r}")


def check_counts(**counts: int | None) -> None:
    """ArgumentError, naming the first, unless each is a whole number from 1 on, or None."""
    for name, value in counts.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ArgumentError(f"{name} must be a whole number from 1 on; got {value!r}")


class _OneThread:
    """Holds BLAS to the thread that calls it, while anyone asks for that: hotrow's own threads have slices of the work.

    Two busy pools on the same cores slow each other down many times, and BLAS's threads spin while they wait.
    """

    def __init__(self) -> None:
        self._lock, self._depth = Lock(), 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._limit = _libraries().limit(limits=1, user_api="blas")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._limit.restore_original_limits()


blas_on_one_thread = _OneThread()


@cache
def _libraries() -> ThreadpoolController:
    """Looked for once: it takes longer than ranking for one user."""
    return ThreadpoolController()
