"""The words of `hotrow cluster …`."""

from __future__ import annotations

import argparse
from typing import Any

from hotrow.apps import settings
from hotrow.apps.clustered_arguments import LOCAL, host_and_port
from hotrow.apps.console import Output
from hotrow.apps.lazily import lazily
from hotrow.apps.serve_arguments import port


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command, with commands of its own."""
    cluster = commands.add_parser(
        "cluster",
        help="tables whose rows are on several machines: how they are, and what they need",
        description="Tables whose rows are shards on several machines of a Ray cluster (docs/cluster.md), which is "
        "started and ended by Ray's own commands: ray start --head, ray stop.",
    )
    within = cluster.add_subparsers(dest="cluster_command", required=True, metavar="COMMAND")
    _add_status(within, common)
    _add_plan(within, common)


def _add_status(under: Any, common: argparse.ArgumentParser) -> None:
    status = under.add_parser(
        "status",
        parents=[common],
        help="what each shard holds and does, and how it lives, in a terminal that refreshes or for Prometheus",
        description="Show the shards of all tables in a cluster: rows, bytes, what is asked of them a second, how busy "
        "they are, which changes they haven't got or haven't on disk. On a terminal it refreshes until q or Ctrl-C; "
        "elsewhere it looks once.",
        epilog="examples: hotrow cluster status; hotrow cluster status --cluster 10.0.0.1:6379 --once; "
        "hotrow cluster status --port 9105, for Prometheus",
    )
    status.add_argument(
        "--cluster",
        type=_address,
        metavar="ADDRESS",
        default="auto",
        help="host:port of its head; this machine must be a node of it (default: auto, the one that runs here)",
    )
    how = status.add_mutually_exclusive_group()
    how.add_argument("--watch", type=settings.rate, metavar="SECONDS", help="look again and again (default: 2)")
    how.add_argument("--once", action="store_true", help="look for a second, and end")
    how.add_argument("--prometheus", action="store_true", help="print Prometheus' text format once")
    how.add_argument("--port", type=port, metavar="N", help="answer Prometheus at /metrics there; 0: one that is free")
    status.add_argument("--host", help="of --port: the address to listen at (default: 127.0.0.1, this machine)")
    status.add_argument(
        "--token-file",
        metavar="FILE",
        help="of --port: who asks must send `Authorization: Bearer …` with what is in it; needed for a --host that "
        "others reach",
    )
    status.add_argument(
        "--patience", type=settings.rate, default=2.0, metavar="SECONDS", help="that shards have to answer (default: 2)"
    )

    def run(options: argparse.Namespace, output: Output) -> int | None:
        if options.port is None and (options.host is not None or options.token_file is not None):
            status.error("--host and --token-file are of --port: hotrow cluster status --port 9105 …")
        if options.prometheus and options.json:
            status.error("--prometheus is a format of its own: leave --json out")
        from hotrow.apps.cluster import status as status_

        return status_(options, output)

    status.set_defaults(run=run)


def _address(text: str) -> str:
    """Of a cluster that is there: auto, or the host and port of its head."""
    if text == "auto" or host_and_port(text) is not None:
        return text
    raise argparse.ArgumentTypeError(
        f"expected auto (the cluster that runs here, also that of `hotrow train --cluster {LOCAL}`), or the HOST:PORT "
        f"of its head, on a node of it; got {text!r}"
    )


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
