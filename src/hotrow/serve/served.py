"""What is served right now, and how it follows what is saved.

```
folder on disk ──moved_on()───▶ Served ──▶ lookups at once
                                   └─────▶ searches, made in the background; those before answer meanwhile
```
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import ArgumentError, HotrowError, MissingExtraError, UnknownIdError
from hotrow.models.folders import Folder
from hotrow.serve.answers import RefusedError, busy

if TYPE_CHECKING:
    from hotrow.maps import Map
    from hotrow.models.sides import Vectors
    from hotrow.search import Metadata, Search

log = logging.getLogger("hotrow.serve")

Told = Callable[[Folder, str], "Metadata | None"]
"""Makes what is known of the ids of a side, by its name, beside their vectors."""
Progress = Callable[[int, int, dict[str, Any]], None]


_GIVEN_UP = 60.0
"""Seconds that the end waits for what is being made."""


class StoppedError(Exception):
    """The server ends."""


class Served:
    """A folder as it was at one save, and what is made of it; swapped whole when something newer is on disk.

    folder    what is looked up
    told      makes the metadata of a side, by its name; None: there is none
    metric    of the searches: "cosine", "dot" or "euclidean"
    method    of the searches: "auto", "exact" or "usearch"
    before    what was served before this: its searches and maps answer until new ones are made of them
    """

    def __init__(
        self,
        folder: Folder,
        told: Told | None = None,
        *,
        metric: str = "cosine",
        method: str = "auto",
        before: Served | None = None,
    ) -> None:
        self.folder, self.metric, self.method = folder, metric, method
        self._told = told
        self._searches: dict[str, Future[Search]] = {name: Future() for name in folder.sides}
        self._earlier = {} if before is None else before.searches()
        self._metadata: dict[str, Metadata | None] = {}
        self._known_before = {} if before is None else before._known()
        self._maps: dict[str, Map] = {}
        self._maps_before: dict[str, Map] = {} if before is None else {**before._maps_before, **before._maps}
        self._telling, self._drawing = Lock(), Lock()

    @property
    def stamp(self) -> str:
        """Which save it is."""
        return self.folder.stamp

    def followed_by(self, folder: Folder) -> Served:
        """What is served next: the same of a newer save."""
        return Served(folder, self._told, metric=self.metric, method=self.method, before=self)

    def lookup(self, vectors: Vectors, ids: Any) -> tuple[str, np.ndarray]:
        """Which save was looked up, and the vectors: float32 (n, dim). UnknownIdError for ids without a row.

        The view of a saved table moves on by itself, a moment before what is served is swapped.
        """
        found, stamp = vectors.looked_up(ids)
        return stamp or self.folder.stamp, found

    def within(self, side: str, search: Search, where: dict[str, Any] | list[str]) -> np.ndarray:
        """Which ids of the search fulfil conditions on what is known of them, as `Metadata.where` or `Metadata.parse`
        takes them: bool (n,). ArgumentError for what is no condition.
        """
        metadata = self.metadata(side)
        if metadata is None:
            raise ArgumentError(
                f"nothing is known of side {side!r} that `where` could ask for; `hotrow serve … --metadata FILE` tells"
            )
        allowed = metadata.where(metadata.parse(where) if isinstance(where, list) else where)
        if search.vectors is not self.folder.sides[side]:  # the search before, while the new one is made
            rows = self.folder.sides[side].rows(search.vectors.ids())
            allowed = np.where(rows >= 0, allowed[rows], False)
        return allowed

    def warm(self) -> None:
        """Look up what isn't there, so that the first request needn't wait until kernels are compiled."""
        for vectors in self.folder.sides.values():
            with suppress(UnknownIdError):
                vectors.lookup([""] if vectors.kind == "string" else np.zeros(1, vectors.kind))

    # --- what is near ------------------------------------------------------------------------------------------------

    def search(self, side: str | None = None) -> Search:
        """The search over a side; while it is made, the one before. Refused with 503 while there is neither.

        Refused with 503 as well, by what it failed with, if it couldn't be made and there is none before; a missing
        extra is raised as it is.
        """
        name = self.folder.side(side).name
        future, earlier = self._searches[name], self._earlier.get(name)
        error = future.exception() if future.done() else None
        if future.done() and error is None:
            return future.result()
        if earlier is None and error is not None:
            if isinstance(error, MissingExtraError):
                raise error
            raise RefusedError(503, f"there is no search over side {name!r}: {error}")
        if earlier is None:
            raise busy(f"the search over side {name!r} is being made; try again soon")
        return earlier

    def searches(self) -> dict[str, Search]:
        """Those that can answer, by the side."""
        made = {name: f.result() for name, f in self._searches.items() if f.done() and f.exception() is None}
        return self._earlier | made

    def states(self) -> dict[str, str]:
        """How it is with the search of each side: "ready", "being made" or "failed: …"."""
        return {name: _state(future) for name, future in self._searches.items()}

    def make(self, progress: Progress | None = None) -> None:
        """Make all searches that aren't made, in a thread. What fails is kept, and said by `states` and `search`."""
        for name, future in self._searches.items():
            if future.done():
                continue
            try:
                future.set_result(self._search_of(name, progress))
            except StoppedError:
                raise
            except Exception as error:  # noqa: BLE001 — of whatever a search is built with; the server goes on
                log.error("no search over side %r: %s", name, error)  # noqa: TRY400 — the message is what helps
                future.set_exception(error)
        self._earlier = {name: s for name, s in self._earlier.items() if self._failed(name)}
        self._check()

    def _check(self) -> None:
        """Compare what is left with its checksums: lookups then needn't, and the searches have read most of it."""
        for vectors in self.folder.sides.values():
            with suppress(HotrowError, OSError):  # a lookup that meets it says so
                vectors.check()

    def _failed(self, name: str) -> bool:
        return name in self._searches and self._searches[name].exception() is not None

    def _search_of(self, name: str, progress: Progress | None) -> Search:
        from hotrow.search import Search

        earlier, vectors = self._earlier.get(name), self.folder.sides[name]
        if earlier is not None and earlier.vectors.kind == vectors.kind and earlier.vectors.dim == vectors.dim:
            return earlier.updated(vectors, progress)
        return Search.open(self.folder, name, metric=self.metric, method=self.method, progress=progress)

    # --- what is known beside ----------------------------------------------------------------------------------------

    def tell(self, side: str | None = None) -> Metadata | None:
        """As `metadata`, but what can't be told raises what it failed with."""
        name = self.folder.side(side).name
        with self._telling:
            if name not in self._metadata:
                self._metadata[name] = None if self._told is None else self._told(self.folder, name)
                self._known_before.pop(name, None)
            return self._metadata[name]

    def metadata(self, side: str | None = None) -> Metadata | None:
        """What is known of the ids of a side, aligned with `folder.side(side).ids()`; None if nothing is.

        If that can't be told any more, it is logged once, and what was known before is known of ids that are still
        there.
        """
        name = self.folder.side(side).name
        try:
            return self.tell(name)
        except Exception as error:  # noqa: BLE001 — of whatever tells it; the page goes on without
            with self._telling:
                if name not in self._metadata:
                    log.warning("what is known of side %r stays as it was, and can't be told: %s", name, error)
                    before = self._known_before.get(name)
                    self._metadata[name] = None if before is None else _aligned(*before, self.folder.sides[name])
                return self._metadata[name]

    def _known(self) -> dict[str, tuple[Vectors, Metadata]]:
        with self._telling:
            made = {name: (self.folder.sides[name], one) for name, one in self._metadata.items() if one is not None}
            return {name: one for name, one in self._known_before.items() if name not in self._metadata} | made

    # --- the picture -------------------------------------------------------------------------------------------------

    def map(self, side: str | None = None) -> Map:
        """The places of a side's ids in two dimensions: made when first asked for, in a thread; else from the map
        before, in which nobody who stays moves.
        """
        from hotrow.maps import Map

        name = self.folder.side(side).name
        with self._drawing:
            if name not in self._maps:
                self._maps[name] = Map.open(self.folder, name, before=self._maps_before.get(name))
            return self._maps[name]

    def show(self, side: str, better: Map) -> None:
        """Let this be the map of a side from now on, also for what is served next."""
        with self._drawing:
            self._maps[side] = better


def _aligned(of: Vectors, known: Metadata, vectors: Vectors) -> Metadata:
    """What is known of some ids, as what is known of others: nothing of those that are new."""
    rows = of.rows(vectors.ids())
    new = rows < 0
    columns = {
        name: replace(
            column,
            codes=np.where(new, np.int32(-1), column.codes[rows]) if len(column.codes) else column.codes,
            numbers=np.where(new, np.float32(np.nan), column.numbers[rows]) if len(column.numbers) else column.numbers,
        )
        for name, column in known.columns.items()
    }
    return replace(known, columns=columns)


def _state(future: Future[Any]) -> str:
    if not future.done():
        return "being made"
    error = future.exception()
    return "ready" if error is None else f"failed: {error}"


class Following:
    """Looks for newer saves, and swaps what is served: `current()` is asked once a request, and kept through it.

    served  what is served first
    every   seconds between two looks
    """

    def __init__(self, served: Served, *, every: float = 1.0) -> None:
        self._served, self._every = served, every
        self._tell: Callable[[str], None] = lambda _: None
        self._ended = Event()
        self._thread: Thread | None = None
        self.problem: str | None = None
        """What is wrong with a newer save, which is why an older one is served."""

    def current(self) -> Served:
        """What is served now."""
        return self._served

    def on_look(self, tell: Callable[[str], None]) -> None:
        """Call this with "served" after each swap, and with "broken" at each look at something newer and broken."""
        self._tell = tell

    def start(self) -> None:
        """Make the searches, and look for newer saves, in a thread of its own until `stop`."""
        self._ended.clear()
        self._thread = Thread(target=self._run, name="hotrow-following", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more. A search that is being made is given up where it tells how far it is."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_GIVEN_UP)

    def _run(self) -> None:
        self._try(partial(self._served.make, self._going))
        while not self._ended.wait(self._every):
            self._try(self.look)

    def _try(self, step: Callable[[], object]) -> None:
        """A thread that died would serve the old for ever, and not say so."""
        try:
            step()
        except StoppedError:
            pass  # it has ended, then
        except Exception as error:
            self.problem = repr(error)
            log.exception("something newer may not be served")

    def _going(self, done: int, total: int, facts: dict[str, Any]) -> None:
        """Told by what takes long: the process can't end within it, for threads of its own would have to."""
        if self._ended.is_set():
            raise StoppedError

    def look(self) -> bool:
        """Go on to what is newer, if anything is; whether it was. What is newer and broken is said, and not served."""
        before = self._served
        try:
            folder = before.folder.moved_on()
        except Exception as error:  # noqa: BLE001 — whatever it is, what is served can be served on
            self._say(str(error) if isinstance(error, HotrowError | OSError) else repr(error))
            return False
        self.problem = None
        if folder is before.folder:
            return False
        self._served = before.followed_by(folder)
        self._tell("served")
        log.info("serving %s, the newer save of %s", folder.stamp, folder.path)
        self._served.make(self._going)
        return True

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("%s is served on; what is newer can't be: %s", self._served.stamp, problem)
        self.problem = problem
        self._tell("broken")
