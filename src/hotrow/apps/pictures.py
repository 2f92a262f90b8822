"""The two pictures of `hotrow explain` as SVG, and the words of both its faces, in English and in Chinese.

The documents' own pictures are made by it, and `tests/test_explain.py` proves that they are what it writes:

    hotrow explain --ids lantern,cup,python3-numpy,mug,teapot --dim 4 --pick python3-numpy --svg docs/one-hot.svg

and so `docs/step.svg` with `--step`, and `docs/one-hot.zh.svg` and `docs/step.zh.svg` with `--lang zh`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hotrow.apps.svg import Axis, Drawing, width_of

if TYPE_CHECKING:
    from hotrow.apps.explain import Facts, Step

CELL, LINE, ONE, TOP, MARGIN = 56, 32, 34, 58, 24
"""Pixels: the width of a cell, the height of a row, the width of the one-hot column, above the rows, around all."""


@dataclass(frozen=True)
class Words:
    """What stands beside the numbers; braces are filled in by `str.format`."""

    language: str
    id: str
    id_long: str
    weights: str
    weights_long: str
    vector: str
    before: str
    gradient: str
    after: str
    unchanged: str
    equal: str
    over_shown: str
    shown: str
    rule: str
    gradient_from: str
    moved: str
    written: str
    lookup_title: str
    lookup_text: str
    lookup_caption: str
    step_title: str
    step_text: str
    step_caption: str


ENGLISH = Words(
    language="en",
    id="id",
    id_long="the id, as it is",
    weights="weights",
    weights_long="the weights: a row for each id",
    vector="its vector",
    before="weights before",
    gradient="its gradient",
    after="weights after",
    unchanged="unchanged",
    equal="the product and the lookup are equal, number for number",
    over_shown="the product is over the rows shown: every other would be multiplied by 0",
    shown="shown: {rows} of {values:,} rows, {columns} of {dim:,} columns",
    rule="one step of {optimizer}, learning rate {rate:g}: row − {rate:g} × gradient",
    gradient_from="a model gives the gradient; this one is drawn from --seed {seed}",
    moved="rows compared: {compared:,}; moved: {moved}, that of {pick}; the others are unchanged",
    written="written to {path}",
    lookup_title="An id picks one row of the matrix: its vector",
    lookup_text="The one-hot vector of {pick} times a matrix of {values:,} rows and {dim:,} columns is the row of "
    "{pick}: {vector}",
    lookup_caption="picking the hot row is the whole product: the cost follows the batch, not the vocabulary",
    step_title="A training step moves one row of the matrix, the picked one",
    step_text="One step of {optimizer} with learning rate {rate:g} and gradient {gradient} moves the row of {pick} "
    "from {before} to {after}. No other row changes.",
    step_caption="{optimizer}, learning rate {rate:g}: the picked row moves by −{rate:g} × its gradient, no other row "
    "moves",
)

CHINESE = Words(
    language="zh-Hans",
    id="id",
    id_long="id，原样使用",
    weights="权重",
    weights_long="权重矩阵：每个 id 一行",
    vector="它的向量",
    before="这一步之前的权重",
    gradient="它的梯度",
    after="这一步之后的权重",
    unchanged="不变",
    equal="乘积与查表的结果相等，每个数字都一样",
    over_shown="乘积只算了显示出来的行：其余各行都要乘以 0",
    shown="显示：{values:,} 行中的 {rows} 行，{dim:,} 列中的 {columns} 列",
    rule="{optimizer} 的一步，学习率 {rate:g}：行 − {rate:g} × 梯度",
    gradient_from="梯度本应由模型给出；这里的梯度由 --seed {seed} 随机产生",
    moved="比较了 {compared:,} 行；变动的有 {moved} 行，即 {pick} 的那一行；其余各行不变",
    written="已写入 {path}",
    lookup_title="一个 id 选中矩阵的一行：它的向量",
    lookup_text="{pick} 的 one-hot 向量乘以 {values:,} 行 {dim:,} 列的矩阵，就是 {pick} 的那一行：{vector}",
    lookup_caption="取出红色的那一行就等于整个乘法：开销取决于这一批的大小，与词表大小无关",
    step_title="训练的一步只改动矩阵的一行，就是被选中的那一行",
    step_text="{optimizer} 的一步，学习率 {rate:g}，梯度 {gradient}"
    "，把 {pick} 的那一行从 {before} 变为 {after}。其余各行不变。",
    step_caption="{optimizer}，学习率 {rate:g}：被选中的行移动 −{rate:g} × 它的梯度，其余各行不变",
)

WORDS = {"en": ENGLISH, "zh": CHINESE}


def number(value: float) -> str:
    """A number as the pictures show it: two decimals and a true minus.

    >>> number(-0.5), number(-0.001)
    ('−0.50', '0.00')
    """
    text = f"{value:.2f}"
    return text.removeprefix("-") if text == "-0.00" else text.replace("-", "−")


def lookup_picture(facts: Facts, words: Words) -> str:
    """The one-hot vector, the matrix with the picked row in red, and the vector that comes out."""
    sheet = _Sheet(facts, words.language)
    sheet.names(words.id_long)
    sheet.one_hot()
    sheet.sign("×")
    sheet.matrix(words.weights_long, facts.matrix, "warm")
    sheet.sign("=")
    sheet.vector(words.vector, facts.vector)
    told = {"pick": facts.name, "values": facts.values, "dim": facts.dim, "vector": _listed(facts, facts.vector)}
    return sheet.document(words.lookup_caption, words.lookup_title, words.lookup_text.format(**told))


def step_picture(facts: Facts, step: Step, words: Words) -> str:
    """The matrix before a step, the gradient times the learning rate, and the matrix after it."""
    sheet = _Sheet(facts, words.language)
    sheet.names(words.id_long)
    sheet.matrix(words.before, facts.matrix, "warm")
    sheet.sign(f"− {step.rate:g} ×", 100)
    sheet.vector(words.gradient, step.gradient, others=words.unchanged)
    sheet.arrow()
    sheet.matrix(words.after, step.after, "hot")
    told = {
        "pick": facts.name,
        "optimizer": step.optimizer,
        "rate": step.rate,
        "gradient": _listed(facts, step.gradient),
        "before": _listed(facts, facts.vector),
        "after": _listed(facts, step.after[facts.hot]),
    }
    return sheet.document(words.step_caption.format(**told), words.step_title, words.step_text.format(**told))


def _listed(facts: Facts, vector: np.ndarray) -> str:
    more = ["…"] if len(facts.columns) < facts.dim else []
    return ", ".join([number(x) for x in vector] + more)


class _Sheet:
    """A picture in the making, from left to right; the rows of all its parts lie at the same heights."""

    def __init__(self, facts: Facts, language: str) -> None:
        self._facts = facts
        self._language = language
        self._drawing = Drawing()
        self._rows = Axis.of(facts.rows, LINE, 22)
        self._columns = Axis.of(facts.columns, CELL, 28)
        self._hot = TOP + self._rows.middle(facts.hot)
        self._x: float = MARGIN

    def _part(self, title: str, width: float) -> float:
        """Make room for a part as wide as its title at least, and write that; the left edge of the part."""
        room = max(width, width_of(title))
        middle = self._x + room / 2
        self._drawing.word(middle, TOP - 20, title)
        self._x += room
        return middle - width / 2

    def names(self, title: str) -> None:
        """The ids, aligned to the right."""
        width = max(width_of(name, bold=i == self._facts.hot) for i, name in enumerate(self._facts.names))
        right = self._part(title, width) + width
        for entry, start, size in self._lines():
            kind = "faint" if entry is None else "red" if entry == self._facts.hot else "word"
            name = "⋮" if entry is None else self._facts.names[entry]
            self._drawing.word(right, start + size / 2, name, kind, anchor="end")
        self._x = max(self._x, right) + 24

    def one_hot(self) -> None:
        """The column of zeros and a one."""
        left = self._part("one-hot", ONE)
        for entry, start, size in self._lines():
            if entry is None:
                self._drawing.word(left + ONE / 2, start + size / 2, "⋮", "faint")
            else:
                hot = entry == self._facts.hot
                self._drawing.cell(left, start, ONE, size, "1" if hot else "0", "hot" if hot else "empty")

    def matrix(self, title: str, values: np.ndarray, hot: str) -> None:
        """All rows, the picked one in a box of the kind `hot`."""
        left = self._part(title, self._columns.length)
        for entry, start, size in self._lines():
            if entry is None:
                self._drawing.word(left + self._columns.length / 2, start + size / 2, "⋮", "faint")
            else:
                self._row(left, start, values[entry], hot if entry == self._facts.hot else "box")

    def vector(self, title: str, values: np.ndarray, others: str = "") -> None:
        """One vector at the height of the picked row, and a word at the heights of the others."""
        left = self._part(title, self._columns.length)
        for entry, start, size in self._lines():
            if entry == self._facts.hot:
                self._row(left, start, values, "warm")
            elif others:
                middle = left + self._columns.length / 2
                self._drawing.word(middle, start + size / 2, "⋮" if entry is None else others, "faint", size=13)

    def _row(self, left: float, top: float, values: Sequence[float] | np.ndarray, box: str) -> None:
        columns = self._columns
        for entry, start, size in zip(columns.entries, columns.starts, columns.sizes, strict=True):
            if entry is None:
                self._drawing.word(left + start + size / 2, top + LINE / 2, "⋯", "faint")
            else:
                self._drawing.cell(left + start, top, size, LINE, number(values[entry]), box)

    def sign(self, words: str, room: float = 56) -> None:
        """A sign between two parts, at the height of the picked row."""
        self._drawing.word(self._x + room / 2, self._hot, words, size=20)
        self._x += room

    def arrow(self, room: float = 56) -> None:
        """An arrow between two parts, at the height of the picked row."""
        self._drawing.arrow(self._x + 8, self._hot, room - 16)
        self._x += room

    def document(self, caption: str, title: str, description: str) -> str:
        """The whole file, with the caption below the rows."""
        need = width_of(caption, 13)
        width = max(self._x, need + MARGIN) + MARGIN
        bottom = TOP + self._rows.length
        self._drawing.word(width / 2, bottom + 30, caption, "faint", size=13)
        return self._drawing.document(round(width), round(bottom + 54), title, description, self._language)

    def _lines(self) -> list[tuple[int | None, float, float]]:
        rows = self._rows
        return [
            (entry, TOP + start, size) for entry, start, size in zip(rows.entries, rows.starts, rows.sizes, strict=True)
        ]
