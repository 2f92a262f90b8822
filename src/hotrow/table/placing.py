"""Which of several tables a key belongs to, where a table is in parts (`hotrow.cluster`)."""

from __future__ import annotations

import numpy as np

ALIASES = np.uint64(20)
"""The lower bits of a string's key, which tell strings of one fingerprint apart (`Aliases`): they are in one part."""
_SHIFT, _HALF = np.uint64(33), np.uint64(32)
_FIRST, _SECOND = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)


def place(keys: np.ndarray, kind: str | None, shards: int) -> np.ndarray:
    """The part, of so many, of each key: uint64 (n,) → int32 (n,). The same for ever, for parts are on disk.

    Keys are mixed by the finalizer of MurmurHash3 (Appleby, 2011), for ids are often numbered in a row.

    >>> import numpy as np
    >>> from hotrow.table.placing import place
    >>> place(np.arange(8, dtype=np.uint64), "int64", 3).tolist()
    [0, 2, 0, 0, 0, 2, 2, 1]
    """
    mixed = keys >> ALIASES if kind == "string" else keys
    mixed = (mixed ^ (mixed >> _SHIFT)) * _FIRST
    mixed = (mixed ^ (mixed >> _SHIFT)) * _SECOND
    mixed ^= mixed >> _SHIFT
    return (((mixed >> _HALF) * np.uint64(shards)) >> _HALF).astype(np.int32)
