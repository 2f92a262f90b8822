"""A column of dates as what one can learn from: hour, weekday and month as ids, the day as a number."""

from __future__ import annotations

import numpy as np

from hotrow.apps import forms, times
from hotrow.apps.arrow import Array, is_text, pa
from hotrow.errors import DataError

TYPED = "timestamps"
DAYS = "dates"
_ISO = "ISO 8601"
_DAY = 86_400_000_000  # microseconds
_WEEKDAYS = np.array(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"], object)


def form_of(texts: Array) -> str:
    """The one form of dates that fits each of these texts, without nulls; "" if there is none."""
    some = texts.slice(0, 1000)
    distinct = some.unique()
    if forms.parse_iso(distinct).fits.all():
        return _ISO if forms.parse_iso(texts.unique()).fits.all() else ""
    first = distinct[0].as_py()
    if not any(sign in first for sign in "/-.") or not first[:1].isdigit():
        return ""
    try:
        return times.by_day_and_month(texts.unique(), "")[1]
    except DataError:  # no dates, or which is the day and which the month isn't clear
        return ""


def micros(column: Array, form: str) -> np.ndarray:
    """float64 (n,) microseconds since 1970, null as NaN; DataError for text that isn't in the form."""
    found = np.full(len(column), np.nan)
    there = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    values = column.drop_null()
    if len(values):
        found[there] = _read(values, form)
    return found


def _read(values: Array, form: str) -> np.ndarray:
    if not is_text(values.type):
        if not pa.types.is_timestamp(values.type) and not pa.types.is_date(values.type):
            raise DataError(f"expected dates, timestamps or text, as in training; got {values.type}")
        return times.from_column(values, form)
    if form in {_ISO, TYPED, DAYS}:
        return times.by_iso(values, "of dates")
    sign = next(sign for sign in "/-." if sign in form)
    parsed = next(parsed for parsed in forms.parse_day_and_month(values, sign) if parsed.form == form)
    if not parsed.fits.all():
        bad = values[int(np.argmin(parsed.fits))].as_py()
        raise DataError(f"{bad!r:.40} isn't a date in the form {form}, as all were in training")
    return parsed.times


def parts(column: Array, form: str) -> dict[str, tuple[str, Array]]:
    """{"hour": ("id", …), "weekday": ("id", …), "month": ("id", …), "day": ("number", …)}, null where there is none."""
    found = micros(column, form)
    null = np.isnan(found)
    whole = np.where(null, 0, found).astype(np.int64)
    days = whole // _DAY
    month = days.astype("M8[D]").astype("M8[M]").astype(np.int64) % 12 + 1
    weekday = _WEEKDAYS[(days + 3) % 7]
    made = {
        "hour": ("id", pa.array(whole % _DAY // 3_600_000_000, mask=null)),
        "weekday": ("id", pa.array(weekday, pa.large_string(), mask=null)),
        "month": ("id", pa.array(month, mask=null)),
        "day": ("number", pa.array(days.astype(np.float64), mask=null)),
    }
    if form == DAYS:
        del made["hour"]
    return made
