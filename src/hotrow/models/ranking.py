"""Full ranking: every user against every item, block by block, with known pairs left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from hotrow.kernels import ranking, readonly, threads

_BLOCK = 1 << 23  # scores in a block: 32 MB, used again


@dataclass(frozen=True)
class Known:
    """Pairs that happened, by user: those of user u are items[starts[u]:starts[u + 1]], ascending.

    starts int64 (users + 1,), items int32 (n,).
    """

    starts: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, n_users: int) -> Known:
        """From distinct pairs in any order."""
        order = np.lexsort((items, users))
        starts = np.zeros(n_users + 1, np.int64)
        np.cumsum(np.bincount(users, minlength=n_users), out=starts[1:])
        return cls(starts, np.ascontiguousarray(items[order], np.int32))


def rank(
    user_factors: np.ndarray, item_factors: np.ndarray, users: np.ndarray, known: Known, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k items with the largest products for each row of `user_factors`, best first, ties to the lower item.

    user_factors float32 (n, d), row i that of user users[i] of `known`; item_factors float32 (items, d)
    → items int32 (n, k), −1 where a user has fewer left, and scores float32 (n, k).
    """
    n, count = len(user_factors), len(item_factors)
    best, values = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    step = max(1, min(n, _BLOCK // max(1, count)))
    scores = np.empty((step, count), np.float32)
    transposed = np.ascontiguousarray(item_factors.T)
    arrays = readonly(known.starts), readonly(known.items)
    for start in range(0, n, step):
        stop = min(n, start + step)
        block = scores[: stop - start]
        with blas_threads():
            np.matmul(user_factors[start:stop], transposed, out=block)
        part = readonly(np.ascontiguousarray(users[start:stop], np.int64))
        bounds = threads.even(len(block), 16)
        threads.run(ranking.top, bounds, block, part, *arrays, best[start:stop], values[start:stop])
    return best, values


def blas_threads() -> threadpool_limits:
    """BLAS on as many threads as kernels use: two busy pools on the same cores slow each other down many times."""
    return threadpool_limits(threads.get_threads(), "blas")
