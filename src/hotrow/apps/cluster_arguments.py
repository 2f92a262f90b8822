"""The words of `hotrow cluster …`."""

from __future__ import annotations

import argparse
from typing import Any

from hotrow.apps import settings
from hotrow.apps.lazily import lazily


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command, with commands of its own."""
    cluster = commands.add_parser(
        "cluster",
        help="tables whose rows are on several machines: what they need",
        description="Tables whose rows are shards on several machines of a Ray cluster (docs/cluster.md).",
    )
    within = cluster.add_subparsers(dest="cluster_command", required=True, metavar="COMMAND")
    _add_plan(within, common)


def _add_plan(commands: Any, common: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "plan",
        parents=[common],
        help="how many shards and machines so many rows and ids a second need, and what would be the limit",
        description="How many shards hold so many rows in memory and are quick enough: bytes by arithmetic, steps by "
        "simulation (docs/scale.md), with times of one core that were measured on the developers' machine, or on this "
        "one. Needs no Ray and no cluster.",
        epilog="examples: hotrow cluster plan --rows 10e9 --ids-per-second 1e6; "
        "hotrow cluster plan --rows 1e12 --dim 16 --optimizer rowwise_adagrad --memory 512 --price 3.5",
    )
    _add_table(command)
    _add_machines(command)
    command.add_argument("--measure", action="store_true", help="measure the times here, on a local Ray, in a minute")
    command.add_argument("--out", metavar="FILE", help="write who is how busy as a picture as well, in SVG")
    command.set_defaults(run=lazily("cluster_plan", "plan"))


def _add_table(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("the table, and what is asked of it")
    group.add_argument("--rows", type=settings.many, required=True, metavar="N", help="ids in all, as 10e9")
    group.add_argument("--dim", type=settings.positive, default=32, metavar="N", help="floats a vector (default: 32)")
    group.add_argument("--optimizer", default="adam", metavar="NAME", help="as rowwise_adagrad (default: adam)")
    group.add_argument(
        "--strings", type=settings.rate, metavar="BYTES", help="ids are strings of so many bytes (default: integers)"
    )
    group.add_argument("--ids-per-second", type=settings.rate, metavar="N", help="to be trained on")
    group.add_argument("--batch", type=settings.many, default=40_000, metavar="N", help="ids a step (default: 40000)")
    group.add_argument(
        "--zipf", type=settings.rate, metavar="X", help="how skewed ids are: an exponent (default: all as frequent)"
    )
    group.add_argument(
        "--dense", type=settings.rate, metavar="MS", help="what the rest of the model takes a step, of one core"
    )
    group.add_argument("--workers", type=settings.positive, metavar="N", help="that share it (default: the owner)")
    group.add_argument(
        "--staleness", type=settings.natural, default=0, metavar="N", help="steps under way besides (default: 0)"
    )
    group.add_argument(
        "--stragglers", metavar="SHARE:TIMES", help="requests that take longer, as 0.01:5 (default: as measured)"
    )


def _add_machines(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("the machines")
    group.add_argument("--memory", type=settings.rate, default=128, metavar="GB", help="of each (default: 128)")
    group.add_argument("--cores", type=settings.positive, default=16, metavar="N", help="of each (default: 16)")
    group.add_argument("--network", type=settings.rate, default=10, metavar="GBIT", help="a second (default: 10)")
    group.add_argument("--latency", type=settings.rate, default=50, metavar="US", help="between two (default: 50)")
    group.add_argument("--disk", type=settings.rate, default=1, metavar="GB", help="a second (default: 1)")
    group.add_argument("--per-machine", type=settings.positive, default=1, metavar="N", help="shards (default: 1)")
    group.add_argument("--price", type=settings.rate, metavar="P", help="of a machine, an hour")
