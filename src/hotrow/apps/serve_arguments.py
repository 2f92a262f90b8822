"""The arguments of `hotrow serve`."""

from __future__ import annotations

import argparse
from typing import Any

from hotrow.apps import settings
from hotrow.apps.lazily import lazily


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    command = commands.add_parser(
        "serve",
        parents=[common],
        help="answer over HTTP: vectors, what is near, what goes with what; with a page to look at",
        description="Serve a model or a saved table over HTTP, and go on to whatever is saved there later, without a "
        "failed request. Its address in a browser shows the space; /docs says what it answers to programs. Ctrl-C or "
        "SIGTERM ends it when requests in flight are answered.",
        epilog="examples: hotrow serve model/; hotrow serve model/ --host 0.0.0.0 --token-file token.txt; "
        "curl 'http://127.0.0.1:8000/v1/similar?id=python3-numpy&k=5'",
    )
    command.add_argument(
        "model", metavar="MODEL", help="the folder that `hotrow train` wrote, or that of a saved table"
    )
    command.add_argument(
        "--host", default="127.0.0.1", help="the address to listen at (default: 127.0.0.1, this machine)"
    )
    command.add_argument("--port", type=port, default=8000, metavar="N", help="0 is one that is free (default: 8000)")
    command.add_argument(
        "--token-file",
        metavar="FILE",
        help="who asks must send `Authorization: Bearer …` with what is in it; needed for a host that others reach",
    )
    command.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name by which this server is called, too"
    )
    command.add_argument(
        "--metadata",
        metavar="[SIDE=]FILE",
        action="append",
        default=[],
        help="what is known of ids, to colour and to filter by: CSV, TSV, Parquet or Arrow, with ids in the column "
        "named as the side or in the first",
    )
    command.add_argument("--metric", default="cosine", choices=["cosine", "dot", "euclidean"], help="of what is near")
    command.add_argument(
        "--method", default="auto", choices=["auto", "exact", "usearch"], help="of search (default: by the size)"
    )
    limits = command.add_argument_group("limits")
    for name, default, text in (
        ("max-ids", 10_000, "ids a request"),
        ("max-k", 1_000, "what is asked for in a list"),
        ("max-body", 1 << 20, "bytes of a request's body"),
        ("max-connections", 512, "connections at a time"),
    ):
        limits.add_argument(
            f"--{name}", type=settings.positive, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    limits.add_argument(
        "--timeout", type=settings.rate, default=30.0, metavar="S", help="seconds to an answer (default: 30)"
    )
    command.set_defaults(run=lazily("serve", "serve"))


def port(text: str) -> int:
    """A port, 0 for one that is free."""
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)
