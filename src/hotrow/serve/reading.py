"""What a request asks for: from its query, or from JSON in its body, by the same list of fields.

Whatever is in it is proved first: an id is a string or a whole number, never a float that was a larger number once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import numpy as np
import orjson

from hotrow.models.sides import Vectors
from hotrow.serve.answers import RefusedError
from hotrow.store.strict_json import MalformedError, parse_object

_BROKEN = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NAMES = 20
_COUNT = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Kind:
    """What a field holds: JSON's schema of it, and how it is proved, from texts of a query and from JSON."""

    schema: dict[str, Any]
    of_texts: Callable[[str, list[str]], Any]
    of_json: Callable[[str, Any], Any]


@dataclass(frozen=True)
class Field:
    """One thing that may be asked for. query: its name there, as in JSON if it is empty; None: in JSON alone."""

    name: str
    kind: str
    about: str
    query: str | None = ""
    required: bool = False


@dataclass(frozen=True)
class Fields:
    """All that an endpoint may be asked."""

    all: tuple[Field, ...]
    in_query: Mapping[str, Field]
    in_json: Mapping[str, Field]

    @classmethod
    def of(cls, *fields: Field) -> Fields:
        """Of these, which a refusal lists in this order."""
        query = {field.query or field.name: field for field in fields if field.query is not None}
        return cls(fields, query, {field.name: field for field in fields})

    def of_query(self, query: bytes) -> dict[str, Any]:
        """What the part of an address behind ? asks for."""
        given = texts_of(query)
        _check_names(given, self.in_query)
        asked = dict.fromkeys((field.name for field in self.all), None)
        for name, texts in given.items():
            field = self.in_query[name]
            asked[field.name] = KINDS[field.kind].of_texts(name, texts)
        for name, field in self.in_query.items():
            if field.required and name not in given:
                raise RefusedError(400, f"{name} is missing: ?{name}=…; {field.about}")
        return asked

    def of_json(self, body: bytes) -> dict[str, Any]:
        """What an object of JSON asks for."""
        given = object_of(body)
        _check_names(given, self.in_json)
        _check_once(given, body)
        asked = dict.fromkeys((field.name for field in self.all), None)
        for name, value in given.items():
            if value is not None:
                asked[name] = KINDS[self.in_json[name].kind].of_json(name, value)
        for name, field in self.in_json.items():
            if field.required and given.get(name) is None:
                raise RefusedError(400, f'"{name}" is missing; {field.about}')
        return asked


def _check_names(given: Mapping[str, Any], known: Mapping[str, Field]) -> None:
    if not given.keys() <= known.keys():
        strange = next(name for name in given if name not in known)
        raise RefusedError(400, f"there is no {strange[:100]!r} to be asked for here; there is {', '.join(known)}")


def texts_of(query: bytes) -> dict[str, list[str]]:
    """A query's texts by their names, in their order. Refused: what is no percent-encoded UTF-8."""
    found: dict[str, list[str]] = {}
    if not query:
        return found
    plain = b"%" not in query and b"+" not in query
    try:
        parts = query.decode("utf-8").split("&") if plain else [_decoded(part) for part in query.split(b"&")]
    except UnicodeDecodeError as error:
        raise RefusedError(400, "the query isn't UTF-8; a byte b is written as %b, in hexadecimal") from error
    while parts:  # mostly there is one name many times
        name, equals, _ = parts[0].partition("=")
        if not equals:
            raise RefusedError(400, f"expected name=value in the query; got {parts[0][:100]!r}")
        begin, length = name + equals, len(name) + 1
        found[name] = [part[length:] for part in parts if part.startswith(begin)]
        if len(found) > _NAMES:
            raise RefusedError(400, "there are too many names in the query")
        parts = [part for part in parts if not part.startswith(begin)] if len(found[name]) < len(parts) else []
    return found


def _decoded(part: bytes) -> str:
    """name=value; what is encoded in the name can't make another of it, for it is split at the first =."""
    if _BROKEN.search(part):
        raise RefusedError(400, "a % in the query isn't followed by two hexadecimal digits; % itself is %25")
    name, equals, text = part.replace(b"+", b" ").partition(b"=")
    if b"%" in name:
        raise RefusedError(400, "names in the query aren't percent-encoded, only what they are to be")
    return (name + equals + unquote_to_bytes(text)).decode("utf-8")


def object_of(body: bytes) -> dict[str, Any]:
    """The object that is in JSON. Refused: anything else, also NaN, and half of a surrogate pair."""
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"the body isn't valid JSON: {error}") from error
    if type(found) is not dict:
        raise RefusedError(400, f"the body must be a JSON object, {{…}}; got {_named(found)}")
    return cast("dict[str, Any]", found)


def _check_once(given: Mapping[str, Any], body: bytes) -> None:
    """Refuse a name that is there twice, of which orjson keeps the last. given: what it has read, few names.

    A name can only hide behind an escape or in an object within; only then all is read again.
    """
    if b"\\" in body or body.count(b"{") > 1 or any(body.count(b'"%b"' % name.encode()) > 1 for name in given):
        try:
            parse_object(body)
        except MalformedError as error:
            raise RefusedError(400, f"the body {error}") from error


def _named(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


# --- kinds -----------------------------------------------------------------------------------------------------------


def _one(name: str, texts: list[str]) -> str:
    if len(texts) > 1:
        raise RefusedError(400, f"{name} is given {len(texts)} times in the query, and may be once")
    return texts[0]


def _count_text(name: str, texts: list[str]) -> int:
    text = _one(name, texts)
    if not _COUNT.fullmatch(text) or int(text) < 1:
        raise RefusedError(400, f"{name} is a whole number from 1 on; got {text[:100]!r}")
    return int(text)


def _count_json(name: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise RefusedError(400, f"{name} is a whole number from 1 on; got {_shown(value)}")
    return value


def _text_json(name: str, value: Any) -> str:
    if type(value) is not str:
        raise RefusedError(400, f"{name} is a string; got {_shown(value)}")
    return value


def _id_json(name: str, value: Any) -> Any:
    if type(value) not in {int, str}:
        raise RefusedError(400, f"{name} is an id, a string or a whole number of 64 bits; got {_shown(value)}")
    return value


def _ids_json(name: str, value: Any) -> list[Any]:
    if type(value) is not list:
        raise RefusedError(400, f"{name} is a list of ids, […]; got {_shown(value)}")
    ids = cast("list[Any]", value)
    if not set(map(type, ids)) <= {int, str}:
        strange = next(id for id in ids if type(id) not in {int, str})
        raise RefusedError(
            400, f"{name} is a list of ids, strings or whole numbers of 64 bits; one of them is {_shown(strange)}"
        )
    return ids


def _vectors_json(name: str, value: Any) -> np.ndarray:
    """float32 (n, dim), all finite."""
    try:
        with np.errstate(over="ignore"):
            vectors = np.array(value, np.float32) if _rows_of_numbers(value) else None
    except (OverflowError, TypeError, ValueError):
        vectors = None
    if vectors is None or vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise RefusedError(400, f"{name} is a list of vectors, each a list of as many finite numbers as the others")
    return vectors


def _rows_of_numbers(value: Any) -> bool:
    return type(value) is list and all(
        type(row) is list and row and set(map(type, row)) <= {int, float} for row in cast("list[Any]", value)
    )


def _where_json(name: str, value: Any) -> dict[str, Any]:
    """{"column": value}, {"column": [values]} or, for numbers, {"column": [10, null]}."""
    if type(value) is not dict:
        raise RefusedError(400, f"{name} is an object of columns and values; got {_shown(value)}")
    found: dict[str, Any] = {}
    for column, given in cast("dict[str, Any]", value).items():
        each = cast("list[Any]", given) if type(given) is list else [given]
        numbers = len(each) == 2 and all(one is None or type(one) in {int, float} for one in each)
        if not each or not (numbers or set(map(type, each)) <= {int, float, str}):
            raise RefusedError(400, f"{name} of {column[:100]!r} is a value, a list of values, or [least, most]")
        found[column] = tuple(each) if numbers else given
    return found


def _shown(value: Any) -> str:
    return repr(value)[:100]


def _no_text(name: str, _: list[str]) -> Any:
    raise RefusedError(400, f"{name} can't be given in the query")


_TEXT = {"type": "string"}
_ID: dict[str, Any] = {"type": ["string", "integer"]}
KINDS: dict[str, Kind] = {
    "id": Kind(_ID, _one, _id_json),
    "ids": Kind({"type": "array", "items": _ID}, lambda _, texts: texts, _ids_json),
    "text": Kind(_TEXT, _one, _text_json),
    "count": Kind({"type": "integer", "minimum": 1}, _count_text, _count_json),
    "where": Kind({"type": "object"}, lambda _, texts: texts, _where_json),
    "vectors": Kind(
        {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}, _no_text, _vectors_json
    ),
}


def array_of(vectors: Vectors, ids: list[Any]) -> Any:
    """These ids, of this side, as an array, of which keys are made more quickly; as they are, if they don't fit."""
    if vectors.kind != "string":
        with suppress(OverflowError):
            return np.array(ids, vectors.kind)
    return ids


def ids_for(vectors: Vectors, ids: Sequence[Any]) -> list[Any]:
    """As ids of this side: text is a number where ids are. IdError for what can't be one; refused, a number as text."""
    kinds = set(map(type, ids))
    if vectors.kind == "string":
        if not kinds <= {str}:
            strange = next(id for id in ids if type(id) is not str)
            raise RefusedError(400, f"ids of side {vectors.name!r} are strings; got {_shown(strange)}")
        return list(ids)
    if kinds == {int}:
        return list(ids)
    if kinds == {str} and (all := "".join(ids)).isascii() and all.replace("-", "").isdecimal():
        with suppress(ValueError):
            return list(map(int, ids))  # as `parse`, of all at once
    return [vectors.parse(id) if type(id) is str else id for id in ids]
