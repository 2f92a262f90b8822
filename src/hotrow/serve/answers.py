"""What comes in and what goes out: a call, an answer, and what is said when there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from hotrow.errors import (
    ArgumentError,
    ClusterError,
    CorruptError,
    DataError,
    HotrowError,
    IdError,
    KindError,
    MissingExtraError,
    UnknownIdError,
)

Headers = tuple[tuple[bytes, bytes], ...]

JSON = b"application/json"
ARROW = b"application/vnd.apache.arrow.stream"
_STATUS: dict[type[HotrowError], int] = {
    UnknownIdError: 404,
    IdError: 400,
    KindError: 400,
    ArgumentError: 400,
    DataError: 400,
    CorruptError: 503,
    ClusterError: 503,
    MissingExtraError: 501,
}


@dataclass(slots=True)
class Call:
    """A request: what is asked for by name, and what is to be answered in."""

    asked: dict[str, Any]
    accept: bytes = b""


@dataclass(slots=True)
class Answer:
    """What is sent back."""

    body: bytes = b""
    status: int = 200
    type: bytes = JSON
    headers: Headers = ()


class RefusedError(Exception):
    """A request that isn't answered: the status, what is said, and more of it for programs.

    alike: what takes longer to be told, of ids that are written like the one asked for
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Headers = (),
        alike: Callable[[], list[str]] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.headers, self.alike, self.more = status, message, headers, alike, more

    def answer(self) -> Answer:
        """The error as an answer."""
        return refusal(self.status, self.message, self.headers, **self.more)


def refusal(status: int, message: str, headers: Headers = (), **more: Any) -> Answer:
    """An answer that is an error."""
    return Answer(to_json({"error": {"status": status, "message": message, **more}}), status, JSON, headers)


def busy(message: str) -> RefusedError:
    """503, and when to come again."""
    return RefusedError(503, message, headers=((b"retry-after", b"1"),))


def status_of(error: HotrowError) -> int:
    """What an error of the library is over HTTP."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


def to_json(value: Any) -> bytes:
    """As JSON; NumPy's arrays are lists. What no UTF-8 can hold, such as half of a surrogate pair, is escaped."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        return orjson.dumps(_encodable(value), option=orjson.OPT_SERIALIZE_NUMPY)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_encodable(name): _encodable(each) for name, each in value.items()}
    return [_encodable(each) for each in value] if isinstance(value, list | tuple) else value
