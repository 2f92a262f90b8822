"""The two pictures of `hotrow explain` on a terminal: side by side if they fit, else one part below the other."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from hotrow.apps.console import printable
from hotrow.apps.pictures import Words, number
from hotrow.apps.svg import with_gaps

if TYPE_CHECKING:
    from hotrow.apps.explain import Facts, Step

_NUMBER = 5  # cells: −0.23
_GAP = "…"
_HOT = "bold red"
_ASCII = str.maketrans({"→": ">", "−": "-", "×": "x", "…": "~"})  # for a terminal that hasn't these


@dataclass(frozen=True)
class Part:
    """A part of a picture: its lines at the heights of all rows, or where there is none of it the empty string.

    sign    what stands before it, at the height of the picked row
    filled  whether its lines beside the picked one have nothing but filling
    """

    title: str
    lines: list[str]
    sign: str = ""
    filled: bool = False

    @property
    def width(self) -> int:
        """In cells of the terminal."""
        return max(cell_len(line) for line in (self.title, *self.lines))


Sketch = Callable[["Facts", Words, list[int]], list[Part]]
"""Facts, words, and the positions of the columns that fit, to parts; the first has the ids."""


def show(console: Console, facts: Facts, words: Words, sketch: Sketch, svg: str | None) -> None:
    """Print a picture and what there is to say about it."""
    hot = with_gaps(facts.rows).index(facts.hot)
    positions = list(range(len(facts.columns)))
    while True:
        parts = sketch(facts, words, positions)
        pictures = side_by_side(parts, hot), stacked(parts, hot)
        fitting = [picture for picture in pictures if max(line.cell_len for line in picture) <= console.width]
        if fitting or len(positions) == 1:
            break
        positions = positions[:-2] + positions[-1:] if len(positions) > 2 else positions[:1]
    for line in (*(fitting or pictures[1:])[0], Text()):
        _print(console, line)
    for sentence in _said(facts, words, len(positions), svg):
        _print(console, Text(sentence))


def _print(console: Console, line: Text) -> None:
    """A line, with replacements for what the terminal's encoding can't say."""
    encoding = console.encoding
    if not encoding.startswith("utf"):
        plain = line.plain.translate(_ASCII).encode(encoding, "replace").decode(encoding)
        line = Text(plain, line.style, spans=line.spans)
    console.print(line)


def _said(facts: Facts, words: Words, columns: int, svg: str | None) -> list[str]:
    """The sentences below a picture; each is true of this very table, and was checked."""
    told = {"pick": facts.name, "values": facts.values, "dim": facts.dim, "seed": facts.seed, "rows": len(facts.rows)}
    if facts.step is None:
        said = [words.equal]
        said += [] if facts.whole else [words.over_shown]
    else:
        step = facts.step
        told |= {"optimizer": step.optimizer, "rate": step.rate, "compared": step.compared, "moved": step.moved}
        said = [words.rule, words.gradient_from, words.moved]
    if not facts.complete or columns < facts.dim:
        said.append(words.shown)
    said = [sentence.format(**told, columns=columns) for sentence in said]
    return said if svg is None else [*said, words.written.format(path=printable(svg))]


def lookup_sketch(facts: Facts, words: Words, positions: list[int]) -> list[Part]:
    """The one-hot vector, the matrix, and the vector that comes out."""
    entries = with_gaps(facts.rows)
    ones = [_GAP if entry is None else str(int(facts.one_hot[entry])) for entry in entries]
    return [
        _names(facts, words),
        Part("one-hot", [one.center(7) for one in ones]),
        Part(words.weights, _matrix(facts, facts.matrix, positions), "×"),
        Part(words.vector, _vector(facts, facts.vector, positions), "="),
    ]


def step_sketch(facts: Facts, words: Words, positions: list[int]) -> list[Part]:
    """The matrix before a step, the gradient, and the matrix after it."""
    step = _of(facts)
    return [
        _names(facts, words),
        Part(words.before, _matrix(facts, facts.matrix, positions)),
        Part(words.gradient, _vector(facts, step.gradient, positions, words.unchanged), f"− {step.rate:g} ×", True),
        Part(words.after, _matrix(facts, step.after, positions), "→"),
    ]


def _of(facts: Facts) -> Step:
    assert facts.step is not None
    return facts.step


def _names(facts: Facts, words: Words) -> Part:
    """The ids, aligned to the right, with an arrow at the picked one."""
    entries = with_gaps(facts.rows)
    names = [_GAP if entry is None else _in_order(facts.names[entry]) for entry in entries]
    width = max(cell_len(name) for name in (words.id, *names))
    marks = ["→ " if entry == facts.hot else "  " for entry in entries]
    lines = [mark + _right(name, width) for mark, name in zip(marks, names, strict=True)]
    return Part("  " + _right(words.id, width), lines)


def _in_order(name: str) -> str:
    """A name after which the line goes on from left to right, whichever way its own letters run."""
    turned = any(unicodedata.bidirectional(c) in {"R", "AL"} for c in name)
    return name + "\u200e" if turned else name


def _right(text: str, width: int) -> str:
    return " " * (width - cell_len(text)) + text


def _matrix(facts: Facts, values: np.ndarray, positions: list[int]) -> list[str]:
    rows = with_gaps(facts.rows)
    return [_row(facts, None if entry is None else values[entry], positions) for entry in rows]


def _vector(facts: Facts, values: np.ndarray, positions: list[int], others: str = "") -> list[str]:
    """One vector at the height of the picked row, and a word at the heights of the others."""
    entries = with_gaps(facts.rows)
    width = cell_len(_row(facts, values, positions))
    word = " " * ((width - cell_len(others)) // 2) + others if others else ""
    return [
        _row(facts, values, positions)
        if entry == facts.hot
        else _GAP.rjust(_NUMBER)
        if others and entry is None
        else word
        for entry in entries
    ]


def _row(facts: Facts, values: Sequence[float] | np.ndarray | None, positions: list[int]) -> str:
    """Numbers below each other; without values, or where columns were left out, dots."""
    cells: list[str] = []
    for entry in with_gaps([facts.columns[i] for i in positions]):
        if entry is None:
            cells.append(_GAP)
        else:
            cells.append((_GAP if values is None else number(values[positions[entry]])).rjust(_NUMBER))
    return " ".join(cells)


def side_by_side(parts: Sequence[Part], hot: int) -> list[Text]:
    """All parts in the same lines; the picked row is red, and its line alone has the signs."""
    lines = [Text() for _ in (parts[0].title, *parts[0].lines)]
    for i, part in enumerate(parts):
        sign = f" {part.sign} " if part.sign else "  " if i else ""
        for j, (line, words) in enumerate(zip(lines, (part.title, *part.lines), strict=True)):
            between = sign if j == hot + 1 else " " * cell_len(sign)
            title = " " * ((part.width - cell_len(words)) // 2) + words if j == 0 and i else words
            line.append(between + title + " " * (part.width - cell_len(title)), _style(j - 1, hot))
    return [_stripped(line) for line in lines]


def stacked(parts: Sequence[Part], hot: int) -> list[Text]:
    """One part below the other, each with the ids before its lines, for a narrow terminal."""
    names, *others = parts
    lines: list[Text] = []
    for part in others:
        lines.append(Text(f"{part.sign} {part.title}".strip(), "dim"))
        for j, (name, words) in enumerate(zip(names.lines, part.lines, strict=True)):
            if words.strip() and (j == hot or not part.filled):
                lines.append(_stripped(Text(f"{name}  {words}", _style(j, hot))))
    return lines


def _style(line: int, hot: int) -> str:
    return _HOT if line == hot else "dim" if line < 0 else ""


def _stripped(line: Text) -> Text:
    line.rstrip()
    return line
