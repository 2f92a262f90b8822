"""A save of a table in shards, read: of each shard the snapshot and the deltas that it names, and the table they make.

Files are mapped when their checksums have been compared, and rows go from the maps to where they are wanted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from hotrow.errors import ArgumentError, CorruptError
from hotrow.store import generations as folders
from hotrow.store.files import Advance
from hotrow.store.generation import map_checked, map_generation, size_of
from hotrow.store.joining import NUMBER, check_places, config_of, live_rows, numbers_of, weave
from hotrow.store.manifest import Manifest
from hotrow.store.sharded import Sharded, check_shards, describe, free_numbers
from hotrow.store.writing import Meter
from hotrow.table.kept import Progress, Saved
from hotrow.table.state import State

Link = tuple[Path, Manifest]


@dataclass(frozen=True)
class Shards:
    """A save of a table in shards, to be read as a `snapshot.Chain` is; the table comes as one whole state."""

    described: Sharded
    chains: list[list[Link]]
    """Of each shard."""
    saved: Saved
    progress: Progress | None = None

    @classmethod
    def open(cls, root: Path, number: int, progress: Progress | None = None) -> Self:
        """A save. CorruptError, naming the file, if a generation that it names is damaged, missing or another one."""
        described = describe(root, number)
        check_shards(root, described)
        chains = [folders.chain(folders.shard_folder(root, at), one) for at, (one, _) in enumerate(described.shards)]
        return cls(described, chains, Saved(root, number, described.sha256), progress)

    @property
    def follows(self) -> Saved | None:
        """None: a delta of one table is no change to shards."""
        return None

    @property
    def links(self) -> list[Link]:
        """The generations of all shards."""
        return [link for chain in self.chains for link in chain]

    def names(self) -> tuple[str, ...]:
        """A checksum of all that is read: another one when ids are taken out of a generation, too."""
        told = [self.described.sha256, *(manifest.sha256 for _, manifest in self.links)]
        return (hashlib.sha256("".join(told).encode()).hexdigest(),)

    def config(self) -> dict[str, Any]:
        """The table's, see `State`."""
        with self._of_one_table():
            return config_of([chain[-1][1].config for chain in self.chains]) | {"steps": self._steps}

    def rows(self) -> int:
        """How many rows the table has."""
        return sum(len(rows) for shard in self._mapped() for rows in live_rows(shard))

    def states(self) -> Iterator[State]:
        """The table, all of it checked. Its weights and slots can only be poured."""
        yield self._woven(lambda manifest: manifest.slots())

    def weights(self) -> Iterator[State]:
        """The same without slots, for whoever only looks up."""
        yield self._woven(lambda _: [NUMBER])

    def free(self) -> np.ndarray:
        """The numbers below the largest that no row has, or more: int64 (n,), in no order.

        As they were saved; where ids were taken out of what was saved, theirs, too, for which all numbers are read.
        """
        free = free_numbers(self.saved.path, self.described)
        if not any(manifest.stands_for for _, manifest in self.links):
            return free
        shards = self._mapped()
        live = [rows for shard in shards for rows in live_rows(shard)]
        with self._of_one_table():
            numbers = np.sort(numbers_of([state for shard in shards for state in shard], live))
        before = np.concatenate([np.full(1, -1), numbers])
        gaps = [np.arange(a + 1, b) for a, b in zip(before, numbers, strict=False) if b - a > 1]
        return np.union1d(free, np.concatenate([np.zeros(0, np.int64), *gaps]))

    def check(self) -> None:
        """CorruptError if the generations, each of which is right, aren't shards of one table."""
        config, shards = self.config(), self._mapped()
        live = [rows for shard in shards for rows in live_rows(shard)]
        with self._of_one_table():
            check_places(shards, live, config["ids"])
            numbers = numbers_of([state for shard in shards for state in shard], live)
            if np.isin(free_numbers(self.saved.path, self.described), numbers).any():
                raise ArgumentError("a number that it says is free is a row's")

    @property
    def _steps(self) -> int:
        return self.described.facts["steps"]

    def _mapped(self) -> list[list[State]]:
        """Keys, numbers, weights, not compared with their checksums."""
        return [[map_generation(*link, _there(link[1], [NUMBER])) for link in chain] for chain in self.chains]

    def _woven(self, slots: Callable[[Manifest], list[str]]) -> State:
        meter = Meter(self.progress, sum(size_of(manifest) for _, manifest in self.links), self.saved.generation)

        def read(folder: Path, manifest: Manifest) -> State:
            def at(file: str) -> Advance:
                return meter.at(f"{folder.parent.name}/{file}")

            return map_checked(folder, manifest, _there(manifest, slots(manifest)), at)

        shards = [[read(*link) for link in chain] for chain in self.chains]
        with self._of_one_table():
            return weave(shards, self._steps)

    @contextmanager
    def _of_one_table(self) -> Generator[None]:
        """Within, what can't be a table's shards is damage."""
        try:
            yield
        except ArgumentError as error:
            tie = folders.sharded_file(self.saved.path, self.described.number)
            raise CorruptError(f"{tie}: ties what doesn't belong together: {error}") from error


def _there(manifest: Manifest, slots: list[str]) -> list[str]:
    return [name for name in slots if name in manifest.slots()]
