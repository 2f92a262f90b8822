"""What is known of ids beside their vectors: columns to filter by, and to colour a map by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import ArgumentError, DataError
from hotrow.models.spelling import alike
from hotrow.table.utf8 import pyarrow

if TYPE_CHECKING:
    from hotrow.models.sides import Vectors

_RANGE = re.compile(r"(?P<low>.*?)\.\.(?P<high>.*)")


@dataclass(frozen=True)
class Column:
    """A column, aligned with `vectors.ids()`.

    name     of the column
    kind     "category" (text, true or false) or "number"
    values   of a category: the values, the most frequent first
    codes    of a category: int32 (n,), which value each id has; −1 for none
    numbers  of a number: float64 (n,), NaN for none; beyond 2**53 not every integer is told from the next
    """

    name: str
    kind: str
    values: list[str]
    codes: np.ndarray
    numbers: np.ndarray

    def where(self, wanted: Any) -> np.ndarray:
        """Which ids have a value, or one of a list, or a number from..to: (from, to), both within, None for no end.

        → bool (n,). ArgumentError for a value that no id has in a category, and for a range of values that aren't
        numbers.
        """
        if isinstance(wanted, tuple) and len(wanted) == 2:
            low, high = (self._number(one, end) for one, end in zip(wanted, (-np.inf, np.inf), strict=True))
            if self.kind == "number":
                return (self.numbers >= low) & (self.numbers <= high)
            numbers = np.array([self._number(value, None) for value in self.values])
            return np.isin(self.codes, np.flatnonzero((numbers >= low) & (numbers <= high)))
        if self.kind == "category":
            return np.isin(self.codes, [self._code(one) for one in _several(wanted)])
        return np.isin(self.numbers, [self._number(one, None) for one in _several(wanted)])

    def _code(self, wanted: Any) -> int:
        text = _text(wanted)
        if text in self.values:
            return self.values.index(text)
        like = alike(pyarrow().array(self.values, pyarrow().large_string()), text) or self.values[:5]
        raise ArgumentError(
            f"no id has {text!r:.100} in {self.name!r}; there are {', '.join(map(repr, like))}, of "
            f"{len(self.values):,} values in all"
        )

    def _number(self, wanted: Any, end: float | None) -> float:
        if wanted is None and end is not None:
            return end
        given: Any = wanted
        try:
            return float(given)
        except (TypeError, ValueError, OverflowError) as error:
            raise ArgumentError(
                f"a range, and what is asked of numbers, takes numbers; {self.name!r} was asked for {wanted!r:.100}"
                if self.kind == "number"
                else f"{self.name!r} isn't all numbers, so it has no range: it has {wanted!r:.100}"
            ) from error


@dataclass(frozen=True)
class Metadata:
    """Columns by name, a value for each id of a side.

    columns   name → Column
    missing   how many ids of the side no row is about
    strange   how many rows are about ids that the side hasn't
    repeated  how many rows are about an id that an earlier row is about; the first counts
    left_out  name of a column → why it is neither a category nor a number
    """

    columns: dict[str, Column]
    missing: int
    strange: int
    repeated: int
    left_out: dict[str, str]

    @classmethod
    def of(cls, table: Any, vectors: Vectors, *, id: str | None = None) -> Metadata:
        """Of an Arrow table, or a dict of columns, with a row an id.

        id: the column of ids; without it the one named as the side, or the first. DataError where none of its ids is
        one of the side's.

        >>> from hotrow.models import Vectors
        >>> from hotrow.search import Metadata
        >>> lamps = Vectors.of(["lantern", "cup"], [[1.0, 0.0], [0.0, 1.0]])
        >>> known = Metadata.of({"id": ["cup", "lantern"], "room": ["kitchen", "hall"], "price": [4, 12]}, lamps)
        >>> known.where({"room": "kitchen", "price": (None, 10)}).tolist()
        [False, True]
        """
        pa = pyarrow()
        given = table if isinstance(table, pa.Table) else pa.table(dict(table))
        name = _id_column(given.column_names, vectors.name, id)
        ids, rows_given = _ids_of(given, name, vectors)
        rows = vectors.rows(ids) if len(ids) else np.zeros(0, np.int64)
        there = np.flatnonzero(rows >= 0)
        if not len(there):
            raise DataError(
                f"column {name!r} of the metadata has no id of the {len(vectors):,} {vectors.name}s: id= names the "
                f"column of ids; there are {', '.join(map(repr, given.column_names))}"
            )
        found, first = np.unique(rows[there], return_index=True)
        source = np.full(len(vectors), -1, np.int64)
        source[found] = rows_given[there[first]]
        columns, left_out = dict[str, Column](), dict[str, str]()
        for other in given.column_names:
            if other != name:
                made = _column(other, given[other].combine_chunks(), source)
                if isinstance(made, Column):
                    columns[other] = made
                else:
                    left_out[other] = made
        counts = len(vectors) - len(found), given.num_rows - len(there), len(there) - len(found)
        return cls(columns, *counts, left_out)

    def where(self, conditions: Mapping[str, Any]) -> np.ndarray:
        """Which ids fulfil all conditions: bool (n,). {"section": "python", "size": (10, None)} is one way.

        Of a list any value will do; see `Column.where`. ArgumentError for a column that isn't there, and for a value
        that no id has.
        """
        mask: np.ndarray | None = None
        for name, wanted in conditions.items():
            if name not in self.columns:
                raise ArgumentError(self._no_column(name))
            one = self.columns[name].where(wanted)
            mask = one if mask is None else mask & one
        if mask is None:
            raise ArgumentError('no condition is given; where({"section": "python"}) is one')
        return mask

    def parse(self, conditions: Iterable[str]) -> dict[str, Any]:
        """What `where` takes, of texts: "section=python", "section:python", "size=10..20", "size=10..", "size=7".

        Of one column several are one list, any of which will do. ArgumentError for what is no condition.
        """
        parsed: dict[str, Any] = {}
        for text in conditions:
            names = [name for name in self.columns if text.startswith((f"{name}=", f"{name}:"))]
            if not names:
                raise ArgumentError(self._no_column(re.split("[=:]", text, maxsplit=1)[0]))
            name = max(names, key=len)
            wanted: Any = text[len(name) + 1 :]
            if (found := _RANGE.fullmatch(wanted)) and wanted not in self.columns[name].values:
                if name in parsed:
                    raise ArgumentError(f"{name!r} has several conditions, and a range among them: give one")
                parsed[name] = tuple(end or None for end in found.groups())
            elif isinstance(parsed.get(name), tuple):
                raise ArgumentError(f"{name!r} has several conditions, and a range among them: give one")
            else:
                parsed.setdefault(name, []).append(wanted)
        return parsed

    def _no_column(self, name: str) -> str:
        shown = ", ".join(map(repr, self.columns)) or "none"
        why = f" ({name!r:.100} {self.left_out[name]})" if name in self.left_out else ""
        return f"the metadata has the columns {shown}; got {name!r:.100}{why}. Conditions are as section=python"


def _id_column(names: list[str], side: str, id: str | None) -> str:
    if not names:
        raise DataError("metadata is a table with a column of ids and others; got one without columns")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"the metadata has several columns named {', '.join(map(repr, twice))}: rename or drop some")
    if id is not None and id not in names:
        raise DataError(f"the metadata has no column {id!r}; it has {', '.join(map(repr, names))}")
    return id or (side if side in names else names[0])


def _ids_of(table: Any, name: str, vectors: Vectors) -> tuple[Any, np.ndarray]:
    """The ids of the rows that have one, of the side's kind, and the numbers of these rows."""
    pa = pyarrow()
    ids = table[name].combine_chunks()
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    ids = _text_as_wide(ids)
    rows = np.flatnonzero(ids.is_valid().to_numpy(zero_copy_only=False))
    ids = ids.drop_null()
    wanted = pa.large_string() if vectors.kind == "string" else getattr(pa, vectors.kind)()
    is_text = pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)
    if is_text != (vectors.kind == "string") or pa.types.is_floating(ids.type):
        try:  # a file of text has integers as text; pandas has integers with gaps as floats
            return (_refuse_text(ids) if vectors.kind == "string" else ids.cast(wanted)), rows
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"column {name!r} of the metadata is {ids.type}, and ids of {vectors.name}s are {vectors.kind}"
            ) from error
    if pa.types.is_integer(ids.type) and {ids.type, wanted} > {pa.uint64()}:  # what the other can't hold isn't there
        numbers = ids.to_numpy(zero_copy_only=False)
        fits = numbers >= 0 if wanted == pa.uint64() else numbers <= np.uint64(2**63 - 1)
        return pa.array(numbers[fits]).cast(wanted), rows[fits]
    return ids, rows


def _text_as_wide(array: Any) -> Any:
    """Views of text as text; anything else as it is."""
    pa = pyarrow()
    return array.cast(pa.large_string()) if array.type == pa.string_view() else array


def _refuse_text(ids: Any) -> Any:
    raise pyarrow().ArrowInvalid(f"{ids.type} isn't text")


def _column(name: str, column: Any, source: np.ndarray) -> Column | str:
    """The column with a value for each id, or why there is none."""
    pa = pyarrow()
    from pyarrow import compute

    taken = _text_as_wide(column).take(pa.array(source, mask=source < 0))
    if pa.types.is_dictionary(taken.type):
        taken = taken.dictionary_decode()
    taken = _text_as_wide(taken)
    kind = taken.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = taken.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return Column(name, "number", [], np.zeros(0, np.int32), numbers)
    if pa.types.is_boolean(kind):
        taken = taken.cast(pa.string())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return f"is {kind}, neither text nor numbers"
    encoded = taken.cast(pa.large_string()).dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    counts = np.bincount(codes[codes >= 0], minlength=len(encoded.dictionary))
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(order) + 1, np.int32)
    rank[order], rank[-1] = np.arange(len(order)), -1
    values = compute.take(encoded.dictionary, pa.array(order)).to_pylist()
    return Column(name, "category", values, rank[codes], np.zeros(0, np.float64))


def _several(wanted: Any) -> list[Any]:
    return list(wanted) if isinstance(wanted, list | set | frozenset | tuple | np.ndarray) else [wanted]


def _text(wanted: Any) -> str:
    return ("true" if wanted else "false") if isinstance(wanted, bool | np.bool_) else str(wanted)
