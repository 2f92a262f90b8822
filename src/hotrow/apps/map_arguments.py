"""The words of `hotrow map`."""

from __future__ import annotations

import argparse
from typing import Any

from hotrow.apps import settings
from hotrow.apps.lazily import lazily


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    command = commands.add_parser(
        "map",
        parents=[common],
        help="a map of the ids as one HTML file: those that are alike lie together",
        description="Write a map of a model's or a saved table's ids as one file that any browser opens, without a "
        "network: search, neighbours, selections, colours. PCA shows the outline at once; UMAP shows clusters, and "
        "takes minutes for tens of thousands of ids, once.",
        epilog="examples: hotrow map model/ -o map.html; hotrow map model/ --side user --method umap --metadata "
        "users.csv --column country -o users.html",
    )
    command.add_argument("model", metavar="MODEL", help="a model's folder, or that of a saved table")
    command.add_argument(
        "-o", "--out", default="map.html", metavar="FILE.html", help="where to write (default: map.html)"
    )
    command.add_argument(
        "--side", metavar="NAME", help="item or user, or a column of a classifier (default: the first of these)"
    )
    command.add_argument(
        "--metadata",
        metavar="FILE",
        help="a row an id, CSV, TSV, Parquet or Arrow IPC: the column named as the side, or else the first, has the "
        "ids, the others are for colours (default: the features that the model was trained with)",
    )
    command.add_argument(
        "--column", metavar="NAME", help="of the metadata, for the colours at first (default: the first)"
    )
    command.add_argument(
        "--method", choices=["pca", "umap"], help="how to lay it out (default: umap if there is such a map, else pca)"
    )
    command.add_argument("--anew", action="store_true", help="lay out the whole map again, also what is on it already")
    command.add_argument(
        "--most", type=settings.positive, default=1_000_000, metavar="N",
        help="points in the file; of more a spread sample (default: 1000000)",
    )  # fmt: skip
    command.set_defaults(run=lazily("map", "draw"))
