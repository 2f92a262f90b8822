"""Charts in SVG: bars of parts, and lines. Of `hotrow bench` and of docs/performance.md, drawn by `svg.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hotrow.apps.console import printable
from hotrow.apps.svg import SIZE, Drawing, width_of

MARGIN, PLOT, SMALL = 24, 560, 12
"""Pixels: around all, the width of the plot, the height of small letters."""
_BAR, _GAP, _HEIGHT = 22, 12, 260
_LEGEND = 22  # pixels a line
_TICKS = 5  # about

# Each stands out from the page by 3 : 1 at least, and from its neighbours for the colour-blind, too.
_COLOURS = (
    ("#1c6fb0", "#6cb2eb"),  # light, dark
    ("#d9730d", "#f0a35e"),
    ("#1b8a5a", "#5cc99a"),
    ("#7b4fa8", "#c59be0"),
    ("#b8336a", "#f291b8"),
    ("#6b7681", "#a3adb7"),
)
_LIGHT = {
    **{f"fill{i}": f"fill:{light}" for i, (light, _) in enumerate(_COLOURS)},
    **{f"line{i}": f"fill:none;stroke:{light}" for i, (light, _) in enumerate(_COLOURS)},
    "grid": "stroke:#d9dde1",
    "axis": "stroke:#868e96",
    "limit": "stroke:#212529",
    "title": "fill:#212529;font-weight:bold",
}
_DARK = {
    **{f"fill{i}": f"fill:{dark}" for i, (_, dark) in enumerate(_COLOURS)},
    **{f"line{i}": f"fill:none;stroke:{dark}" for i, (_, dark) in enumerate(_COLOURS)},
    "grid": "stroke:#2d333a",
    "axis": "stroke:#5f6b76",
    "limit": "stroke:#f1f3f5",
    "title": "fill:#f1f3f5",
}


@dataclass(frozen=True)
class Series:
    """Numbers of one kind, none of them negative; None where there is none."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Curve:
    """Points (across, up) that belong together; across above 0, up not negative."""

    name: str
    points: Sequence[tuple[float, float]]


def bars(title: str, names: Sequence[str], parts: Sequence[Series], unit: str, marks: Series | None = None) -> str:
    """Horizontal bars, one for each name, each made of parts side by side; a mark lies across each bar.

    A series of parts, and that of marks, has a number for each name; the sum of its parts stands behind each bar.

    >>> bars("a step", ["D = 16"], [Series("find", [0.5]), Series("step", [1.0])], "ms").count("<rect")
    5
    """
    sums = [math.fsum(part.values[i] or 0 for part in parts) for i in range(len(names))]
    ticks = _ticks(max([*sums, *(value or 0 for value in (marks.values if marks else ()))], default=0))
    sheet = _Sheet(title, parts, marks, left=max(map(_width, names), default=0) + 10)
    right = sheet.left + PLOT
    bottom = sheet.top + len(names) * (_BAR + _GAP) + _GAP / 2
    for tick in ticks:
        x = sheet.left + PLOT * tick / ticks[-1]
        sheet.drawing.line([(x, sheet.top), (x, bottom)], "grid" if tick else "axis")
        sheet.word(x, bottom + 14, _tick(tick), "faint", size=SMALL)
    for i, name in enumerate(names):
        y, x = sheet.top + _GAP + i * (_BAR + _GAP), sheet.left
        sheet.word(x - 10, y + _BAR / 2, name, anchor="end")
        for colour, part in enumerate(parts):
            width = PLOT * (part.values[i] or 0) / ticks[-1]
            if width:
                sheet.drawing.area(round(x, 1), y, round(width, 1), _BAR, f"fill{colour % len(_COLOURS)}")
            x += width
        at = marks.values[i] if marks else None
        if at is not None:
            mark = sheet.left + PLOT * at / ticks[-1]
            sheet.drawing.line([(mark, y - 4), (mark, y + _BAR + 4)], "limit", 3)
            x = max(x, mark + 2)
        sheet.word(x + 8, y + _BAR / 2, number(sums[i]), "faint", anchor="start", size=SMALL)
    sheet.word(right, bottom + 34, unit, "faint", anchor="end", size=SMALL)
    told = [
        f"{name}: " + ", ".join(f"{p.name} {number(value)}" for p in parts if (value := p.values[i]) is not None)
        for i, name in enumerate(names)
    ]
    return sheet.document(bottom + 46, f"Bars, in {unit}. " + "; ".join(told))


def lines(title: str, names: Sequence[str], series: Sequence[Series], axis: str, unit: str) -> str:
    """A line for each series over points side by side, which have these names; what isn't above 0 is left out.

    The upright axis is logarithmic: two lines lie as far apart as one number is times the other.

    >>> lines("a step", ["1 thread", "2 threads"], [Series("hotrow", [2, 1.1])], "threads", "ms").startswith("<svg")
    True
    """
    drawn = [value for one in series for value in one.values if value]
    ticks = _powers(min(drawn, default=1), max(drawn, default=1))
    sheet = _Sheet(title, series, None, left=max(_width(_tick(tick)) for tick in ticks) + 10)
    top = sheet.top + 24
    bottom = top + _HEIGHT
    low, high = math.log(ticks[0]), math.log(ticks[-1])

    def height(value: float) -> float:
        return round(bottom - _HEIGHT * (math.log(value) - low) / (high - low), 1)

    for tick in ticks:
        line = [(sheet.left, height(tick)), (sheet.left + PLOT, height(tick))]
        sheet.drawing.line(line, "grid" if tick > ticks[0] else "axis")
        sheet.word(sheet.left - 8, height(tick), _tick(tick), "faint", anchor="end", size=SMALL)
    sheet.word(sheet.left, top - 16, f"{unit}", "faint", anchor="start", size=SMALL)
    places = [round(sheet.left + PLOT * (i + 0.5) / len(names), 1) for i in range(len(names))]
    for x, name in zip(places, names, strict=True):
        sheet.word(x, bottom + 16, name, size=SMALL)
    sheet.word(sheet.left + PLOT / 2, bottom + 38, axis, "faint", size=SMALL)
    for colour, one in enumerate(series):
        points = [(x, height(value)) for x, value in zip(places, one.values, strict=True) if value]
        if points:
            sheet.drawing.line(points, f"line{colour % len(_COLOURS)}", 2)
        for x, y in points:
            sheet.drawing.dot(x, y, colour, f"fill{colour % len(_COLOURS)}")
    told = [
        f"{one.name}: " + ", ".join(f"{n} {number(v)}" for n, v in zip(names, one.values, strict=True) if v)
        for one in series
    ]
    return sheet.document(bottom + 50, f"Lines over {axis}, in {unit}. " + "; ".join(told), dots=True)


def curves(title: str, drawn: Sequence[Curve], across: str, up: str) -> str:
    """A curve for each of `drawn`, its points joined from left to right; only the level axis is logarithmic.

    >>> curves("by time", [Curve("hotrow", [(1.0, 10.0), (2.0, 15.0)])], "s", "%").startswith("<svg")
    True
    """
    points = [point for curve in drawn for point in curve.points]
    level = _powers(min((x for x, _ in points), default=1), max((x for x, _ in points), default=1))
    upright = _ticks(max((y for _, y in points), default=1))
    names = [Series(curve.name, []) for curve in drawn]
    sheet = _Sheet(title, names, None, left=max(_width(_tick(tick)) for tick in upright) + 10)
    top = sheet.top + 24
    bottom = top + _HEIGHT

    def place(x: float, y: float) -> tuple[float, float]:
        along = math.log(x / level[0]) / math.log(level[-1] / level[0])
        return round(sheet.left + PLOT * along, 1), round(bottom - _HEIGHT * y / upright[-1], 1)

    for tick in upright:
        line = [place(level[0], tick), place(level[-1], tick)]
        sheet.drawing.line(line, "grid" if tick else "axis")
        sheet.word(sheet.left - 8, line[0][1], _tick(tick), "faint", anchor="end", size=SMALL)
    for tick in level:
        sheet.word(place(tick, 0)[0], bottom + 16, _tick(tick), "faint", size=SMALL)
    sheet.word(sheet.left, top - 16, up, "faint", anchor="start", size=SMALL)
    sheet.word(sheet.left + PLOT / 2, bottom + 38, across, "faint", size=SMALL)
    for colour, curve in enumerate(drawn):
        places = [place(x, y) for x, y in sorted(curve.points)]
        if places:
            sheet.drawing.line(places, f"line{colour % len(_COLOURS)}", 2)
        for x, y in places:
            sheet.drawing.dot(x, y, colour, f"fill{colour % len(_COLOURS)}")
    told = [
        f"{curve.name}: " + ", ".join(f"{number(y)} at {number(x)}" for x, y in sorted(curve.points)) for curve in drawn
    ]
    return sheet.document(bottom + 50, f"Curves of {up} over {across}. " + "; ".join(told), dots=True)


def number(value: float) -> str:
    """Three digits of a number, as it stands beside a bar.

    >>> number(0.12345), number(12.345), number(1234.5), number(0)
    ('0.123', '12.3', '1,234', '0')
    """
    if not value:
        return "0"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _ticks(most: float) -> list[float]:
    """Round numbers from 0 to `most` or a little beyond, evenly apart."""
    rough = (most or 1) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    apart = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [i * apart for i in range(math.ceil((most or 1) / apart - 1e-9) + 1)]


def _powers(least: float, most: float) -> list[float]:
    """Some of … 0.5, 1, 2, 5, 10, 20 …, evenly apart, from `least` or below to `most` or above; two at least."""
    first, last = (3 * math.floor(math.log10(end)) - 1 for end in (least, most))  # a logarithm may be rounded up
    while _power(first + 1) <= least:
        first += 1
    while _power(last) < most or last == first:
        last += 1
    apart = math.ceil((last - first) / (2 * _TICKS))
    return [_power(first + i * apart) for i in range(math.ceil((last - first) / apart) + 1)]


def _power(i: int) -> float:
    """The i-th of 1, 2, 5, 10, 20, 50, 100 …, and below 0 of 0.5, 0.2, 0.1 … backwards."""
    return float(f"{(1, 2, 5)[i % 3]}e{i // 3}")


def _tick(value: float) -> str:
    return f"{value:,.6g}"


def _width(words: str) -> float:
    return width_of(printable(words))


class _Sheet:
    """A chart in the making: its title and legend are drawn, and what is below `top` and right of `left` is free."""

    def __init__(self, title: str, series: Sequence[Series], marks: Series | None, left: float) -> None:
        self.drawing = Drawing(_LIGHT, _DARK)
        self.left = MARGIN + round(left)
        self._title = printable(title)
        self._width = max(self.left + PLOT + 2.5 * MARGIN, MARGIN * 2 + width_of(self._title, bold=True))
        self._legend: list[tuple[float, float, int]] = []
        self.word(MARGIN, MARGIN + 4, title, "title", anchor="start")
        x, y = float(MARGIN), MARGIN + 34.0
        entries = [*series, *([marks] if marks else [])]
        for i, one in enumerate(entries):
            room = 20 + width_of(printable(one.name), SMALL) + 16
            if x > MARGIN and x + room > self._width - MARGIN:
                x, y = float(MARGIN), y + _LEGEND
            if one is marks:
                self.drawing.line([(x + 6, y - 8), (x + 6, y + 8)], "limit", 3)
            else:
                self._legend.append((x, y, i))
            self.word(x + 20, y, one.name, anchor="start", size=SMALL)
            x += room
        self.top = y + (_LEGEND if entries else 0)

    def word(
        self, x: float, y: float, words: str, kind: str = "word", *, anchor: str = "middle", size: int = SIZE
    ) -> None:
        """As a drawing's; nothing in the words can move a cursor, or be no XML."""
        self.drawing.word(x, y, printable(words), kind, anchor=anchor, size=size)

    def document(self, bottom: float, description: str, *, dots: bool = False) -> str:
        """The whole file, which ends a margin below `bottom`; the legend shows areas, or a line and its dots."""
        for x, y, i in self._legend:
            kind = f"fill{i % len(_COLOURS)}"
            if dots:
                self.drawing.line([(x, y), (x + 14, y)], f"line{i % len(_COLOURS)}", 2)
                self.drawing.dot(x + 7, y, i, kind)
            else:
                self.drawing.area(x, y - 6, 12, 12, kind)
        return self.drawing.document(round(self._width), round(bottom), self._title, printable(description))
