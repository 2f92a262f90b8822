"""The nearest of every vector of a side by cosine, and where somebody new is put amid its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hotrow.search import Search

Progress = Callable[[int, int, dict[str, Any]], None]
"""Told how much is done, of how much, and facts: "stage", in words."""

_AT_ONCE = 1 << 12  # queries between two words of progress
_ROUNDS = 16  # of the search for a median: it moves by less than anyone sees after a few
NEAR = 15
"""Neighbours amid which somebody new is put."""


def nearest_of_all(search: Search, k: int, progress: Progress | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of each vector, itself left out: rows int64 (n, k), −1 for none, and cosines float32 (n, k)."""
    vectors = search.vectors.vectors()
    n = len(vectors)
    rows, scores = np.full((n, k), -1, np.int64), np.zeros((n, k), np.float32)
    for start in range(0, n, _AT_ONCE):
        stop = min(n, start + _AT_ONCE)
        found, values = search.near(vectors[start:stop], k + 1)
        # Itself goes to the end, and the end is cut off; where others are just as near, it may not be there at all.
        order = np.argsort(found == np.arange(start, stop)[:, None], axis=1, kind="stable")[:, :k]
        width = order.shape[1]
        rows[start:stop, :width] = np.take_along_axis(found, order, 1)
        scores[start:stop, :width] = np.take_along_axis(values, order, 1)
        if progress is not None:
            progress(stop, n, {"stage": "finding neighbours"})
    return rows, np.where(rows < 0, np.float32(0), scores)


def placed(
    search: Search,
    queries: np.ndarray,
    points: np.ndarray,
    within: np.ndarray | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Where new vectors, float32 (q, dim), go amid those that have points: float32 (q, 2).

    points  float32 (n, 2), of the rows that `search` finds
    within  bool (n,): rows that have a point; None for all

    A new one goes where the weighted distances to its neighbours' points are smallest, the geometric median: if they
    are in two places, it goes to the more of them, and not between, where nobody is like it.
    """
    out = np.empty((len(queries), 2), np.float32)
    for start in range(0, len(queries), _AT_ONCE):
        stop = min(len(queries), start + _AT_ONCE)
        rows, scores = search.near(queries[start:stop], NEAR, within=within)
        out[start:stop] = _median(points[np.maximum(rows, 0)].astype(np.float64), _weights(rows, scores))
        if progress is not None:
            progress(stop, len(queries), {"stage": "placing the others"})
    return out


def _weights(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How much each neighbour counts: float64 (q, k), 0 for none there, smaller the farther behind the nearest."""
    there = rows >= 0
    known = np.where(there, scores, 0).astype(np.float64)
    behind = np.where(there, np.maximum(known[:, :1] - known, 0), 0)
    scale = behind.sum(1, keepdims=True) / np.maximum(1, there.sum(1, keepdims=True)) + 1e-6
    return np.where(there, np.exp(-behind / scale), 0)


def _median(places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The geometric medians of (q, k, 2) with weights (q, k), by Weiszfeld's iteration; zeros where all weigh 0."""
    at = np.einsum("qk,qkd->qd", weights, places) / np.maximum(weights.sum(1), 1e-12)[:, None]
    for _ in range(_ROUNDS):
        pull = weights / np.maximum(np.linalg.norm(places - at[:, None], axis=2), 1e-6)
        total = pull.sum(1, keepdims=True)
        at = np.where(total > 0, np.einsum("qk,qkd->qd", pull, places) / np.maximum(total, 1e-12), at)
    return at


def scattered(points: np.ndarray, rows: np.ndarray, span: float) -> np.ndarray:
    """The points a tiny bit apart, so that none is on another: float32 (q, 2).

    rows: int64 (q,), numbers that are all different, on which alone it depends where each one goes; span: of the map.
    """
    turn = rows * 2.399963229728653  # the golden angle: no two point the same way
    far = 1e-3 * span * np.sqrt(rows * 0.6180339887498949 % 1)
    return (points + far[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)).astype(np.float32)
