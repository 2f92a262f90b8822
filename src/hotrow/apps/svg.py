"""Drawing in SVG: cells, words, arrows and lines, light and dark. `pictures.py` and `charts.py` draw with them.

A drawing is self-contained (no font, script or file from elsewhere), has a title and a description for screen readers,
and follows `prefers-color-scheme`. Every word given is escaped, so no id can be markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from rich.cells import cell_len

from hotrow.errors import DataError

SIZE = 14
"""The height of letters, in pixels."""

# One rule a name; `cell` and `hot` are boxes, `word` and its kind are letters.
_LIGHT = {
    "page": "fill:#fff",
    "box": "fill:#f1f3f5;stroke:#868e96",
    "empty": "fill:#fff;stroke:#868e96",
    "warm": "fill:#ffe3e3;stroke:#868e96",
    "hot": "fill:#c92a2a;stroke:#8f1d1d",
    "word": "fill:#343a40",
    "faint": "fill:#5f6b76",
    "red": "fill:#c92a2a;font-weight:bold",
    "white": "fill:#fff;font-weight:bold",
    "arrow": "stroke:#c92a2a",
}
_DARK = {
    "page": "fill:#16191d",
    "box": "fill:#262b31;stroke:#5f6b76",
    "empty": "fill:#16191d;stroke:#5f6b76",
    "warm": "fill:#4b1d1f;stroke:#8f4a4c",
    "hot": "fill:#d13a3a;stroke:#8f2222",
    "word": "fill:#e4e8ec",
    "faint": "fill:#a3adb7",
    "red": "fill:#ff9d9d",
    "arrow": "stroke:#ff9d9d",
}

_DOTS = ("m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "m-4-4h8v8h-8z", "m0-5l5 9h-10z", "m0-6l6 6l-6 6l-6-6z")


class Drawing:
    """What has been drawn so far; `document` is the file. Places are pixels from the upper left corner.

    light, dark   further kinds of boxes, lines and letters: a name and its rules, as those above
    """

    def __init__(self, light: Mapping[str, str] = {}, dark: Mapping[str, str] = {}) -> None:
        self._parts: list[str] = []
        self._light, self._dark = {**_LIGHT, **light}, {**_DARK, **dark}

    def word(
        self, x: float, y: float, words: str, kind: str = "word", *, anchor: str = "middle", size: int = SIZE
    ) -> None:
        """A line of words, at the height y of its middle; `anchor` says which part of it is at x."""
        place = f'x="{x:g}" y="{y + 0.36 * size:g}"'
        sized = "" if size == SIZE else f' font-size="{size}"'
        self._parts.append(f'<text {place} text-anchor="{anchor}" class="{kind}"{sized}>{escape(words)}</text>')

    def cell(self, x: float, y: float, width: float, height: float, words: str, box: str = "box") -> None:
        """A box with words in its middle: "box" as most are, "empty" (a zero), "warm" (picked) or "hot" (a one)."""
        self.area(x, y, width, height, box)
        kind = {"box": "word", "empty": "faint", "warm": "red", "hot": "white"}[box]
        self.word(x + width / 2, y + height / 2, words, kind)

    def area(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """A box without words."""
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self._parts.append(f'<rect {place} class="{kind}"/>')

    def line(self, points: Sequence[tuple[float, float]], kind: str, width: float = 1) -> None:
        """A line from point to point."""
        path = "L".join(f"{x:g} {y:g}" for x, y in points)
        self._parts.append(f'<path d="M{path}" class="{kind}" stroke-width="{width:g}"/>')

    def dot(self, x: float, y: float, shape: int, kind: str) -> None:
        """One of four small shapes around a place, so that lines differ for whom their colours don't."""
        self._parts.append(f'<path d="M{x:g} {y:g}{_DOTS[shape % len(_DOTS)]}" class="{kind}"/>')

    def arrow(self, x: float, y: float, length: float) -> None:
        """A red arrow to the right."""
        tip = x + length
        self._parts.append(f'<path d="M{x:g} {y:g}H{tip - 8:g}" class="arrow" stroke-width="2"/>')
        self._parts.append(f'<path d="M{tip:g} {y:g}l-10 -6v12z" class="red"/>')

    def document(self, width: float, height: float, title: str, description: str, language: str = "en") -> str:
        """The whole file; the language is a tag that chooses a voice, and the shapes of Chinese characters."""
        name = escape(title, quote=True)
        size = f'lang="{language}" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
        face = f'font-family="system-ui, sans-serif" font-size="{SIZE}"'
        style = f"{_rules(self._light)}\n@media (prefers-color-scheme: dark) {{\n{_rules(self._dark)}\n}}"
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{name}" {face} class="hotrow">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(description)}</desc>",
            f"<style>\n{style}\n</style>",
            f'<rect width="{width:g}" height="{height:g}" rx="8" class="page"/>',
        ]
        return "\n".join([*head, *self._parts, "</svg>"]) + "\n"


def _rules(styles: dict[str, str]) -> str:
    return "\n".join(f".hotrow .{name} {{{style}}}" for name, style in styles.items())


def width_of(words: str, size: int = SIZE, *, bold: bool = False) -> float:
    """About how many pixels wide words are, whichever font shows them: rather too many than too few."""
    ems = sum(1 if c in "mwMW@%—" or cell_len(c) == 2 else 0.75 if c.isupper() else 0.59 for c in words)
    return size * ems * (1.12 if bold else 1)


def check_writable(path: str) -> Path:
    """DataError for a path where no picture can be written, or where something else would be lost."""
    file = Path(path)
    if file.is_file() and file.stat().st_size:
        with file.open("rb") as old:
            if old.read(4) != b"<svg":
                raise DataError(f"{file} exists and is no SVG of this command's; give the name of a new file")
    elif file.is_dir() or not file.parent.is_dir():
        what = "is a folder" if file.is_dir() else "would lie in a folder that isn't there"
        raise DataError(f"{file} {what}; give the name of a file, as in picture.svg")
    return file


def write(path: str, text: str) -> None:
    """Write an SVG, over an older one or anew; DataError where something else would be lost."""
    check_writable(path).write_text(text, "utf-8", newline="\n")


def with_gaps(numbers: Sequence[int]) -> list[int | None]:
    """The positions of ascending numbers, with None where some were left out between two of them.

    >>> with_gaps([0, 1, 7])
    [0, 1, None, 2]
    """
    entries: list[int | None] = [0] if numbers else []
    for i, (before, number) in enumerate(pairwise(numbers), start=1):
        entries += [i] if number == before + 1 else [None, i]
    return entries


@dataclass(frozen=True)
class Axis:
    """Where rows, or columns, lie: each has the same size, and a gap is a little smaller."""

    entries: list[int | None]
    starts: list[float]
    sizes: list[float]

    @classmethod
    def of(cls, numbers: Sequence[int], size: float, gap: float) -> Axis:
        """The axis of these row or column numbers, with a gap where some were left out."""
        entries = with_gaps(numbers)
        sizes = [gap if entry is None else size for entry in entries]
        return cls(entries, [sum(sizes[:i]) for i in range(len(sizes))], sizes)

    @property
    def length(self) -> float:
        """From its beginning to its end."""
        return sum(self.sizes)

    def middle(self, position: int) -> float:
        """The middle of one of the numbers, by its position among them."""
        at = self.entries.index(position)
        return self.starts[at] + self.sizes[at] / 2
