"""What each column of a file is: discrete, a bag, a number, a date, or nothing to learn from. And why.

    text                                        discrete; a date if every value is one; numbers, of CSV, if all are
    text "a|b|c", "a, b", of CSV                a bag, if the same few parts come again in other company
    lists                                       a bag
    bool                                        discrete
    whole numbers, floats that are all whole    discrete where they are few: at most 1,000 values with 100 rows each,
                                                or 20 with 5; or where the name says it, id, user_id or CityCode. Else
                                                a number
    other floats                                a number
    dates and times                             hour, weekday and month as discrete, and the day as a number
    each row another, or all rows the same      left out

The caller's word comes first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hotrow.apps import dates
from hotrow.apps.arrow import Array, compute, is_text, pa
from hotrow.errors import DataError

DISCRETE, BAG, NUMBER, DATE, OUT = "discrete", "bag", "number", "date", "left out"

_IDS = re.compile(r"(?i:id|ids|code|key|zip|zipcode)|.*[_\- ](?i:id|code|key)|.*[a-z](Id|ID|Code|Key)")
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_CANONICAL = r"^(0|-?[1-9][0-9]{0,17})$"
_NAMES_A_THING = r"^(0[0-9]+|[0-9]{19,})$"  # 007 and 7 may be two things, and beyond int64 nothing is counted
_FEW = ((20, 5), (1000, 100))
"""So many whole numbers at most, and so many rows for each on average."""
_UNIQUE_FROM = 20  # rows; of fewer it says little that each has its own value
_SEPARATORS = {"|": r"\s*\|\s*", ";": r"\s*;\s*", ",": r"\s*,\s*"}


@dataclass(frozen=True)
class Told:
    """What a column is.

    name   in the file
    kind   "discrete", "bag", "number", "date" or "left out"
    why    in words
    nulls  rows without a value
    gets   in words, what the model gets of it
    form   "int64", "uint64", "bool" or "string" for what ids are; the form of dates; else ""
    sep    what separates the parts of a bag in text; else ""
    """

    name: str
    kind: str
    why: str
    nulls: int
    gets: str
    form: str = ""
    sep: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON values, from which `Told(**values)` is the same."""
        return asdict(self)


def tell(name: str, column: Array, *, text: bool, forced: str = "", sep: str = "") -> Told:
    """What a column is. forced: the kind that the caller wants, by which sep may part a bag; text: it is of CSV."""
    if forced == OUT:
        return Told(name, OUT, "as asked for", column.null_count, "nothing")
    found = _Column(name, column, text=text)
    if forced:
        return found.as_asked(forced, sep)
    return found.tell()


class _Column:
    """A column that is looked at."""

    def __init__(self, name: str, column: Array, *, text: bool) -> None:
        self.name, self.text, self.nulls = name, text, int(column.null_count)
        self.there = column.drop_null()
        self.type = column.type
        self.is_list = pa.types.is_list(self.type) or pa.types.is_large_list(self.type)

    def _told(self, kind: str, why: str, gets: str, form: str = "", sep: str = "") -> Told:
        return Told(self.name, kind, why, self.nulls, gets, form, sep)

    def out(self, why: str) -> Told:
        return self._told(OUT, why, "nothing")

    def discrete(self, why: str, form: str) -> Told:
        null = ", null is one" if self.nulls else ""
        return self._told(DISCRETE, why, f"an id a value{null}", form)

    def number(self, why: str) -> Told:
        null = "; null: the mean, and a range of its own" if self.nulls else ""
        return self._told(NUMBER, why, f"the number, and its range{null}")

    def bag(self, why: str, form: str, sep: str = "") -> Told:
        return self._told(BAG, why, "the mean of its ids", form, sep)

    def date(self, form: str, why: str) -> Told:
        hour = "" if form == dates.DAYS else "hour, "
        return self._told(DATE, why, f"{hour}weekday, month as ids, the day as a number", form)

    def tell(self) -> Told:
        """By what is in it."""
        if not len(self.there):
            return self.out("no value in any row")
        return self._tell_list("lists of") if self.is_list else self._tell_values()

    def _tell_values(self) -> Told:
        types = pa.types
        if types.is_timestamp(self.type) or types.is_date(self.type):
            return self.date(dates.DAYS if types.is_date(self.type) else dates.TYPED, f"{self.type}")
        if is_text(self.type):
            return self._tell_text()
        if types.is_boolean(self.type):
            return self._tell_discrete("values of bool", "bool")
        if types.is_integer(self.type) or types.is_floating(self.type) or types.is_decimal(self.type):
            return self._tell_number(self.there)
        return self.out(f"{self.type} can't be learned from")

    def as_asked(self, kind: str, sep: str) -> Told:
        """As the caller wants it; DataError if that can't be."""
        why = "as asked for"
        if kind == DISCRETE and not self.is_list:
            return self.discrete(why, self._form_of_ids())
        if kind == NUMBER and self._are_numbers():
            return self.number(why)
        if kind == BAG and self.is_list:
            return self._tell_list("as asked for, lists of")
        if kind == BAG and is_text(self.type):
            sep = sep or next((sign for sign in _SEPARATORS if self._share_with(sign)), ",")
            return self.bag(f"{why}, parted by {sep!r}", "string", sep)
        raise DataError(f"column {self.name!r} can't be {kind}: it is {self.type}{self._example()}")

    def _example(self) -> str:
        return f", such as {self.there[0].as_py()!r:.40}" if len(self.there) else ""

    def _are_numbers(self) -> bool:
        if is_text(self.type):
            return self._all(_NUMBER)
        types = pa.types
        return bool(types.is_integer(self.type) or types.is_floating(self.type) or types.is_decimal(self.type))

    def _all(self, pattern: str) -> bool:
        return bool(compute.all(compute.match_substring_regex(self.there, pattern)).as_py())

    def _form_of_ids(self) -> str:
        if is_text(self.type):
            return "int64" if self.text and self._all(_CANONICAL) else "string"
        if pa.types.is_boolean(self.type):
            return "bool"
        if pa.types.is_uint64(self.type):
            return "uint64"
        if pa.types.is_integer(self.type) or _are_whole(self.there):
            return "int64"
        raise DataError(f"column {self.name!r} can't be discrete: it is {self.type}{self._example()}")

    # --- by what is in it ----------------------------------------------------------------------------------------

    def _tell_list(self, words: str) -> Told:
        values = self.type.value_type
        if is_text(values) or pa.types.is_integer(values):
            form = "string" if is_text(values) else "uint64" if pa.types.is_uint64(values) else "int64"
            return self.bag(f"{words} {'strings' if form == 'string' else 'whole numbers'}", form)
        return self.out(f"{self.type} can't be learned from")

    def _tell_discrete(self, words: str, form: str) -> Told:
        distinct = compute.count_distinct(self.there).as_py()
        if distinct == 1 and not self.nulls:
            return self.out("the same in every row")
        if distinct == len(self.there) >= _UNIQUE_FROM:
            return self.out("each row has its own")
        return self.discrete(f"{distinct:,} distinct {words}", form)

    def _tell_text(self) -> Told:
        if self.text and self._are_numbers():
            if compute.any(compute.match_substring_regex(self.there, _NAMES_A_THING)).as_py():
                return self._tell_discrete("strings of digits", "string")
            whole = self._all(_CANONICAL)
            return self._tell_number(
                self.there.cast(pa.int64() if whole else pa.float64()) if whole else _floats(self.there)
            )
        form = dates.form_of(self.there)
        if form:
            return self.date(form, f"text in the form {form}")
        sep = self._separator() if self.text else ""
        if sep:
            return self.bag(f"text parted by {sep!r}", "string", sep)
        return self._tell_discrete("strings", "string")

    def _tell_number(self, values: Array) -> Told:
        distinct, rows = compute.count_distinct(values).as_py(), len(values)
        if distinct == 1 and not self.nulls:
            return self.out("the same in every row")
        if not pa.types.is_integer(values.type) and not _are_whole(values):
            return self.number(f"numbers, {distinct:,} distinct")
        form = "uint64" if pa.types.is_uint64(values.type) else "int64"
        named = bool(_IDS.fullmatch(self.name.partition(":")[0]))
        if distinct == rows >= _UNIQUE_FROM and (named or pa.types.is_integer(values.type)):
            return self.out("each row has its own")
        if named:
            return self.discrete(f"{distinct:,} distinct whole numbers, by the name ids", form)
        if any(distinct <= most and rows >= each * distinct for most, each in _FEW):
            return self.discrete(f"{distinct:,} distinct whole numbers", form)
        return self.number(f"whole numbers, {distinct:,} distinct")

    def _share_with(self, sign: str) -> float:
        with_it = compute.sum(compute.match_substring(self.there, sign)).as_py()
        return (with_it or 0) / max(1, len(self.there))

    def _separator(self) -> str:
        """What parts the values of text into a bag, only where it is clear: "" else."""
        for sign, pattern in _SEPARATORS.items():
            if self._share_with(sign) < 0.2:
                continue
            wholes = compute.unique(self.there)
            parts = compute.split_pattern_regex(wholes, pattern).flatten()
            distinct = compute.unique(parts)
            longest = compute.max(compute.utf8_length(distinct)).as_py()
            # The same parts in other company: titles and addresses with commas have hardly any.
            if len(distinct) * 2 <= len(wholes) and len(distinct) * 4 <= len(parts) and longest <= 40:
                return sign
        return ""


def _are_whole(values: Array) -> bool:
    if pa.types.is_integer(values.type):
        return True
    floats = _floats(values)
    small = compute.less(compute.abs(floats), 2.0**53)
    return bool(compute.all(compute.and_(compute.equal(floats, compute.floor(floats)), small)).as_py())


def _floats(values: Array) -> Array:
    if is_text(values.type):
        values = compute.replace_substring_regex(values, r"^\+", "")  # which Arrow doesn't take
    return values.cast(pa.float64())


# --- columns as they were told ---------------------------------------------------------------------------------------


def made(told: Told, column: Array) -> dict[str, tuple[str, Array]]:
    """{"name": (kind of `Classifier`, column)} of a column; DataError for values that aren't what was told."""
    try:
        if told.kind == DISCRETE:
            return {told.name: ("id", _ids(column, told.form))}
        if told.kind == NUMBER:
            return {told.name: ("number", _floats(column))}
        if told.kind == BAG:
            return {told.name: ("bag", _bags(column, told))}
        if told.kind == DATE:
            return {f"{told.name} ({part})": given for part, given in dates.parts(column, told.form).items()}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"column {told.name!r} isn't {told.kind} here, as it was in training: {error}") from error
    return {}


def _ids(column: Array, form: str) -> Array:
    if form == "string":
        if pa.types.is_boolean(column.type):  # true and True would be two ids
            raise pa.ArrowInvalid("it is bool, and was text")
        return column.cast(pa.large_string())
    if form == "bool":
        return column.cast(pa.bool_()).cast(pa.large_string())
    kind = pa.uint64() if form == "uint64" else pa.int64()
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        if not is_text(column.type):
            raise
        return _floats(column).cast(kind)  # 7.0, as integers are written where others are missing


def _bags(column: Array, told: Told) -> Array:
    if told.sep:
        pattern = _SEPARATORS.get(told.sep, re.escape(told.sep))
        lists = compute.split_pattern_regex(column.cast(pa.large_string()), pattern)
        return lists.cast(pa.large_list(pa.large_string()))
    values = {"string": pa.large_string(), "uint64": pa.uint64()}.get(told.form, pa.int64())
    return _without_null_parts(column.cast(pa.large_list(values)))


def _without_null_parts(lists: Array) -> Array:
    """["a", null] as ["a"]; a null list stays one."""
    parts = compute.list_flatten(lists)
    if not parts.null_count:
        return lists
    there = parts.is_valid()
    rows = compute.list_parent_indices(lists).filter(there).to_numpy()
    ends = np.cumsum(np.bincount(rows, minlength=len(lists)))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, parts.filter(there), mask=lists.is_null())


def forced_kinds(asked: Mapping[str, list[str]], names: list[str]) -> dict[str, tuple[str, str]]:
    """{"column": (kind, separator)} of what the caller asks for by kind; DataError for columns that aren't there."""
    from hotrow.apps.naming import listed, position_of

    forced: dict[str, tuple[str, str]] = {}
    for kind, columns in asked.items():
        for given in columns:
            name, sep = given, ""
            if kind == BAG and position_of(given, names) is None:
                name, _, sep = given.partition("=")
            place = position_of(name, names)
            if place is None:
                raise DataError(f"there is no column {name!r}; there are {listed(names)}")
            if names[place] in forced:
                raise DataError(f"column {name!r} is asked to be {forced[names[place]][0]} and {kind}; leave one")
            forced[names[place]] = kind, sep
    return forced
