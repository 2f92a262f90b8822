"""Parquet in: a column of ids, and vectors as a column of lists, of structs, or as a column for each number.

    id       vector                      id       0    1    2
    lantern  [0.1, 0.2, 0.3]      or     lantern  0.1  0.2  0.3

Read some rows at a time, so a file may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # noqa: ICN001, as `pa` is the name that has no types
import pyarrow.parquet

from hotrow.errors import CorruptError, DataError
from hotrow.exchange.incoming import Incoming, Part, check_dim, listed, rows_at_a_time

pa: Any = pyarrow
parquet: Any = pyarrow.parquet

_ID_NAMES = ("id", "ids", "key", "word", "token", "item", "user")


def open_parquet(path: Path, id: str | None = None, vector: Sequence[str] = ()) -> Incoming:
    """A Parquet file. id, vector: the names of the columns, where the file alone doesn't decide it.

    vector: one column of lists or structs of floats, or several of floats, in their order. DataError lists the columns.
    """
    with _errors_of(path):
        schema, rows = parquet.read_schema(path), parquet.read_metadata(path).num_rows
        names = list(schema.names)
    _check_names(path, names, [*([] if id is None else [id]), *vector])
    chosen = list(vector) or _vector_columns(path, schema, id)
    id = _id_column(path, schema, chosen) if id is None else id
    if not _may_be_ids(schema.field(id).type):
        raise DataError(f"{path}: column {id!r} is {schema.field(id).type}, and ids are integers or texts")
    dim = check_dim(_width(path, schema, chosen), str(path))
    size = path.stat().st_size

    def parts() -> Iterator[Part]:
        done = 0
        with _errors_of(path), parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
            for batch in file.iter_batches(rows_at_a_time(dim), columns=[id, *chosen], use_threads=False):
                batch.validate(full=True)  # Arrow believes what a file says of itself, and would read beyond its end
                yield _part(path, batch, id, chosen, dim, done, int(size * (done + len(batch)) / max(1, rows)))
                done += len(batch)

    left = [name for name in names if name not in {id, *chosen}]
    notes = [f"left out: {listed(left)}"] if left else []
    form = f"Parquet; ids of {id!r}, vectors of {_told(chosen)}"
    kind = "uint64" if pa.types.is_uint64(schema.field(id).type) else None
    return Incoming(str(path), form, dim, rows, size, parts, notes, kind)


def _told(chosen: list[str]) -> str:
    return repr(chosen[0]) if len(chosen) == 1 else f"{len(chosen)} columns from {chosen[0]!r} to {chosen[-1]!r}"


@contextmanager
def _errors_of(path: Path) -> Generator[None]:
    """Errors of Arrow's as ours, with the name of the file."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise CorruptError(f"{path}: can't be read: {error!s:.300}") from error
    except OSError as error:
        if isinstance(error, CorruptError):
            raise
        raise CorruptError(f"{path}: can't be read: {error!s:.300}") from error


def _check_names(path: Path, names: list[str], asked: list[str]) -> None:
    for name in asked:
        if names.count(name) != 1:
            many = f"{names.count(name)} columns" if name in names else "no column"
            raise DataError(f"{path} has {many} {name!r}. It has {listed(names)}")
    if len(set(names)) < len(names):
        raise DataError(f"{path} has several columns of one name: {listed(names)}")


def _vector_columns(path: Path, schema: Any, id: str | None) -> list[str]:
    """The one column of vectors; or all columns of floats."""
    columns = [field for field in schema if field.name != id]
    nested = [field.name for field in columns if _item_type(field.type) is not None]
    if len(nested) == 1:
        return nested
    flat = [field.name for field in columns if pa.types.is_floating(field.type)]
    if nested or not flat:
        raise DataError(
            f"{path} has {len(nested)} columns of vectors{f' ({listed(nested)})' if nested else ''}. "
            f"Say which: --vector NAME, one of {listed(list(schema.names))}"
        )
    return flat


def _id_column(path: Path, schema: Any, chosen: list[str]) -> str:
    """The one column that ids may be, or that has a name of theirs."""
    fitting = [field.name for field in schema if field.name not in chosen and _may_be_ids(field.type)]
    named = [name for name in _ID_NAMES if name in fitting]
    if len(fitting) == 1 or named:
        return fitting[0] if len(fitting) == 1 else named[0]
    raise DataError(
        f"{path} has {len(fitting)} columns that may be ids{f' ({listed(fitting)})' if fitting else ''}. "
        f"Say which: --id NAME, one of {listed(list(schema.names))}"
    )


def _may_be_ids(kind: Any) -> bool:
    types = pa.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))


def _item_type(kind: Any) -> Any:
    """The type of the floats in a list or a struct; None for anything else."""
    types = pa.types
    if types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind):
        return kind.value_type if types.is_floating(kind.value_type) else None
    if types.is_struct(kind) and kind.num_fields and all(types.is_floating(field.type) for field in kind):
        return kind.field(0).type
    return None


def _width(path: Path, schema: Any, chosen: list[str]) -> int:
    """Floats a vector: of lists without a length, as many as the first has."""
    kinds = [schema.field(name).type for name in chosen]
    if len(chosen) > 1 or pa.types.is_floating(kinds[0]):
        wrong = next((name for name, kind in zip(chosen, kinds, strict=True) if not pa.types.is_floating(kind)), None)
        if wrong is not None:
            raise DataError(f"{path}: column {wrong!r} is {schema.field(wrong).type}, and of several each has floats")
        return len(chosen)
    kind = kinds[0]
    if _item_type(kind) is None:
        raise DataError(f"{path}: column {chosen[0]!r} is {kind}; expected lists or structs of floats, or floats")
    if pa.types.is_struct(kind):
        return int(kind.num_fields)
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    with _errors_of(path), parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        for batch in file.iter_batches(1, columns=chosen, use_threads=False):
            batch.validate(full=True)
            if len(batch) and batch.column(0)[0].is_valid:
                return len(batch.column(0)[0])
            break
    raise DataError(f"{path}: row 0 of column {chosen[0]!r} has no vector, so that nothing tells how long they are")


def _part(path: Path, batch: Any, id: str, chosen: list[str], dim: int, first: int, done: int) -> Part:
    ids, columns = batch.column(id), [batch.column(name) for name in chosen]
    for name, column in zip([id, *chosen], [ids, *columns], strict=True):
        if column.null_count:
            row = first + int(np.argmin(column.is_valid().to_numpy(zero_copy_only=False)))
            raise DataError(f"{path}, row {row:,}: column {name!r} is null")
    if pa.types.is_struct(columns[0].type):
        columns = columns[0].flatten()
        chosen = [chosen[0]] * len(columns)
    if pa.types.is_floating(columns[0].type):
        vectors = np.stack([_numbers(path, column, first) for column in columns], axis=1)
    else:
        vectors = _lists(path, columns[0], dim, first)
    return Part(ids, vectors, done, lambda i: f"row {first + i:,}")


def _lists(path: Path, column: Any, dim: int, first: int) -> np.ndarray:
    if not pa.types.is_fixed_size_list(column.type):
        lengths = np.diff(column.offsets.to_numpy())
        if (lengths != dim).any():
            row = int(np.argmax(lengths != dim))
            raise DataError(
                f"{path}, row {first + row:,}: a vector of {lengths[row]} floats, and those before have {dim}"
            )
    return _numbers(path, column.flatten(), first, dim).reshape(len(column), dim)


def _numbers(path: Path, values: Any, first: int, dim: int = 1) -> np.ndarray:
    if values.null_count:
        row = int(np.argmin(values.is_valid().to_numpy(zero_copy_only=False))) // dim
        raise DataError(f"{path}, row {first + row:,}: its vector has a null in it")
    return values.to_numpy(zero_copy_only=False)
