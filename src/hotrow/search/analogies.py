"""Questions with several ids, as gensim's users know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.models.losses import normalize

if TYPE_CHECKING:
    from hotrow.search.asking import Search


def mean_of(search: Search, positive: Any, negative: Any) -> tuple[np.ndarray, np.ndarray]:
    """The query of what is to be near and what is to be far, and the rows of the ids among them."""
    if search.metric != "cosine":
        raise ArgumentError(f"most_similar goes by cosine; this search is by {search.metric!r}. Try Search(vectors)")
    given = [(one, 1.0) for one in _listed(positive)] + [(one, -1.0) for one in _listed(negative)]
    if not given:
        raise ArgumentError("give ids or vectors that are to be near, or far: most_similar(['king'], ['man'])")
    vectors, weights, rows = list[np.ndarray](), list[float](), list[int]()
    for one, sign in given:
        what, weight = one if isinstance(one, tuple) and len(one) == 2 else (one, 1.0)
        weights.append(sign * float(weight))
        if isinstance(what, np.ndarray) and what.ndim:
            if what.shape != (search.vectors.dim,):
                raise ArgumentError(f"a vector is ({search.vectors.dim},) floats; got the shape {what.shape}")
            vectors.append(what.astype(np.float32))
        else:
            rows += search.rows_of([what]).tolist()
            vectors.append(normalize(search.vectors.vectors()[rows[-1:]])[0][0])
    mean = (np.array(weights, np.float32)[:, None] * np.stack(vectors)).sum(axis=0) / np.float32(
        max(1e-12, sum(map(abs, weights)))
    )
    return mean.astype(np.float32), np.array(rows, np.int64)


def stranger(search: Search, ids: Any) -> Any:
    """Which of these ids is the farthest by angle from the mean of all."""
    given = list(ids)
    if len(given) < 2:
        raise ArgumentError(f"of several ids one doesn't match; got {given!r:.100}")
    unit = normalize(search.vectors.vectors()[search.rows_of(given)])[0]
    return given[int(np.argmin(unit @ unit.mean(axis=0)))]


def _listed(given: Any) -> list[Any]:
    """What was given as a list; a single id or vector is one."""
    if given is None:
        return []
    if isinstance(given, str | bytes | int | np.integer):
        return [given]
    vector = isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype.kind == "f"
    return [given] if vector else list(given)
