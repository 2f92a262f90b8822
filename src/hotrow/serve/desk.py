"""The way of a request: who asks is checked, what is asked is read, and the answer is written and counted.

```
head ──▶ host, token ──▶ body, within its limits ──▶ endpoint ──▶ answer
              └── 4xx        └── 4xx                    └── 4xx, 503
```
It is plain ASGI, before Starlette, which routes the page's files and whatever else: for a lookup takes microseconds,
and would wait longer for a way through middleware than for its vectors.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

from starlette.applications import Starlette

from hotrow.errors import HotrowError
from hotrow.serve import arrow, bodies
from hotrow.serve.answers import ARROW, JSON, Answer, Call, RefusedError, busy, refusal, status_of
from hotrow.serve.bodies import CLOSE
from hotrow.serve.endpoints import Endpoint
from hotrow.serve.hands import Hands
from hotrow.serve.limits import Limits
from hotrow.serve.measures import Requests

log = logging.getLogger("hotrow.serve")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_DATA: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Sent with what is no page: it is never shown as one, nor given to another site."""
SECURITY: tuple[tuple[bytes, bytes], ...] = (
    *_DATA,
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
"""Sent with every page and its files, unless they say otherwise themselves."""
_SLOWLY = 256 << 10
"""Bytes of an answer from which on it has a place among few, until its client has read it."""
_LARGE = 16
_OPEN_FOLDERS = ("/page/",)


class Desk:
    """Answers each request, or hands it on.

    endpoints  what is answered here
    onward     who is asked for all else: Starlette's application, with the page's routes
    token      what `Authorization: Bearer …` must say; None: anybody may ask
    hosts      the names that `Host` may say, in lower case; None: any. Without a token a site that somebody reads could
               else have its name mean this machine, and so read with that somebody's browser what is served here
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        onward: App,
        limits: Limits,
        measures: Requests,
        *,
        token: str | None = None,
        hosts: frozenset[str] | None = None,
    ) -> None:
        self._endpoints = {(e.method, e.path): e for e in endpoints}
        self._methods: dict[str, list[str]] = {}
        for method, path in self._endpoints:
            self._methods.setdefault(path, []).append(method)
        self._open = {e.path for e in self._endpoints.values() if e.open} | {"/"}
        self._onward, self._limits, self._measures = onward, limits, measures
        self._token = None if token is None else token.encode("utf-8")
        self._hosts = hosts
        self._right: bytes | None = None
        self.hands = Hands(limits)
        self._large = 0
        self._told: set[tuple[str, str]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        begin, path, measures = time.perf_counter(), scope["path"], self._measures
        measures.in_flight += 1
        label, status = path if path in self._methods else "other", 500
        try:
            headers = dict(scope["headers"])
            refused = self._checked(scope, headers)
            if refused is None and path not in self._methods:
                status = await self._hand_on(scope, receive, send)
                return
            answer = await self._answer(scope, headers, receive) if refused is None else refused
            status = answer.status
            await self._write(answer, send)
        finally:
            measures.in_flight -= 1
            measures.answered(label, status, time.perf_counter() - begin)

    # --- who asks ----------------------------------------------------------------------------------------------------

    def _checked(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Answer | None:
        """None, if who asks may: the Host is ours, a site's script isn't another site's, the token is the right one."""
        path: str = scope["path"]
        if self._hosts is not None:
            host = headers.get(b"host")
            if host is None or (host != self._right and _name_of(host) not in self._hosts):
                return refusal(
                    421,
                    "the Host of this request isn't this server's; `hotrow serve … --allow-host NAME` makes it so, and "
                    "behind a token any is",
                    CLOSE,
                )
            self._right = host
            origin = headers.get(b"origin")
            if origin is not None and _name_of(origin.partition(b"://")[2]) not in self._hosts:
                return refusal(403, "a page of another site may not ask this server", CLOSE)
        if self._token is not None and path not in self._open and not path.startswith(_OPEN_FOLDERS):
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
                return refusal(
                    401,
                    "this server needs its token: Authorization: Bearer …",
                    (*CLOSE, (b"www-authenticate", b"Bearer")),
                )
        return None

    # --- what is asked -----------------------------------------------------------------------------------------------

    async def _answer(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> Answer:
        """What the endpoint says, or why nothing."""
        try:
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            endpoint = self._endpoints.get((method, scope["path"]))
            if endpoint is None:
                methods = ", ".join(self._methods[scope["path"]])
                allow = ((b"allow", methods.encode()), *CLOSE)
                raise RefusedError(405, f"{scope['path']} takes {methods}; got {method[:20]}", headers=allow)
            call = await self._call(endpoint, scope, headers, receive)
            answer = endpoint.answer(call)
            return answer if isinstance(answer, Answer) else await self.hands.do(answer)
        except RefusedError as error:
            return error.answer() if error.alike is None else await self._with_alike(error, error.alike)
        except HotrowError as error:
            return refusal(status_of(error), str(error))
        except Exception as error:  # noqa: BLE001 — whatever it is, whoever asked gets an answer
            self._tell(scope, error)
            return refusal(500, "something went wrong here; the server's log says what")

    def _tell(self, scope: Scope, error: Exception) -> None:
        """Log what nobody thought of: once for each place, for who finds one could fill the disk by it."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = type(error).__name__, "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        if place not in self._told:
            self._told.add(place)
            log.error("no answer to %s %s; said once", scope["method"], scope["path"], exc_info=error)

    async def _with_alike(self, error: RefusedError, alike: Callable[[], list[str]]) -> Answer:
        """The error, with what is written like the unknown id: unless others have more urgent work."""
        with suppress(RefusedError):
            error.more["alike"] = await self.hands.do(alike)
        return error.answer()

    async def _call(self, endpoint: Endpoint, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> Call:
        accept = headers.get(b"accept", b"")
        if endpoint.method == "GET":
            if len(scope["query_string"]) > self._limits.head:
                raise RefusedError(
                    414, f"a query has at most {self._limits.head:,} bytes here; POST takes more", headers=CLOSE
                )
            return Call(endpoint.fields.of_query(scope["query_string"]), accept)
        kind = headers.get(b"content-type", JSON).partition(b";")[0].strip().lower()
        if kind not in endpoint.takes:
            takes = " or ".join(each.decode() for each in endpoint.takes)
            raise RefusedError(415, f"the body must be {takes}; got {kind[:100].decode('latin-1')!r}", headers=CLOSE)
        body = await bodies.whole(headers, receive, self._limits.body, self._limits.slow)
        if kind == ARROW:
            asked = endpoint.beside.of_query(scope["query_string"])
            return Call({**asked, "ids": arrow.ids_of(body, self._limits.ids)}, accept)
        if scope["query_string"]:
            raise RefusedError(400, "what is asked for by POST is in its body, not in the query")
        return Call(endpoint.fields.of_json(body), accept)

    # --- what is answered --------------------------------------------------------------------------------------------

    async def _write(self, answer: Answer, send: Send) -> None:
        if len(answer.body) < _SLOWLY or self._large < _LARGE:
            await send(_start(answer))
            await self._send_body({"type": "http.response.body", "body": answer.body}, send)
        else:
            await self._send_busy(send)

    async def _send_body(self, message: Message, send: Send) -> None:
        """The last of an answer; a large one counts until its client has read most of it, or has been given up."""
        if len(message.get("body", b"")) < _SLOWLY:
            await send(message)
            return
        self._large += 1
        try:
            await send({**message, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._large -= 1

    async def _send_busy(self, send: Send) -> int:
        answer = busy("too many large answers are being read; try again soon").answer()
        await send(_start(answer))
        await send({"type": "http.response.body", "body": answer.body})
        return answer.status

    async def _hand_on(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Ask who is behind for an answer, which is whole, and add what every answer has; return its status."""
        start: Message = {"status": 500}

        async def answer(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                said = {name.lower() for name, _ in headers}
                start = {**message, "headers": [*headers, *(each for each in SECURITY if each[0] not in said)]}
            elif len(message.get("body", b"")) < _SLOWLY or self._large < _LARGE:
                await send(start)
                await self._send_body(message, send)
            else:
                start["status"] = await self._send_busy(send)

        try:
            await self._onward(scope, receive, answer)
        except Exception as error:  # noqa: BLE001 — whatever it is, Starlette has answered 500
            self._tell(scope, error)
        return start["status"]


def _start(answer: Answer) -> Message:
    length = (b"content-length", b"%d" % len(answer.body))
    safe = SECURITY if answer.type.startswith(b"text/html") else _DATA
    headers = [(b"content-type", answer.type), length, *safe, *answer.headers]
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


def _name_of(host: bytes) -> str:
    """The name or address in Host: without the port, and without the brackets of IPv6."""
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


class AtDesk(Starlette):
    """An ASGI application whose requests come to a desk, and to Starlette from there.

    limits     what a request may take
    has_token  whether whoever asks must show one
    """

    limits: Limits
    has_token: bool
    desk: Desk

    def set_desk(
        self,
        endpoints: Iterable[Endpoint],
        limits: Limits,
        measures: Requests,
        *,
        token: str | None,
        hosts: Sequence[str] | None,
    ) -> None:
        """Have a desk, of which these are the endpoints; behind a token `Host` may say anything. As of `Desk`."""
        named = None if hosts is None or token is not None else frozenset(name.lower() for name in hosts)
        self.limits, self.has_token = limits, token is not None
        self.desk = Desk(endpoints, super().__call__, limits, measures, token=token, hosts=named)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or begin and end with the server."""
        if scope["type"] == "http":
            await self.desk(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
