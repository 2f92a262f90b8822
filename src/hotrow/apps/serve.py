"""`hotrow serve`: the server as a program."""

from __future__ import annotations

import argparse
import logging
import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from hotrow.apps import backends
from hotrow.apps.console import Output, printable
from hotrow.errors import ArgumentError, DataError
from hotrow.serve import Limits

if TYPE_CHECKING:
    from hotrow.models.folders import Folder
    from hotrow.search import Metadata
    from hotrow.serve.program import Server

log = logging.getLogger("hotrow.serve")

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,1024}=*")


def serve(options: argparse.Namespace, output: Output) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from hotrow.serve import create_app
    from hotrow.serve import serve as answer
    from hotrow.serve.app import LOCAL

    log_to(output)
    backends.prepare_for(options.model)
    token = None if options.token_file is None else read_token(Path(options.token_file))
    app = create_app(
        options.model,
        metadata=_told(options.metadata),
        metric=options.metric,
        method=options.method,
        limits=Limits(
            ids=options.max_ids,
            k=options.max_k,
            body=options.max_body,
            connections=options.max_connections,
            answer=options.timeout,
        ),
        token=token,
        hosts=(*LOCAL, options.host, *options.allow_host),
    )
    served = app.following.current()
    sides = served.folder.sides
    for given in options.metadata:
        _check_side(given, list(sides))
    for given in options.metadata:  # what can't be read is said now, and not to whoever opens the page
        served.tell(_split(given)[0] or None)

    def started(server: Server) -> None:
        output.result({"url": server.url, "stamp": app.following.current().stamp})
        sys.stdout.flush()  # whoever reads it has to know now
        if not output.as_json:
            rows = ", ".join(f"{len(vectors):,} {name}s" for name, vectors in sides.items())
            output.say(f"{printable(options.model)}: {rows}")
            output.say(f"Serving at {server.url}   Ctrl-C ends it; {server.url}docs says what it answers")

    answer(app, options.host, options.port, started=started)


def read_token(path: Path) -> str:
    """The token in a file. DataError for one that can't be sent or is soon guessed; a warning if others can read it."""
    try:
        text = path.read_text("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} isn't text; {_MAKE.format(path)}") from error
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); {_MAKE.format(path)}") from error
    if not _TOKEN.fullmatch(text):
        raise DataError(f"{path} has no token of 16 or more letters, digits and -._~+/; {_MAKE.format(path)}")
    if os.name == "posix" and path.stat().st_mode & stat.S_IROTH:
        log.warning("%s can be read by every user of this machine: chmod 600 %s", path, path)
    return text


_MAKE = "`openssl rand -hex 32 > {}` makes one"


def _told(files: list[str]) -> Any:
    """What tells the metadata of a side: its file, that of no side for the first one, or what the model has."""
    given = dict(map(_split, files))
    if len(given) < len(files):
        raise ArgumentError("--metadata is given twice for one side: give one FILE, or SIDE=FILE for each")

    def told(folder: Folder, side: str) -> Metadata | None:
        from hotrow.apps.told import metadata_of

        return metadata_of(folder, side, given.get(side, given.get("") if side == folder.side().name else None))

    return told


def _split(given: str) -> tuple[str, str]:
    side, equals, path = given.partition("=")
    return (side, path) if equals and "/" not in side and not Path(given).exists() else ("", given)


def _check_side(given: str, sides: list[str]) -> None:
    side = _split(given)[0]
    if side and side not in sides:
        raise ArgumentError(f"--metadata {given}: there is no side {side!r}; there is {', '.join(sides)}")


def log_to(output: Output) -> None:
    """What the server tells goes to stderr, without what could move a terminal's cursor."""
    handler = logging.Handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    handler.emit = lambda record: output.errors.print(
        Text("\n".join(map(printable, handler.format(record).splitlines())), style="dim")
    )
    for name in ("hotrow.serve", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
