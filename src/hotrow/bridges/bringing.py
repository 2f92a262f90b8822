"""The matrix of another library's embedding, brought into a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.table.optimizers import Optimizer
from hotrow.table.table import Table


def table_of(ids: Any, matrix: np.ndarray, rows: np.ndarray, optimizer: Optimizer | None) -> Table:
    """A table in which ids[row] has the vector matrix[row], for these rows; matrix float32 (n, dim), rows int64 (m,).

    ids: one for each of the n; None: the row numbers. ArgumentError for another number of them, for one that comes
    twice, and for numbers that aren't finite.
    """
    if ids is not None and not _have_length(ids):
        raise ArgumentError(
            f"expected ids in a list or an array, one for each row; got {type(ids).__name__}: list(ids)"
        )
    if ids is not None and len(ids) != len(matrix):
        raise ArgumentError(f"expected an id for each of {len(matrix):,} rows; got {len(ids):,}")
    table = Table(int(matrix.shape[1]), optimizer=optimizer)
    own = rows if ids is None else _some(ids, rows)
    batch = table.find(own, grow=True)
    if len(table) < len(rows):
        raise ArgumentError(f"{len(rows):,} rows have {len(table):,} distinct ids; expected each id once")
    table.set(batch, matrix[rows])
    return table


def _have_length(ids: Any) -> bool:
    """Whether they can be counted and taken by number: those of a generator, a set or a dict, and one id, can't."""
    if isinstance(ids, str | bytes | Mapping) or getattr(ids, "ndim", 1) == 0:
        return False
    return hasattr(ids, "__len__") and hasattr(ids, "__getitem__")


def _some(ids: Any, rows: np.ndarray) -> Any:
    if isinstance(ids, list | tuple | range):
        return [ids[row] for row in rows.tolist()]
    return ids.take(rows) if hasattr(ids, "take") else ids[rows]
