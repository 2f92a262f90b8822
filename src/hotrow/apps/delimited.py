"""How a text file is laid out: delimiter and header, found in its first part.

    user;item          delimiter ";", header user, item
    17850;LANTERN

    196⇥242⇥3          delimiter tab, no header: column1, column2, column3

The delimiter is one of tab ; | , and the single space. One that finds all the columns that are asked for wins; then
one that cuts (nearly) every line into as many fields as the first; then the tab, and the space last; then the one that
makes more fields.

The first line is a header if it has the columns that are asked for. If not, it is none when `column1` and the like are
asked for, or when a field of it is a number or a date.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from hotrow.apps.naming import position_of
from hotrow.errors import DataError

SAMPLE = 1 << 18
"""Bytes of the first part."""

_DELIMITERS = "\t;|, "  # the earlier, the likelier
_LINES = 200
_NAMES = {"\t": "tab", " ": "space"}
_VALUE = re.compile(r"[+-]?[0-9][0-9.,:/ TZeE+-]*")  # a number, a date, a time
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Layout:
    """How a text file is to be taken apart.

    delimiter  between fields
    columns    their names
    header     whether the names are the first line
    blank      empty lines before the first
    """

    delimiter: str
    columns: list[str]
    header: bool
    blank: int

    def __str__(self) -> str:
        named = "the first line is the header" if self.header else "no header, so columns are column1, column2, …"
        return f"delimiter {_NAMES.get(self.delimiter, self.delimiter)}; {named}"


def detect(sample: bytes, whole: bool, asked: Sequence[str], source: str) -> Layout:
    r"""The layout of the file whose first bytes are `sample`; `whole` if there are no others.

    asked: the names of columns that are looked for.

    >>> detect(b"user;item\n17850;WHITE LANTERN\n", True, [], "pairs.csv").columns
    ['user', 'item']
    >>> detect(b"196 242\n186 302\n", True, [], "pairs.txt").columns
    ['column1', 'column2']
    """
    text = _decode(sample, whole, source)
    if not text.strip():
        raise DataError(f"{source} is empty")
    tables = {delimiter: _parse(text, delimiter, whole) for delimiter in _DELIMITERS}
    blank = next(at for at, line in enumerate(text.splitlines()) if line.strip())
    tables = {delimiter: rows[blank:] for delimiter, rows in tables.items()}
    tables = {delimiter: [row for row in rows if row] for delimiter, rows in tables.items()}
    tables = {delimiter: rows for delimiter, rows in tables.items() if rows and len(rows[0]) > 1}
    if not tables:
        first = text.lstrip().splitlines()[0][:80]
        raise DataError(
            f"{source} has one column, as its first line is {first!r}: pairs need two, with a comma, tab, semicolon, "
            "bar or single space between them"
        )
    delimiter = max(tables, key=lambda delimiter: _likeliness(delimiter, tables[delimiter], asked))
    first = tables[delimiter][0]
    header = _is_header(first, asked)
    return Layout(delimiter, first if header else _numbered(first), header, blank)


def _decode(sample: bytes, whole: bool, source: str) -> str:
    """The text of the sample's whole lines."""
    if sample.startswith(_UTF16) or b"\0" in sample:
        what = "UTF-16 text" if sample.startswith(_UTF16) else "no text"
        raise DataError(f"{source} is {what}; expected CSV or TSV in UTF-8, Parquet, or Arrow IPC")
    end = (0 if whole else sample.rfind(b"\n") + 1) or len(sample)
    return sample[:end].decode("utf-8-sig", "replace")


def _parse(text: str, delimiter: str, whole: bool) -> list[list[str]]:
    """The first lines in fields; nothing if they can't be cut by this delimiter."""
    rows: list[list[str]] = []
    try:
        rows.extend(islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), _LINES))
    except csv.Error:  # a field of enormous size, within quotes that are never closed perhaps
        return rows
    return rows if whole or len(rows) < 2 else rows[:-1]  # the last may be cut within quotes


def _likeliness(delimiter: str, rows: list[list[str]], asked: Sequence[str]) -> tuple[bool, bool, int, int, int]:
    first = rows[0]
    found = bool(asked) and all(position_of(name, first) is not None for name in asked)
    regular = sum(len(row) == len(first) for row in rows) >= 0.9 * len(rows)
    rank = {"\t": 2, " ": 0}.get(delimiter, 1)
    return found, regular, rank, len(first), -_DELIMITERS.index(delimiter)


def _numbered(first: list[str]) -> list[str]:
    return [f"column{i + 1}" for i in range(len(first))]


def _is_header(first: list[str], asked: Sequence[str]) -> bool:
    if asked and all(position_of(name, first) is not None for name in asked):
        return True
    if asked and all(name in _numbered(first) for name in asked):
        return False
    return not any(_VALUE.fullmatch(field.strip()) for field in first)
