"""The server: vectors, what is near them and what goes with them over HTTP, following what is saved.

`create_app(path)` makes an ASGI application (Starlette's) of a folder, `serve(app, …)` runs it by uvicorn, and `hotrow
serve MODEL` does both. `shards_app(look)` makes one of a cluster's tables, for Prometheus. Needs the extra `serve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hotrow.errors import MissingExtraError
from hotrow.serve.limits import Limits

if TYPE_CHECKING:
    from hotrow.serve.app import App, create_app
    from hotrow.serve.program import serve
    from hotrow.serve.shards import shards_app, shards_text

__all__ = ["App", "Limits", "create_app", "serve", "shards_app", "shards_text"]

_FROM = {
    "App": "app", "create_app": "app", "serve": "program", "shards_app": "shards", "shards_text": "shards",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"module 'hotrow.serve' has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f"hotrow.serve.{_FROM[name]}"), name)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("hotrow"):
            raise
        raise MissingExtraError(f'the server needs {error.name}: pip install "hotrow[serve]"') from error
