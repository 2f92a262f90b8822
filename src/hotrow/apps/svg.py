"""Drawing in SVG: cells, words and arrows, light and dark. What is drawn with them is in `pictures.py`.

A drawing is self-contained (no font, script or file from elsewhere), has a title and a description for screen readers,
and follows `prefers-color-scheme`. Every word given is escaped, so no id can be markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from rich.cells import cell_len

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


class Drawing:
    """What has been drawn so far; `document` is the file. Places are pixels from the upper left corner."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def word(
        self, x: float, y: float, words: str, kind: str = "word", *, anchor: str = "middle", size: int = SIZE
    ) -> None:
        """A line of words, at the height y of its middle; `anchor` says which part of it is at x."""
        place = f'x="{x:g}" y="{y + 0.36 * size:g}"'
        sized = "" if size == SIZE else f' font-size="{size}"'
        self._parts.append(f'<text {place} text-anchor="{anchor}" class="{kind}"{sized}>{escape(words)}</text>')

    def cell(self, x: float, y: float, width: float, height: float, words: str, box: str = "box") -> None:
        """A box with words in its middle: "box" as most are, "empty" (a zero), "warm" (picked) or "hot" (a one)."""
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self._parts.append(f'<rect {place} class="{box}"/>')
        kind = {"box": "word", "empty": "faint", "warm": "red", "hot": "white"}[box]
        self.word(x + width / 2, y + height / 2, words, kind)

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
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{name}" {face} class="hotrow">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(description)}</desc>",
            f"<style>\n{_rules(_LIGHT)}\n@media (prefers-color-scheme: dark) {{\n{_rules(_DARK)}\n}}\n</style>",
            f'<rect width="{width:g}" height="{height:g}" rx="8" class="page"/>',
        ]
        return "\n".join([*head, *self._parts, "</svg>"]) + "\n"


def _rules(styles: dict[str, str]) -> str:
    return "\n".join(f".hotrow .{name} {{{style}}}" for name, style in styles.items())


def width_of(words: str, size: int = SIZE, *, bold: bool = False) -> float:
    """About how many pixels wide words are, whichever font shows them: rather too many than too few."""
    ems = sum(1 if c in "mwMW@%—" or cell_len(c) == 2 else 0.75 if c.isupper() else 0.59 for c in words)
    return size * ems * (1.12 if bold else 1)


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
