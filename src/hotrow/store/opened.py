"""A table on disk that is looked up while others save: checked as it is used, and moved on to newer generations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Self, TypeVar

import numpy as np

from hotrow.errors import HotrowError
from hotrow.store import generations, snapshot
from hotrow.store.checks import made_of
from hotrow.store.generation import map_generation
from hotrow.store.guard import Guard
from hotrow.store.shards import Shards
from hotrow.store.snapshot import Chain
from hotrow.table.batch import Batch
from hotrow.table.kept import Saved
from hotrow.table.own import Own

T = TypeVar("T")


def stamp_of(links: tuple[str, ...]) -> str:
    """The stamp of what these are, the checksums of manifests: digits of the last, which names the one before."""
    return links[-1][:16]


class SnapshotView(Own):
    """A table to look up, as `hotrow.view(path)` opens it.

    A snapshot is mapped, and each part of its files is compared with its checksum before what it says is given out; a
    delta is read into memory, with what it is a change to, weights only, and so are all shards of a table that is in
    shards. Any number of threads may look up, also while
    one calls `refresh`. A Batch that was found before a refresh treats its ids as unknown.

    >>> import hotrow
    >>> table = hotrow.Table(4)
    >>> vector = table.lookup(["lantern"], grow=True)
    >>> table.save("lamps")
    1
    >>> view = hotrow.view("lamps")
    >>> _ = table.lookup(["cup"], grow=True)
    >>> table.save_delta()
    2
    >>> len(view), view.refresh(), len(view)
    (1, True, 2)
    """

    _saved: Saved
    _links: tuple[str, ...]
    """The checksums of the manifests of the snapshot, and of the deltas, that this is made of."""
    _moving: Lock
    """Held by the one that refreshes."""
    _turns = 0
    """How many times something was taken away from under those who look."""
    _guard: Guard | None = None
    """Of a mapped snapshot."""

    @classmethod
    def open(cls, path: Path, generation: int | None = None) -> Self:
        """The newest generation at `path`, or the one asked for."""
        return snapshot.use(path, generation, cls._of)

    @classmethod
    def _of(cls, chain: Chain | Shards) -> Self:
        with made_of(chain.saved.path):
            if isinstance(chain, Chain) and chain.is_snapshot:
                view = cls.over(map_generation(*chain.links[0]))
                view._guard = Guard(*chain.links[0], view.dim)
            else:
                states = chain.weights()
                view = cls.from_state(next(states))
                for change in states:
                    view.take(change)
        view._saved, view._links, view._moving = chain.saved, chain.names(), Lock()
        return view

    @property
    def path(self) -> Path:
        """The folder that it was opened from."""
        return self._saved.path

    @property
    def generation(self) -> int:
        """The number of the generation that is looked up."""
        return self._saved.generation

    @property
    def links(self) -> tuple[str, ...]:
        """The checksums of the manifests of the snapshot, and of the deltas, that are looked up."""
        return self._links

    @property
    def stamp(self) -> str:
        """Hexadecimal digits that tell which save is looked up."""
        return stamp_of(self._links)

    def check(self) -> None:
        """Compare what wasn't looked at yet with its checksums, now. CorruptError names the file."""
        self._guarded(Guard.check_all)

    def refresh(self) -> bool:
        """Go on to the newest generation; whether there was a newer one.

        Lookups go on meanwhile, and each sees one generation or the other, whole. The first delta after a snapshot
        reads the weights into memory; each later one costs what it holds. CorruptError if what is newer is damaged:
        then this goes on as it was.
        """
        with self._moving:
            return snapshot.use(self.path, None, self._move_on)

    def _move_on(self, chain: Chain | Shards) -> bool:
        links, known = chain.names(), len(self._links)
        if links == self._links:
            return False
        is_more = isinstance(chain, Chain) and len(links) > 1 and links[:known] == self._links
        if self._guard is not None or not is_more:
            self._become(type(self)._of(chain))
            return True
        deltas = Chain(chain.links[known:], chain.saved)
        for (folder, manifest), change in zip(deltas.links, deltas.weights(), strict=True):
            with made_of(folder):
                self.take(change, partial(self._is_at, folder, manifest.sha256))
        return True

    def _is_at(self, folder: Path, sha256: str) -> None:
        """It is what this delta made of it. Said before anybody looks again: who asks after a look learns of what."""
        self._links = (*self._links, sha256)
        self._saved = Saved(self.path, generations.number_of(folder), sha256)

    def _become(self, other: Self) -> None:
        """Be another view from now on, for whoever holds this one."""
        with self.lock.writing():
            self._mark(np.arange(self._index.n_rows, dtype=np.int32))
            kept = {"lock": self.lock, "_turns": self._turns, "_guard": other._guard, "_moving": self._moving}
            self.__dict__.update(other.__dict__ | kept)

    def _mark(self, rows: np.ndarray) -> None:
        self._turns += 1
        super()._mark(rows)

    def lookup(self, ids: Any, **options: Any) -> np.ndarray:
        """As `View.lookup`, of one generation, whole, whatever `refresh` does meanwhile."""
        found = super().lookup
        return found(ids, **options) if isinstance(ids, Batch) else self._of_one_turn(lambda: found(ids, **options))

    def __contains__(self, id: object) -> bool:
        contains = super().__contains__
        return self._of_one_turn(lambda: contains(id))

    def ids(self) -> Any:
        """As `View.ids`; the files of the ids are compared with their checksums first."""
        listed = super().ids
        return self._of_one_turn(lambda: self._guarded(Guard.listed) or listed())

    def vectors(self) -> np.ndarray:
        """As `View.vectors`; the file of the weights is compared with its checksums first."""
        vectors = super().vectors
        return self._of_one_turn(lambda: self._guarded(Guard.read_whole) or vectors())

    def listed(self) -> tuple[Any, np.ndarray]:
        """`ids()` and `vectors()` of one generation, whatever `refresh` does meanwhile."""
        return self._of_one_turn(lambda: (self.ids(), self.vectors()))

    def _guarded(self, check: Callable[[Guard], None]) -> None:
        if (guard := self._guard) is not None:
            check(guard)

    def _of_one_turn(self, look: Callable[[], T]) -> T:
        """What `look` gives, or raises, when nothing was taken away from under it."""
        while True:
            turns = self._turns
            try:
                given = look()
            except HotrowError:
                if turns == self._turns:
                    raise
            else:
                if turns == self._turns:
                    return given

    def _found(self, keys: np.ndarray, rows: np.ndarray) -> None:
        if self._guard is not None and not self._guard.done:
            self._guard.found(self._index, keys, rows)
