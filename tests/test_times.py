"""Columns of times: what is taken for what, and what is refused rather than guessed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotrow.apps import distinct, forms, times
from hotrow.errors import DataError, KindError


def read(column, form=None, pieces=1):
    """The times of a column that comes in so many pieces, and what they were taken for."""
    column = column if isinstance(column, pa.Array) else pa.array(column)
    collected = times.Times("when", form)
    size = -(-len(column) // pieces)
    for start in range(0, len(column), size):
        collected.add(column.slice(start, size))
    return collected.finish()


def micros(*when):
    """Microseconds since 1970 of a date and time in UTC."""
    since = datetime(*when, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1)


# --- numbers, dates, timestamps --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint32(), pa.int64(), pa.uint64(), pa.dictionary(pa.int8(), pa.int64())]
)
def test_integers_are_themselves(kind):
    column = pa.array([3, 1, 2]).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array([3, 1, 2], kind)
    found, words = read(column)
    assert (found.dtype, found.tolist(), words) == (np.int64, [3, 1, 2], "")


def test_floats_are_themselves():
    found, _ = read([1.5, -1.0, float("inf")])
    assert (found.dtype, found.tolist()) == (np.float64, [1.5, -1.0, float("inf")])


def test_an_integer_beyond_int64_is_refused():
    with pytest.raises(DataError, match="out of range"):
        read(pa.array([2**63], pa.uint64()))


@pytest.mark.parametrize(
    "kind",
    [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "+02:00", "Europe/Berlin")],
    ids=str,
)
def test_timestamps_of_any_unit_and_zone_are_microseconds_since_1970(kind):
    when = [datetime(2010, 12, 1, 8, 26, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)]
    found, _ = read(pa.array(when, pa.timestamp("us", "UTC")).cast(kind))
    assert (found.dtype, found.tolist()) == (np.int64, [micros(2010, 12, 1, 8, 26), -1_000_000])


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()], ids=str)
def test_dates_are_their_first_moment(kind):
    assert read(pa.array([date(2010, 12, 31)], kind))[0].tolist() == [micros(2010, 12, 31)]


def test_nanoseconds_are_cut_off_and_overflow_is_refused():
    assert read(pa.array([1999], pa.timestamp("ns")))[0].tolist() == [1]
    with pytest.raises(DataError, match="out of range"):
        read(pa.array([2**62], pa.timestamp("s")))


@pytest.mark.parametrize(
    "column", [pa.array([True]), pa.array([1], pa.time32("s")), pa.array([1], pa.duration("s")), pa.array([[1]])]
)
def test_what_is_no_time_is_refused_with_its_type(column):
    with pytest.raises(KindError, match="column 'when' can't be times: it is"):
        read(column)


def test_times_of_two_sorts_cannot_be_compared():
    collected = times.Times("when", None)
    collected.add(pa.array([1]))
    collected.add(pa.array([2.5]))
    with pytest.raises(KindError, match="is numbers in one file and times in another"):
        collected.add(pa.array([1], pa.timestamp("s")))
    assert collected.finish()[0].tolist() == [1.0, 2.5]


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 3])
def test_text_that_is_numbers_is_compared_as_numbers(pieces):
    found, words = read(["10", "9", "881250949"], pieces=pieces)
    assert (found.dtype, found.tolist(), words) == (np.int64, [10, 9, 881250949], "text that is numbers")
    found, _ = read(["10", "+9.5", "-1e3", ".5", "7."], pieces=pieces)
    assert (found.dtype, found.tolist()) == (np.float64, [10.0, 9.5, -1000.0, 0.5, 7.0])


ISO = [
    ("2010-12-31", micros(2010, 12, 31)),
    ("2010-12-31T08:26", micros(2010, 12, 31, 8, 26)),
    ("2010-12-31 08:26:59", micros(2010, 12, 31, 8, 26, 59)),
    ("2010-12-31T08:26:59.5", micros(2010, 12, 31, 8, 26, 59, 500_000)),
    ("2010-12-31T08:26:59,123456789", micros(2010, 12, 31, 8, 26, 59, 123_456)),
    ("2010-12-31T08:26:59Z", micros(2010, 12, 31, 8, 26, 59)),
    ("2010-12-31 08:26:59.25+01:00", micros(2010, 12, 31, 7, 26, 59, 250_000)),
    ("2010-12-31T08:26-0530", micros(2010, 12, 31, 13, 56)),
    ("2010-12-31T00:26+02", micros(2010, 12, 30, 22, 26)),
    ("2010/12/31 08:26", micros(2010, 12, 31, 8, 26)),
    ("2012-02-29", micros(2012, 2, 29)),
    ("0001-01-01", micros(1, 1, 1)),
    ("9999-12-31T23:59:59", micros(9999, 12, 31, 23, 59, 59)),
]


@pytest.mark.parametrize(("text", "expected"), ISO)
def test_iso_8601_is_read(text, expected):
    found, words = read([text])
    assert (found.dtype, found.tolist(), words) == (np.int64, [expected], "text in ISO 8601")


@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_dates_and_times_in_iso_8601_may_be_mixed(pieces, kind):
    texts = pa.array([text for text, _ in ISO] * 2).cast(pa.string())
    texts = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)
    assert read(texts, pieces=pieces)[0].tolist() == [expected for _, expected in ISO] * 2


@given(st.lists(st.datetimes(timezones=st.just(timezone(timedelta(hours=5, minutes=30))) | st.just(UTC)), min_size=1))
def test_what_python_writes_in_iso_8601_is_read(whens):
    expected = [(when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) for when in whens]
    assert read([when.isoformat() for when in whens])[0].tolist() == expected
    assert read([when.isoformat(" ") for when in whens])[0].tolist() == expected


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        (["31/12/2010 08:26", "1/2/2010 8:26"], "%d/%m/%Y"),
        (["12/31/2010 8:26", "1/2/2010 8:26"], "%m/%d/%Y"),
        (["31.12.2010", "01.02.2010 08:26"], "%d.%m.%Y"),
        (["12-31-2010", "1-2-2010"], "%m-%d-%Y"),
        (["31/12/10 08:26", "01/02/10 08:26"], "%d/%m/%y"),
        (["12/31/98", "01/02/10"], "%m/%d/%y"),
    ],
)
@pytest.mark.parametrize("pieces", [1, 2])
def test_day_and_month_are_told_apart_by_all_values_together(texts, form, pieces):
    found, words = read(texts, pieces=pieces)
    assert words == f"text in the form {form}"
    days = [datetime.strptime(text.split(" ")[0], form).replace(tzinfo=UTC).date() for text in texts]
    assert [str(np.datetime64(int(time), "us").astype("M8[D]")) for time in found] == [str(day) for day in days]
    if ":" in texts[0]:
        assert (found % 86_400_000_000 // 1_000_000 == (8 * 60 + 26) * 60).all()


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("8:26", (8, 26)),
        ("08:26:59", (8, 26, 59)),
        ("8:26:59.5", (8, 26, 59, 500_000)),
        ("8:26 PM", (20, 26)),
        ("8:26:59pm", (20, 26, 59)),
        ("12:00 AM", (0, 0)),
        ("12:00 PM", (12, 0)),
        ("0:00", (0, 0)),
        ("23:59", (23, 59)),
    ],
)
def test_a_time_of_day_may_follow(clock, expected):
    assert read([f"31/12/2010 {clock}"])[0].tolist() == [micros(2010, 12, 31, *expected)]


def test_a_date_that_could_be_two_days_is_refused_with_the_first_such_value_and_both_formats():
    with pytest.raises(DataError) as raised:
        read(["05/05/2010 08:26", "03/04/2010 08:26", "05/06/2010 08:26"])
    message = str(raised.value)
    assert "'when' is ambiguous: '03/04/2010 08:26' is 2010-04-03 as %d/%m/%Y and 2010-03-04 as %m/%d/%Y" in message
    assert "--time-format '%d/%m/%Y %H:%M' or --time-format '%m/%d/%Y %H:%M'" in message
    first, second = (
        read(["05/05/2010 08:26", "03/04/2010 08:26"], form)[0] for form in ("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M")
    )
    assert (first[1], second[1]) == (micros(2010, 4, 3, 8, 26), micros(2010, 3, 4, 8, 26))


def test_dates_that_are_the_same_day_either_way_are_read():
    assert read(["05/05/2010", "06/06/2010"])[0].tolist() == [micros(2010, 5, 5), micros(2010, 6, 6)]


def test_a_year_of_two_digits_comes_last_or_in_a_format():
    assert read(["13/02/28"])[0].tolist() == [micros(2028, 2, 13)]
    with pytest.raises(DataError, match="'98/12/31'"):
        read(["98/12/31"])
    assert read(["98/12/31"], "%y/%m/%d")[0].tolist() == [micros(1998, 12, 31)]


@pytest.mark.parametrize(
    ("texts", "odd"),
    [
        (["yesterday"], "yesterday"),
        (["1", "2", "three"], "three"),
        (["2010-12-31", "2010-13-31", "soon"], "2010-13-31"),
        (["2010-12-31", "31/12/2010"], "31/12/2010"),
        (["31/12/2010", "12/31/2010"], "12/31/2010"),
        (["31/12/2010", "30/12/2010", "30.12.2010"], "30.12.2010"),
        (["29/02/2011", "13/12/2010"], "29/02/2011"),
        (["31/12/2010 24:00", "31/12/2010 23:00"], "31/12/2010 24:00"),
        (["31/12/2010 13:00 PM", "31/12/2010 11:00 PM"], "31/12/2010 13:00 PM"),
        (["2010-12-31T08:60", "2010-12-31"], "2010-12-31T08:60"),
        (["2010-12-31T08:26+25:00", "2010-12-31"], "2010-12-31T08:26+25:00"),
        (["0000-12-31", "2010-12-31"], "0000-12-31"),
        (["2010-12-31", "7"], "7"),
    ],
)
@pytest.mark.parametrize("pieces", [1, 9])
def test_what_cannot_be_read_is_refused_with_the_first_such_value(texts, odd, pieces):
    with pytest.raises(DataError, match="--time-format") as raised:
        read(texts, pieces=pieces)
    assert repr(odd) in str(raised.value)


def test_text_is_never_sorted_as_text():
    found, _ = read(["9/12/2010", "10/12/2010", "31/1/2010"])
    assert np.argsort(found).tolist() == [2, 0, 1]


# --- a format --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("%d/%m/%Y %H:%M", "3/4/2010 8:05", micros(2010, 4, 3, 8, 5)),
        ("%Y%m%d", "20101231", micros(2010, 12, 31)),
        ("%Y%m%dT%H%M%SZ", "20101231T082659Z", micros(2010, 12, 31, 8, 26, 59)),
        ("%d %b %Y", "31 Dec 2010", micros(2010, 12, 31)),
        ("%Y-%m-%dT%H:%M:%S%z", "2010-12-31T08:26:59+01:00", micros(2010, 12, 31, 7, 26, 59)),
        ("%m/%d/%y %I:%M %p", "12/31/68 12:05 AM", micros(2068, 12, 31, 0, 5)),
        ("(%d.%m.%Y)", "(31.12.1968)", micros(1968, 12, 31)),
        ("%Y", "2010", micros(2010, 1, 1)),
        ("%d/%m/%Y %H:%M:%S.%f", "31/12/2010 08:26:59.5", micros(2010, 12, 31, 8, 26, 59, 500_000)),
    ],
)
def test_a_format_is_used_for_all_values(form, text, expected):
    found, words = read([text, text], form, pieces=2)
    assert (found.tolist(), words) == ([expected] * 2, f"text in the form {form}")


def test_a_format_takes_integers_as_they_are_written():
    assert read([20101231], "%Y%m%d")[0].tolist() == [micros(2010, 12, 31)]


def test_a_format_for_what_is_no_text_is_refused():
    with pytest.raises(DataError, match="leave out --time-format '%Y'"):
        read(pa.array([0], pa.timestamp("s")), "%Y")


@pytest.mark.parametrize(
    ("form", "odd"), [("%d/%m/%Y", "12/31/2010"), ("%d %b %Y", "31 Foo 2010"), ("%Y%m%d", "2010-12-31")]
)
def test_a_value_that_is_not_in_the_format_is_refused(form, odd):
    with pytest.raises(DataError) as raised:
        read([datetime(2010, 12, 31).strftime(form), odd], form)  # noqa: DTZ001
    assert f"'when' has {odd!r}, which isn't in the form of --time-format {form!r}" in str(raised.value)


NUMERIC = st.sampled_from(["%d/%m/%Y %H:%M:%S", "%Y-%m-%d", "%m.%d.%y %I:%M %p", "%Y%m%d%H%M", "%H:%M:%S.%f %d-%m-%Y"])


@given(form=NUMERIC, text=st.text("0123456789/:-. APM", max_size=20) | st.none(), when=st.datetimes())
def test_a_format_is_understood_as_strptime_does(form, text, when):
    text = when.strftime(form) if text is None else text
    parsed = forms.parse_format(pa.array([text], pa.large_string()), form)
    expected = forms._strptime(text, form)
    assert expected == (int(parsed.times[0]) if parsed.fits[0] else None)


@given(st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2068, 12, 31)), min_size=1))  # noqa: DTZ001
def test_a_form_of_day_and_month_never_reads_a_date_wrong(whens):
    for form in ("%d/%m/%Y %H:%M", "%m.%d.%y", "%Y-%m-%d %H:%M:%S"):
        texts = [when.strftime(form) for when in whens]
        expected = [forms._strptime(text, form) for text in texts]
        try:
            found, _ = read(texts)
        except DataError as error:
            assert "ambiguous" in str(error)  # noqa: PT017
        else:
            assert found.tolist() == expected


def test_only_distinct_text_is_kept_until_all_of_it_is_seen(monkeypatch):
    monkeypatch.setattr(distinct, "_MERGE", 10)
    texts = [f"{1 + i % 28}/12/2010" for i in range(500)]
    assert read(texts, pieces=50)[0].tolist() == [micros(2010, 12, 1 + i % 28) for i in range(500)]
