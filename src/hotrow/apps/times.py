"""When each pair was: a column of numbers, dates, timestamps or text as one array that can be compared.

    in the file                              becomes
    integers, floats                         themselves
    dates, timestamps of any unit and zone   int64 microseconds since 1970, in UTC where there is a zone
    text that is numbers                     int64, or float64
    text in ISO 8601, 2010-12-31T08:26       int64 microseconds
    text with day and month, 31/12/2010      the same, if exactly one order of them fits every value
    text, and a format is given              the same, by that format alone

Text is never sorted as text. What forms there are, forms.py tells.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np

from hotrow.apps import forms
from hotrow.apps.arrow import Array, compute, is_text, pa
from hotrow.apps.distinct import Distinct, encode
from hotrow.apps.forms import Parsed
from hotrow.errors import DataError, KindError

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_WAY_OUT = "give --time-format, for example --time-format '%d/%m/%Y %H:%M'"


class Times:
    """Collects a column of times, some rows at a time.

    Text that begins as numbers or in ISO 8601 must go on so, and is read as it comes; of other text the distinct values
    are kept, for only all of them can tell the day from the month.
    """

    def __init__(self, name: str, form: str | None) -> None:
        self._name, self._form = name, form
        self._sort = ""
        self._numbers = array("q")
        self._distinct: Distinct | None = None
        self._read: Callable[[Array, str], np.ndarray] | None = None
        self._words = ""

    def add(self, column: Array) -> None:
        """Some more rows, without nulls."""
        if pa.types.is_dictionary(column.type) and not is_text(column.type):
            column = column.dictionary_decode()
        if self._form is not None and pa.types.is_integer(column.type):
            column = column.cast(pa.large_string())  # 20101231
        sort = _sort_of(column.type, self._name)
        if self._form is not None and sort != "text":
            raise DataError(f"time column {self._name!r} is {column.type}: leave out --time-format {self._form!r}")
        if sort != (self._sort or sort):
            raise KindError(f"time column {self._name!r} is {self._sort} in one file and {sort} in another")
        self._sort = sort
        if sort == "text":
            self._add_text(*encode(column))
        else:
            self._append(from_column(column, self._name))

    def _add_text(self, values: Array, codes: np.ndarray) -> None:
        values = values.cast(pa.large_string())
        if not self._words:
            self._read, self._words = self._way(values)
        if self._read is not None:
            self._append(self._read(values, self._name)[codes])
        else:
            self._distinct = self._distinct or Distinct()
            self._distinct.add(values, codes)

    def _way(self, first: Array) -> tuple[Callable[[Array, str], np.ndarray] | None, str]:
        """How text like this is read, in words, too; None where it takes all of the text to know."""
        form = self._form
        if form is not None:
            return lambda texts, name: by_format(texts, name, form), f"text in the form {form}"
        if _are_numbers(first).all():
            return by_number, "text that is numbers"
        if forms.parse_iso(first).fits.all():
            return by_iso, "text in ISO 8601"
        return None, "text"

    def _append(self, found: np.ndarray) -> None:
        if found.dtype == np.float64 and self._numbers.typecode == "q":  # 1, 2, 2.5
            self._numbers = array("d", self._numbers)
        elif self._numbers.typecode == "d":
            found = found.astype(np.float64)
        self._numbers.frombytes(np.ascontiguousarray(found).data.cast("B"))

    def finish(self) -> tuple[np.ndarray, str]:
        """int64 or float64 (n,), and in words what text was taken for."""
        if self._distinct is not None:
            values, codes = self._distinct.finish()
            found, form = by_day_and_month(values, self._name)
            return found[codes], f"text in the form {form}"
        return np.frombuffer(self._numbers, np.int64 if self._numbers.typecode == "q" else np.float64), self._words


def _sort_of(kind: Any, name: str) -> str:
    """What can be compared with one another."""
    types = pa.types
    if is_text(kind):
        return "text"
    if types.is_timestamp(kind) or types.is_date(kind):
        return "times"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "numbers"
    raise KindError(f"column {name!r} can't be times: it is {kind}. Times are numbers, dates, timestamps or text")


def from_column(column: Array, name: str) -> np.ndarray:
    """Numbers, dates and timestamps, without nulls: int64 or float64 (n,). Nanoseconds are cut off."""
    kind: Any = column.type
    try:
        if _sort_of(kind, name) == "times":
            finer = getattr(kind, "unit", "") == "ns"
            column = column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=not finer)
        whole = not pa.types.is_floating(kind) and not pa.types.is_decimal(kind)
        return column.cast(pa.int64() if whole else pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise DataError(f"time column {name!r}, which is {kind}, has a value that is out of range: {error}") from error


# --- text: distinct values as large_string (n,) → int64 or float64 (n,) ----------------------------------------------


def by_number(texts: Array, name: str) -> np.ndarray:
    """Integers, or else floats."""
    try:
        return texts.cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        _check(_are_numbers(texts), texts, name, f"while others are numbers: mend it, or {_WAY_OUT}")
        plain = compute.replace_substring_regex(texts, r"^\+", "")  # which Arrow doesn't take
        return plain.cast(pa.float64()).to_numpy(zero_copy_only=False)


def by_iso(texts: Array, name: str) -> np.ndarray:
    """ISO 8601."""
    parsed = forms.parse_iso(texts)
    _check(parsed.fits, texts, name, f"while others are in ISO 8601: mend it, or {_WAY_OUT}")
    return parsed.times


def by_format(texts: Array, name: str, form: str) -> np.ndarray:
    """A format of `datetime.strptime`."""
    parsed = forms.parse_format(texts, form)
    _check(parsed.fits, texts, name, f"which isn't in the form of --time-format {form!r}")
    return parsed.times


def by_day_and_month(texts: Array, name: str) -> tuple[np.ndarray, str]:
    """The one order of day, month and year that fits every text, and this order as a format.

    >>> from hotrow.apps.arrow import pa
    >>> by_day_and_month(pa.array(["31/12/2010 8:26", "01/12/2010 20:00"]), "when")
    (array([1293783960000000, 1291233600000000]), '%d/%m/%Y')
    """
    first = texts[0].as_py()
    sign = next((sign for sign in "/-." if sign in first), "-")
    orders = forms.parse_day_and_month(texts, sign)
    fitting = [parsed for parsed in orders if parsed.fits.all()]
    if not fitting:
        number = Parsed("numbers", np.zeros(len(texts), np.int64), _are_numbers(texts))
        raise DataError(_unparsable(texts, name, [number, forms.parse_iso(texts), *orders]))
    for other in fitting[1:]:
        _check_same(texts, name, fitting[0], other)
    return fitting[0].times, fitting[0].form


def _are_numbers(texts: Array) -> np.ndarray:
    return compute.match_substring_regex(texts, _NUMBER).to_numpy(zero_copy_only=False)


def _check(fits: np.ndarray, texts: Array, name: str, why: str) -> None:
    if not fits.all():
        raise DataError(f"time column {name!r} has {texts[int(np.argmin(fits))].as_py()[:80]!r}, {why}")


def _check_same(texts: Array, name: str, one: Parsed, other: Parsed) -> None:
    """Refuse texts that are different times by different forms; 5/5/2010 alone would do no harm."""
    differ = one.times != other.times
    if not differ.any():
        return
    i = int(np.argmax(differ))
    text = texts[i].as_py()
    first, second = (str(parsed.times[i].astype("M8[us]").astype("M8[D]")) for parsed in (one, other))
    raise DataError(
        f"time column {name!r} is ambiguous: {text!r} is {first} as {one.form} and {second} as {other.form}, and both "
        f"forms fit every value. Say which: --time-format {forms.like(one.form, text)!r} or "
        f"--time-format {forms.like(other.form, text)!r}"
    )


def _unparsable(texts: Array, name: str, tried: list[Parsed]) -> str:
    """What to say of texts that no form fits: the first that is odd by the form that fits most."""
    best = max(tried, key=lambda parsed: (int(parsed.fits.sum()), bool(parsed.fits[0])))
    text = texts[int(np.argmin(best.fits))].as_py()[:80]
    if not best.fits.any():
        return f"time column {name!r} isn't in a form that is known; its first value is {text!r}: {_WAY_OUT}"
    return f"time column {name!r} has {text!r}, while others are in the form {best.form}: mend it, or {_WAY_OUT}"
