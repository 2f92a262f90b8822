"""What is given as pairs, and what a model keeps of them: rows of its two tables in one number, user << 32 | item."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotrow.errors import ArgumentError


def columns(
    pairs: Any, what: str = "pairs are", names: str = "users and items", call: str = "fit((users, items))"
) -> tuple[Any, Any]:
    """The two columns of what was given as pairs, or, in the words of the caller, as something else of the kind."""
    found = names_of_columns(pairs)
    if found is not None:
        if len(found) != 2:
            raise ArgumentError(f"{what} two columns, {names}; got {found!r}. Try {call}")
        return pairs[found[0]], pairs[found[1]]
    if isinstance(pairs, np.ndarray) and pairs.ndim == 2 and pairs.shape[1] == 2:
        return pairs[:, 0], pairs[:, 1]
    if not isinstance(pairs, tuple | list) or len(pairs) != 2:
        raise ArgumentError(f"{what} {names}, or a table or array of two columns. Try {call}")
    return pairs[0], pairs[1]


def names_of_columns(given: Any) -> list[Any] | None:
    """Those of a table of Arrow, pandas or polars; None for what is no table."""
    found = getattr(given, "column_names", None)  # of an Arrow table
    found = getattr(given, "columns", None) if found is None else found
    return None if found is None or isinstance(given, tuple | list) else list(found)


def check_lengths(users: int, items: int, what: str = "pairs are", first: str = "users", second: str = "items") -> None:
    """ArgumentError unless there is an item for each user, or whatever else the caller calls them."""
    if users != items:
        raise ArgumentError(f"{what} as many {first} as {second}; got {users:,} {first} and {items:,} {second}")


def join(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The codes of pairs: uint64 (n,)."""
    return users.astype(np.uint64) << np.uint64(32) | items.astype(np.uint64)


def split(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `join`: users and items, int64 (n,)."""
    return (codes >> np.uint64(32)).astype(np.int64), (codes & np.uint64(0xFFFFFFFF)).astype(np.int64)


def last_of_each(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct codes, ascending, and the place where each is last: uint64 (m,), int64 (m,)."""
    distinct, from_the_end = np.unique(codes[::-1], return_index=True)
    return distinct, len(codes) - 1 - from_the_end
