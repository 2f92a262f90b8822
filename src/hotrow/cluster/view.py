"""A table in shards, to read from any process of the cluster; its owner goes on changing it."""

from __future__ import annotations

from weakref import WeakSet

import numpy as np

from hotrow.cluster.asking import Asking
from hotrow.cluster.shards import Shards
from hotrow.cluster.starting import links_of
from hotrow.table import ids as ids_
from hotrow.table import initializers
from hotrow.table.batch import Batch
from hotrow.table.locks import ReadersWriter
from hotrow.table.view import Found


class View(Asking):
    """As `hotrow.View`; each shard answers with its rows as they are then. `attach` opens one.

    An id that is new to the table is known as soon as its row is there; a Batch keeps no vectors for a second look.
    """

    def __init__(self, name: str) -> None:
        plan, links = links_of(name)
        self.name = name
        self.dim, self.kind, self.seed = plan["dim"], plan["ids"], plan["seed"]
        self.initializer = initializers.from_config(plan["initializer"])
        self.lock, self._live = ReadersWriter(), WeakSet()
        self._open(Shards(links, self.dim))

    def wait_for(self, marks: list[int]) -> None:
        """Answers from now on are of what the owner has changed up to these `Table.marks`, or later."""
        for link, mark in zip(self.shards_.links, marks, strict=True):
            link.sent = max(link.sent, mark)

    def _locate(self, keys: ids_.Keys, *, grow: bool) -> Found:
        if self.kind is None:  # the owner's first ids decide
            self.kind = links_of(self.name)[0]["ids"]
        return super()._locate(keys, grow=grow)

    def _have(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        have = super()._have(batch)
        self._version += 1  # the owner may have changed them by the next look
        return have

    def __len__(self) -> int:
        """The number of ids that have a row."""
        return sum(facts["rows"] for facts in self.shards_.call("facts"))

    def _has_holes(self) -> bool:
        return True  # nobody but the owner knows


def attach(name: str) -> View:
    """A table in shards by its name, to read: `Table.name`, or `Table(…, name=…)`. ArgumentError if there is none such.

    >>> import hotrow.cluster
    >>> view = hotrow.cluster.attach("items")  # doctest: +SKIP
    """
    return View(name)
