"""A model whose tables are elsewhere, as `tables=` has made them, brought into this process."""

from __future__ import annotations

from typing import Any

from hotrow.table.table import Table


def gather(model: Any) -> None:
    """Put an ordinary table, equal to the bit, in the place of each that isn't one: users, items, and of features.

    So it is saved as any other model, and asked without a way to another process. A table at a time comes here.
    """
    for side in ("users", "items"):
        if hasattr(model, side):
            setattr(model, side, plain(getattr(model, side)))
    for side, features in getattr(model, "parts", {}).items():
        for feature in features.values():
            feature.move(getattr(model, f"{side}s"), plain(feature.table))


def plain(table: Table) -> Table:
    """An ordinary table, equal to the bit; the same one if it is one."""
    return table if type(table) is Table else Table.from_state(table.state())
