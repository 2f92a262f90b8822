"""What is given as ratings, and what is refused of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.models.pairs import names_of_columns


@dataclass(frozen=True)
class Given:
    """Ratings as they were given, checked: ids, ids, float64 (n,)."""

    users: Any
    items: Any
    values: np.ndarray


def columns(given: Any) -> tuple[Any, Any, Any]:
    """The users, the items and the ratings of what was given as ratings."""
    names = names_of_columns(given)
    if names is not None:
        if len(names) != 3:
            raise ArgumentError(f"ratings are three columns, users, items and ratings; got {names!r}")
        return given[names[0]], given[names[1]], given[names[2]]
    if not isinstance(given, tuple | list) or len(cast("list[Any]", given)) != 3:
        raise ArgumentError("ratings are (user ids, item ids, ratings), or a table of three columns")
    users, items, ratings = cast("list[Any]", given)
    return users, items, ratings


def numbers(ratings: Any) -> np.ndarray:
    """float64 (n,); ArgumentError for what isn't one finite number each."""
    try:
        values = np.asarray(ratings)
        if values.dtype.kind not in "iufbO":
            raise TypeError(f"they are {values.dtype}")
        values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"ratings are numbers, as [5, 3.5]: {error}") from error
    if values.ndim != 1:
        raise ArgumentError(f"ratings are one number each; got the shape {values.shape}")
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise ArgumentError(
            f"rating {values[wrong[0]]} at position {wrong[0]:,} is no finite number, nor are {len(wrong) - 1:,} "
            "others; leave them out"
        )
    return values


def scale(between: Any) -> tuple[float, float]:
    """The lowest and the highest rating; ArgumentError for what isn't that."""
    try:
        low, high = map(float, between)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"between is the lowest and the highest rating; got {between!r}. Try (1, 5)") from error
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ArgumentError(f"between is the lowest and the highest rating; got {between!r}. Try (1, 5)")
    return low, high
