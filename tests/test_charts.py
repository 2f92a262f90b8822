"""Charts: what is drawn is what was given, in a file that stands alone."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotrow.apps import charts
from hotrow.apps.charts import Series, bars, lines

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = ["<script>alert(1)</script>", "\x1b[2J&\"'", "漢字" * 20, "\u202etxt", "W" * 300, "]]>--", ""]
SHARES = [Series("find", [1.0, 2.0]), Series("step", [3.0, None])]


def parse(text):
    svg = ET.fromstring(text)
    assert svg.tag == f"{SVG}svg"
    return svg


def words(svg):
    return [element.text for element in svg.iter(f"{SVG}text")]


def areas(svg, kind):
    return [e for e in svg.iter(f"{SVG}rect") if e.get("class") == kind and e.get("height") == f"{charts._BAR}"]


def paths(svg, kind):
    return [element.get("d") for element in svg.iter(f"{SVG}path") if element.get("class") == kind]


def test_parts_of_a_bar_are_as_wide_as_their_numbers_and_lie_side_by_side():
    svg = parse(bars("a step", ["D = 16", "D = 64"], SHARES, "ms"))
    find, step = areas(svg, "fill0"), areas(svg, "fill1")
    assert [float(e.get("width")) for e in find] == pytest.approx([140, 280])
    assert [float(e.get("width")) for e in step] == pytest.approx([420])
    assert float(find[0].get("x")) + 140 == pytest.approx(float(step[0].get("x")), abs=0.2)
    assert {"a step", "D = 16", "D = 64", "find", "step", "ms", "4.00", "2.00"} <= set(words(svg))


def test_a_mark_lies_across_its_bar_and_the_axis_reaches_it():
    svg = parse(bars("a step", ["one", "two"], SHARES, "ms", Series("limit", [8.0, None])))
    legend, mark = paths(svg, "limit")
    x = float(areas(svg, "fill0")[0].get("x"))
    assert mark.startswith(f"M{x + charts.PLOT:g} ")
    assert "limit" in words(svg)
    assert legend != mark


def test_points_of_lines_lie_as_far_apart_as_one_number_is_times_the_other():
    series = [Series("a", [1.0, 10.0, 100.0]), Series("b", [3, None, 0])]
    svg = parse(lines("by rows", ["1", "2", "3"], series, "x", "ms"))
    (line,) = [path for path in paths(svg, "line0") if path.count("L") == 2]
    places = [tuple(map(float, point.split())) for point in line[1:].split("L")]
    assert [y for _, y in places] == pytest.approx([places[2][1] + 260, places[2][1] + 130, places[2][1]])
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert len(paths(svg, "fill1")) == 1 + 1  # 3, and one in the legend
    assert {"a", "b", "x", "ms", "1", "2", "5", "10", "20", "50", "100"} <= set(words(svg))


def test_a_chart_stands_alone_is_read_out_and_follows_dark_mode():
    for text in (bars("one & two", ["a"], SHARES[:1], "ms"), lines("one & two", ["a", "b"], SHARES, "x", "ms")):
        svg = parse(text)
        assert svg.get("aria-label") == svg.find(f"{SVG}title").text == "one & two"
        assert "find 1.00" in svg.find(f"{SVG}desc").text.replace("find: a ", "find ")
        assert "prefers-color-scheme: dark" in text
        assert text.replace("http://www.w3.org/2000/svg", "").count("://") == 0
        assert "href" not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_words_and_nothing_else(name):
    series = [Series(name, [1.0, 2.0])]
    for text in (
        bars(name, [name, "b"], series, name, Series(name, [1, 1])),
        lines(name, [name, "b"], series, name, name),
    ):
        svg = parse(text)
        assert not svg.findall(".//{*}script")
        texts = [word for word in svg.itertext() if word]
        assert all(c.isprintable() or c == "\n" for word in texts for c in word)
        assert charts.printable(name) in ["", *texts]


numbers = st.one_of(st.none(), st.floats(0, 1e12, allow_subnormal=False), st.just(0))


@given(st.lists(st.tuples(st.text(max_size=30), numbers, numbers, numbers), max_size=9))
def test_nothing_that_is_drawn_lies_outside(table):
    names = [row[0] for row in table]
    series = [Series("漢" * 30, [row[1] for row in table]), Series("b" * 90, [row[2] for row in table])]
    marks = Series("limit", [row[3] for row in table])
    for text in (bars("t", names, series, "ms", marks), lines("t", names, series, "x", "ms")):
        svg = parse(text)
        width, height = float(svg.get("width")), float(svg.get("height"))
        for box in svg.iter(f"{SVG}rect"):
            assert -0.1 <= float(box.get("x", 0)) <= width - float(box.get("width")) + 0.1
            assert 0 <= float(box.get("y", 0)) <= height - float(box.get("height"))
        for path in svg.iter(f"{SVG}path"):
            if path.get("class").startswith(("line", "limit", "grid", "axis")):
                for point in path.get("d")[1:].split("L"):
                    x, y = map(float, point.split())
                    assert 0 <= x <= width
                    assert 0 <= y <= height


@given(st.floats(1e-9, 1e12))
def test_an_axis_begins_at_zero_reaches_what_it_must_and_has_few_ticks(most):
    ticks = charts._ticks(most)
    assert ticks[0] == 0
    assert ticks == sorted(set(ticks))
    assert ticks[-1] >= most * (1 - 1e-8)
    assert 3 <= len(ticks) <= 7


@given(st.floats(1e-99, 1e99), st.floats(1e-99, 1e99))
@example(9.999999999999837e98, 9.999999999999837e98)
def test_a_logarithmic_axis_reaches_both_ends_and_has_few_ticks(one, other):
    ticks = charts._powers(min(one, other), max(one, other))
    assert ticks == sorted(set(ticks))
    assert ticks[0] <= min(one, other) <= max(one, other) <= ticks[-1]
    assert 2 <= len(ticks) <= 11
    assert charts._powers(0.7, 0.7) == [0.5, 1]
    assert charts._powers(1, 1) == [1, 2]
    assert charts._powers(3, 120) == [2, 5, 10, 20, 50, 100, 200]
