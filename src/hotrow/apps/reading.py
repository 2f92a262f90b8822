"""Pairs from files: users, items, times and ratings as columns of numbers, and a report of what was made of what.

    CustomerID  Description              user.values  17850, 13047         item.values  LANTERN, MUG
    17850.0     LANTERN             →    user.codes   0, 1                 item.codes   0, 1
    (null)      LANTERN                  report: 3 rows, 1 null in CustomerID, 2 kept
    13047.0     MUG                              CustomerID: int64, for all values of the double column are whole

A row with a null in any of the columns is skipped before anything else is looked at. In memory a pair is two codes of
four bytes, and eight bytes for a time and for a rating; beside that, only the distinct values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hotrow.apps.arrow import Array, compute, is_text, pa
from hotrow.apps.distinct import Distinct, check_type, encode, missing, plain, to_ids, to_integers
from hotrow.apps.naming import assign
from hotrow.apps.sources import Reading, Source, one_by_one, open_sources
from hotrow.apps.times import Times
from hotrow.errors import DataError, KindError

Progress = Callable[[int, int, dict[str, Any]], None]
"""Told the bytes that are read, the bytes there are, and {"rows": …}."""


@dataclass(frozen=True)
class Ids:
    """A column of ids: row i has the id values[codes[i]].

    values  the distinct ids, in the order they are first seen: an Arrow array of int64, uint64 or large_string
    codes   int32 (n,)
    """

    values: Array
    codes: np.ndarray


@dataclass(frozen=True)
class Column:
    """What was made of a column.

    name  in the file
    kind  "int64", "uint64" or "string" for ids, "int64" or "float64" for times, "float64" for ratings
    why   the reason, where the file alone didn't decide it; else ""
    """

    name: str
    kind: str
    why: str


@dataclass(frozen=True)
class Report:
    """What was read, and what was left out.

    sources    the files' names
    form       how the first of them was read
    rows       rows read
    kept       rows without a null, which is all that is looked at
    nulls      column → nulls in it
    bad_lines  lines that were skipped on demand, as they haven't as many fields as there are columns; no rows
    columns    role → what was made of its column
    """

    sources: tuple[str, ...]
    form: str
    rows: int
    kept: int
    bad_lines: int
    nulls: dict[str, int]
    columns: dict[str, Column]

    def names(self) -> dict[str, str]:
        """Role → the name of its column, for a report."""
        return {role: column.name for role, column in self.columns.items()}

    def counts(self) -> dict[str, Any]:
        """How many rows there were of what, for a report."""
        return {"read": self.rows, "nulls": self.nulls, "kept": self.kept, "bad_lines": self.bad_lines}

    def sentences(self) -> list[str]:
        """The report for people, a line each."""
        first, *others = self.sources
        more = f" and {len(others)} more" if others else ""
        lines = [f"{first}{more} ({self.form}): {counted(self.rows, 'row')}"]
        if self.bad_lines:
            lines.append(f"{counted(self.bad_lines, 'line')} skipped that hasn't as many fields as there are columns")
        if self.kept < self.rows:
            nulls = ", ".join(f"{count:,} in {name}" for name, count in self.nulls.items() if count)
            lines.append(f"{counted(self.rows - self.kept, 'row')} skipped for nulls: {nulls}")
        for role, column in self.columns.items():
            lines.append(f"{role}: {column.name}, {column.kind}{', ' if column.why else ''}{column.why}")
        return lines


@dataclass(frozen=True)
class Columns:
    """Pairs in the order of the file: row i is user.codes[i], item.codes[i] and, if asked for, time[i], rating[i]."""

    user: Ids
    item: Ids
    time: np.ndarray | None
    rating: np.ndarray | None
    report: Report


def counted(number: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "row"), counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {what}{'s' * (number != 1)}"


def read_columns(
    path: Any,
    columns: Mapping[str, str | None],
    *,
    time_format: str | None = None,
    skip_bad_lines: bool = False,
    progress: Progress | None = None,
    reading: Reading = one_by_one,
) -> Columns:
    """Read the pairs of a file, of a folder of files, of a list of either, or of an Arrow table.

    columns: the names of the "user", "item", "time" and "rating" columns. Without a time or a rating none is read;
    without users and items the file must have just as many columns as are needed.
    reading: how the pieces of sources are read, in their order: by this process, or by others.

    Raises DataError, KindError or IdError for what can't be read as asked.
    """
    wanted = {role: columns.get(role) for role in ("user", "item", "time", "rating")}
    asked = [name for name in wanted.values() if name is not None]
    sources = open_sources(path, asked, skip_bad_lines=skip_bad_lines)
    if time_format is not None and wanted["time"] is None:
        raise DataError(f"--time-format {time_format!r} is given, and no column of times: give --time COLUMN, too")
    reader = _Reader(sources, wanted, time_format)
    reader.read(progress, reading)
    return reader.finish()


class _Reader:
    """Takes the pieces of all sources in; knows how many rows and nulls there were."""

    def __init__(self, sources: list[Source], wanted: Mapping[str, str | None], time_format: str | None) -> None:
        self._sources = sources
        self._places = [assign(wanted, source.columns, source.name) for source in sources]
        roles = [role for role in wanted if role in self._places[0]]
        names = {role: sources[0].columns[self._places[0][role]] for role in roles}
        texts = all(source.text for source in sources)
        self._columns: dict[str, _IdColumn | _TimeColumn | _RatingColumn] = {}
        for role, name in names.items():
            if role == "rating":
                self._columns[role] = _RatingColumn(name)
            else:
                self._columns[role] = _TimeColumn(name, time_format) if role == "time" else _IdColumn(name, texts)
        self._rows = self._kept = 0
        self._nulls = dict.fromkeys(roles, 0)

    def read(self, progress: Progress | None, reading: Reading) -> None:
        places = [[each[role] for role in self._columns] for each in self._places]
        ends = np.cumsum([0, *(source.size for source in self._sources)]).tolist()
        at, before = -1, 0
        for number, (arrays, share) in reading(self._sources, places):
            if number != at:
                at, before = number, self._rows
            self._take(arrays, self._rows - before, self._sources[number].name)
            if progress is not None:
                begin, end = ends[number : number + 2]
                progress(begin + int(share * (end - begin)), ends[-1], {"rows": self._rows})

    def _take(self, arrays: list[Array], before: int, source: str) -> None:
        """One piece, of which `before` rows of the source come before."""
        arrays = [plain(column) for column in arrays]
        absent = [missing(column) for column in arrays]
        for role, nulls in zip(self._columns, absent, strict=True):
            self._nulls[role] += nulls.true_count
        drop = absent[0]
        for nulls in absent[1:]:
            drop = compute.or_(drop, nulls)
        self._rows += len(drop)
        self._kept += len(drop) - drop.true_count
        if drop.true_count == len(drop):
            return
        positions = None if not drop.true_count else compute.invert(drop)
        place = _Place(source, before, positions)
        for column, values in zip(self._columns.values(), arrays, strict=True):
            column.add(values if positions is None else values.filter(positions), place)

    def finish(self) -> Columns:
        bad_lines = sum(source.bad_lines for source in self._sources)
        if not self._kept:
            nulls = (
                f"{counted(self._nulls[role], 'null')} in {column.name!r}" for role, column in self._columns.items()
            )
            rows = counted(self._rows, "row")
            raise DataError(f"there are no pairs in {self._sources[0].name}: {rows}, {', '.join(nulls)}")
        found: dict[str, Any] = {}
        made: dict[str, Column] = {}
        for role, column in self._columns.items():
            found[role], made[role] = column.finish(self._nulls[role])
        nulls = {column.name: self._nulls[role] for role, column in self._columns.items()}
        names = tuple(source.name for source in self._sources)
        report = Report(names, self._sources[0].form, self._rows, self._kept, bad_lines, nulls, made)
        return Columns(found["user"], found["item"], found.get("time"), found.get("rating"), report)


@dataclass(frozen=True)
class _Place:
    """Where the values that are kept of a piece stand in their source."""

    source: str
    before: int
    kept: Array | None

    def row(self, i: int) -> int:
        """The number of the row, from 1, of the i-th value that is kept."""
        if self.kept is not None:
            i = int(np.flatnonzero(self.kept.to_numpy(zero_copy_only=False))[i])
        return self.before + i + 1


@dataclass
class _IdColumn:
    """Collects a column of ids."""

    name: str
    texts: bool
    given: str = ""
    kind: Any = None
    distinct: Distinct = field(default_factory=Distinct)

    def add(self, column: Array, place: _Place) -> None:
        check_type(column.type, self.name)
        values, codes = encode(column)
        given = str(values.type)
        ids = to_ids(values, self.name, lambda i: place.row(int(np.argmax(codes == i))))
        if self.kind is not None and ids.type != self.kind:
            raise KindError(f"column {self.name!r} is {given} in {place.source}, and {self.given} before that")
        self.given, self.kind = self.given or given, ids.type
        self.distinct.add(ids, codes)

    def finish(self, nulls: int) -> tuple[Ids, Column]:
        values, codes = self.distinct.finish()
        why = ""
        if self.texts:
            values, odd = to_integers(values)
            why = f"as {odd}" if odd else "as every value is an integer as one writes it"
        elif pa.types.is_int64(values.type) and self.given.startswith(("double", "float", "halffloat", "decimal")):
            nullable = f"; its {counted(nulls, 'null')} may be why it has floats" if nulls else ""
            why = f"as every value of the {self.given} column is whole{nullable}"
        kind = "string" if is_text(values.type) else str(values.type)
        return Ids(values, codes), Column(self.name, kind, why)


class _TimeColumn:
    """Collects a column of times."""

    def __init__(self, name: str, form: str | None) -> None:
        self.name = name
        self._times = Times(name, form)

    def add(self, column: Array, place: _Place) -> None:
        self._times.add(column)

    def finish(self, nulls: int) -> tuple[np.ndarray, Column]:
        found, why = self._times.finish()
        return found, Column(self.name, str(found.dtype), why)


class _RatingColumn:
    """Collects a column of ratings, finite numbers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._parts: list[np.ndarray] = []

    def add(self, column: Array, place: _Place) -> None:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        try:
            values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"column {self.name!r} of {place.source} is to be ratings, and isn't all numbers: {error!s:.200}"
            ) from error
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            row = place.row(int(wrong[0]))
            raise DataError(f"row {row:,} of {place.source} has the rating {values[wrong[0]]} in {self.name!r}")
        self._parts.append(values)

    def finish(self, nulls: int) -> tuple[np.ndarray, Column]:
        return np.concatenate(self._parts), Column(self.name, "float64", "")
