"""The plane in which vectors differ most: a principal component analysis of their directions.

Vectors are compared by cosine, so each counts as its direction, of length 1. The covariance is summed in slices whose
bounds don't depend on the machine, and BLAS is held to one thread, so the plane is the same for any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hotrow.errors import DataError
from hotrow.kernels import threads
from hotrow.models.losses import normalize
from hotrow.models.ranking import blas_on_one_thread
from hotrow.models.sides import Vectors

_SLICE = 1 << 13  # rows that are worked on together: they stay in a core's cache
_SUMS = 16  # of slices, taken apart and then together: the same for any number of threads


@dataclass(frozen=True)
class Plane:
    """Where directions are seen from: (direction − centre) · axes is a point. float32 (dim,), (dim, 2)."""

    centre: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Plane:
        """The two directions in which float32 (n, dim) vary most; the entry that is largest in each is positive."""
        dim = vectors.shape[1]
        bounds = _bounds(len(vectors))
        sums, products = np.zeros((_SUMS, dim)), np.zeros((_SUMS, dim, dim))

        def several(first: int, last: int) -> None:
            for i in range(first, last):
                for start, stop in list(pairwise(bounds))[i::_SUMS]:
                    unit = normalize(vectors[start:stop])[0]
                    sums[i] += unit.sum(0, dtype=np.float64)
                    products[i] += unit.T @ unit

        with blas_on_one_thread:
            threads.run(several, threads.even(_SUMS, 1))
            count = max(1, len(vectors))
            centre = sums.sum(0) / count
            covariance = products.sum(0) / count - np.outer(centre, centre)
            values, directions = np.linalg.eigh(covariance)
        axes = np.zeros((dim, 2))
        for i, place in enumerate(np.argsort(-values, kind="stable")[:2]):
            axis = directions[:, place]
            axes[:, i] = axis * np.sign(axis[np.abs(axis).argmax()])
        return cls(centre.astype(np.float32), axes.astype(np.float32))

    def points(self, vectors: np.ndarray) -> np.ndarray:
        """Where float32 (n, dim) are in the plane: float32 (n, 2)."""
        return product(vectors, self.axes) - self.centre @ self.axes


def product(vectors: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The directions of float32 (n, dim) times float32 (dim, k) → float32 (n, k)."""
    out = np.empty((len(vectors), matrix.shape[1]), np.float32)
    bounds = _bounds(len(vectors))

    def several(first: int, last: int) -> None:
        for start, stop in pairwise(bounds[first : last + 1]):
            np.matmul(normalize(vectors[start:stop])[0], matrix, out=out[start:stop])

    with blas_on_one_thread:
        threads.run(several, threads.even(len(bounds) - 1, 1))
    return out


def _bounds(n: int) -> list[int]:
    """Of slices of range(n); at least one slice."""
    return [*range(0, max(1, n), _SLICE), n]


def check_finite(vectors: Vectors) -> None:
    """DataError, naming the first, if a vector isn't all finite numbers: no map could show it."""
    every = vectors.vectors()
    wrong = [
        start + int(np.argmin(fine))
        for start, stop in pairwise(_bounds(len(every)))
        if not (fine := np.isfinite(every[start:stop]).all(1)).all()
    ]
    if wrong:
        raise DataError(
            f"the vector of {vectors.name} {vectors.ids()[wrong[0] : wrong[0] + 1].tolist()[0]!r:.100} isn't finite "
            "numbers: training went wrong; try a smaller learning rate"
        )
