"""Labels of any kind as numbers: classes in ascending order, and which of them each row has."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotrow.errors import ArgumentError

MOST = 1000
"""Classes that a classifier tells apart; more are rather ids."""


def learn(labels: Any, rows: int) -> tuple[list[Any], np.ndarray]:
    """The classes, and int64 (n,): the class of each row. ArgumentError for labels that can't be classes.

    >>> learn(["tea", "mug", "tea"], 3)
    (['mug', 'tea'], array([1, 0, 1]))
    """
    values = _values(labels, rows)
    found = set(values)
    if len({type(value) for value in found}) > 1:
        raise ArgumentError(f"labels must all be text, bool or integers; got several of these: {_some(found)}")
    if not 2 <= len(found) <= MOST:
        raise ArgumentError(f"labels must be of 2 to {MOST:,} classes; got {len(found):,}: {_some(found)}")
    classes = sorted(found)
    return classes, _numbers(values, classes)


def encode(labels: Any, classes: list[Any], rows: int) -> np.ndarray:
    """The class of each row, int64 (n,). ArgumentError for a label that is none of the classes."""
    values = _values(labels, rows)
    strange = set(values) - set(classes)
    if strange:
        raise ArgumentError(f"label {min(strange, key=str)!r} is none of the classes: {_some(classes)}")
    return _numbers(values, classes)


def _numbers(values: list[Any], classes: list[Any]) -> np.ndarray:
    place = {value: i for i, value in enumerate(classes)}
    return np.fromiter((place[value] for value in values), np.int64, len(values))


def _values(labels: Any, rows: int) -> list[Any]:
    """Labels as Python's own values; whole floats as integers, as pandas has integers that had nulls beside them."""
    if hasattr(labels, "to_pylist"):
        values = labels.to_pylist()
    else:
        values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if len(values) != rows:
        raise ArgumentError(f"expected a label for each row; got {len(values):,} labels and {rows:,} rows")
    values = [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
    bad = [value for value in values if not isinstance(value, (str, bool, int))][:1]
    if bad:
        raise ArgumentError(
            f"labels must be text, bool or integers; got {bad[0]!r:.80}. Leave out rows without a label"
        )
    return values


def _some(values: Any) -> str:
    shown = sorted(map(repr, values))
    return ", ".join(shown[:6]) + (", …" if len(shown) > 6 else "")
