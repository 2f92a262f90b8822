"""The way to Ray and ZeroMQ, which come with the extra `ray`, and to a cluster."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from hotrow.errors import ClusterError, MissingExtraError

NAMESPACE = "hotrow"
"""Of the names of shards in a cluster."""
_LOCAL_CPUS = 32  # of a Ray on this machine: shards and workers take turns where there are fewer


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
    quiet: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "configure_logging": False}
    try:
        if address is None:
            cpus = max(_LOCAL_CPUS, os.cpu_count() or 1)
            few = {"prestart_worker_first_driver": False}  # else a process is started for each CPU, and waited for
            ray.init("local", num_cpus=cpus, include_dashboard=False, _system_config=few, **quiet)
        else:
            ray.init(address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, AssertionError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address!r} ({error}). Start one with `ray start --head`, or on this machine "
            "alone leave the address out; if it wants a token, this process needs RAY_AUTH_MODE=token, and the token"
        ) from error
