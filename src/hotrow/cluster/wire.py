"""What goes between a table and its shards: a header, and arrays as they lie in memory. Reading it executes nothing.

part 0   JSON: {"what": "step", "arrays": [["<u8", [3]], ["<f4", [3, 32]]], …}
part 1…  the bytes of each array
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import ClusterError
from hotrow.table.utf8 import buffers

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = {"u1": np.uint8, "i4": np.int32, "i8": np.int64, "u8": np.uint64, "f4": np.float32}
Parts = list[Any]


def encode(fields: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> Parts:
    """A message: `fields` are JSON values; arrays of the KINDS are made contiguous, and not copied if they are."""
    whole = [np.ascontiguousarray(array) for array in arrays]
    told = [[array.dtype.str[1:], array.shape] for array in whole]
    return [
        json.dumps({**fields, "arrays": told}).encode(),
        *(array.data.cast("B") if array.size else b"" for array in whole),
    ]


def size(parts: Parts) -> int:
    """Its bytes."""
    return sum(len(part) for part in parts)


def decode(parts: Parts) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The fields and arrays of a message, which are views of it, read-only. ClusterError for what isn't one."""
    try:
        fields = json.loads(bytes(parts[0]))
        told = fields.pop("arrays")
        arrays = [_array(part, *one) for part, one in zip(parts[1:], told, strict=True)]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ClusterError(f"got a message that isn't one of hotrow's: {error}") from error
    return fields, arrays


def _array(part: Any, kind: str, shape: list[int]) -> np.ndarray:
    view = memoryview(getattr(part, "buffer", part))
    array = np.frombuffer(view, KINDS[kind]).reshape(shape)
    return array if array.flags.aligned else array.copy()


def of_texts(texts: pa.LargeStringArray | None) -> list[np.ndarray]:
    """Strings as arrays: their bytes, and where each begins and ends, int64 (n + 1,). None as none."""
    if texts is None:
        return []
    data, offsets = buffers(texts)
    return [data, offsets]
