"""How much one may ask of the server, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, fields

from hotrow.errors import ArgumentError


@dataclass(frozen=True)
class Limits:
    """What a request may take; beyond it is refused, with a 4xx or 503 that names the limit.

    head         bytes of a request's line and headers
    body         bytes of a request's body
    ids          of a request, whatever they are for
    k            length of a list that is answered
    found        ids that are found, of all lists of an answer together: `k` times the ids or vectors asked for
    connections  at a time; one more is answered 503
    threads      that search and recommend, and write large answers
    waiting      requests that wait for such a thread; one more is answered 503
    slow         seconds in which a client sends a request's head, and again its body, and reads some of an answer
    answer       seconds after which an answer is given up with 503
    stop         seconds that requests in flight are given when the server is stopped

    >>> Limits(ids=100).ids
    100
    """

    head: int = 64 << 10
    body: int = 1 << 20
    ids: int = 10_000
    k: int = 1_000
    found: int = 100_000
    connections: int = 512
    threads: int = 2
    waiting: int = 32
    slow: float = 10.0
    answer: float = 30.0
    stop: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, int | float if field.type == "float" else int) and not isinstance(value, bool)
            if not number or not 0 < value < 1 << 40:
                what = "number of seconds" if field.type == "float" else "whole number"
                raise ArgumentError(f"the limit {field.name} is a {what} above 0; got {value!r:.100}")
