"""The arguments of `hotrow similar`, and of `hotrow index`, which makes ahead what similar would make by itself."""

from __future__ import annotations

import argparse
from typing import Any

from hotrow.apps import settings
from hotrow.apps.lazily import lazily


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add both commands."""
    way = argparse.ArgumentParser(add_help=False)
    way.add_argument("model", metavar="MODEL", help="the folder that `hotrow train` wrote, or that of a saved table")
    way.add_argument("--side", metavar="NAME", help="item, user, or a column of a classifier (default: the first)")
    way.add_argument(
        "--metric", default="cosine", choices=["cosine", "dot", "euclidean"], help="what near is (default: cosine)"
    )
    way.add_argument(
        "--method",
        default="auto",
        choices=["auto", "exact", "usearch"],
        help="compare with every vector, or go by an index (default: an index from 300,000 rows on)",
    )
    _add_similar(commands, common, way)
    _add_index(commands, common, way)


def _add_similar(commands: Any, *parents: argparse.ArgumentParser) -> None:
    similar = commands.add_parser(
        "similar",
        parents=parents,
        help="what is near an item, a user, or any id that has a vector",
        description="List the nearest of an id. Of several ids: what is near their mean, and far from each --minus.",
        epilog="examples: hotrow similar model/ 'RED MUG'; hotrow similar model/ king woman --minus man; "
        "hotrow similar model/ 17 --where section=python --metadata packages.csv",
    )
    similar.add_argument("id", metavar="ID", nargs="+")
    similar.add_argument("--minus", metavar="ID", action="append", default=[], help="what it is to be far from")
    similar.add_argument("-k", type=settings.positive, default=10, metavar="N", help="how many (default: 10)")
    similar.add_argument(
        "--where",
        metavar="COLUMN=VALUE",
        action="append",
        default=[],
        help="only ids with this value, or with a number from..to; may be given several times",
    )
    similar.add_argument(
        "--metadata", metavar="FILE", help="the columns of --where, a row an id (default: the model's features)"
    )
    similar.set_defaults(run=lazily("similar", "similar"))


def _add_index(commands: Any, *parents: argparse.ArgumentParser) -> None:
    index = commands.add_parser(
        "index",
        parents=parents,
        help="make the index by which similar and serve find the nearest of many vectors",
        description="Make the index of a side, or bring it up to date, and show how much of the nearest it finds. "
        "`hotrow similar` and `hotrow serve` do the same by themselves when they need it; this does it ahead. It is "
        "kept in MODEL/derived/, which can be removed at any time. Needs the extra: pip install 'hotrow[search]'.",
        epilog="example: hotrow index model/ --metric dot",
    )
    index.set_defaults(run=lazily("similar", "index"))
