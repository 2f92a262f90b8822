"""Keras: a lookup and an `Embedding` in one plain model, which Keras alone loads.

The model is made in `hotrow.keras.plain`, for only that room knows Keras.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import DataError, MissingExtraError
from hotrow.exchange.leaving import Progress, ids_of, keys_of, new_file, pieces, unknown_row
from hotrow.store.targets import check_target

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.models.folders import Vectors

_WIDE = 4 << 30  # bytes of the array that Keras makes of all strings, each as wide as the longest


def is_one(head: bytes) -> bool:
    """Whether a file that begins like this may be of Keras: a zip."""
    return head.startswith(b"PK\x03\x04")


def write(
    side: Vectors, path: str | PathLike[str], *, unknown: str = "mean", progress: Progress | None = None
) -> dict[str, Any]:
    """Write a `.keras` file: `StringLookup` or `IntegerLookup`, then `Embedding`; ids (n,) in, float32 (n, dim) out.

    unknown  the vector of an id that isn't there: "mean", that of all, or "zeros"; it is row 0 of the `Embedding`

    → {"rows", "dim", "bytes", "class"}. DataError for ids that Keras can't look up, for a path where something else is,
    or that doesn't end with .keras; MissingExtraError without Keras, or without TensorFlow, which its lookups need
    whichever backend runs.
    """
    target = check_target(path, "Keras file", is_one)
    if target.suffix != ".keras":
        raise DataError(
            f"Keras loads files that end with .keras alone; got {target}. Try {target.with_suffix('.keras')}"
        )
    if find_spec("tensorflow") is None:
        raise MissingExtraError('Keras looks ids up by TensorFlow: pip install "hotrow[tensorflow]"')
    ids = ids_of(side)
    row = unknown_row(side, ids, unknown)
    keys = keys_of(side, ids, "Keras")
    if side.kind == "string":
        _check_strings([str(key) for key in keys])
    matrix = np.empty((len(keys) + 1, side.dim), np.float32)
    matrix[0] = row
    start = 1
    for _, vectors in pieces(side, ids, progress):
        matrix[start : start + len(vectors)] = vectors
        start += len(vectors)
    plain = import_module("hotrow.keras.plain")
    with new_file(target, "Keras file", is_one) as draft:
        plain.save(draft, keys, matrix)
        size = draft.stat().st_size
    name = "StringLookup" if side.kind == "string" else "IntegerLookup"
    return {"rows": len(keys), "dim": side.dim, "bytes": size, "class": name}


def _check_strings(keys: list[str]) -> None:
    """DataError for strings that wouldn't be the same, or would be too much, in the NumPy array that Keras makes."""
    wrong = next((key for key in keys if key.endswith("\0")), None)
    if wrong is not None:
        raise DataError(f"Keras takes a NUL from the end of a string, as of {wrong!r:.80}: --to onnx keeps it")
    width = max(map(len, keys))
    if 4 * width * len(keys) > _WIDE:
        raise DataError(
            f"Keras gives each string as much room as the longest, of {width:,} characters: {len(keys):,} would take "
            f"{4 * width * len(keys) / 1e9:.1f} GB. Try --to onnx"
        )
