"""Vectors that pairs alone give, without training: the leading singular vectors of who has what.

```
              items                               users · itemsᵀ
          │ 1  ·  1  · │                      │ · · │
  users   │ ·  1  1  · │    · weights    ≈    │ · · │ · │ · · · · │
          │ ·  ·  ·  1 │                      │ · · │   │ · · · · │
```
Frequent users and items weigh less: a pair counts 1 / (pairs of its user · pairs of its item)^0.3. Such weighted sums
are low-pass filters of the graph of pairs (Shen et al. 2021, "How Powerful is Graph Convolution for Recommendation?").
The leading vectors are found by subspace iteration from random ones (Halko, Martinsson, Tropp 2011).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hotrow.kernels import pooling, threads
from hotrow.models.blocks import in_slices
from hotrow.models.losses import normalize
from hotrow.models.ranking import Known
from hotrow.models.training import Pairs
from hotrow.table.batch import Bags

POWER = 0.3
"""How much less frequent users and items weigh. From 0 to 0.5; chosen on the validation cut of Gowalla."""
MOST = 4_000_000
"""Pairs from which the items' vectors are taken: more are drawn from, user by user."""
_ROUNDS, _MORE = 2, 16  # of the iteration, and vectors beyond those asked for: both make the last of them exact
_SLICES = 64  # for which sums of products are taken apart: the same for any number of threads


@dataclass(frozen=True)
class Weighted:
    """A sparse matrix, row by row: row r is weights[starts[r] : starts[r + 1]] at the columns of the same places."""

    bags: Bags
    columns: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, count: int) -> Weighted:
        """From cells in any order: int64 (n,) twice, float32 (n,); count: how many rows there are."""
        order = np.argsort(rows, kind="stable")
        cells = Known.of(rows[order], columns[order], count)
        return cls(Bags(cells.starts, weights[order], pooling.SUM), cells.items)

    def times(self, matrix: np.ndarray) -> np.ndarray:
        """The product with float32 (columns, k) → float32 (rows, k)."""
        k = matrix.shape[1]
        out = np.empty((len(self.bags), k), np.float32)
        every = np.arange(len(matrix), dtype=np.int32)
        self.bags.pool(matrix.reshape(-1), k, k, every, self.columns, out)
        return out


def spectral(
    pairs: Pairs, users: int, items: int, dim: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Where users and items start: float32 (users, dim), (items, dim), of length 1, or 0 for what no vector reaches.

    users, items: more than any row of `pairs`. A user is the weighted sum of its items.
    """
    weight = _frequency(pairs.users, users)[pairs.users] * _frequency(pairs.items, items)[pairs.items]
    by_user = Weighted.of(pairs.users, pairs.items, weight, users)
    some = _drawn(pairs.users, users, random)
    part = by_user if some is None else Weighted.of(pairs.users[some], pairs.items[some], weight[some], users)
    cells = slice(None) if some is None else some
    by_item = Weighted.of(pairs.items[cells], pairs.users[cells], weight[cells], items)
    item_vectors = _leading(part, by_item, items, dim, random)
    user_vectors = by_user.times(item_vectors)
    if some is not None:  # an item that no drawn user has stands amid its users
        unseen = ~item_vectors.any(1)
        item_vectors[unseen] = Weighted.of(pairs.items, pairs.users, weight, items).times(user_vectors)[unseen]
    return normalize(user_vectors)[0], normalize(item_vectors)[0]


def _frequency(rows: np.ndarray, count: int) -> np.ndarray:
    return (np.maximum(np.bincount(rows, minlength=count), 1) ** -POWER).astype(np.float32)


def _drawn(user: np.ndarray, users: int, random: np.random.Generator) -> np.ndarray | None:
    """Which pairs to take, all those of some users; None for all pairs."""
    if len(user) <= MOST:
        return None
    return np.flatnonzero(random.permutation(users)[user] < users * MOST // len(user))


def _leading(by_user: Weighted, by_item: Weighted, items: int, dim: int, random: np.random.Generator) -> np.ndarray:
    """The right singular vectors of the `dim` largest singular values, one a column: float32 (items, dim)."""
    wide = min(dim + _MORE, items, len(by_user.bags))
    vectors = random.standard_normal((items, wide), np.float32)
    for _ in range(_ROUNDS):
        vectors = _orthonormal(by_item.times(_orthonormal(by_user.times(vectors))))
    values, turn = np.linalg.eigh(_gram(by_user.times(vectors)))
    largest = np.argsort(-values, kind="stable")[:dim]
    out = np.zeros((items, dim), np.float32)
    out[:, : len(largest)] = _product(vectors, turn[:, largest])
    return out


def _orthonormal(matrix: np.ndarray) -> np.ndarray:
    """An orthonormal basis of what the columns span; columns of zeros for what they lack in rank."""
    values, turn = np.linalg.eigh(_gram(matrix))
    there = values > values[-1] * 1e-6
    scale = np.where(there, np.maximum(values, 1e-30) ** -0.5, 0)
    return _product(matrix, turn * scale)


def _gram(matrix: np.ndarray) -> np.ndarray:
    """The columns' products with each other: float64 (k, k)."""
    bounds = np.linspace(0, len(matrix), _SLICES + 1).astype(int)
    sums = np.empty((_SLICES, matrix.shape[1], matrix.shape[1]), np.float32)

    def several(first: int, last: int) -> None:
        for k in range(first, last):
            part = matrix[bounds[k] : bounds[k + 1]]
            np.matmul(part.T, part, out=sums[k])

    threads.run(several, threads.even(_SLICES, 1))
    return sums.sum(0, dtype=np.float64)


def _product(matrix: np.ndarray, turn: np.ndarray) -> np.ndarray:
    out = np.empty((len(matrix), turn.shape[1]), np.float32)
    small = turn.astype(np.float32)

    def several(start: int, stop: int) -> None:
        np.matmul(matrix[start:stop], small, out=out[start:stop])

    in_slices(several, [0, len(matrix)])
    return out
