"""Tables that several layers share, in a model's config: one there, and one again in what is made of it.

Each layer's config has the table's numbers, and a mark that says which table it was. In `load_model` Keras has a scope
in which equal marks become one table. `clone_model` and `from_config` have none: there each layer begins with a table
of its own, and the first hotrow model that the layers are in joins those with equal marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from keras.src.saving.serialization_lib import get_shared_object, record_object_after_deserialization

from hotrow.bridges.stage import Stage
from hotrow.errors import ArgumentError
from hotrow.keras import following
from hotrow.table import initializers, optimizers
from hotrow.table.table import Table

_marks: WeakKeyDictionary[Table, str] = WeakKeyDictionary()


def config_of(stage: Stage, table: Table, brought: bool) -> dict[str, Any] | None:
    """All but the rows of a table that more than one layer has, or that was given to one; None for a layer's own."""
    if len(stage) < 2 and not brought:
        return None
    return {
        "dim": table.dim,
        "seed": table.seed,
        "ids": table.kind,
        "initializer": initializers.to_config(table.initializer),
        "optimizer": optimizers.to_config(table.optimizer),
        "explicit": following.of(stage).explicit,
        "shared": len(stage) > 1,
        "mark": _marks.setdefault(table, uuid4().hex),
    }


def from_config(config: dict[str, Any]) -> tuple[Table, str | None]:
    """The table of a config, empty or another layer's, and its mark if the others may have got another."""
    mark = config["mark"]
    known = get_shared_object(mark)
    if isinstance(known, Table):
        return known, None
    initializer = initializers.from_config(config["initializer"])
    optimizer = optimizers.from_config(config["optimizer"])
    kind = config["ids"]
    table = Table(config["dim"], seed=config["seed"], ids=kind, initializer=initializer, optimizer=optimizer)
    following.begin(Stage.of(table), table, None, brought=config["explicit"])
    record_object_after_deserialization(table, mark)
    alone = get_shared_object(mark) is not table
    return table, mark if alone and config["shared"] else None


def join(layers: Sequence[Any]) -> None:
    """Let the layers of a model share a table again whose tables were one when their configs were made."""
    first: dict[str, Any] = {}
    for layer in layers:
        if layer.mark is not None and first.setdefault(layer.mark, layer) is not layer:
            layer.use(first[layer.mark].table)
    for layer in layers:
        layer.mark = None


def refuse_apart(layer: Any) -> None:
    """ArgumentError for a layer that shared its table, in a model that can't know with whom."""
    if layer.mark is not None:
        raise ArgumentError(
            f"layer {layer.name!r} was made from the config of one that shares its table with other layers, and "
            "keras.Model can't tell with whom; expected hotrow.keras.Model, or the sharing said once more: "
            f"hotrow.keras.Embedding(None, {layer.output_dim}, table=other.table); or a table of its own: "
            'from_config({**config, "table": None})'
        )
