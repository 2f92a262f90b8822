"""What comes in from another program: ids with their vectors, some rows at a time, on their way into a table.

file ──reader──▶ Incoming ──parts──▶ checked: finite, of one width, no id twice ──▶ Table
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, cast

import numpy as np

from hotrow.errors import ArgumentError, DataError, IdError, KindError
from hotrow.table.optimizers import Optimizer
from hotrow.table.table import KINDS, Table

Progress = Callable[[int, int, dict[str, Any]], object]
"""Told the bytes that are read, the bytes there are, and {"rows": …}."""

WIDEST = 1 << 16
"""Floats that a vector may have: what says more is no file of vectors, or a hostile one."""
_BYTES = 4 << 20  # of vectors that are handled at a time
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
DUPLICATES = ("refuse", "first")


@dataclass(frozen=True)
class Part:
    """Some rows: ids (a list of strings, an integer or an Arrow array), and vectors, floating (n, dim).

    done   bytes of the source that are read by now
    where  where a row of these stands, for a message: "line 7"
    """

    ids: Any
    vectors: np.ndarray
    done: int
    where: Callable[[int], str]


@dataclass(frozen=True)
class Incoming:
    """A source of ids and vectors that has been opened, and of which no vector is read yet.

    name   for messages: the file
    form   what it is, in words
    dim    floats a vector
    rows   how many it says that there are; None if it doesn't say
    size   bytes, of which each Part says how many are done
    parts  reads it from its beginning
    notes  what was left out, rounded or decided, a sentence each; complete once all parts are read
    kind   "uint64" where the file says so, for the first of them may fit into int64; else None
    """

    name: str
    form: str
    dim: int
    rows: int | None
    size: int
    parts: Callable[[], Iterator[Part]]
    notes: list[str] = field(default_factory=list[str])
    kind: str | None = None


@dataclass(frozen=True)
class Imported:
    """A table made of a file, and what was made of what.

    form       what the file is, in words
    rows       that were read
    repeated   of those, the ones left out because their id had come before
    notes      what else was left out, rounded or decided, a sentence each
    """

    table: Table
    form: str
    rows: int
    repeated: int
    notes: list[str]


def rows_at_a_time(dim: int) -> int:
    """How many rows a reader should give at a time: some megabytes of vectors."""
    return max(1, min(1 << 15, _BYTES // (4 * dim)))


def check_dim(dim: int, name: str) -> int:
    """The width of vectors; DataError if no vector has it."""
    if not 1 <= dim <= WIDEST:
        raise DataError(f"{name}: says that its vectors have {dim:,} floats; expected 1 to {WIDEST:,}")
    return dim


def of_arrays(name: str, form: str, ids: Any, vectors: np.ndarray, notes: list[str] | None = None) -> Incoming:
    """Ids in memory, and the vectors of each in the same order, which may be a map of a file: some at a time."""
    dim = check_dim(int(vectors.shape[1]), name)
    step, row = rows_at_a_time(dim), dim * vectors.dtype.itemsize

    def parts() -> Iterator[Part]:
        for start in range(0, len(vectors), step):
            stop = min(start + step, len(vectors))
            yield Part(ids[start:stop], vectors[start:stop], stop * row, lambda i, start=start: f"row {start + i}")

    kind = "uint64" if isinstance(ids, np.ndarray) and ids.dtype == np.uint64 else None
    return Incoming(name, form, dim, len(vectors), len(vectors) * row, parts, notes or [], kind)


def into_table(
    given: Incoming,
    *,
    ids: str | None = None,
    duplicates: str = "refuse",
    optimizer: Optimizer | None = None,
    seed: int = 0,
    scratch: str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Make a table of what comes in: each id has the vector that stands beside it, as float32.

    ids         "int64", "uint64" or "string"; text becomes integers if one of these two is asked for
    duplicates  "refuse" an id that comes twice, or let the "first" of its vectors count
    optimizer, seed, scratch   as those of `hotrow.Table`, whose `path` scratch is, for rows that memory can't hold

    DataError, naming the source and the place, for what isn't finite, isn't an id, or comes twice.
    """
    if duplicates not in DUPLICATES:
        raise ArgumentError(f"duplicates must be one of {', '.join(map(repr, DUPLICATES))}; got {duplicates!r}")
    if ids is not None and ids not in KINDS:
        raise ArgumentError(f"ids must be one of {', '.join(map(repr, KINDS))}, or None; got {ids!r}")
    table = Table(given.dim, optimizer=optimizer, seed=seed, ids=ids or given.kind, path=scratch)
    rows = repeated = 0
    rounded = False
    for part in given.parts():
        vectors = _floats(part, given.name)
        rounded |= part.vectors.dtype.itemsize > vectors.dtype.itemsize
        repeated += _put(table, _converted(part, ids, given.name), vectors, part, given.name, duplicates)
        rows += len(vectors)
        if progress:
            progress(part.done, given.size, {"rows": rows})
    notes = [*given.notes]
    if rounded:
        notes.append("the vectors had more than 32 bits a number and were rounded to float32")
    return Imported(table, given.form, rows, repeated, notes)


def _floats(part: Part, name: str) -> np.ndarray:
    """The vectors as float32, each number finite; one that is too large for it isn't."""
    with np.errstate(over="ignore", invalid="ignore"):
        vectors = np.ascontiguousarray(part.vectors, np.float32)
    fine = np.isfinite(vectors)
    if not fine.all():
        row, column = divmod(int(np.argmin(fine)), vectors.shape[1])
        number = part.vectors[row, column]
        why = "has no place in a float32" if math.isfinite(number) else "isn't finite"
        raise DataError(f"{name}, {part.where(row)}: number {column + 1} of the vector, {number}, {why}")
    return vectors


def _converted(part: Part, ids: str | None, name: str) -> Any:
    """Text as integers, if these are asked for."""
    if ids not in {"int64", "uint64"}:
        return part.ids
    texts = _texts(part.ids)
    if texts is None:
        return part.ids
    low, high = (-(2**63), 2**63) if ids == "int64" else (0, 2**64)
    found = np.empty(len(texts), ids)
    for i, text in enumerate(texts):
        if not _INTEGER.fullmatch(text) or len(text) > 20 or not low <= int(text) < high:
            raise DataError(f"{name}, {part.where(i)}: {text[:80]!r} isn't an {ids}; without it ids are strings")
        found[i] = int(text)
    return found


def _texts(ids: Any) -> list[str] | None:
    """The ids in a list if they are texts, of Arrow's too, by codes or not; None if they are integers."""
    if isinstance(ids, list):
        given = cast("list[Any]", ids)
        return given if all(isinstance(id, str) for id in given) else None
    kind = getattr(ids, "type", None)
    return ids.to_pylist() if str(getattr(kind, "value_type", kind)) in {"string", "large_string"} else None


def _put(table: Table, ids: Any, vectors: np.ndarray, part: Part, name: str, duplicates: str) -> int:
    """Give ids their vectors; how many were left out, for they came twice."""
    before = len(table)  # rows are numbered in the order in which they come
    try:
        batch = table.find(ids, grow=True)
    except (IdError, KindError) as error:
        raise DataError(f"{name}, rows from {part.where(0)} on: {error}") from error
    fresh = np.zeros(len(vectors), bool)
    fresh[batch.first] = True
    fresh &= batch.rows >= before
    if fresh.all():
        table.set(batch, vectors)
        return 0
    if duplicates == "refuse":
        at = int(np.argmin(fresh))
        raise DataError(
            f"{name}, {part.where(at)}: the id {_shown(ids, at)} has come before; with duplicates='first' "
            "(--duplicates first) its first vector counts"
        )
    places = np.flatnonzero(fresh)
    table.set(batch.take(places), vectors[places])
    return len(vectors) - len(places)


def _shown(ids: Any, at: int) -> str:
    id = ids[at]
    value = id.as_py() if hasattr(id, "as_py") else id.item() if isinstance(id, np.generic) else id
    return f"{value!r:.100}"


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first ones of many: "'a', 'b' and 3 more"."""
    shown = ", ".join(f"{name!r:.60}" for name in names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")
