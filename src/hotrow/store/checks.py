"""Whether a State can be one: before it is written, and after it was read."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import ArgumentError, CorruptError
from hotrow.kernels import probing, readonly
from hotrow.store.strict_json import natural
from hotrow.table.state import State

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

MAX_ROWS = (1 << 31) - 2
"""A cell holds row + 1 in 32 bits, and a table knows rows as int32."""
WORDS = 8
"""uint64 in a bucket of the index: five keys, then five numbers of 32 bits, row + 1 or 0, then 32 bits of 0."""
CELLS = 5
_BUCKETS_AT_ONCE = 1 << 16
_KINDS = (None, "int64", "uint64", "string")


@contextmanager
def made_of(where: object) -> Generator[None]:
    """Within, a table is made of what was read; a config or slots that no table of this version has is damage, too."""
    try:
        yield
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptError(
            f"{where}: what it says of its optimizer, initializer or slots fits no table: {error!r}"
        ) from error


def check_state(state: State) -> None:
    """ArgumentError if `state` couldn't be read back: it is refused before anything is written."""
    problem = (
        _array_problem("keys", state.keys, "uint64", (None,))
        or _array_problem("weights", state.weights, "float32", (len(state.keys), None))
        or _array_problem("cells", state.cells, "uint64", (None,))
        or index_size_problem(len(state.cells), len(state.keys))
        or config_problem(state.config, state.weights.shape[1])
        or json_problem(state.config, "its config")
        or _slots_problem(state)
        or _strings_problem(state)
    )
    if problem:
        raise ArgumentError(f"this table can't be saved: {problem}")


def _array_problem(name: str, array: np.ndarray, dtype: str, shape: tuple[int | None, ...]) -> str:
    fits = array.ndim == len(shape) and all(b in (None, a) for a, b in zip(array.shape, shape, strict=True))
    if fits and array.dtype.newbyteorder("=") == np.dtype(dtype):
        return ""
    return f"{name} must be {dtype} of shape {shape}, where None is any length; got {array.dtype} of {array.shape}"


def index_size_problem(words: int, rows: int) -> str:
    """What is wrong with the size of the index, or "". Some cell is empty: a search for an unknown key ends there."""
    buckets = words // WORDS
    if words < WORDS or words & (words - 1):
        return f"the index has {words:,} words, expected {WORDS} times a power of two"
    if rows >= CELLS * buckets or rows > MAX_ROWS:
        return f"{rows:,} rows don't fit an index of {buckets:,} buckets, or are more than {MAX_ROWS:,}"
    return ""


def config_problem(config: Mapping[str, Any], dim: int | None = None) -> str:
    """What is wrong with the JSON types of a table's config, or "" if it is plausible; `dim` is the weights'."""
    ids, width, seed = config.get("ids"), config.get("dim"), config.get("seed")
    wanted = {
        "dim": (natural(width) and 1 <= width <= 1 << 20 and dim in {None, width}, dim or "the width of the weights"),
        "ids": ("ids" in config and ids in _KINDS, _KINDS),
        "seed": (type(seed) is int and 0 <= seed < 1 << 64, "a whole number from 0 to 2^64 − 1"),
        "steps": (natural(config.get("steps")), "a whole number, at least 0"),
        "aliases": (ids != "string" or natural(config.get("aliases")), "how many strings share a key with another"),
        "optimizer": ("optimizer" in config, "its name and numbers"),
        "initializer": ("initializer" in config, "its name and numbers"),
    }
    wrong = [
        f"config has {name} = {config.get(name)!r}, expected {what}" for name, (ok, what) in wanted.items() if not ok
    ]
    return wrong[0] if wrong else ""


def json_problem(values: dict[str, Any], what: str) -> str:
    """What of values that are to be written as JSON isn't, or ""; `what` they are."""
    try:
        if json.loads(json.dumps(values, allow_nan=False)) == values:
            return ""
    except (TypeError, ValueError) as error:
        return f"{what} isn't JSON: {error}"
    return f"{what} isn't plain JSON (a tuple, or a key that isn't text): {values}"


def _slots_problem(state: State) -> str:
    for name, slot in state.slots.items():
        if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", name, re.ASCII):
            return f"a slot is called {name!r}, expected letters, digits and _: it names a file"
        if problem := _array_problem(f"slot {name}", slot, "float32", (len(state.keys), None)):
            return problem
    return ""


def _strings_problem(state: State) -> str:
    rows, strings = len(state.keys), state.strings
    if strings is None:
        return "ids are strings, and there are none" if state.config["ids"] == "string" and rows else ""
    if str(strings.type) != "large_string" or len(strings) != rows or strings.null_count:
        return (
            f"strings are {strings.type}, {len(strings):,} with {strings.null_count:,} nulls; "
            f"expected {rows:,} large_string and no null"
        )
    return ""


def cells_problem(cells: np.ndarray, rows: int) -> str:
    """What is wrong with the index, or "": each of `rows` rows must stand in just one cell.

    cells  uint64 (8 · buckets,), see WORDS
    """
    seen, count = np.zeros(rows, np.uint8), 0
    buckets = len(cells) // WORDS
    bounds = [*range(0, buckets, _BUCKETS_AT_ONCE), buckets]
    for start, stop in pairwise(bounds):
        problem, found = probing.check(readonly(cells), seen, start, stop)
        count += found
        if problem == probing.HOLED:
            return f"a bucket from {start:,} on isn't filled from the left, or has something behind its cells"
        if problem == probing.BEYOND:
            return f"a cell of bucket {start:,} or later points to a row beyond the last; there are {rows:,} rows"
    if count != rows or not seen.all():
        return f"{count:,} cells point to {int(np.count_nonzero(seen)):,} different rows; there are {rows:,} rows"
    return ""
