"""Ids and vectors as Arrow IPC streams."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow  # noqa: ICN001, as `pa` is the name that has no types

from hotrow.serve.answers import RefusedError

if TYPE_CHECKING:
    from hotrow.models.sides import Vectors

pa: Any = pyarrow

_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""After the last message of a stream."""
_TYPES = {"string": pa.large_string(), "int64": pa.int64(), "uint64": pa.uint64()}


def written(vectors: Vectors, ids: Any, found: np.ndarray, stamp: str) -> bytes:
    """One record batch: id, and vector, a list of `dim` float32. ids: a list or an array; found: float32 (n, dim)."""
    floats = pa.array(np.ascontiguousarray(found, np.float32).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(floats, type=_lists(vectors.dim))
    schema = _schema_of(vectors.name, vectors.kind, vectors.dim, stamp)
    batch = pa.RecordBatch.from_arrays([pa.array(ids, _TYPES[vectors.kind]), lists], schema=schema)
    return b"".join([schema.serialize(), batch.serialize(), _END])


@lru_cache(64)
def _lists(dim: int) -> Any:
    return pa.list_(pa.float32(), dim)


@lru_cache(64)
def _schema_of(side: str, kind: str, dim: int, stamp: str) -> Any:
    return pa.schema({"id": _TYPES[kind], "vector": _lists(dim)}, {"side": side, "stamp": stamp})


def ids_of(body: bytes, most: int) -> list[Any]:
    """The ids in a stream of one column, integers or strings. Refused: all else, nulls, more than `most`."""
    ids: list[Any] = []
    try:
        schema = None
        for message in pa.ipc.MessageReader.open_stream(body):
            if schema is None:
                schema = _schema(message)
                continue
            _check_batch(message)
            batch = pa.ipc.read_record_batch(message, schema)
            batch.validate(full=True)
            if len(ids) + len(batch) > most:
                raise RefusedError(413, f"from 1 to {most:,} ids a request; got more")
            ids += batch.column(0).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RefusedError(400, f"the body isn't an Arrow IPC stream: {error!s:.200}") from error
    if None in ids:
        raise RefusedError(400, "an id in the Arrow stream is null")
    return ids


def _schema(message: Any) -> Any:
    if message.type != "schema":  # read as one all the same, it would be whatever its bytes are
        raise RefusedError(400, f"expected a schema first in the Arrow stream; got a {message.type}")
    schema = pa.ipc.read_schema(message)
    if len(schema) != 1 or not _is_ids(schema[0].type):
        raise RefusedError(
            400, f"expected one column of integers or strings in the Arrow stream; got {schema.to_string()!r:.200}"
        )
    return schema


def _check_batch(message: Any) -> None:
    """A few bytes could become any number of them, where they are compressed."""
    if message.type != "record batch":
        raise RefusedError(400, f"expected record batches after the schema in the Arrow stream; got a {message.type}")
    try:
        compressed = _has_compression(message.metadata.to_pybytes())
    except struct.error as error:
        raise RefusedError(400, "the body isn't an Arrow IPC stream: its metadata is broken") from error
    if compressed:
        raise RefusedError(400, "the Arrow stream is compressed, and is only read as it is: leave out compression=")


def _has_compression(metadata: bytes) -> bool:
    """Whether the RecordBatch in a Message has its field 3, as Arrow's Message.fbs and FlatBuffers lay it out."""
    message = _u32(metadata, 0)
    batch = message + _field(metadata, message, 2)
    batch += _u32(metadata, batch)
    return _field(metadata, batch, 3) != 0


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a table is, from the table on; 0 if it isn't there."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size, at = struct.unpack_from("<H", data, vtable)[0], 4 + 2 * number
    return struct.unpack_from("<H", data, vtable + at)[0] if at < size else 0


def _u32(data: bytes, at: int) -> int:
    return struct.unpack_from("<I", data, at)[0]


def _is_ids(kind: Any) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
