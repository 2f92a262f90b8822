"""A Batch of a table in shards: it may hold the vectors that came when its ids were found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.table.batch import Batch, Distinct

if TYPE_CHECKING:
    from hotrow.cluster.shards import Pulled


class Fetched(Batch):
    """As a Batch; `distinct` and `rows` are int64 numbers, `keys` those by which shards know the ids.

    pulled   what the shards said, of each distinct id
    version  of the table when they said it: the vectors are those of its rows until it changes
    """

    __slots__ = ("pulled", "version")
    pulled: Pulled | None
    version: int

    @classmethod
    def like(cls, batch: Batch) -> Fetched:
        """One that is as `batch` is, in its place."""
        unique = Distinct(batch.inverse, batch.first, batch.keys)
        shape = batch.shape
        made = cls(batch.table, shape, unique, batch.distinct, batch._name, batch.bags, batch.padding)
        made.complete, made.source, made.pulled, made.version = batch.complete, batch.source, None, -1
        batch.table.watch(made)
        return made

    def unrepeated(self) -> Batch:
        """As of a Batch; what is known stays known."""
        every = np.arange(len(self.distinct), dtype=np.int32)
        part = Fetched(self.table, every.shape, Distinct(every, self.first, self.keys), self.distinct, self._name,
                       padding=self.distinct < 0)  # fmt: skip
        part.pulled, part.version = self.pulled, self.version
        self.table.watch(part)
        return part


def pulled_of(batch: Any, version: int) -> Pulled | None:
    """The vectors that came with a batch, if they are what the table still has."""
    pulled = batch.pulled if isinstance(batch, Fetched) and batch.version == version else None
    return pulled if pulled is not None and pulled.vectors is not None else None
