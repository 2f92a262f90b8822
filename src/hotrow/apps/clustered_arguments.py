"""The options of `hotrow train` that give the work to a Ray cluster, and what is wrong with them together."""

from __future__ import annotations

import argparse
import re
from typing import Any

from hotrow.apps.settings import positive

LOCAL = "local"
"""The address of a Ray that is started for this command alone, on this machine."""
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")
_OTHERS = ("shards", "workers", "staleness", "home")


def address(text: str) -> str:
    """What `--cluster` takes: local, auto, or the host and port of a cluster's head."""
    if text.startswith("ray://"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is for Ray's client, which is outside of the cluster; training pulls vectors from shards, and "
            "must be on one of its nodes. Run hotrow there with --cluster auto, for example by `ray job submit`"
        )
    found = _HOST_AND_PORT.fullmatch(text)
    if text in {LOCAL, "auto"} or (found and 0 < int(found["port"]) < 1 << 16):
        return text
    raise argparse.ArgumentTypeError(
        f"expected auto (the cluster that this machine is a node of), the HOST:PORT of its head, or {LOCAL} (a Ray on "
        f"this machine, for this command alone); got {text!r}"
    )


def host_and_port(text: str) -> tuple[str, int] | None:
    """The host and the port of an address; None for local and auto.

    >>> host_and_port("10.0.0.7:6379"), host_and_port("auto")
    (('10.0.0.7', 6379), None)
    """
    found = _HOST_AND_PORT.fullmatch(text)
    return (found["host"].strip("[]"), int(found["port"])) if found else None


def add(command: Any) -> None:
    """Give a command these options."""
    group = command.add_argument_group("on a Ray cluster (docs/cluster.md)")
    group.add_argument(
        "--cluster",
        type=address,
        metavar="ADDRESS",
        help="auto: the cluster that this machine is a node of; HOST:PORT of its head; local: on this machine alone",
    )
    group.add_argument(
        "--shards",
        type=positive,
        metavar="N",
        help="parts of each table (default: 2; of a classifier's, one for each column: 1)",
    )
    group.add_argument("--workers", type=positive, metavar="N", help="that compute gradients (default: 2)")
    group.add_argument(
        "--staleness",
        type=_from_zero,
        metavar="S",
        help="steps that vectors may be behind, so that more overlap; not the same to the bit (default: 0)",
    )
    group.add_argument(
        "--home",
        metavar="DIR",
        help="a folder that all nodes share, from which a shard comes back even if its node is lost (default: a "
        "temporary one on each node, from which it comes back if it alone dies)",
    )


def _from_zero(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return value


def wrong(options: argparse.Namespace) -> str | None:
    """What is wrong with the options of a cluster, if anything."""
    given = [name for name in _OTHERS if getattr(options, name) is not None]
    if given and options.cluster is None:
        return f"--{given[0]} is of a cluster: give --cluster {LOCAL}, for one on this machine, or --cluster auto"
    return None


def without_workers(options: argparse.Namespace, what: str) -> str | None:
    """What is wrong where shards have the tables and this process computes, if anything."""
    for name in ("workers", "staleness"):
        if getattr(options, name) is not None:
            return f"{what} has its tables on shards, and computes in this process: leave --{name} out"
    return None
