"""What is told of an id beside its vector, as columns: its place in the map, its nearest, and metadata.

The columns x, y and neighbors are as embedding-atlas reads them (`--x x --y y --neighbors neighbors`): neighbors has
for each row {"ids": rows from 0 on, "distances": …}, nearest first and the row itself at the front, as its own do
(packages/backend/embedding_atlas/pagerank.py of apple/embedding-atlas).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.exchange.leaving import Progress
from hotrow.maps import Map
from hotrow.maps.neighbours import nearest_of_all
from hotrow.search import Search

if TYPE_CHECKING:
    from hotrow.models.folders import Folder
    from hotrow.search import Column, Metadata


def places(folder: Folder, side: str | None = None) -> tuple[dict[str, Any], str]:
    """The columns x and y of a side, float32 (n,), and how they were found: "pca", or "umap" if such a map is kept."""
    map = Map.open(folder, side)
    return {"x": map.points[:, 0], "y": map.points[:, 1]}, map.method


def neighbors(folder: Folder, side: str | None, k: int, progress: Progress | None = None) -> Any:
    """The k nearest of each id by cosine, and how far they are, 1 − cosine: an Arrow array of structs."""
    import pyarrow as pa

    search = Search.open(folder, side, metric="cosine")
    n = len(search.vectors)
    rows, cosines = nearest_of_all(search, max(0, min(k, n - 1)), progress)
    rows = np.column_stack([np.arange(n), rows])
    distances = np.column_stack([np.zeros(n, np.float32), np.maximum(0, 1 - cosines)])
    there = rows >= 0
    ends = pa.array(np.concatenate([[0], np.cumsum(there.sum(1))]).astype(np.int32))
    lists = [
        pa.ListArray.from_arrays(ends, pa.array(values)) for values in (rows[there].astype(np.int32), distances[there])
    ]
    return pa.StructArray.from_arrays(lists, ["ids", "distances"])


def columns_of(metadata: Metadata, taken: tuple[str, ...]) -> dict[str, Any]:
    """The columns of metadata as Arrow arrays, null where nothing is told; a name that is taken gets a _ at its end."""
    found: dict[str, Any] = {}
    for name, column in metadata.columns.items():
        free = name
        while free in taken or free in found:
            free += "_"
        found[free] = _array(column)
    return found


def _array(column: Column) -> Any:
    import pyarrow as pa

    if column.kind == "number":
        return pa.array(column.numbers, from_pandas=True)
    codes = pa.array(np.maximum(column.codes, 0), mask=column.codes < 0)
    return pa.array(column.values, pa.string()).take(codes)
