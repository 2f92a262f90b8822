"""The page at `/`, and what it asks for: which map there is, its points and their colours, ids by their place.

```
/                    the page              /page/NAME         its scripts, its style, and plotly
/v1/info             what is served        /v1/complete       ids that begin with what was typed
/v1/map              which map             /v1/map/points     float32 x, y, x, y, …
/v1/map/column       colours of points     /v1/map/ids, rows  a point's id, an id's point
/v1/map/better       make one by UMAP
```
Ids are text in these answers, whatever their kind: numbers of JavaScript are whole only up to 2^53. A `stamp` says
which map a request is about; if that isn't shown any more, the answer is 409, and the page takes the new one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial, wraps
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hotrow.errors import ArgumentError, HotrowError
from hotrow.maps.embedding import column_names, info, told
from hotrow.maps.html import asset
from hotrow.serve.answers import Answer, RefusedError, refusal, status_of, to_json
from hotrow.serve.better import Better
from hotrow.serve.bodies import whole
from hotrow.serve.completion import Completion, row_of

if TYPE_CHECKING:
    from hotrow.maps import Map
    from hotrow.models.sides import Vectors
    from hotrow.serve.served import Served

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "connect-src 'self'; img-src 'self' data: blob:; "
    "script-src 'self' 'unsafe-eval'; "  # regl, by which plotly draws points, makes functions of text of its own
    "style-src 'self' 'unsafe-inline'"  # plotly sets style elements and attributes
)
"""What the page may do: run the scripts of this server, ask this server, and nothing else."""

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "html": "text/html; charset=utf-8"}
_MOST_ROWS, _MOST_FOUND = 1000, 100
_BODY, _SLOW = 1 << 20, 10.0
"""Bytes of a body, and the seconds in which it must come."""
_TYPED = 1000
"""Letters that are completed; what is longer is an id that was pasted, and of these there is but one."""
_ROWS = re.compile(r"[0-9]{1,10}(,[0-9]{1,10})*")
_DAY = "private, max-age=86400, immutable"

Asked = Callable[["Served", Request], Response]


def routes(current: Callable[[], Served]) -> list[Route]:
    """The routes of the page, for what `current()` serves; each request holds one Served to its end."""
    page = _Page(current)
    paths: dict[str, Asked] = {
        "/v1/info": page.info,
        "/v1/map": page.map,
        "/v1/map/points": page.points,
        "/v1/map/column": page.column,
        "/v1/map/ids": page.ids,
        "/v1/complete": page.complete,
    }
    return [
        Route("/", _answering(_file, "page.html"), methods=["GET"]),
        Route("/page/{file}", _answering(_file), methods=["GET"]),
        *(Route(path, _answering(_with(current, ask)), methods=["GET"]) for path, ask in paths.items()),
        Route("/v1/map/rows", page.rows_by_query(), methods=["GET"]),
        Route("/v1/map/rows", page.rows_by_body, methods=["POST"]),
        Route("/v1/map/better", _answering(_with(current, page.better)), methods=["POST"]),
    ]


def _with(current: Callable[[], Served], ask: Asked) -> Callable[[Request], Response]:
    return lambda request: ask(current(), request)


def _answering(ask: Callable[..., Response], *given: Any) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint: what `ask(request)` answers, in a thread; errors as all others of the server are."""

    @wraps(ask)
    async def answer(request: Request) -> Response:
        return await run_in_threadpool(_refused, partial(ask, request, *given))

    return answer


def _refused(ask: Callable[[], Response]) -> Response:
    try:
        return ask()
    except RefusedError as error:
        return _sent(error.answer())
    except HotrowError as error:
        return _sent(refusal(status_of(error), str(error)))


def _sent(answer: Answer) -> Response:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
    return Response(answer.body, answer.status, headers, answer.type.decode())


def _json(value: Any) -> Response:
    return Response(to_json(value), media_type="application/json", headers={"cache-control": "no-store"})


class _Page:
    """The answers."""

    def __init__(self, current: Callable[[], Served]) -> None:
        self._current = current
        self._better = Better(current)
        self._completions: dict[str, tuple[Vectors, Completion]] = {}
        self._lock = Lock()

    def info(self, served: Served, _: Request) -> Response:
        """What is served: sides, their sizes and columns, the report of the training."""
        names = {side: column_names(served.metadata(side)) for side in served.folder.sides}
        return _json(info(served.folder, names))

    def map(self, served: Served, request: Request) -> Response:
        """Which map of a side there is, and how it is with a better one."""
        map = self._map(served, request)
        answer = told(map, served.metadata(map.vectors.name))
        return _json(answer | {"better": self._better.state(map)})

    def better(self, served: Served, request: Request) -> Response:
        """Begin to make a better one."""
        return _json(self._better.start(served, self._side(served, request)))

    def points(self, served: Served, request: Request) -> Response:
        """The points: float32 x₀, y₀, x₁, y₁, …, little-endian."""
        map = self._map(served, request)
        return _bytes(map.points.astype("<f4", copy=False), map, request)

    def column(self, served: Served, request: Request) -> Response:
        """A column, for each point: int32 codes of a category, −1 for none; float32 numbers, NaN for none."""
        map = self._map(served, request)
        metadata = served.metadata(map.vectors.name)
        columns = {} if metadata is None else metadata.columns
        name = request.query_params.get("name", "")
        if name not in columns:
            there = ", ".join(map_name[:50] for map_name in columns) or "none"
            raise RefusedError(404, f"side {map.vectors.name!r} has no column {name!r:.100}; columns: {there}")
        column = columns[name]
        if column.kind == "category":
            return _bytes(column.codes.astype("<i4", copy=False), map, request)
        return _bytes(column.numbers.astype("<f4", copy=False), map, request)

    def ids(self, served: Served, request: Request) -> Response:
        """The ids of points."""
        map = self._map(served, request)
        text = request.query_params.get("rows", "")
        if not _ROWS.fullmatch(text):
            raise ArgumentError(f"rows are positions of points, as 1,5,9; got rows={text!r:.100}")
        rows = np.asarray(text.split(","), np.int64)
        if len(rows) > _MOST_ROWS:
            raise RefusedError(413, f"at most {_MOST_ROWS:,} rows a request; got {len(rows):,}")
        if rows.max() >= len(map):
            raise ArgumentError(f"there are {len(map):,} points, from 0; got row {rows.max():,}")
        return _json({"ids": [str(id) for id in map.ids.take(rows).tolist()]})

    def rows_by_query(self) -> Callable[[Request], Awaitable[Response]]:
        """Where ids are among the points: −1 for one that isn't there."""

        def rows(served: Served, request: Request) -> Response:
            return self._rows(served, self._side(served, request), request.query_params.getlist("id"))

        return _answering(_with(self._current, rows))

    async def rows_by_body(self, request: Request) -> Response:
        """The same of many or long ids: {"side", "ids"}, as text."""
        try:
            body = await whole(dict(request.scope["headers"]), request.receive, _BODY, _SLOW)
        except RefusedError as error:
            return _sent(error.answer())
        return await run_in_threadpool(_refused, partial(self._rows_of, body))

    def _rows_of(self, body: bytes) -> Response:
        served = self._current()
        try:
            asked = json.loads(body)
            side, ids = asked.get("side"), asked["ids"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ArgumentError('the body is JSON: {"side": "item", "ids": ["…"]}') from None
        if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids) or not isinstance(side, str | None):
            raise ArgumentError("ids are a list of text here, also of integers, and side is a name")
        return self._rows(served, served.folder.side(side).name, ids)

    def _rows(self, served: Served, side: str, ids: list[str]) -> Response:
        if len(ids) > _MOST_ROWS:
            raise RefusedError(413, f"at most {_MOST_ROWS:,} ids a request; got {len(ids):,}")
        vectors = served.map(side).vectors
        return _json({"rows": [row_of(vectors, id) for id in ids]})

    def complete(self, served: Served, request: Request) -> Response:
        """Ids that begin with what was typed, then those that contain it."""
        vectors = served.map(self._side(served, request)).vectors
        typed, k = request.query_params.get("q", ""), request.query_params.get("k", "10")
        if not re.fullmatch("[0-9]{1,3}", k) or not 1 <= int(k) <= _MOST_FOUND:
            raise ArgumentError(f"k is from 1 to {_MOST_FOUND}; got k={k!r:.100}")
        if len(typed) > _TYPED:
            rows = np.asarray([row for row in [row_of(vectors, typed)] if row >= 0], np.int64)
        else:
            rows = self._completion(vectors).rows(typed, int(k))
        return _json({"ids": [str(id) for id in vectors.ids().take(rows).tolist()], "rows": rows.tolist()})

    def _completion(self, vectors: Vectors) -> Completion:
        with self._lock:
            of, found = self._completions.get(vectors.name, (None, None))
            if of is not vectors or found is None:  # the one before goes with its vectors
                found = Completion(vectors)
                self._completions[vectors.name] = vectors, found
            return found

    def _side(self, served: Served, request: Request) -> str:
        return served.folder.side(request.query_params.get("side")).name

    def _map(self, served: Served, request: Request) -> Map:
        """The map of the side that is asked for; refused, if the request is about another one."""
        map = served.map(self._side(served, request))
        stamp = request.query_params.get("stamp", map.stamp)
        if stamp != map.stamp:
            raise RefusedError(409, f"another map is shown by now; GET /v1/map says which; got stamp={stamp!r:.100}")
        return map


def _bytes(array: np.ndarray, map: Map, request: Request) -> Response:
    """An array as it is; a browser may keep what was asked for by its stamp."""
    keep = _DAY if "stamp" in request.query_params else "no-store"
    headers = {"cache-control": keep, "x-map-stamp": map.stamp}
    body = np.ascontiguousarray(array).reshape(-1).view(np.uint8)  # sent from where it is, whoever reads how slowly
    return Response(body.data, media_type="application/octet-stream", headers=headers)


# --- the page's own files --------------------------------------------------------------------------------------------


def _file(request: Request, name: str | None = None) -> Response:
    """A file of the page, packed once for those who take it so; asked for again, it is told to be the same."""
    name = name or str(request.path_params["file"])
    found = _packed(name)
    if found is None:
        raise RefusedError(404, f"the page has no file {name!r:.100}")
    plain, packed, tag = found
    headers = {"etag": tag, "cache-control": "no-cache", "content-security-policy": POLICY, "vary": "accept-encoding"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    body = plain
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["content-encoding"] = packed, "gzip"
    return Response(body, headers=headers, media_type=_TYPES.get(name.rpartition(".")[2], "application/octet-stream"))


@lru_cache(maxsize=64)
def _packed(name: str) -> tuple[bytes, bytes, str] | None:
    plain = asset(name)
    if plain is None:
        return None
    return plain, gzip.compress(plain, 6, mtime=0), f'"{hashlib.sha256(plain).hexdigest()[:32]}"'
