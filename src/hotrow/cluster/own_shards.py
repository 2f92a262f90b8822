"""All shards of a table, from its owner: a change is planned for each of them, and then made on all or on none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hotrow.cluster.connecting import ray_module
from hotrow.cluster.own_link import Change, OwnLink
from hotrow.cluster.shards import Pulled, Shards, Spread
from hotrow.table.strings import Texts

Plan = list[tuple[OwnLink, Change]]
"""A change of each shard that it concerns."""


class OwnShards(Shards):
    """The links to them, in their order. Whoever plans has the table's lock, and makes before it plans again."""

    links: Sequence[OwnLink]  # pyright: ignore[reportIncompatibleVariableOverride] — set once

    def ready(self, spread: Spread) -> None:
        """Wait until each shard that has keys has room for a change. ClusterError if one has none for too long."""
        for shard, link in enumerate(self.links):
            if spread.starts[shard] < spread.starts[shard + 1]:
                link.ready()

    def plan(
        self, what: str, fields: dict[str, Any], spread: Spread, *arrays: np.ndarray, texts: Texts | None = None
    ) -> Plan:
        """A change on each shard that has keys of it: of arrays, the first are keys, each shard gets its part.

        Waits for room; with ClusterError nothing has changed.
        """
        self.ready(spread)
        found: Plan = []
        for shard, link in enumerate(self.links):
            part = spread.part(shard)
            if spread.starts[shard] < spread.starts[shard + 1]:
                given = [] if texts is None else texts.take(part).copied()
                found.append((link, link.plan(what, fields, [*(array[part] for array in arrays), *given])))
        return found

    def step(
        self,
        fields: dict[str, Any],
        spread: Spread,
        keys: np.ndarray,
        merged: Callable[[slice], np.ndarray],
        pulled: Pulled | None,
    ) -> None:
        """Make a step, of keys in the order of shards; pulled: what was pulled of just these keys. As `make`.

        merged gives the gradients of some of them: the first shard goes on while the next one's are summed. Whoever
        calls it has waited until they are `ready`.
        """
        for shard, link in enumerate(self.links):
            at = spread.bounds(shard)
            if at.start < at.stop:
                request = -1 if pulled is None else pulled.asked.get(shard, -1)
                link.make(link.plan("step", {**fields, "pulls": request}, [keys[at], merged(at)]))

    def plan_all(self, planned: Callable[[int, OwnLink], Change]) -> Plan:
        """A change on every shard, which `planned` gives by its place and link. Waits as `plan`."""
        for link in self.links:
            link.ready()
        return [(link, planned(at, link)) for at, link in enumerate(self.links)]

    def plan_offers(self, offers: Sequence[tuple[Any, int]]) -> Plan:
        """Each shard becomes what it is offered, with so many bytes: its part of another table. Waits as `plan`."""
        return self.plan_all(lambda at, link: link.plan("install", {}, [], offers[at]))

    def plan_states(self, parts: Sequence[Any]) -> Plan:
        """Each shard becomes its part of another table, as states. Waits as `plan`."""
        put = ray_module().put
        return self.plan_offers([(put(part), _bytes(part)) for part in parts])

    @staticmethod
    def make(plan: Plan) -> None:
        """Make the change that was planned, without waiting: within `uninterrupted`, with all that belongs to it."""
        for link, change in plan:
            link.make(change)

    @staticmethod
    def only(spread: Spread, here: np.ndarray) -> Spread:
        """The spread of those of the keys, in the order of shards, that are `here`: bool (m,)."""
        sums = np.concatenate([[0], np.cumsum(here)])
        every = np.arange(int(sums[-1]), dtype=np.int32)
        return Spread(every, every, sums[spread.starts].astype(np.int32))

    def flush(self, *, kept: bool = False) -> None:
        """Wait until each has all changes; kept: on disk."""
        if kept:
            for link in self.links:
                link.begin_keeping()
        for link in self.links:
            link.flush(kept=kept)


def _bytes(state: Any) -> int:
    return int(sum(array.nbytes for array in (state.keys, state.weights, state.cells, *state.slots.values())))
