"""All shards of a table, from outside: keys are split among them, asked for at once, and put together again.

```
 keys      a b c d e        shards 0 1 0 0 1
 items     a c d │ b e      what goes to each, in one request
 order     0 3 1 2 4        where key i is in what comes back
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hotrow.cluster.arena import Arena
from hotrow.cluster.link import Link
from hotrow.table.batch import Groups
from hotrow.table.placing import place
from hotrow.table.strings import Texts


@dataclass(frozen=True)
class Spread:
    """Which shard each of m keys is on: int32 items (m,), order (m,); items[starts[s] : starts[s + 1]] are on s."""

    items: np.ndarray
    order: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, kind: str | None, shards: int) -> Spread:
        """That of keys, uint64 (m,)."""
        if shards == 1:
            every = np.arange(len(keys), dtype=np.int32)
            return cls(every, every, np.array([0, len(keys)], np.int32))
        groups = Groups.of(place(keys, kind, shards), shards)
        order = np.empty(len(keys), np.int32)
        order[groups.items] = np.arange(len(keys), dtype=np.int32)
        return cls(groups.items, order, groups.starts)

    def part(self, shard: int) -> np.ndarray:
        """Which keys are on that shard."""
        return self.items[self.starts[shard] : self.starts[shard + 1]]

    def bounds(self, shard: int) -> slice:
        """Where they are, among all in the order of shards."""
        return slice(int(self.starts[shard]), int(self.starts[shard + 1]))


@dataclass(frozen=True)
class Pulled:
    """What shards said of m keys. numbers int64 (m,), −1 for none; keys uint64 (m,), those by which they go.

    vectors float32 (m, dim) or None: that of key i is vectors[spread.order[i]]
    asked    the request to each shard, by which it remembers where the rows are
    inverse  that of the ids of which these are the keys, and groups: where each key, in the order of shards, is among
             them; None if no step was thought of
    """

    spread: Spread
    numbers: np.ndarray
    keys: np.ndarray
    vectors: np.ndarray | None
    missing: int
    asked: dict[int, int]
    inverse: np.ndarray | None
    groups: Groups | None


class Shards:
    """The links to them, in their order."""

    links: Sequence[Link]

    def __init__(self, links: Sequence[Link], dim: int) -> None:
        self.links, self._dim = links, dim
        self._arena = Arena.made()
        for link in links:
            link.arena = self._arena

    def __len__(self) -> int:
        return len(self.links)

    def pull(
        self,
        keys: np.ndarray,
        kind: str | None,
        texts: Texts | None = None,
        *,
        numbers: bool,
        vectors: bool,
        to_step: np.ndarray | None = None,
    ) -> Pulled:
        """Ask for the rows of distinct keys (uint64 (m,)); texts: of strings whose fingerprints these are.

        to_step: the inverse of ids, if a step on them is likely to come: it is made ready while shards answer.
        """
        spread = self.spread(keys, kind)
        fields, m = {"numbers": numbers, "vectors": vectors, "to_step": to_step is not None}, len(keys)
        parted = self.empty((m,), np.uint64)
        np.take(keys, spread.items, out=parted, mode="clip")  # as it is; checked first, `take` would copy
        room = [self.empty((m,), np.int64)] if numbers else []
        room += [self.empty((m, self._dim), np.float32)] if vectors else []
        shared = self._arena is not None and m > 0 and all(self._arena.place(one) is not None for one in room)
        known, missing = keys, 0
        try:
            asked: dict[int, Any] = {}
            for shard, link in enumerate(self.links):
                at = spread.bounds(shard)
                if at.start < at.stop:
                    given = [] if texts is None else texts.take(spread.part(shard)).copied()
                    there = [one[at] for one in room] if shared else []
                    asked[shard] = link.ask("pull", {**fields, "after": link.sent}, [parted[at], *given], there)
            groups = None if to_step is None else Groups.of(spread.order[to_step], m)
            for shard, one in asked.items():
                told, made = self.links[shard].wait(one)
                missing += told["missing"]
                if told["other_keys"]:
                    known = known.copy() if known is keys else known
                    known[spread.part(shard)] = made.pop()
                if not told["in_room"]:
                    for into, came in zip(room, made, strict=True):
                        into[spread.bounds(shard)] = came
        except BaseException:  # a shard may still write what it was asked for
            if self._arena is not None:
                self._arena.lose(room)
            raise
        found = room[0][spread.order] if numbers else np.zeros(0, np.int64)
        requests = {shard: one.id for shard, one in asked.items()}
        return Pulled(spread, found, known, room[-1] if vectors else None, missing, requests, to_step, groups)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """As `np.empty`, where shards on this machine see it."""
        return np.empty(shape, dtype) if self._arena is None else self._arena.empty(shape, dtype)

    def spread(self, keys: np.ndarray, kind: str | None) -> Spread:
        """How keys are spread over the shards."""
        return Spread.of(keys, kind, len(self))

    def sizes(self, spread: Spread, keys: np.ndarray) -> dict[str, int]:
        """Bytes that the rows of keys take, of each part."""
        sizes: dict[str, int] = {}
        for shard, link in enumerate(self.links):
            asked = link.ask("sizes", {"after": link.sent}, [keys[spread.part(shard)]])
            for name, each in link.wait(asked)[0]["sizes"].items():
                sizes[name] = sizes.get(name, 0) + each
        return sizes

    def call(self, method: str, *args: Any, **options: Any) -> list[Any]:
        """A method of all shards' actors at once, whose answers may be large."""
        return self._called([link.begin(method, *args, **options) for link in self.links])

    def states(self, *, whole: bool) -> list[Any]:
        """The state of each as of now, copied."""
        return self._called([link.begin("state", link.sent, whole=whole) for link in self.links])

    def _called(self, begun: list[Any]) -> list[Any]:
        return [link.called(one) for link, one in zip(self.links, begun, strict=True)]
