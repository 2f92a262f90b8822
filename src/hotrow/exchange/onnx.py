"""ONNX: a lookup and the vectors in one graph, which onnxruntime runs where nobody has hotrow.

```
ids ──LabelEncoder──▶ rows ──Gather──▶ vectors          strings or int64 of any shape → float32 (*shape, dim)
```

Row 0 is that of an id which isn't there. Above 1 GB vectors are in a file beside, for ONNX's own ends at 2 GB.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import DataError, MissingExtraError
from hotrow.exchange.leaving import Progress, ids_of, keys_of, new_file, pieces, put, unknown_row
from hotrow.store.targets import check_target

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.models.folders import Vectors

LIMIT = 1 << 30
"""Bytes of vectors from which on they are in a file of their own."""
_KEYS_LIMIT = 3 << 29  # bytes of ids, which can't be
_OPSETS = {"": 13, "ai.onnx.ml": 2}
_IR_VERSION = 8
_OURS = bytes([8, _IR_VERSION]) + b"\x12\x06hotrow"  # how our files begin: the version, and who wrote it
_NAMES = "ids", "rows", "table", "vectors"


def is_one(head: bytes) -> bool:
    """Whether a file that begins like this is of ONNX: its first field is the version of the format."""
    return head[:1] == b"\x08" and len(head) > 2


def write(
    side: Vectors,
    path: str | PathLike[str],
    *,
    unknown: str = "mean",
    limit: int = LIMIT,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a graph with the input `ids` and the output `vectors`; what was written: {"rows", "dim", "bytes", "files"}.

    unknown  the vector of an id that isn't there: "mean", that of all, or "zeros"
    limit    bytes of vectors from which on they go to `<path>.data`, some rows at a time

    DataError for no ids, for integers from 2^63 on, for more than 1.5 GB of ids, and for a path where something else
    is, or beside which is a `.data` that isn't that of such a file of ours; MissingExtraError without the package onnx.
    """
    _onnx()
    ids = ids_of(side)
    row = unknown_row(side, ids, unknown)
    keys = keys_of(side, ids, "ONNX")
    path = check_target(path, "ONNX file", is_one)
    shape = len(ids) + 1, side.dim
    outside = 4 * shape[0] * shape[1] >= limit
    beside = path.with_name(path.name + ".data")
    if outside and os.path.lexists(beside) and not _names(path, beside):
        raise DataError(
            f"{beside} is there, and {path} isn't an ONNX file of hotrow's that it belongs to: give another name, or "
            "remove it first"
        )
    with new_file(path, "ONNX file", is_one) as draft:
        table = _rows(side, ids, row, progress)
        if not outside:
            weights = _tensor(shape)
            weights.raw_data = b"".join(part.astype("<f4", copy=False).tobytes() for part in table)
            files = _save(_graph(side, keys, weights, unknown), draft)
        else:
            files = _save(_graph(side, keys, _tensor(shape, beside.name), unknown), draft)
            files += _put_beside(table, beside, path)
    names = [path, beside] if outside else [path]
    return {"rows": len(ids), "dim": side.dim, "bytes": files, "files": [str(name) for name in names]}


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(f'writing ONNX needs the package onnx ({error}): pip install "hotrow[onnx]"') from error
    return onnx


def _rows(side: Vectors, ids: Any, unknown: np.ndarray, progress: Progress | None) -> Iterator[np.ndarray]:
    yield unknown[None]
    for _, vectors in pieces(side, ids, progress):
        yield vectors


def _tensor(shape: tuple[int, int], beside: str | None = None) -> Any:
    """The vectors of the graph, without their numbers; of a file beside, where in it they are."""
    onnx = _onnx()
    tensor = onnx.TensorProto(name=_NAMES[2], data_type=onnx.TensorProto.FLOAT, dims=shape)
    if beside is not None:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        size = 4 * shape[0] * shape[1]
        for key, value in {"location": beside, "offset": "0", "length": str(size)}.items():
            tensor.external_data.add(key=key, value=value)
    return tensor


def _graph(side: Vectors, keys: list[str] | list[int], weights: Any, unknown: str) -> Any:
    helper, proto = _onnx().helper, _onnx().TensorProto
    ids, rows, table, vectors = _NAMES
    text = side.kind == "string"
    given: list[Any] = [key.encode() if isinstance(key, str) else key for key in keys]
    if text and sum(map(len, given)) > _KEYS_LIMIT:
        raise DataError(
            f"the {side.name}s are more than 1.5 GB of text, which an ONNX file can't hold: try --to parquet"
        )
    encoder = helper.make_node(
        "LabelEncoder",
        [ids],
        [rows],
        domain="ai.onnx.ml",
        values_int64s=list(range(1, len(keys) + 1)),
        default_int64=0,
        **{"keys_strings" if text else "keys_int64s": given},
    )
    graph = helper.make_graph(
        [encoder, helper.make_node("Gather", [table, rows], [vectors])],
        "hotrow",
        [helper.make_tensor_value_info(ids, proto.STRING if text else proto.INT64, None)],
        [helper.make_tensor_value_info(vectors, proto.FLOAT, None)],
        [weights],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="hotrow")
    helper.set_model_props(model, {"side": side.name, "ids": side.kind, "unknown": unknown})
    return model


def _save(model: Any, draft: Path) -> int:
    data = model.SerializeToString()
    draft.write_bytes(data)
    return len(data)


def _names(path: Path, beside: Path) -> bool:
    """Whether a graph of hotrow's is there, whose vectors are in the file beside it."""
    if not path.is_file() or not path.stat().st_size or beside.is_symlink() or not beside.is_file():
        return False
    name = _onnx().StringStringEntryProto(key="location", value=beside.name).SerializeToString()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data[: len(_OURS)] == _OURS and data.find(name) > 0


def _put_beside(table: Iterator[np.ndarray], beside: Path, path: Path) -> int:
    """Write the vectors; a graph that is there is of other ones and goes before them. The new one comes last."""
    draft = beside.with_name(f".{beside.name}.draft")
    size = 0
    try:
        with draft.open("wb") as file:
            for part in table:
                size += file.write(part.astype("<f4", copy=False).tobytes())
        path.unlink(missing_ok=True)
        put(draft, beside)
    finally:
        draft.unlink(missing_ok=True)
    return size
