"""Columns as they come → what the net of a `Classifier` reads: ids without nulls, bags, one matrix of numbers.

    column            kind       the net gets
    "cup", null       "id"       an id for each value, and one that stands for null
    ["a", "b"], null  "bag"      the mean of the vectors; of null and of [], zeros
    41.5, NaN         "number"   the number, standardised, NaN as the mean; and the id of the range that it falls into

A range is one of up to 32 that hold about as many training rows each; a value that is frequent has a range of its own,
and so has NaN: that a number is missing may itself say something.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np

from hotrow.errors import ArgumentError, CorruptError

KINDS = ("id", "bag", "number")
NUMBERS = "numbers"
"""The feature of all numbers side by side."""

_RANGES = 32
_FAR = 5.0  # standard deviations; what lies farther counts as that far
_LARGEST = 1e100  # whose square is a number, too
_NULLS = {"string": "\0null", "int64": -(2**63), "uint64": 2**64 - 1}
_NO_RANGE = -1


class Inputs:
    """What was learned of the training columns: their kinds, the mean and the ranges of each number.

    columns  {"name": {"kind": "id", …}}, JSON values

    Features are named by the place of their column: "0" for ids and bags, "0 range" for the ranges of numbers, and
    "numbers". A column's name may hold what a framework's names may not.
    """

    def __init__(self, columns: dict[str, dict[str, Any]]) -> None:
        self.columns = columns
        self._places = {name: str(place) for place, name in enumerate(columns)}

    @classmethod
    def learn(cls, columns: dict[str, Any], kinds: Mapping[str, str]) -> Inputs:
        """Of training columns, as `tidy` gives them; kinds as they were asked for."""
        told: dict[str, dict[str, Any]] = {}
        for name, column in columns.items():
            kind = kinds.get(name) or kind_of(column)
            told[name] = {"kind": kind}
            if kind == "id":
                told[name]["null"] = _NULLS[_sort_of_ids(_bools_as_text(column))]
            if kind == "number":
                told[name] |= _learn_number(name, _to_numbers(name, column))
        return cls(told)

    @classmethod
    def from_config(cls, config: Any) -> Inputs:
        """The inputs whose `columns` these are; CorruptError if they can't be any's."""
        if not isinstance(config, dict) or not config:
            raise CorruptError(f"columns must be an object that isn't empty; got {config!r:.80}")
        for name, told in cast("dict[str, Any]", config).items():
            _check_told(name, told)
        return cls(cast("dict[str, dict[str, Any]]", config))

    def feature_of(self, name: str) -> str:
        """The feature that holds the ids of a column; ArgumentError if it has none."""
        if name not in self.columns or self.columns[name]["kind"] == "number":
            have = [other for other, told in self.columns.items() if told["kind"] != "number"]
            raise ArgumentError(f"there is no column {name!r} of ids or bags; there are {', '.join(map(repr, have))}")
        return self._places[name]

    def features(self) -> Iterator[tuple[str, str, int]]:
        """(name, "id", "bag" or "number", width) of each feature."""
        for name, told in self.columns.items():
            if told["kind"] == "number":
                yield f"{self._places[name]} range", "id", 1
            else:
                yield self._places[name], told["kind"], 1
        width = sum(told["kind"] == "number" for told in self.columns.values())
        if width:
            yield NUMBERS, "number", width

    def apply(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """What the features get of these columns. ArgumentError for one that is missing or of another kind."""
        made: dict[str, Any] = {}
        numbers: list[np.ndarray] = []
        for name, told in self.columns.items():
            if name not in columns:
                raise ArgumentError(f"expected a column {name!r}, as in training; got {', '.join(map(repr, columns))}")
            column = columns[name]
            if told["kind"] == "number":
                values = _to_numbers(name, column)
                numbers.append(_standardised(values, told))
                made[f"{self._places[name]} range"] = _ranges(values, told)
            elif told["kind"] == "bag":
                made[self._places[name]] = _without_nulls(column, [])
            else:
                made[self._places[name]] = _to_ids(name, column, told["null"])
        if numbers:
            made[NUMBERS] = np.stack(numbers, axis=1)
        return made


# --- columns of any make ---------------------------------------------------------------------------------------------


def tidy(columns: Any) -> tuple[dict[str, Any], int]:
    """Columns by name, each an Arrow array, a NumPy array or a list, and how many rows they have.

    columns: a dict of lists, arrays, Arrow or pandas columns, or an Arrow table or data frame. Raises ArgumentError if
    they aren't that, or of several lengths.
    """
    names = getattr(columns, "column_names", getattr(columns, "columns", None))
    if isinstance(columns, Mapping):
        given = dict(cast("Mapping[Any, Any]", columns))
    elif names is not None and not callable(names):
        twice = [name for name in names if list(names).count(name) > 1]
        if twice:
            raise ArgumentError(f"there are several columns {twice[0]!r}; rename all but one of them")
        given = {name: columns[name] for name in names}
    else:
        given = {}
    if not given:
        raise ArgumentError(
            f'expected columns by name, such as {{"user": ["ann"], "age": [41.0]}}, or a table; got {columns!r:.80}'
        )
    made = {str(name): _plain(column) for name, column in given.items()}
    rows = {name: len(column) for name, column in made.items()}
    if len(set(rows.values())) > 1:
        raise ArgumentError(
            f"columns must be of one length; got {', '.join(f'{n} {name!r}' for name, n in rows.items())}"
        )
    return made, next(iter(rows.values()))


def _plain(column: Any) -> Any:
    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    if is_arrow(column):
        return column.dictionary_decode() if hasattr(column, "dictionary") else column
    if isinstance(column, (list, tuple)):
        return list(cast("list[Any]", column))
    values = np.asarray(column)  # of NumPy, pandas, polars
    if values.dtype == object and hasattr(column, "isna"):  # pandas has several nulls
        values = values.copy()
        values[np.asarray(column.isna())] = None
    return values


def is_arrow(column: Any) -> bool:
    """Whether it is an Arrow array, which this room doesn't import."""
    return hasattr(column, "null_count") and hasattr(column, "take") and hasattr(column, "fill_null")


def take(column: Any, rows: np.ndarray) -> Any:
    """These rows of a tidy column."""
    if isinstance(column, list):
        return [column[row] for row in rows]
    return column.take(rows)


def kind_of(column: Any) -> str:
    """What lists are is "bag", what floats are "number", and all else "id"."""
    if is_arrow(column):
        kind = str(column.type)
        return "bag" if "list<" in kind else "number" if kind in {"float", "double", "halffloat"} else "id"
    if isinstance(column, np.ndarray) and column.dtype != object:
        return "number" if column.dtype.kind == "f" else "id"
    first = next((value for value in column if not _is_null(value)), None)
    if isinstance(first, (list, tuple, np.ndarray)):
        return "bag"
    if isinstance(first, str):  # beside which NaN is a null, as pandas has it
        return "id"
    return "number" if any(isinstance(value, (float, np.floating)) for value in column) else "id"


def _sort_of_ids(column: Any) -> str:
    """Of which of "string", "int64" and "uint64" null is to be one; what can't be an id, the table will refuse."""
    if is_arrow(column):
        kind = str(column.type)
        return kind if kind == "uint64" else "int64" if kind.startswith(("int", "uint")) else "string"
    if isinstance(column, np.ndarray) and column.dtype != object:
        return "uint64" if column.dtype == np.uint64 else "int64" if column.dtype.kind in "iu" else "string"
    first = next((value for value in column if not _is_null(value)), "")
    if not isinstance(first, (int, np.integer)):
        return "string"
    return "uint64" if any(not _is_null(value) and value >= 2**63 for value in column) else "int64"


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


def _bools_as_text(column: Any) -> Any:
    """true and false, as Arrow writes them; other columns as they are."""
    if is_arrow(column):
        return column.cast("large_string") if str(column.type) == "bool" else column
    if isinstance(column, np.ndarray) and column.dtype != object:
        return np.where(column, "true", "false") if column.dtype == bool else column
    if any(isinstance(value, (bool, np.bool_)) for value in column):
        return [str(bool(value)).lower() if isinstance(value, (bool, np.bool_)) else value for value in column]
    return column


def _to_ids(name: str, column: Any, null: Any) -> Any:
    try:
        if is_arrow(column) and column.null_count == len(column):
            return [null] * len(column)
        return _without_nulls(_bools_as_text(column), null)
    except (TypeError, ValueError) as error:  # Arrow's, too
        kind = "text" if isinstance(null, str) else "whole numbers"
        raise ArgumentError(f"column {name!r} has ids that are {kind}, as in training; got {column.type}") from error


def _without_nulls(column: Any, null: Any) -> Any:
    if is_arrow(column):
        if not column.null_count:
            return column
        if null == []:
            return [[] if value is None else value for value in column.to_pylist()]
        return column.fill_null(null)
    if isinstance(column, np.ndarray) and column.dtype != object:
        return column
    return [null if _is_null(value) else value for value in column]


# --- numbers ---------------------------------------------------------------------------------------------------------


def _to_numbers(name: str, column: Any) -> np.ndarray:
    """float64 (n,), null as NaN."""
    try:
        if is_arrow(column):
            column = column.to_numpy(zero_copy_only=False)
        numbers = np.array(
            [np.nan if value is None else value for value in column] if isinstance(column, list) else column
        )
        numbers = numbers.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"column {name!r} is of numbers, and has something else: {error}") from error
    return np.clip(numbers, -_LARGEST, _LARGEST)


def _learn_number(name: str, numbers: np.ndarray) -> dict[str, Any]:
    there = np.sort(numbers[~np.isnan(numbers)])
    if not len(there):
        raise ArgumentError(f"column {name!r} is of numbers, and all of them are missing: leave it out")
    near = np.clip(there, *np.quantile(there, [0.005, 0.995]))  # one enormous value would make all others the same
    middle, spread = float(near.mean()), float(near.std())
    return {"mean": middle, "std": spread or 1.0, "edges": _edges(there).tolist()}


def _edges(ordered: np.ndarray) -> np.ndarray:
    """Where one range ends and the next begins: each has its share of the rows that are left, or one frequent value.

    >>> import numpy as np
    >>> _edges(np.array([0.0] * 60 + [1, 2, 3, 4] * 10)).tolist()
    [0.5, 1.5, 2.5, 3.5]
    """
    values, counts = np.unique(ordered, return_counts=True)
    between = values[:-1] / 2 + values[1:] / 2
    if len(values) <= _RANGES:
        return between
    edges: list[float] = []
    held, left, ranges = 0, len(ordered), _RANGES
    for i, middle in enumerate(between):
        held += int(counts[i])
        share = left / ranges
        if held >= share or counts[i + 1] >= share:
            edges.append(float(middle))
            held, left, ranges = 0, left - held, max(1, ranges - 1)
    return np.array(edges)


def _standardised(numbers: np.ndarray, told: dict[str, Any]) -> np.ndarray:
    with np.errstate(over="ignore"):
        far = np.clip((numbers - told["mean"]) / told["std"], -_FAR, _FAR)
    return np.where(np.isnan(far), 0, far).astype(np.float32)


def _ranges(numbers: np.ndarray, told: dict[str, Any]) -> np.ndarray:
    return np.where(np.isnan(numbers), _NO_RANGE, np.searchsorted(told["edges"], numbers)).astype(np.int64)


def _check_told(name: str, told: Any) -> None:
    wanted = {"id": {"kind", "null"}, "bag": {"kind"}, "number": {"kind", "mean", "std", "edges"}}
    kind = cast("dict[str, Any]", told).get("kind") if isinstance(told, dict) else None
    if kind not in wanted or set(told) != wanted[kind]:
        raise CorruptError(f"column {name!r} isn't described as a save does: {told!r:.80}")
    if kind == "id" and told["null"] not in _NULLS.values():
        raise CorruptError(f"column {name!r} has {told['null']!r:.40} for null")
    if kind == "number":
        numbers = [told["mean"], told["std"], *told["edges"]] if isinstance(told["edges"], list) else [None]
        if not all(isinstance(n, (int, float)) and np.isfinite(n) for n in numbers) or told["std"] <= 0:
            raise CorruptError(f"column {name!r} has a mean, a spread or ranges that aren't numbers")
