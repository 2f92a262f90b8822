"""A better map, made by UMAP in the background, one at a time, while the one that there is goes on being shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from hotrow.errors import HotrowError, MissingExtraError
from hotrow.maps.map import FEWEST
from hotrow.maps.unfolding import check_umap
from hotrow.serve.answers import RefusedError

if TYPE_CHECKING:
    from hotrow.maps import Map
    from hotrow.serve.served import Served

log = logging.getLogger("hotrow.serve")

State = dict[str, Any]
"""{"state": "running", "ready", "failed" or "missing", "done": 0 to 1, "message": words for a person}"""


class Better:
    """Makes better maps of what `current()` serves."""

    def __init__(self, current: Callable[[], Served]) -> None:
        self._current = current
        self._states: dict[str, State] = {}
        self._lock = Lock()

    def state(self, map: Map) -> State | None:
        """How it is with a better map than this; None if nobody has asked for one."""
        made = self._states.get(map.vectors.name)
        if map.method == "umap" and (made is None or made["state"] != "running"):
            return _told("ready", 1, "it is shown")
        if made is not None and made["state"] == "ready":
            made = None  # so much has changed since that PCA has made the whole map anew
        return made or _missing(map)

    def start(self, served: Served, side: str) -> State:
        """Begin to make one, unless that goes on already; how it is with it.

        Refused: 501 without UMAP, 409 for a side with too few ids, and while that of another side is made.
        """
        map = served.map(side)
        name = map.vectors.name
        missing = _missing(map)
        if missing is not None:
            raise RefusedError(409 if len(map) < FEWEST else 501, missing["message"])
        with self._lock:
            running = next((side for side, told in self._states.items() if told["state"] == "running"), None)
            if running not in {None, name}:
                raise RefusedError(409, f"the map of side {running!r} is being made; one at a time")
            if running is None:
                self._states[name] = _told("running", 0, "beginning")
                Thread(target=self._make, args=(name, map), name="hotrow-better-map", daemon=True).start()
            return self._states[name]

    def _make(self, name: str, map: Map) -> None:
        def progress(done: int, total: int, facts: State) -> None:
            self._states[name] = _told("running", done / max(1, total), str(facts.get("stage", "")))

        try:
            made = map.better(progress)
            served = self._current()  # something newer may be served by now
            vectors = served.folder.side(name)
            served.show(name, made if made.vectors is vectors else made.updated(vectors))
            self._states[name] = _told("ready", 1, "it is shown")
        except Exception as error:
            log.exception("no better map of side %r", name)
            words = str(error) if isinstance(error, HotrowError) else "the server's log says why"
            self._states[name] = _told("failed", 0, words)


def _told(state: str, done: float, message: str) -> State:
    return {"state": state, "done": round(done, 3), "message": message}


def _missing(map: Map) -> State | None:
    """Why there can't be a better one, if there can't."""
    try:
        check_umap()
    except MissingExtraError as error:
        return _told("missing", 0, str(error))
    few = len(map) < FEWEST
    return _told("missing", 0, f"UMAP needs at least {FEWEST} ids, and there are {len(map)}") if few else None
