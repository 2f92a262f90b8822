"""The way to Ray and ZeroMQ, which come with the extra `ray`, and to a cluster."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from hotrow.errors import ClusterError, MissingExtraError

NAMESPACE = "hotrow"
"""Of the names of shards in a cluster."""
_KNOCKING = 5.0  # seconds
_LOCAL_CPUS = 32  # of a Ray on this machine: shards and workers take turns where there are fewer
_AS_WE_NEED_IT = {
    "prestart_worker_first_driver": False,  # else a process is started for each CPU, and waited for
    "worker_niceness": 0,  # with Ray's 15 a shard has next to nothing beside a busy process, such as its owner
}


def ray_module() -> Any:
    """Ray. MissingExtraError without it."""
    return _module("ray")


def connected() -> Any:
    """Ray, of whose cluster this process is a part. ClusterError if it is in none."""
    ray = ray_module()
    if not ray.is_initialized():
        raise ClusterError(
            "this process is in no Ray cluster; expected hotrow.cluster.connect() before, for one on this machine, "
            'or hotrow.cluster.connect("auto") on a node of one'
        )
    return ray


def zmq_module() -> Any:
    """pyzmq. MissingExtraError without it."""
    return _module("zmq")


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(f'a cluster needs Ray ({error}): pip install "hotrow[ray]"') from error


def connect(address: str | None = None) -> None:
    """Be part of a Ray cluster, if this process isn't yet.

    address  None: a Ray of its own on this machine, which ends with the process; "auto": the one that was started here
             with `ray start`; or "host:port" of its head. This machine must be one of its nodes.

    ClusterError where there is none.

    >>> import hotrow.cluster
    >>> hotrow.cluster.connect()  # doctest: +SKIP
    """
    ray = ray_module()
    if ray.is_initialized():
        return
    _let_ray_warn_on_stderr(ray)
    # It says how to switch Ray's tokens off, whenever they are on.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "configure_logging": False}
    try:
        if address is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anyone outside
            cpus = max(_LOCAL_CPUS, os.cpu_count() or 1)
            ray.init("local", num_cpus=cpus, include_dashboard=False, _system_config=_AS_WE_NEED_IT, **quiet)
        else:
            _knock(address)
            ray.init(address, **quiet)
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address!r} ({error}). Start one with `ray start --head`, or on this machine "
            "alone leave the address out; if it wants a token, this process needs RAY_AUTH_MODE=token, and the token"
        ) from error


def _let_ray_warn_on_stderr(ray: Any) -> None:
    """What a raylet warns of, Ray prints as if it were what the program says; a JSON there would be none any more.

    Ray has no setting for that; where it has no such function either, all stays as it is.
    """
    worker = getattr(getattr(ray, "_private", None), "worker", None)
    say = getattr(worker, "print_to_stdstream", None)
    if worker is None or say is None or hasattr(say, "on_stderr"):
        return

    def warn(data: dict[str, Any], *given: Any, **named: Any) -> None:
        say({**data, "is_err": True}, *given, **named)

    warn.on_stderr = True  # pyright: ignore[reportFunctionMemberAccess]
    worker.print_to_stdstream = warn


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4
"""What a client of HTTP/2 says first, and the kind of frame that it is answered with: RFC 9113, 3.4. gRPC speaks it."""


def _knock(address: str) -> None:
    """OSError if nobody answers there who could be Ray, within some seconds; Ray itself tries for minutes."""
    if address == "auto":
        kept = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray", "ray_current_cluster")
        address = os.environ.get("RAY_ADDRESS") or (kept.read_text().strip() if kept.is_file() else "")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or os.environ.get("RAY_USE_TLS", "0") not in {"0", "false"}:
        return  # Ray knows better where it is
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCKING) as connection:
        connection.sendall(_PREFACE)
        answer = b""
        with suppress(TimeoutError):
            while len(answer) < 4 and (more := connection.recv(9)):
                answer += more
    if answer[3:4] != bytes([_SETTINGS]):
        raise ConnectionError("something else than Ray listens there")
