"""Tables that several layers share, in a model's config: one there, and one again after `load_model`."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import keras

from hotrow.bridges.stage import Stage
from hotrow.keras import following
from hotrow.table import initializers, optimizers
from hotrow.table.table import Table


@keras.saving.register_keras_serializable("hotrow")
class SharedTable:
    """A table, as an object that Keras serializes once and gives back to all who had it."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def get_config(self) -> dict[str, Any]:
        """All but the rows, which the layers save."""
        table = self.table
        return {
            "dim": table.dim,
            "seed": table.seed,
            "ids": table.kind,
            "initializer": initializers.to_config(table.initializer),
            "optimizer": optimizers.to_config(table.optimizer),
            "explicit": following.of(Stage.of(table)).explicit,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SharedTable:
        """An empty table of that kind."""
        initializer = initializers.from_config(config["initializer"])
        optimizer = optimizers.from_config(config["optimizer"])
        kind = config["ids"]
        table = Table(config["dim"], seed=config["seed"], ids=kind, initializer=initializer, optimizer=optimizer)
        following.begin(Stage.of(table), table, None, brought=config["explicit"])
        return cls(table)


_shared: WeakKeyDictionary[Table, SharedTable] = WeakKeyDictionary()


def config_of(stage: Stage, table: Table) -> Any:
    """The config of a table that more than one layer has; None for a layer's own."""
    if len(stage) < 2:
        return None
    if table not in _shared:
        _shared[table] = SharedTable(table)
    return keras.saving.serialize_keras_object(_shared[table])
