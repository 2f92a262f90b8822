"""What an embedding is, in real numbers: a one-hot vector times the weights is a row, and a step moves that row.

    id   one-hot     weights                  vector
     0      0       w₀
     1      0       w₁
  →  2      1    ×  w₂                    =   w₂         a lookup
     2              w₂  − lr × gradient   =   w₂′        a step

Every number comes from a `hotrow.Table`; that the product equals the lookup, and that a step leaves the other rows
alone, is checked each time before it is said.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.cells import cell_len, set_cell_size

import hotrow
from hotrow.apps.console import Output, printable
from hotrow.apps.pictures import WORDS, lookup_picture, step_picture
from hotrow.apps.sketches import lookup_sketch, show, step_sketch
from hotrow.apps.svg import write
from hotrow.errors import ArgumentError, HotrowError

VALUES, DIM, PICK = 5, 3, 2
"""What is explained unless other sizes are asked for."""
MOST_VALUES, MOST_DIM = 1_000_000, 4096
MOST_ROWS, MOST_COLUMNS = 12, 8
"""What a picture shows."""
_MOST_FLOATS = 1 << 20  # a larger table isn't made whole: an explanation is instant
_MOST_CELLS = 24  # of a shown id
_RATE = 0.5
_INTEGER = re.compile(r"-?[0-9]{1,18}")

Ids = range | list[str]


@dataclass(frozen=True)
class Step:
    """One step of the table: what came in, and the shown part of the weights that it left behind."""

    optimizer: str
    rate: float
    gradient: np.ndarray
    after: np.ndarray
    compared: int
    moved: int


@dataclass(frozen=True)
class Facts:
    """What there is to show: real numbers of the rows and columns that are shown.

    names    the ids, fit for a screen; `hot` is the position of the picked one
    whole    whether the product was taken over all rows, not only over those shown
    """

    values: int
    dim: int
    seed: int
    rows: list[int]
    columns: list[int]
    hot: int
    ids: list[int | str]
    names: list[str]
    one_hot: np.ndarray
    matrix: np.ndarray
    vector: np.ndarray
    whole: bool
    step: Step | None

    @property
    def name(self) -> str:
        """The picked id, fit for a screen."""
        return self.names[self.hot]

    @property
    def complete(self) -> bool:
        """Whether every row and column is shown."""
        return len(self.rows) == self.values and len(self.columns) == self.dim


def explain(options: argparse.Namespace, output: Output) -> None:
    """Show a lookup as a product, or with `--step` what a training step does."""
    ids = _ids_asked(options.ids, options.values)
    if options.dim > MOST_DIM:
        raise ArgumentError(f"--dim is at most {MOST_DIM}, for a picture; got {options.dim}. Try --dim {DIM}")
    position = _position(options.pick, ids)
    facts = facts_of(ids, position, dim=options.dim, seed=options.seed, step=options.step)
    words = WORDS[options.lang]
    if options.svg is not None:
        write(options.svg, step_picture(facts, facts.step, words) if facts.step else lookup_picture(facts, words))
    output.result(_json(facts, options.svg))
    if not output.as_json:
        sketch = step_sketch if facts.step else lookup_sketch
        show(output.console, facts, words, sketch, options.svg)


def facts_of(ids: Ids, position: int, *, dim: int = DIM, seed: int = 0, step: bool = False) -> Facts:
    """Look ids up in a real table, multiply, compare, and with `step` take a step on the picked row."""
    rows, columns = shown(len(ids), position, MOST_ROWS), shown(dim, 0, MOST_COLUMNS)
    whole = len(ids) * dim <= _MOST_FLOATS
    taken = np.arange(len(ids)) if whole else np.array(rows)
    asked = taken if isinstance(ids, range) else [ids[i] for i in taken]
    table = hotrow.Table(dim, optimizer=hotrow.SGD(_RATE), initializer=hotrow.Uniform(1.0), seed=seed)
    matrix = table.lookup(asked, grow=True)
    vector = table.lookup(ids[position])
    one_hot = (taken == position).astype(np.float32)
    must_equal("the product and the lookup", one_hot @ matrix, vector)
    at, across = np.searchsorted(taken, rows), np.array(columns)
    hot = rows.index(position)
    return Facts(
        values=len(ids),
        dim=dim,
        seed=seed,
        rows=rows,
        columns=columns,
        hot=hot,
        ids=[ids[row] for row in rows],
        names=[short(ids[row], _MOST_CELLS) for row in rows],
        one_hot=one_hot[at],
        matrix=matrix[np.ix_(at, across)],
        vector=vector[across],
        whole=whole,
        step=_step(table, asked, matrix, int(at[hot]), at, across) if step else None,
    )


def _step(table: hotrow.Table, asked: Any, before: np.ndarray, picked: int, at: np.ndarray, across: np.ndarray) -> Step:
    """Take one step on the row of `asked[picked]`, and see to it that no other has moved."""
    gradient = gradient_of(table.dim, table.seed)
    table.update(asked[picked : picked + 1], gradient[None])
    after = table.lookup(asked)
    expected = before.copy()
    expected[picked] -= np.float32(_RATE) * gradient
    must_equal("the moved row and row − learning rate × gradient", expected[picked], after[picked], 1e-6)
    expected[picked] = after[picked]
    must_equal("the other rows before and after the step", expected, after)
    moved = int((before != after).any(axis=1).sum())
    name = type(table.optimizer).__name__
    return Step(name, _RATE, gradient[across], after[np.ix_(at, across)], len(before), moved)


def gradient_of(dim: int, seed: int) -> np.ndarray:
    """A gradient for the example: float32 (dim,), of one decimal place and without zeros, so that one can follow it."""
    drawn = hotrow.Table(dim, initializer=hotrow.Uniform(1.0), seed=(seed + 1) % 2**64).lookup(1)
    rounded = np.round(drawn, 1)
    return np.where(rounded == 0, np.float32(0.1), rounded)


def must_equal(what: str, one: np.ndarray, other: np.ndarray, tolerance: float = 0) -> None:
    """HotrowError unless two arrays are equal, number for number: what is said below a picture has been checked.

    A kernel may round once where NumPy rounds twice, hence the tolerance for what has been multiplied and added.
    """
    if not np.allclose(one, other, rtol=0, atol=tolerance):
        raise HotrowError(f"{what} must be equal and are not: a fault of hotrow or of NumPy; please report it")


def shown(count: int, pick: int, most: int) -> list[int]:
    """Which of `count` rows are shown, at most `most`: the picked one, its neighbours, the first and the last.

    >>> shown(100, 50, 6)
    [0, 48, 49, 50, 51, 99]
    """
    if count <= most:
        return list(range(count))
    low = max(1, min(pick - (most - 2) // 2, count - most + 1))
    return [0, *range(low, low + most - 2), count - 1]


def short(id: object, most: int) -> str:
    """An id fit for a screen and for XML: nothing that can't be printed, at most so many cells wide."""
    text = printable(id)
    if len(text) <= most and cell_len(text) <= most:
        return text
    return set_cell_size(text[:most], min(most - 1, cell_len(text[:most]))).rstrip() + "…"


def _ids_asked(text: str | None, values: int | None) -> Ids:
    """The ids: those of `--ids`, else the numbers from 0 on."""
    if text is None:
        count = VALUES if values is None else values
        if count > MOST_VALUES:
            raise ArgumentError(f"--values is at most {MOST_VALUES}; got {_cut(count)}. Try --values {VALUES}")
        return range(count)
    ids = text.split(",")
    if "" in ids or len(set(ids)) < len(ids):
        fault = "an empty one" if "" in ids else f"{_first_repeated(ids)!r} twice"
        raise ArgumentError(f"--ids is a list of different ids with commas between; got {fault}. Try --ids lantern,cup")
    if values not in (None, len(ids)):
        raise ArgumentError(f"--ids gives {len(ids)} values, --values says {_cut(values)}; leave --values away")
    return ids


def _first_repeated(ids: Sequence[str]) -> str:
    return next(id for i, id in enumerate(ids) if id in ids[:i])


def _position(text: str | None, ids: Ids) -> int:
    """Which of the ids `--pick` means: an id as it is, else a position from 0."""
    if text is None:
        return min(PICK, len(ids) - 1)
    if isinstance(ids, list) and text in ids:
        return ids.index(text)
    if _INTEGER.fullmatch(text) and 0 <= int(text) < len(ids):
        return int(text)
    last = len(ids) - 1
    if isinstance(ids, range):
        raise ArgumentError(f"--pick is one of the ids 0 to {last}; got {_cut(text)!r}. Try --pick {min(PICK, last)}")
    raise ArgumentError(
        f"--pick is one of the ids, or a position from 0 to {last}; got {_cut(text)!r}. Try --pick {_cut(ids[0])}"
    )


def _cut(text: object) -> str:
    return short(text, 60)


def _json(facts: Facts, svg: str | None) -> dict[str, Any]:
    """What `--json` gives: `one_hot @ matrix` is `vector`, in the rows and columns that are shown."""
    step = facts.step
    return {
        "ids": facts.ids,
        "pick": facts.ids[facts.hot],
        "one_hot": [int(x) for x in facts.one_hot],
        "matrix": facts.matrix.astype(float).tolist(),
        "vector": facts.vector.astype(float).tolist(),
        "step": step
        and {
            "optimizer": step.optimizer,
            "learning_rate": step.rate,
            "gradient": step.gradient.astype(float).tolist(),
            "before": facts.matrix.astype(float).tolist(),
            "after": step.after.astype(float).tolist(),
            "compared": step.compared,
            "moved": step.moved,
        },
        "svg": svg,
        "values": facts.values,
        "dim": facts.dim,
        "seed": facts.seed,
        "rows": facts.rows,
        "columns": facts.columns,
        "complete": facts.complete,
    }
