"""Every path that is answered here, what it may be asked and what it answers: one list, which the manual is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hotrow.serve.answers import ARROW, JSON, Answer, Call
from hotrow.serve.asking import Asking
from hotrow.serve.reading import Field, Fields
from hotrow.serve.telling import Telling

Schema = dict[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """A method and a path.

    answer   the answer; or what makes it, where that takes long, to be called in a thread
    summary  what it does
    fields   what it may be asked for
    answers  JSON's schema of its answer
    takes    types of its body, if it has one
    beside   what may be asked for beside a body that isn't JSON
    gives    types of its answer
    open     anybody may ask, also without the token
    """

    method: str
    path: str
    answer: Callable[[Call], Answer | Callable[[], Answer]]
    summary: str
    fields: Fields
    answers: Schema
    takes: tuple[bytes, ...] = ()
    beside: Fields = Fields.of()  # noqa: RUF009 — it can't be changed
    gives: tuple[bytes, ...] = (JSON,)
    open: bool = False


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_ID: Schema = {"type": ["string", "integer"]}
_VECTOR = _list_of(_NUMBER)
_SCORED = _list_of(_object(id=_ID, score=_NUMBER))
_LOOKED_UP = _object(side=_TEXT, dim=_WHOLE, stamp=_TEXT, ids=_list_of(_ID), vectors=_list_of(_VECTOR))
_SIMILAR = _object(id=_ID, side=_TEXT, metric=_TEXT, similar=_SCORED)
_RESULT: Schema = {**_object(id=_ID, similar=_SCORED), "required": ["similar"]}
_ALL_SIMILAR: Schema = {
    "anyOf": [
        _object(side=_TEXT, metric=_TEXT, results=_list_of(_RESULT)),
        _object(side=_TEXT, metric=_TEXT, similar=_SCORED),
    ]
}
_SHOWN = _object(
    ids=_list_of(_ID),
    rows=_list_of(_WHOLE),
    one_hot=_list_of(_WHOLE),
    weights=_list_of(_VECTOR),
    columns=_list_of(_WHOLE),
)
_EXPLAINED = _object(id=_ID, side=_TEXT, row=_WHOLE, rows=_WHOLE, dim=_WHOLE, shown=_SHOWN, vector=_VECTOR)
ERROR = _object(
    error={
        **_object(status=_WHOLE, message=_TEXT, alike=_list_of(_TEXT), unknown=_list_of(_ID)),
        "required": ["status", "message"],
    }
)
_READY: Schema = _object(
    ready={"type": "boolean"},
    stamp=_TEXT,
    kind=_TEXT,
    sides={"type": "object", "additionalProperties": _object(rows=_WHOLE, dim=_WHOLE, ids=_TEXT, search=_TEXT)},
    problem={"type": ["string", "null"]},
)

_SIDE = Field("side", "text", "whose ids: one of those at /ready, by default the first")
_K = Field("k", "count", "how many, by default 10")
_WHERE = Field(
    "where",
    "where",
    "what must be known of those found: column:value, or column:10..20; in JSON {column: value}, {column: [values]} or "
    "{column: [least, most]}",
)


def endpoints(asking: Asking, telling: Telling) -> tuple[Endpoint, ...]:
    """All of them."""
    nothing = Fields.of()
    text = {"type": "string"}
    return (
        *_of_ids(asking),
        Endpoint(
            "GET", "/health", telling.health, "That the server is there", nothing, _object(status=_TEXT), open=True
        ),
        Endpoint("GET", "/ready", telling.ready, "Which save is served, and which searches are made", nothing, _READY),
        Endpoint("GET", "/metrics", telling.metrics, "Counters, for Prometheus", nothing, text, gives=(b"text/plain",)),
        Endpoint("GET", "/openapi.json", telling.openapi, "All of this, for programs", nothing, {"type": "object"}),
        Endpoint("GET", "/docs", telling.manual, "All of this, to be read", nothing, text, gives=(b"text/html",)),
    )


def _of_ids(asking: Asking) -> tuple[Endpoint, ...]:
    id, ids = "an id", "ids, up to a limit"
    return (
        Endpoint(
            "GET", "/v1/lookup", asking.lookup, "The vectors of ids",
            Fields.of(Field("ids", "ids", "an id; several are given as id=…&id=…", "id", required=True), _SIDE),
            _LOOKED_UP, gives=(JSON, ARROW),
        ),
        Endpoint(
            "POST", "/v1/lookup", asking.lookup, "The vectors of ids, which may be an Arrow stream of one column",
            Fields.of(Field("ids", "ids", ids, required=True), _SIDE),
            _LOOKED_UP, takes=(JSON, ARROW), beside=Fields.of(_SIDE), gives=(JSON, ARROW),
        ),
        Endpoint(
            "GET", "/v1/similar", asking.similar, "The ids that are nearest to one",
            Fields.of(Field("id", "id", id, required=True), _K, _SIDE, _WHERE), _SIMILAR,
        ),
        Endpoint(
            "POST", "/v1/similar", asking.similar,
            "The ids that are nearest to each of several, to vectors, or to some and far from others",
            Fields.of(
                Field("ids", "ids", ids),
                Field("vectors", "vectors", "vectors, in place of ids"),
                Field("positive", "ids", "ids to be near to all of, in place of ids"),
                Field("negative", "ids", "with positive: ids to be far from"),
                _K, _SIDE, _WHERE,
            ),
            _ALL_SIMILAR, takes=(JSON,),
        ),
        Endpoint(
            "GET", "/v1/recommend", asking.recommend, "Items for a user that it doesn't have yet",
            Fields.of(Field("user", "id", "an id of side user", required=True), _K),
            _object(user=_ID, recommended=_SCORED),
        ),
        Endpoint(
            "POST", "/v1/recommend", asking.recommend, "Items for somebody with these, oldest first where order counts",
            Fields.of(Field("items", "ids", "ids of side item", required=True), _K),
            _object(items=_list_of(_ID), recommended=_SCORED), takes=(JSON,),
        ),
        Endpoint(
            "GET", "/v1/explain", asking.explain, "An id as a one-hot vector times the weights, in numbers",
            Fields.of(Field("id", "id", id, required=True), _SIDE), _EXPLAINED,
        ),
    )  # fmt: skip
