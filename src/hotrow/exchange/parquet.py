"""Parquet: a row an id, its vector as a list of fixed size, and whatever else is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hotrow.errors import ArgumentError
from hotrow.exchange.leaving import Progress, check_length, ids_of, new_file, pieces

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.models.folders import Vectors

ID, VECTOR = "id", "vector"


def is_one(head: bytes) -> bool:
    """Whether a file that begins like this is of Parquet."""
    return head.startswith(b"PAR1")


def write(
    side: Vectors,
    path: str | PathLike[str],
    *,
    columns: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write id, vector (a list of dim floats) and further columns, a group of rows at a time; what was written.

    columns  name → a value for each id, in the order of `side.ids()`: anything that Arrow takes

    → {"rows", "dim", "bytes", "columns"}. ArgumentError for columns of another length or name, DataError for a path
    where something else is.

    >>> from hotrow.models import Vectors
    >>> from hotrow.exchange import parquet
    >>> lamps = Vectors.of(["lantern", "cup"], [[1.0, 0.0], [0.0, 1.0]])
    >>> parquet.write(lamps, "lamps.parquet", columns={"price": [40, 4]})["columns"]
    ['id', 'vector', 'price']
    """
    import pyarrow as pa

    parquet: Any = import_module("pyarrow.parquet")
    ids = ids_of(side)
    more = _checked(columns or {}, len(ids))
    schema = pa.schema(
        [
            (ID, {"int64": pa.int64(), "uint64": pa.uint64(), "string": pa.large_string()}[side.kind]),
            (VECTOR, pa.list_(pa.float32(), side.dim)),
            *((name, column.type) for name, column in more.items()),
        ],
        {"hotrow": json.dumps({"side": side.name, "ids": side.kind, "dim": side.dim})},
    )
    texts = [name for name, column in more.items() if pa.types.is_string(column.type)]
    with new_file(path, "Parquet file", is_one) as draft:
        with parquet.ParquetWriter(draft, schema, use_dictionary=texts) as writer:
            start = 0
            for part, vectors in pieces(side, ids, progress):
                stop = start + len(part)
                arrays = [
                    pa.array(part, schema.field(ID).type),
                    pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), side.dim),
                    *(column[start:stop] for column in more.values()),
                ]
                writer.write_batch(pa.record_batch(arrays, schema=schema), row_group_size=stop - start)
                start = stop
        size = draft.stat().st_size
    return {"rows": len(ids), "dim": side.dim, "bytes": size, "columns": schema.names}


def _checked(columns: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The columns as Arrow arrays, each in one chunk."""
    import pyarrow as pa

    made: dict[str, Any] = {}
    for name, values in columns.items():
        array = values if isinstance(values, pa.Array) else pa.array(values, from_pandas=not isinstance(values, list))
        if name in {ID, VECTOR}:
            raise ArgumentError(
                f"a column can't be called {name!r}, for that is what hotrow writes; give it another name"
            )
        check_length(name, array, count)
        made[name] = array
    return made
