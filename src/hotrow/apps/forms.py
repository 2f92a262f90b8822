"""Texts in a form, as microseconds since 1970: ISO 8601, day and month in either order, and the formats of strptime.

    "2010-12-31T08:26:00+01:00"    ISO 8601
    "31/12/2010 8:26"              %d/%m/%Y, which a time of day may follow
    "31 Dec 2010"                  "%d %b %Y", by strptime itself

A form is a regular expression whose groups are the fields of a time, so Arrow takes all texts apart at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from hotrow.apps.arrow import Array, compute, pa

_FIELDS = {
    "%Y": r"(?P<Y>[0-9]{4})",
    "%y": r"(?P<y>[0-9]{2})",
    "%m": r"(?P<m>1[0-2]|0?[1-9])",
    "%d": r"(?P<d>3[01]|[12][0-9]|0?[1-9])",
    "%H": r"(?P<H>2[0-3]|[01]?[0-9])",
    "%M": r"(?P<M>[0-5]?[0-9])",
    "%S": r"(?P<S>[0-5]?[0-9])",
    "%f": r"(?P<f>[0-9]{1,6})",
    "%I": r"(?P<H>1[0-2]|0?[1-9])",
    "%p": r"(?P<p>[AaPp])[Mm]",
}
_SECONDS = r"(?::(?P<S>[0-9]{2})(?:[.,](?P<f>[0-9]{1,9}))?)?"
_CLOCK = rf"(?:[Tt ](?P<H>[0-9]{{1,2}}):(?P<M>[0-9]{{2}}){_SECONDS}(?: ?(?P<p>[AaPp])[Mm])?)?"
_ZONE = r"(?: ?(?:[Zz]|(?P<sign>[+-])(?P<hours>[0-9]{2})(?::?(?P<minutes>[0-9]{2}))?))?"
_ISO = (
    r"^(?P<Y>[0-9]{4})[-/.](?P<m>[0-9]{1,2})[-/.](?P<d>[0-9]{1,2})"
    rf"(?:[Tt ](?P<H>[0-9]{{2}}):(?P<M>[0-9]{{2}}){_SECONDS}{_ZONE})?$"
)
_ORDERS = ("%d{0}%m{0}%Y", "%m{0}%d{0}%Y", "%d{0}%m{0}%y", "%m{0}%d{0}%y")


@dataclass(frozen=True)
class Parsed:
    """Texts read in one form: `times` int64 microseconds (n,), which count where `fits` bool (n,)."""

    form: str
    times: np.ndarray
    fits: np.ndarray


def parse_iso(texts: Array) -> Parsed:
    """ISO 8601, dates or times, with the year first and "/" or "." allowed for "-"; no offset counts as UTC.

    >>> from hotrow.apps.arrow import pa
    >>> parse_iso(pa.array(["1970-01-02", "1970-01-01T01:00:00.5+01:00", "1970-02-30"])).times[:2]
    array([86400000000,      500000])
    """
    return _parse(texts, _ISO, "ISO 8601")


def parse_day_and_month(texts: Array, sign: str) -> list[Parsed]:
    """Day or month first, the year last, `sign` between them; a time of day may follow, 8:26:59.5 or 8:26 PM."""
    forms = [order.format(sign) for order in _ORDERS]
    return [_parse(texts, f"^{_pattern(form)}{_CLOCK}$", form) for form in forms]


def parse_format(texts: Array, form: str) -> Parsed:
    """A format as `datetime.strptime` has it, all at once if it is of numbers alone."""
    if _is_numeric(re.findall(r"%.?", form)):
        return _parse(texts, f"^{_pattern(form)}$", form)
    found = [_strptime(text, form) for text in texts.to_pylist()]
    times = np.array([time or 0 for time in found], np.int64)
    return Parsed(form, times, np.array([time is not None for time in found], bool))


def like(form: str, text: str) -> str:
    """`form` with the time of day that `text` has.

    >>> like("%d/%m/%Y", "31/12/2010 8:26 PM")
    '%d/%m/%Y %I:%M %p'
    """
    clock = re.search(r"([Tt ])\d+:\d+(:\d+)?([.,]\d+)?(?:( ?)[AaPp][Mm])?$", text)
    if clock is None:
        return form
    between, seconds, fraction, gap = clock.groups()
    hours = "%H:%M" if gap is None else "%I:%M"
    return "".join(
        [form, between, hours, ":%S" if seconds else "", f"{fraction[0]}%f" if fraction else ""]
        + ([] if gap is None else [gap, "%p"])
    )


def _is_numeric(directives: list[str]) -> bool:
    """Whether a format has a whole date and, of what `_parse` knows, nothing twice."""
    once = len(set(directives)) == len(directives)
    year, half = {"%Y", "%y"} & {*directives}, {"%I", "%p"} & {*directives}
    clock = len(half) != 1 and not {"%H", "%I"} <= {*directives}
    return once and len(year) == 1 and clock and {"%m", "%d"} <= {*directives} <= {*_FIELDS}


def _pattern(form: str) -> str:
    """The regular expression of a format whose directives are all in _FIELDS."""
    return "".join(_FIELDS.get(part) or re.escape(part) for part in re.split(r"(%.)", form))


def _strptime(text: str, form: str) -> int | None:
    try:
        time = datetime.strptime(text, form)  # noqa: DTZ007, for a zone is the format's business
    except ValueError:
        return None
    since = time.replace(tzinfo=time.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds


# --- fields ----------------------------------------------------------------------------------------------------------


class _Fields:
    """The groups that a regular expression finds in each text."""

    def __init__(self, texts: Array, pattern: str) -> None:
        self.found = compute.extract_regex(texts, pattern)
        self.names = {field.name for field in self.found.type}

    def text(self, name: str) -> Array:
        """The group, "" where it didn't take part."""
        return compute.fill_null(self.found.field(name), "")

    def number(self, name: str, otherwise: int = 0) -> np.ndarray:
        """The group as int64, `otherwise` where there is none."""
        if name not in self.names:
            return np.full(len(self.found), otherwise, np.int64)
        return _to_int64(compute.if_else(compute.equal(self.text(name), ""), str(otherwise), self.text(name)))

    def matches(self, name: str, letters: str) -> np.ndarray:
        """Whether the group is one of these letters."""
        if name not in self.names:
            return np.zeros(len(self.found), bool)
        one = compute.is_in(self.text(name), pa.array(list(letters), self.found.type.field(name).type))
        return one.to_numpy(zero_copy_only=False)


def _to_int64(digits: Array) -> np.ndarray:
    return digits.cast(pa.int64()).to_numpy(zero_copy_only=False)


def _parse(texts: Array, pattern: str, form: str) -> Parsed:
    """By a regular expression, with a check that there is such a day and such a time."""
    fields = _Fields(texts, pattern)
    days, is_day = _days(_years(fields), fields.number("m", 1), fields.number("d", 1))
    hours, is_hour = _hours(fields)
    minutes, seconds = fields.number("M"), fields.number("S")
    east, is_offset = _minutes_east(fields)
    times = (((days * 24 + hours) * 60 + minutes - east) * 60 + seconds) * 1_000_000 + _microseconds(fields)
    fits = fields.found.is_valid().to_numpy(zero_copy_only=False)
    return Parsed(form, times, fits & is_day & is_hour & is_offset & (minutes < 60) & (seconds < 60))


def _years(fields: _Fields) -> np.ndarray:
    """Two digits are 1969 to 2068, as strptime has it."""
    if "y" not in fields.names:
        return fields.number("Y", 1970)
    short = fields.number("y")
    return short + np.where(short < 69, 2000, 1900)


def _days(years: np.ndarray, months: np.ndarray, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Days since 1970, and whether there is such a day: 29 February is one in some years."""
    month = ((years - 1970) * 12 + months - 1).astype("M8[M]")
    day = month.astype("M8[D]") + (days - 1)
    is_day = (day.astype("M8[M]") == month) & (months > 0) & (months < 13) & (years > 0)
    return day.astype(np.int64), is_day


def _hours(fields: _Fields) -> tuple[np.ndarray, np.ndarray]:
    """The hour of the day, and whether there is such an hour: 12 AM is 0, 12 PM is 12."""
    hours, morning, evening = fields.number("H"), fields.matches("p", "Aa"), fields.matches("p", "Pp")
    half = morning | evening
    is_hour = np.where(half, (hours > 0) & (hours < 13), hours < 24)
    return np.where(half, hours % 12 + 12 * evening, hours), is_hour


def _minutes_east(fields: _Fields) -> tuple[np.ndarray, np.ndarray]:
    """The offset from UTC, and whether there is such an offset."""
    hours, minutes = fields.number("hours"), fields.number("minutes")
    east = np.where(fields.matches("sign", "-"), -1, 1) * (hours * 60 + minutes)
    return east, (hours < 24) & (minutes < 60)


def _microseconds(fields: _Fields) -> np.ndarray:
    """The fraction of a second; what is finer is cut off."""
    if "f" not in fields.names:
        return np.zeros(len(fields.found), np.int64)
    digits = compute.utf8_rpad(fields.text("f"), 6, "0")
    return _to_int64(compute.utf8_slice_codeunits(digits, 0, 6))
