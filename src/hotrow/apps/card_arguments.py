"""The words of `hotrow card`."""

from __future__ import annotations

import argparse
from typing import Any

from hotrow.apps.lazily import lazily


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Give the command line its `card`."""
    command = commands.add_parser(
        "card",
        parents=[common],
        help="write the model card: README.md, as model hubs show it",
        description="Write README.md into the folder of a model or a saved table: what it is, its data, how it was "
        "measured, sizes, how to ask it. `hotrow train` does so at its end. One of your own is never overwritten.",
        epilog="examples: hotrow card model/; hotrow card model/ -o card.md",
    )
    command.add_argument("model", metavar="MODEL", help="a model's folder, or that of a saved table")
    command.add_argument("-o", "--out", metavar="FILE", help="where to write (default: README.md in the folder)")
    command.set_defaults(run=lazily("card", "card"))
