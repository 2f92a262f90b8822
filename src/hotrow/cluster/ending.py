"""A table in shards ends: its actors, the folder where they kept what brought them back, and their sockets."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from hotrow.cluster.connecting import ray_module
from hotrow.cluster.home import part_of
from hotrow.cluster.leavings import leave, note, sweep
from hotrow.cluster.own_link import OwnLink

if TYPE_CHECKING:
    from os import PathLike

_PREFIX = "hotrow-home-"
_FAREWELL = 5.0  # seconds in which shards may end by themselves
_GONE = 2.0  # seconds in which what they were writing may still come


def make_home(given: str | PathLike[str] | None, name: str) -> Path:
    """A folder of a table's own within the one that was given, or a temporary one.

    Of its own, for what an earlier table has left there would be taken for what this one was. It is for this user
    alone, and those of owners that were killed on this machine go.
    """
    if given is None:
        sweep_temporary()
        home = Path(tempfile.mkdtemp(prefix=_PREFIX))
    else:
        home = Path(given).absolute() / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:64]}-{secrets.token_hex(4)}"
        home.parent.mkdir(parents=True, exist_ok=True)
        sweep(home.parent.iterdir())
        home.mkdir(mode=0o700)
    note(home, os.getpid())
    return home


def enter_home(home: Path) -> None:
    """Begin a life of a shard, which may be on another node than its owner: there a temporary home isn't there yet."""
    with suppress(OSError):  # a home that can't be written isn't the end of a life
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    note(home, os.getppid())  # Ray's own process of this node, if it isn't the owner's machine, where that is noted
    sweep_temporary()


def leave_home(home: Path, index: int) -> None:
    """Remove a shard's part of a home, and the home with the last of them."""
    rmtree(part_of(home, index), ignore_errors=True)
    leave(home)


def sweep_temporary() -> None:
    """Remove temporary homes of owners that were killed on this machine, whatever became of their clusters."""
    sweep(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"))


def end(links: Sequence[OwnLink], secret: str, home: Path, process: int) -> None:
    """End shards, and remove what was theirs alone; but in a fork of the process that started them do nothing."""
    if os.getpid() != process:
        return
    from hotrow.cluster.server import remove_sockets  # with ZeroMQ

    ray, actors = ray_module(), [link.actor for link in links]
    for link in links:
        link.close()
    if actors and ray.is_initialized():
        with suppress(ray.exceptions.RayError, OSError, RuntimeError):
            ray.wait([actor.stop.remote() for actor in actors], num_returns=len(actors), timeout=_FAREWELL)
        for actor in actors:
            with suppress(ray.exceptions.RayError, OSError, RuntimeError, ValueError):
                ray.kill(actor)
    remove_sockets(secret)
    until = time.monotonic() + _GONE
    while home.exists() and time.monotonic() < until:
        rmtree(home, ignore_errors=True)
        time.sleep(0.02 if home.exists() else 0)
