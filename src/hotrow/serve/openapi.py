"""The endpoints described: by OpenAPI 3.1 for programs, and as a page for readers, both of the one list."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.metadata import version
from typing import Any

from hotrow.serve.answers import ARROW, JSON
from hotrow.serve.endpoints import ERROR, Endpoint
from hotrow.serve.limits import Limits
from hotrow.serve.reading import KINDS, Field

_REFUSALS = {
    "400": "What is asked for can't be right; the message says what would be",
    "401": "The token is missing or wrong",
    "404": "An id has no row; `alike` has ids that are written like it, `unknown` those that were asked for",
    "413": "More than a limit allows",
    "503": "Busy, or not made yet; Retry-After says when to come again",
}


def described(endpoints: Iterable[Endpoint], *, token: bool) -> dict[str, Any]:
    """The document of OpenAPI 3.1. token: whether one is needed."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "hotrow", "version": version("hotrow"), "description": "Vectors of ids, and what is near."},
        "paths": paths,
        "components": {"schemas": {"Error": ERROR}},
    }
    if token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    content = {kind.decode(): _content(kind, endpoint.answers) for kind in endpoint.gives}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    answers: dict[str, Any] = {"200": {"description": endpoint.summary, "content": content}}
    answers |= {status: {"description": why, "content": error} for status, why in _REFUSALS.items()}
    told: dict[str, Any] = {"summary": endpoint.summary, "responses": answers}
    if endpoint.open:
        told["security"] = []
    parameters = endpoint.beside if endpoint.takes else endpoint.fields
    if parameters.all:
        told["parameters"] = [_parameter(name, field) for name, field in parameters.in_query.items()]
    if endpoint.takes:
        body = {kind.decode(): _content(kind, _body(endpoint)) for kind in endpoint.takes}
        told["requestBody"] = {"required": True, "content": body}
    return told


def _content(kind: bytes, schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": {"type": "string", "format": "binary"}} if kind == ARROW else {"schema": schema}


def _parameter(name: str, field: Field) -> dict[str, Any]:
    schema = {
        "ids": {"type": "array", "items": {"type": "string"}},
        "where": {"type": "array", "items": {"type": "string"}},
    }
    told = {"name": name, "in": "query", "required": field.required, "description": field.about}
    return told | {"schema": schema.get(field.kind, KINDS[field.kind].schema)}


def _body(endpoint: Endpoint) -> dict[str, Any]:
    properties = {
        name: {**KINDS[field.kind].schema, "description": field.about}
        for name, field in endpoint.fields.in_json.items()
    }
    required = [name for name, field in endpoint.fields.in_json.items() if field.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>hotrow: what this server answers</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font: 600 1.05rem/1.4 ui-monospace, monospace; margin: 2.2rem 0 .2rem; }
p { margin: .2rem 0 .6rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #8884; }
th { font-weight: 400; font-family: ui-monospace, monospace; white-space: nowrap; }
pre { overflow-x: auto; padding: .6rem .8rem; background: #8882; border-radius: .4rem; }
</style>
</head>
<body>
<h1>What this server answers</h1>
<p>Ids are JSON strings or whole numbers, as they were trained on. Errors are
<code>{"error": {"status", "message"}}</code>. For programs: <a href="openapi.json">openapi.json</a>.</p>
"""


def page(endpoints: Iterable[Endpoint], limits: Limits) -> str:
    """HTML that needs nothing else: no script, no font, no network."""
    parts = [_PAGE]
    for endpoint in endpoints:
        parts.append(f"<h2>{endpoint.method} {escape(endpoint.path)}</h2>\n<p>{escape(endpoint.summary)}.</p>\n")
        names = endpoint.fields.in_json if endpoint.takes else endpoint.fields.in_query
        if names:
            rows = "".join(
                f"<tr><th>{escape(n)}</th><td>{escape(_told(field))}</td></tr>\n" for n, field in names.items()
            )
            parts.append(f"<table>\n{rows}</table>\n")
        if endpoint.path.startswith("/v1/"):
            parts.append(f"<pre>{escape(_example(endpoint))}</pre>\n")
    parts.append("<h2>Limits</h2>\n<table>\n")
    told = {
        "bytes of a body": limits.body,
        "ids a request": limits.ids,
        "k": limits.k,
        "ids or vectors, times k": limits.found,
        "connections": limits.connections,
        "seconds to an answer": limits.answer,
    }
    parts += [f"<tr><th>{name}</th><td>{value:,}</td></tr>\n" for name, value in told.items()]
    return "".join([*parts, "</table>\n</body>\n</html>\n"])


def _told(field: Field) -> str:
    return f"{field.about} (must be given)" if field.required else field.about


def _example(endpoint: Endpoint) -> str:
    """A call by curl, of ids that stand for anybody's."""
    values = {"ids": '["a", "b"]', "items": '["a", "b"]', "id": "a", "user": "a", "vectors": "[[…]]"}
    first = next(iter(endpoint.fields.in_json.values()))
    if JSON in endpoint.takes:
        return f"curl --json '{{\"{first.name}\": {values[first.name]}}}' http://127.0.0.1:8000{endpoint.path}"
    return f"curl 'http://127.0.0.1:8000{endpoint.path}?{next(iter(endpoint.fields.in_query))}=a'"
