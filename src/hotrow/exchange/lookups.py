"""Which row of a Keras Embedding is which id, by the lookup before it: StringLookup or IntegerLookup.

row 0            the mask token, if there is one
next rows        ids that aren't in the vocabulary share them: no id's own
rows after them  the vocabulary, in its order
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hotrow.errors import DataError


def own_rows(
    vocabulary: Sequence[Any], *, mask: Any, unknown: Any, unknown_rows: int, rows: int, name: str
) -> tuple[Any, int, list[str]]:
    """The ids, the row of the first of them, and sentences about rows that are no id's.

    vocabulary: with the mask and unknown tokens in front or without. mask: None if there is none. rows: of the
    Embedding; DataError if the vocabulary has more.
    """
    first = (mask is not None) + unknown_rows
    special = [mask] * (mask is not None) + [unknown] * unknown_rows
    tokens = list(vocabulary)
    if first and tokens[:first] == special:
        tokens = tokens[first:]
    if first + len(tokens) > rows:
        raise DataError(
            f"{name}: {first} + {len(tokens):,} ids, and the Embedding has {rows:,} rows: another lookup's?"
        )
    notes: list[str] = []
    if mask is not None:
        notes.append("row 0, that of the mask, is no id's: left out")
    if unknown_rows:
        which = f"rows {first - unknown_rows} to {first - 1}" if unknown_rows > 1 else f"row {first - 1}"
        notes.append(
            f"{which}, shared by ids outside of the vocabulary: left out; in hotrow such an id gets a row of its own"
        )
    if first + len(tokens) < rows:
        notes.append(f"rows from {first + len(tokens):,} on are no id's: left out")
    ids = np.array(tokens, np.int64) if tokens and all(type(token) is int for token in tokens) else tokens
    return ids, first, notes
