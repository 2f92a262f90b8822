"""How a side leaves: some rows at a time, to a file that is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import ArgumentError, DataError
from hotrow.store.files import naming, sync_folder
from hotrow.store.targets import check_target

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.models.folders import Vectors

Progress = Callable[[int, int, dict[str, Any]], None]
"""callable(rows done, rows in all, {}), as long calls take it."""

UNKNOWN = ("mean", "zeros")
"""What an id that isn't in an exported lookup can get: the mean of all vectors, or zeros."""

_PIECE = 32 << 20  # bytes of vectors that are held at a time
_WRITTEN = 12  # times as much memory as they take is a piece of them as text
_SIGNED = 1 << 63


def ids_of(side: Vectors) -> Any:
    """All ids in the order of rows: int64 or uint64 (n,), or an Arrow array of strings.

    Of a table on disk they come without its vectors, which may be more than the memory takes.
    """
    ids = side.listed_ids()
    if side.kind == "string" and not len(ids):  # a table without ids has no kind yet
        import pyarrow as pa

        return pa.array([], pa.large_string())
    return ids


def rows_at_a_time(dim: int, *, text: bool = False) -> int:
    """How many vectors are some tens of megabytes, as numbers or as text."""
    return max(1, min(1 << 17, _PIECE // (4 * dim * (_WRITTEN if text else 1))))


def pieces(
    side: Vectors, ids: Any, progress: Progress | None = None, *, text: bool = False
) -> Iterator[tuple[Any, np.ndarray]]:
    """The ids and their vectors, float32 (n, dim), some rows at a time: all vectors are never in memory together.

    text: whether they will be written as text, which takes more memory meanwhile
    """
    step = rows_at_a_time(side.dim, text=text)
    for start in range(0, len(ids), step):
        part = ids[start : start + step]
        yield part, np.ascontiguousarray(side.lookup(part), np.float32)
        if progress:
            progress(start + len(part), len(ids), {})


def check_length(name: str, values: Any, count: int) -> None:
    """ArgumentError unless a column has a value for each id."""
    if len(values) != count:
        raise ArgumentError(f"column {name!r} has {len(values):,} values, expected one for each of {count:,} ids")


def unknown_row(side: Vectors, ids: Any, unknown: str) -> np.ndarray:
    """The vector of an id that isn't there: float32 (dim,). ArgumentError for another word than those of UNKNOWN."""
    if unknown not in UNKNOWN:
        raise ArgumentError(f"unknown must be one of {', '.join(map(repr, UNKNOWN))}; got {unknown!r}")
    total = np.zeros(side.dim)
    if unknown == "mean":
        for _, vectors in pieces(side, ids):
            total += vectors.sum(0, dtype=np.float64)
    return (total / max(1, len(ids))).astype(np.float32)


def keys_of(side: Vectors, ids: Any, program: str) -> list[str] | list[int]:
    """The ids as the keys of another program's lookup, which knows strings and int64 alone.

    DataError for no ids at all, and for integers from 2^63 on.
    """
    if not len(ids):
        raise DataError(f"there are no {side.name}s, so there is nothing that a lookup of {program} could find")
    if side.kind == "uint64" and len(ids) and int(ids.max()) >= _SIGNED:
        raise DataError(
            f"{side.name} {ids.max()} is beyond int64, and {program} looks up strings and int64 alone: "
            "--to parquet and --to safetensors take uint64"
        )
    return ids.to_pylist() if side.kind == "string" else ids.tolist()


@contextmanager
def new_file(path: str | PathLike[str], what: str, is_one: Callable[[bytes], bool]) -> Generator[Path]:
    """Within, a name to write to; what was written takes the place of `path` at the end, durably, or not at all.

    DataError if there is something else at `path` than a file of this kind: what, and whether first bytes are of one.
    """
    path = check_target(path, what, is_one)
    draft = path.with_name(f".{path.stem}.draft{path.suffix}")
    draft.unlink(missing_ok=True)
    try:
        with naming(path):
            yield draft
        put(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def put(draft: Path, path: Path) -> None:
    """Let a file that is whole take the place of another, so that it stays even if the power fails."""
    handle = os.open(draft, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(draft, path)  # noqa: PTH105, as store/files.py has it
    sync_folder(path.parent)
