"""Shards come up: an actor each, started again by Ray when it dies, and the links to them."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from hotrow.cluster.connecting import NAMESPACE, connected, ray_module, zmq_module
from hotrow.cluster.link import Link
from hotrow.cluster.own_link import OwnLink
from hotrow.errors import ArgumentError, ClusterError

log = logging.getLogger("hotrow")
_NAME = re.compile(r"(.+)/([1-9][0-9]*) of ([1-9][0-9]*)", re.DOTALL)  # as shard_name writes it
PATIENCE = 60.0
"""Seconds in which all shards of a new table must be up."""


def start(plan: dict[str, Any], home: Path, secret: str, patience: float, log: int) -> list[OwnLink]:
    """Start the shards of a table, and wait until each answers. ClusterError if they find no room.

    patience, log: of each link.
    """
    ray = connected()
    zmq_module()  # or the next line would say less of what is missing
    count = plan["shards"]
    actor = ray.remote(shard_class())
    actors: list[Any] = []
    _check_free(plan["name"], besides=0)
    try:
        for index in range(count):
            options = {
                "name": shard_name(plan["name"], index, count), "namespace": NAMESPACE, "num_cpus": 1,
                "max_restarts": -1, "max_task_retries": 0, "max_concurrency": 8, "scheduling_strategy": "SPREAD",
            }  # fmt: skip
            actors.append(actor.options(**options).remote({**plan, "index": index}, str(home), secret))
            if not index:
                _check_free(plan["name"], besides=count)
        links = [OwnLink(each, _told(plan["name"], i, count), secret, patience, log) for i, each in enumerate(actors)]
        _wait(ray, links, plan)
    except BaseException as error:
        for each in actors:
            ray.kill(each)
        if isinstance(error, ValueError) and "already" in str(error):
            raise _taken(plan["name"]) from error
        raise
    return links


def _taken(name: str) -> ArgumentError:
    return ArgumentError(f"there is a table named {name!r} in this cluster already")


def _check_free(name: str, *, besides: int) -> None:
    """ArgumentError if there is a table of this name, in another number of shards than `besides`.

    Ray sees to it that no two actors have one name, but these have the number in it. So whoever starts a table looks
    once its first actor has its name: of two who do so at once, at least one sees the other, and gives up.
    """
    if any(table == name and count != besides for table, _, count in listed()):
        raise _taken(name)


def _wait(ray: Any, links: list[OwnLink], plan: dict[str, Any]) -> None:
    up = [link.actor.hello.remote(link.node) for link in links]
    ready, _ = ray.wait(up, num_returns=len(up), timeout=PATIENCE)
    if len(ready) < len(up):
        has = ray.cluster_resources().get("CPU", 0)
        raise ClusterError(
            f"{len(ready)} of the {len(up)} shards of {plan['name']!r} came up in {PATIENCE:.0f} s. Each takes a CPU, "
            f"and the cluster has {has:g}, of which {ray.available_resources().get('CPU', 0):g} are free: ask for "
            "fewer shards, or add nodes. If there is room, its machines are busy: start Ray with RAY_worker_niceness=0 "
            "on them, or it lets its workers have what others leave"
        )
    niceness = 0
    for link, one in zip(links, up, strict=True):
        try:
            niceness = max(niceness, ray.get(one)["niceness"])
        except ray.exceptions.ActorUnavailableError:
            pass  # it died at once: whoever uses it first waits for it
        except ray.exceptions.ActorDiedError as error:
            raise ClusterError(f"{link.name} can't be started: {error}") from error
    _say_if_they_yield(plan["name"], niceness)


def _say_if_they_yield(name: str, niceness: int) -> None:
    """Say so if this process, which waits for shards, and others on their machines come before them."""
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness > ours:
        log.warning(
            "shards of %r have niceness %d, and this process %d: beside a busy program they get little time. Start Ray "
            "with RAY_worker_niceness=0 on each node",
            name, niceness, ours,
        )  # fmt: skip


def shard_class() -> type:
    """What a shard's actor is; it brings in ZeroMQ."""
    from hotrow.cluster.shard import Shard

    return Shard


def shard_name(table: str, index: int, count: int) -> str:
    """The name of a shard's actor in the cluster."""
    return f"{table}/{index + 1} of {count}"


def link_to(actor: Any, table: str, index: int, count: int, secret: str) -> Link:
    """The link to a shard's actor, to read."""
    return Link(actor, _told(table, index, count), secret)


def _told(table: str, index: int, count: int) -> str:
    return f"shard {index + 1} of {count} of {table!r}"


def names() -> dict[str, int]:
    """The tables of this cluster that have a shard, and how many they have in all."""
    return {table: count for table, _, count in listed()}


def listed() -> set[tuple[str, int, int]]:
    """The shards of this cluster that Ray doesn't hold for dead: the table's name, which one, of how many."""
    actors = ray_module().util.list_named_actors(all_namespaces=True)
    found = [_NAME.fullmatch(each["name"]) for each in actors if each["namespace"] == NAMESPACE]
    return {(one[1], int(one[2]) - 1, int(one[3])) for one in found if one is not None and int(one[2]) <= int(one[3])}


def actor_of(table: str, index: int, count: int) -> Any:
    """The actor of a shard."""
    return ray_module().get_actor(shard_name(table, index, count), namespace=NAMESPACE)


def links_of(table: str) -> tuple[dict[str, Any], list[Link]]:
    """The plan of a table by its name, and links to its shards. ArgumentError if there is none such."""
    ray, count = ray_module(), names().get(table)
    if count is None:
        raise ArgumentError(f"this cluster has no table named {table!r}; it has {sorted(names()) or 'none'}")
    actors = [actor_of(table, index, count) for index in range(count)]
    plan, secret = ray.get(actors[0].introduce.remote(), timeout=PATIENCE)
    return plan, [link_to(actor, table, index, count, secret) for index, actor in enumerate(actors)]
