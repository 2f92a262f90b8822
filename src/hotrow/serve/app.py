"""The application: what is served, the desk before it, and Starlette behind for the page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hotrow.models.folders import open_folder
from hotrow.serve import openapi, page
from hotrow.serve.answers import refusal
from hotrow.serve.asking import Asking
from hotrow.serve.desk import AtDesk
from hotrow.serve.endpoints import Endpoint, endpoints
from hotrow.serve.limits import Limits
from hotrow.serve.measures import Measures
from hotrow.serve.served import Following, Served, Told
from hotrow.serve.telling import Telling

if TYPE_CHECKING:
    from os import PathLike

LOCAL = ("localhost", "127.0.0.1", "::1")
"""Names of this machine for itself."""


class App(AtDesk):
    """An ASGI application that answers for a folder; `create_app` makes one.

    following  what is served, and whether something newer is broken
    endpoints  what is answered, but for the page
    """

    following: Following
    endpoints: tuple[Endpoint, ...]


def create_app(
    path: str | PathLike[str],
    *,
    metadata: Told | None = None,
    metric: str = "cosine",
    method: str = "auto",
    limits: Limits | None = None,
    token: str | None = None,
    hosts: Sequence[str] | None = LOCAL,
    every: float = 1.0,
) -> App:
    """An application that serves the model or the saved table in a folder, and goes on to what is saved there later.

    metadata  callable(folder, side) that returns the `Metadata` of a side, or None: what `where` can ask for
    metric    of what is near: "cosine", "dot" or "euclidean"; method: "auto", "exact" or "usearch"
    limits    what a request may take
    token     what `Authorization: Bearer …` must say; None: anybody may ask who reaches it
    hosts     what `Host` may say; None: anything, which is right behind a token or a proxy that checks it
    every     seconds between two looks for something newer

    Raises what `hotrow.models.open_folder` raises. Searches are made when it starts, in a thread of its own.

    >>> import hotrow
    >>> from hotrow.serve import create_app
    >>> table = hotrow.Table(4)
    >>> vector = table.lookup(["lantern", "cup"], grow=True)
    >>> table.save("lamps")
    1
    >>> app = create_app("lamps")  # for uvicorn, or any other ASGI server; `hotrow.serve.serve(app)` runs it
    >>> app.following.current().folder
    <table at lamps: id 2>
    """
    limits = limits or Limits()
    served = Served(open_folder(path), metadata, metric=metric, method=method)
    served.warm()
    following = Following(served, every=every)
    measures = Measures(following.current)
    following.on_look(measures.followed)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        following.start()
        try:
            yield
        finally:
            following.stop()
            app.desk.hands.close()

    routes = page.routes(following.current)
    app = App(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _as_json, Exception: _as_json})
    telling = Telling(
        following, measures, lambda: (openapi.described(all, token=bool(token)), openapi.page(all, limits))
    )
    app.endpoints = all = endpoints(Asking(following.current, limits, measures), telling)
    app.following = following
    app.set_desk(all, limits, measures, token=token, hosts=hosts)
    return app


def _as_json(_: Request, error: Exception) -> Response:
    """An error of what Starlette routes, as all others are."""
    status, message = 500, "something went wrong here; the server's log says what"
    if isinstance(error, HTTPException):
        status, message = (
            error.status_code,
            "nothing is here; GET /docs lists what is" if error.status_code == 404 else error.detail,
        )
    answer = refusal(status, message)
    return Response(answer.body, status, media_type="application/json")
