"""What is given as pairs, and what a model keeps of them: rows of its two tables in one number, user << 32 | item."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotrow.errors import ArgumentError


def columns(pairs: Any) -> tuple[Any, Any]:
    """The users and the items of what was given as pairs."""
    names = getattr(pairs, "column_names", None)  # of an Arrow table
    names = getattr(pairs, "columns", None) if names is None else names
    if names is not None and not isinstance(pairs, tuple | list):
        if len(names) != 2:
            raise ArgumentError(f"pairs are two columns, users and items; got {list(names)!r}. Try fit((users, items))")
        return pairs[names[0]], pairs[names[1]]
    if isinstance(pairs, np.ndarray) and pairs.ndim == 2 and pairs.shape[1] == 2:
        return pairs[:, 0], pairs[:, 1]
    if not isinstance(pairs, tuple | list) or len(pairs) != 2:
        raise ArgumentError(
            "pairs are (user ids, item ids), or a table or array of two columns. Try fit((users, items))"
        )
    return pairs[0], pairs[1]


def check_lengths(users: int, items: int) -> None:
    """ArgumentError unless there is an item for each user."""
    if users != items:
        raise ArgumentError(f"pairs are as many users as items; got {users:,} users and {items:,} items")


def join(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The codes of pairs: uint64 (n,)."""
    return users.astype(np.uint64) << np.uint64(32) | items.astype(np.uint64)


def split(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `join`: users and items, int64 (n,)."""
    return (codes >> np.uint64(32)).astype(np.int64), (codes & np.uint64(0xFFFFFFFF)).astype(np.int64)
