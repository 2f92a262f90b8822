"""Full ranking: every user against every item, block by block, with known pairs left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from hotrow.kernels import ranking, readonly, threads

_BLOCK = 1 << 22  # scores in a block: 16 MB, used again


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

    Scores are made and read a block of users at a time; users × items floats are never there together.
    """
    n, count = len(user_factors), len(item_factors)
    best, values = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    step = max(1, min(n, _BLOCK // max(1, count)))
    scores = np.empty((step, count), np.float32)
    users = readonly(np.ascontiguousarray(users, np.int64))
    arrays = readonly(known.starts), readonly(known.items)
    for start in range(0, n, step):
        stop = min(n, start + step)
        block = scores[: stop - start]
        with blas_on_one_thread():
            np.matmul(user_factors[start:stop], item_factors.T, out=block)
        bounds = threads.even(len(block), 16)
        threads.run(ranking.top, bounds, block, users[start:stop], *arrays, best[start:stop], values[start:stop])
    return best, values


def blas_on_one_thread() -> Any:
    """Hold BLAS to the thread that calls it: hotrow's own threads each have their slice of the work.

    Two busy pools on the same cores slow each other down many times, and BLAS's threads spin while they wait.
    """
    return _libraries().limit(limits=1, user_api="blas")


@cache
def _libraries() -> ThreadpoolController:
    """Looked for once: it takes longer than ranking for one user."""
    return ThreadpoolController()
