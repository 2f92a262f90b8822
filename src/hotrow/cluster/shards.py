"""All shards of a table, from outside: keys are split among them, asked for at once, and put together again.

```
 keys      a b c d e        shards 0 1 0 0 1
 items     a c d │ b e      what goes to each, in one request
 order     0 3 1 2 4        where key i is in what comes back
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hotrow.cluster.connecting import ray_module
from hotrow.cluster.link import Link
from hotrow.cluster.wire import of_texts
from hotrow.table.batch import Groups
from hotrow.table.placing import place
from hotrow.table.strings import Texts
from hotrow.table.utf8 import arrow


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
    """

    spread: Spread
    numbers: np.ndarray
    keys: np.ndarray
    vectors: np.ndarray | None
    missing: int


class Shards:
    """The links to them, in their order."""

    def __init__(self, links: list[Link], dim: int) -> None:
        self.links, self._dim = links, dim

    def __len__(self) -> int:
        return len(self.links)

    def pull(
        self, keys: np.ndarray, kind: str | None, texts: Texts | None = None, *, numbers: bool, vectors: bool,
        spread: Spread | None = None,
    ) -> Pulled:  # fmt: skip
        """Ask for the rows of distinct keys (uint64 (m,)); texts: of strings whose fingerprints these are."""
        spread = spread or Spread.of(keys, kind, len(self))
        fields = {"numbers": numbers, "vectors": vectors}
        asked: dict[int, Any] = {}
        for shard, link in enumerate(self.links):
            part = spread.part(shard)
            if len(part):
                given = [] if texts is None else of_texts(taken(texts, part))
                asked[shard] = link.ask("pull", {**fields, "after": link.sent}, [keys[part], *given])
        found = np.full(len(keys), -1, np.int64) if numbers else np.zeros(0, np.int64)
        rows = np.empty((len(keys), self._dim), np.float32) if vectors else None
        known, missing = keys, 0
        for shard, one in asked.items():
            part, (told, made) = spread.part(shard), self.links[shard].wait(one)
            missing += told["missing"]
            if told["other_keys"]:
                known = known.copy() if known is keys else known
                known[part] = made.pop()
            if rows is not None:
                rows[spread.bounds(shard)] = made.pop()
            if numbers:
                found[part] = made.pop()
        return Pulled(spread, found, known, rows, missing)

    def change(
        self, what: str, fields: dict[str, Any], spread: Spread, *arrays: np.ndarray, sorted: bool = False
    ) -> None:
        """Make a change on each shard that has keys of it: of arrays, the first are keys, each shard gets its part.

        sorted: the arrays are in the order of shards already.
        """
        for shard, link in enumerate(self.links):
            part = spread.bounds(shard) if sorted else spread.part(shard)
            if spread.starts[shard] < spread.starts[shard + 1]:
                link.change(what, fields, [array[part] for array in arrays])

    def admit(self, kind: str, spread: Spread, keys: np.ndarray, texts: Texts | None, numbers: np.ndarray) -> None:
        """Give keys their rows, with these numbers."""
        for shard, link in enumerate(self.links):
            part = spread.part(shard)
            if len(part):
                given = [] if texts is None else of_texts(taken(texts, part))
                link.change("admit", {"kind": kind}, [keys[part], numbers[part], *given])

    def spread(self, keys: np.ndarray, kind: str | None) -> Spread:
        """How keys are spread over the shards."""
        return Spread.of(keys, kind, len(self))

    @staticmethod
    def only(spread: Spread, here: np.ndarray) -> Spread:
        """The spread of those of the keys, in the order of shards, that are `here`: bool (m,)."""
        sums = np.concatenate([[0], np.cumsum(here)])
        every = np.arange(int(sums[-1]), dtype=np.int32)
        return Spread(every, every, sums[spread.starts].astype(np.int32))

    def change_all(self, what: str, fields: dict[str, Any]) -> None:
        """Make a change on every shard."""
        for link in self.links:
            link.change(what, fields, [])

    def sizes(self, spread: Spread, keys: np.ndarray) -> dict[str, int]:
        """Bytes that the rows of keys take, of each part."""
        sizes: dict[str, int] = {}
        for shard, link in enumerate(self.links):
            asked = link.ask("sizes", {"after": link.sent}, [keys[spread.part(shard)]])
            for name, each in link.wait(asked)[0]["sizes"].items():
                sizes[name] = sizes.get(name, 0) + each
        return sizes

    def install(self, parts: list[Any]) -> None:
        """Let each shard become its part of another table, as states: the change after all that were sent."""
        ray = ray_module()
        self.flush()
        numbers = [link.sent + 1 for link in self.links]
        ray.get([link.actor.install.remote(part, number)
                 for link, part, number in zip(self.links, parts, numbers, strict=True)])  # fmt: skip
        for link, number in zip(self.links, numbers, strict=True):
            link.forget_log(number)

    def install_from(self, path: str, number: int | None) -> list[tuple[dict[str, Any], int]]:
        """Let each shard become its part of what was saved at a path; the config and rows of each."""
        ray = ray_module()
        self.flush()
        numbers = [link.sent + 1 for link in self.links]
        told = ray.get([link.actor.install_from.remote(path, number, at)
                        for link, at in zip(self.links, numbers, strict=True)])  # fmt: skip
        for link, at in zip(self.links, numbers, strict=True):
            link.forget_log(at)
        return told

    def call(self, method: str, *args: Any, **options: Any) -> list[Any]:
        """A method of all shards' actors at once, whose answers may be large."""
        ray = ray_module()
        return ray.get([getattr(link.actor, method).remote(*args, **options) for link in self.links])

    def states(self, *, whole: bool) -> list[Any]:
        """The state of each as of now, copied."""
        ray = ray_module()
        self.flush()
        return ray.get([link.actor.state.remote(link.sent, whole=whole) for link in self.links])

    def flush(self, *, kept: bool = False) -> None:
        """Wait until each has all changes; kept: on disk."""
        for link in self.links:
            if kept and link.durable < link.sent:
                link.keep()
        for link in self.links:
            link.flush(kept=kept)


def taken(texts: Texts, positions: np.ndarray) -> Any:
    """Some of many strings, as an Arrow array."""
    chosen = texts.take(positions)
    if chosen.at is None:
        chosen = Texts(texts.data, texts.places, texts.step, positions)
    offsets = chosen.offsets()
    data = np.empty(int(offsets[-1]), np.uint8)
    chosen.copy(offsets, data)
    return arrow(data, offsets)
