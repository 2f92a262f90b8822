"""A whole file as columns, Arrow arrays by name; several files one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hotrow.apps.arrow import Array, pa
from hotrow.apps.distinct import plain
from hotrow.apps.naming import listed, position_of
from hotrow.apps.reading import Progress
from hotrow.apps.sources import Reading, Source, one_by_one, open_sources
from hotrow.errors import DataError


@dataclass(frozen=True)
class Frame:
    """What was read: columns of one length; `text` if all cells are text because the format knows nothing else."""

    columns: dict[str, Array]
    rows: int
    sources: tuple[str, ...]
    form: str
    text: bool
    bad_lines: int


def read_frame(
    path: Any,
    asked: list[str],
    *,
    skip_bad_lines: bool = False,
    progress: Progress | None = None,
    reading: Reading = one_by_one,
) -> Frame:
    """Read all columns of a file, of a folder of files, or of an Arrow table. DataError for what can't be read."""
    sources = open_sources(path, asked, skip_bad_lines=skip_bad_lines)
    names = list(sources[0].columns)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{sources[0].name} has several columns {twice[0]!r}; rename all but one of them")
    parts: list[list[Array]] = [[] for _ in names]
    ends = np.cumsum([0, *(source.size for source in sources)]).tolist()
    rows = 0
    for number, (arrays, share) in reading(sources, [places_of(names, source) for source in sources]):
        rows += len(arrays[0])
        for part, array in zip(parts, arrays, strict=True):
            part.append(decoded(array))
        if progress is not None:
            begin, end = ends[number : number + 2]
            progress(begin + int(share * (end - begin)), ends[-1], {"rows": rows})
    if not rows:
        raise DataError(f"there are no rows in {sources[0].name}")
    columns = {name: _joined(name, part) for name, part in zip(names, parts, strict=True)}
    bad_lines = sum(source.bad_lines for source in sources)
    files = tuple(source.name for source in sources)
    return Frame(columns, rows, files, sources[0].form, all(source.text for source in sources), bad_lines)


def places_of(names: list[str], source: Source) -> list[int]:
    """Where these columns stand in a source; DataError if one doesn't."""
    places = [position_of(name, source.columns) for name in names]
    for name, place in zip(names, places, strict=True):
        if place is None:
            raise DataError(f"{source.name} has no column {name!r}. It has {listed(source.columns)}")
    return [place for place in places if place is not None]


def decoded(column: Array) -> Array:
    """The column without a dictionary, in a type that Arrow can compute with; NaN is null."""
    column = plain(column)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type):
        column = column.cast(pa.large_string())
    if pa.types.is_floating(column.type):
        numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return pa.array(numbers, from_pandas=True)
    return column


def _joined(name: str, parts: list[Array]) -> Array:
    kinds = {part.type for part in parts if not pa.types.is_null(part.type)}
    if len(kinds) > 1:
        raise DataError(f"column {name!r} is {' and '.join(sorted(map(str, kinds)))} in different files")
    kind = kinds.pop() if kinds else pa.null()
    return pa.concat_arrays([part.cast(kind) if part.type != kind else part for part in parts])
