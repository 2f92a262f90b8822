"""What is typed becomes ids: those that begin with it, then those that have it in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow  # noqa: ICN001, as `pa` is the name that has no types
import pyarrow.compute

if TYPE_CHECKING:
    from hotrow.models.sides import Vectors

pa: Any = pyarrow
compute: Any = pyarrow.compute

_SLICE = 1 << 17
"""Ids that are looked through at once: enough to be quick, few enough to stop early."""


class Completion:
    """The ids of a side as small letters, made once; a million strings are looked through in some 20 ms.

    >>> from hotrow.models import Vectors
    >>> from hotrow.serve.completion import Completion
    >>> lamps = Vectors.of(["old lantern", "cup", "Lantern"], [[1.0], [2.0], [3.0]])
    >>> Completion(lamps).rows("lant", 10).tolist()
    [2, 0]
    """

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        ids = vectors.ids()
        text = pa.array(ids).cast(pa.large_string()) if isinstance(ids, np.ndarray) else ids
        self._small = compute.utf8_lower(text)

    def rows(self, typed: str, k: int) -> np.ndarray:
        """Rows of at most k ids: the one that is what was typed, then those that begin with it, then those that
        contain it, each in the order of rows; whether letters are small or capital makes no difference. int64 (≤ k,).
        """
        small = compute.utf8_lower(pa.scalar(typed)).as_py()
        exact = np.asarray([row for row in [row_of(self._vectors, typed)] if row >= 0], np.int64)
        begin: list[np.ndarray] = []
        contain: list[np.ndarray] = []
        found = 0
        for start in range(0, len(self._small), _SLICE):
            some = self._small.slice(start, _SLICE)
            hits = compute.indices_nonzero(compute.match_substring(some, small))
            first = compute.starts_with(some.take(hits), small).to_numpy(zero_copy_only=False)
            rows = hits.to_numpy().astype(np.int64) + start
            begin.append(rows[first])
            contain.append(rows[~first][:k])
            found += int(first.sum())
            if found > k:  # one of them may be the exact one
                break
        others = np.concatenate([*begin, *contain]) if begin else np.zeros(0, np.int64)
        return np.concatenate([exact, others[~np.isin(others, exact)]])[:k]


def row_of(vectors: Vectors, typed: str) -> int:
    """The row of the id that was typed; −1 where it isn't there, or can't be an id here."""
    try:
        return int(vectors.rows([vectors.parse(typed)])[0])
    except (TypeError, ValueError):  # IdError and KindError are such
        return -1
