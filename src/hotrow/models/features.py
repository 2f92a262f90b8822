"""Features of users or of items: a table of vectors for each, and which user or item has which of its values.

```
 feature "tag"     values of an item     its vector
 mug               kitchen, gift         own row of mug   +  mean(kitchen, gift)
 cake stand        kitchen                     0          +  kitchen               in no pair: placed by its tag alone
```
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.models.pairs import check_lengths, columns, join, split
from hotrow.models.ranking import Known
from hotrow.table.batch import Batch
from hotrow.table.ids import Keys, to_keys
from hotrow.table.initializers import Zeros
from hotrow.table.table import Table

Tables = Callable[..., Table]
"""Makes a table of what `hotrow.Table` takes."""


@dataclass
class Feature:
    """One feature of the users, or of the items, which are `entities` here.

    table  the vectors of its values, as wide as those of the entities
    pairs  uint64 (n,), entity << 32 | value, in rows of the two tables, ascending
    """

    entities: Table
    table: Table
    pairs: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    _known: Known | None = None
    _batch: Batch | None = None

    @classmethod
    def of(cls, entities: Table, tables: Tables) -> Feature:
        """A feature that nobody has yet. Where its values start, the entities that have them say."""
        return cls(entities, tables(entities.dim, optimizer=entities.optimizer, initializer=Zeros()))

    def move(self, entities: Table, table: Table) -> None:
        """The tables are these from now on, with the same rows."""
        self.entities, self.table, self._batch = entities, table, None

    def add(self, pairs: np.ndarray) -> None:
        """Entities have these values, too, in the form of `pairs`."""
        self.remember(np.union1d(self.pairs, pairs))

    def remember(self, pairs: np.ndarray) -> None:
        """Let these be all `pairs`."""
        self.pairs, self._known = pairs, None

    def known(self) -> Known:
        """The values of each entity, in rows."""
        if self._known is None or len(self._known.starts) != len(self.entities) + 1:
            self._known = Known.of(*split(self.pairs), len(self.entities))
        return self._known

    def values(self) -> Batch:
        """Every value in the order of its row, found once: hashing them anew in each call would cost more."""
        if self._batch is None or len(self._batch) != len(self.table) or not self._batch.complete:
            self._batch = self.table.find(self.table.ids())
        return self._batch

    def bags(self, entities: np.ndarray) -> Batch:
        """The bag of values of each of these rows, int64 (n,)."""
        known = self.known()
        first = known.starts[entities]
        counts = known.starts[entities + 1] - first
        offsets = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], counts)
        return self.values().take(known.items[places], offsets=offsets)

    def look(self, entities: np.ndarray) -> np.ndarray:
        """The mean of the vectors of the values of each of these rows; zeros without any: float32 (n, dim)."""
        return self.table.lookup(self.bags(entities))

    def holders(self, after: int, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which entities have each value from row `after` on: rows int64 (n,), and offsets for these values.

        among  bool (entities,), which of them are counted
        """
        entities, values = split(self.pairs)
        counted = (values >= after) & among[entities]
        entities, values = entities[counted], values[counted]
        counts = np.bincount(values - after, minlength=len(self.table) - after)
        return entities[np.argsort(values, kind="stable")], np.concatenate([[0], np.cumsum(counts)])

    def forget(self, stays: np.ndarray) -> None:
        """Only these entities, bool (as many as there were), are left, numbered anew, and values that they have.

        A value that nobody has any more goes as well: it might name the one who had it.
        """
        entities, values = split(self.pairs)
        kept = stays[entities]
        used = np.zeros(len(self.table), bool)
        used[values[kept]] = True
        if not used.all():
            ids = self.table.ids()
            self.table.forget(ids.take(np.flatnonzero(~used)))
            self.table.restore(self.table.state())  # rows end to end again
        number, value = np.cumsum(stays) - 1, np.cumsum(used) - 1
        self._batch = None
        self.remember(join(number[entities[kept]], value[values[kept]]))


@dataclass(frozen=True)
class Given:
    """A feature as it was given, converted: nothing in it can be refused any more."""

    name: str
    entities: Keys
    values: Keys


def check(given: Any, side: str, table: Table, found: Batch, features: Mapping[str, Feature]) -> list[Given]:
    """What was given as features of a side, "user" or "item", with this table; found: the ids of the fit's pairs.

    ArgumentError, or what `Table.find` raises for ids, for what can't be that.
    """
    if given is None:
        return []
    if not isinstance(given, Mapping):
        raise ArgumentError(
            f'{side}_features are by name, such as {{"tag": ({side} ids, tags)}}; got {type(given).__name__}'
        )
    kind = table.kind or (found.source.kind if found.source is not None else None) or None
    made: list[Given] = []
    for name, pairs in cast("Mapping[Any, Any]", given).items():
        if not isinstance(name, str) or not name:
            raise ArgumentError(f"a feature has a name, as in {side}_features={{'tag': …}}; got {name!r}")
        call = f"{side}_features={{{name!r}: ({side} ids, values)}}"
        ids, values = columns(pairs, f"feature {name!r} is", f"{side} ids and values", call)
        entities = to_keys(ids, kind)
        kind = kind or entities.kind or None
        told = to_keys(values, features[name].table.kind if name in features else None)
        check_lengths(len(entities.keys), len(told.keys), f"feature {name!r} is", f"{side} ids", "values")
        made.append(Given(name, entities, told))
    return made
