"""What is said of an id that a model doesn't know, and of ids that were taken out behind its back."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotrow.errors import ArgumentError, UnknownIdError
from hotrow.models.pairs import columns
from hotrow.models.spelling import alike
from hotrow.table.batch import Batch
from hotrow.table.table import Table

MOST = 2**31
"""Rows of a table of a model: its known pairs are in int32."""


def check_whole(table: Table) -> None:
    """A model goes by row, as its known pairs do: ArgumentError if rows are missing, or more than they can be of."""
    if len(table) >= MOST:
        raise ArgumentError(f"a model has fewer than {MOST:,} users, and items: its pairs are told by both in 64 bits")
    if table.has_holes:
        raise ArgumentError(
            "ids of this model's tables were forgotten, and it goes by row: fit a new model without them"
        )


def find_known(table: Table, ids: Any, offsets: Any = None, *, where: str = "pair") -> Batch:
    """The Batch of ids that all have rows, with offsets of bags. UnknownIdError, with ids that are written alike.

    where: what the model was trained on, that an unknown id was in none of
    """
    check_whole(table)
    batch = table.find(ids, offsets=offsets)
    if batch.missing().any():
        raise UnknownIdError(_strange(table, batch, where))
    return batch


def found_or_ids(pairs: Any, users: Batch, items: Batch) -> tuple[Any, Any]:
    """The batches, which needn't be found again, or the ids, where some have no row yet."""
    user_ids, item_ids = columns(pairs)
    return user_ids if users.missing().any() else users, item_ids if items.missing().any() else items


def _strange(table: Table, batch: Batch, where: str) -> str:
    """A message about an unknown id, with names that are written alike."""
    u = int(np.flatnonzero(batch.missing())[0])
    message = f"id {batch.name(u)} has no vector: it was in no {where} that the model was trained on"
    if table.kind == "string":
        near = alike(table.ids(), batch.name(u).rsplit(" (", 1)[0][1:-1])
        if near:
            message += f"; there are {', '.join(map(repr, near))}"
    return message
