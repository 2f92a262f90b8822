"""A table in shards, to read from any process of the cluster; its owner goes on changing it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import WeakSet

import numpy as np

from hotrow.cluster.asking import Asking
from hotrow.cluster.shards import Shards, Spread
from hotrow.cluster.starting import links_of
from hotrow.store.joining import NUMBER, join, numbers_in, slot_of
from hotrow.table import initializers
from hotrow.table.batch import Batch
from hotrow.table.locks import ReadersWriter
from hotrow.table.rows import Rows
from hotrow.table.state import State


class View(Asking):
    """As `hotrow.View`; each shard answers with its rows as they are then. `attach` opens one.

    An id that is new to the table is known as soon as its row is there; a Batch keeps no vectors for a second look.
    Shards answer as of moments of their own, for their owner goes on: `ids()` and `vectors()` are of one moment only
    while it changes nothing.
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

    def settle(self) -> None:
        """Before anything is read: the kind of the ids, which the owner's first ones have decided."""
        if self.kind is None:  # a shard that has none of them doesn't know it
            none = np.zeros(0, np.uint64)
            self.shards_.sizes(Spread.of(none, None, len(self.shards_)), none)  # facts wait for no change, this does
            self.kind = next((facts["ids"] for facts in self.shards_.call("facts") if facts["ids"]), None)

    def _find(self, ids: Any, offsets: Any, weights: Any, pooling: str | None, mask: Any = None) -> Batch:
        self.settle()
        return super()._find(ids, offsets, weights, pooling, mask)

    def _joined(self, *, whole: bool) -> State:
        return join(_apart(self.shards_.states(whole=whole)))

    def _source(self, batch: Batch) -> tuple[Rows, np.ndarray]:
        source = super()._source(batch)
        self._version += 1  # the owner may have changed them by the next look
        return source

    def __len__(self) -> int:
        """The number of ids that have a row."""
        return sum(facts["rows"] for facts in self.shards_.call("facts"))

    @property
    def has_holes(self) -> bool:
        """True: nobody but the owner knows."""
        return True


def _apart(states: list[State]) -> list[State]:
    """States that can be joined, of shards each of which was copied at another moment.

    A number that was given away meanwhile may be in two of them, and only one may have another optimizer already.
    """
    numbers = np.concatenate([numbers_in(one) for one in states])
    apart = np.empty_like(numbers)
    apart[np.argsort(numbers, kind="stable")] = np.arange(len(numbers))
    parts = np.split(slot_of(apart), np.cumsum([len(one.keys) for one in states])[:-1])
    same = {name: states[0].config[name] for name in ("seed", "optimizer", "initializer")}
    return [
        replace(one, config=one.config | same, slots={NUMBER: part}) for one, part in zip(states, parts, strict=True)
    ]


def attach(name: str) -> View:
    """A table in shards by its name, to read: `Table.name`, or `Table(…, name=…)`. ArgumentError if there is none such.

    >>> import hotrow.cluster
    >>> view = hotrow.cluster.attach("items")  # doctest: +SKIP
    """
    return View(name)
