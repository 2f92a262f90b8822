"""A warm process without threads that forks children, each of which trains and saves a table until it is killed.

`python nursery.py` reads lines of an operation and a path. For each it forks a child, whose lines come out as they
are: "pid N", then "begin S" before an operation and "done S G" when it has returned generation G, at step S of the
table; when somebody has killed it, "gone".

The content of a table is a function of its steps: at step s the rows 0 … BASE + s − 1 are there, of DIM floats each,
and row r has the value s for r < BASE, else the number of steps since it came.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sharding import Owner

import hotrow
import hotrow.store
from hotrow.store.snapshot import generations

BASE, DIM = 5000, 8


def step(table: hotrow.Table) -> None:
    """One more step of training, with one more row."""
    ids = np.arange(BASE + table.steps + 1)
    table.update(table.find(ids, grow=True), -np.ones((len(ids), DIM), np.float32))


def checksum(steps: int) -> int:
    """What all numbers of a table at this step add up to."""
    return DIM * (BASE * steps + steps * (steps + 1) // 2)


def expected(steps: int) -> np.ndarray:
    """The value of each row at this step."""
    return np.concatenate([np.full(BASE, steps), np.arange(steps, 0, -1)]).astype(np.float32)


def opened(path: Path) -> hotrow.Table:
    """The table that is there, or a new one."""
    if path.is_dir() and generations(path):
        return hotrow.load(path)
    return hotrow.Table(DIM, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())


def delta(table: hotrow.Table, path: Path) -> int:
    """What has changed; now and then all, and the chain before it goes."""
    return table.save(path, keep=1) if table.saved is None or table.steps % 8 == 0 else table.save_delta()


def compact(table: hotrow.Table, path: Path) -> int:
    """What has changed, and then a snapshot of it."""
    delta(table, path)
    return hotrow.store.compact(path, keep=1)


_owners: dict[int, Owner] = {}


def sharded(table: hotrow.Table, path: Path) -> int:
    """The table in three shards: what has changed in each, now and then all."""
    owner = _owners.setdefault(id(table), Owner(table, 3))
    return owner.save(path, keep=1) if owner.saved is None or table.steps % 4 == 0 else owner.save_delta()


OPERATIONS: dict[str, Callable[[hotrow.Table, Path], int]] = {
    "save": lambda table, path: table.save(path),
    "delta": delta,
    "compact": compact,
    "sharded": sharded,
}


def live(operation: str, path: Path) -> None:
    """Train and save for ever."""
    say(f"pid {os.getpid()}")
    table = opened(path)
    while True:
        step(table)
        say(f"begin {table.steps}")
        number = OPERATIONS[operation](table, path)
        say(f"done {table.steps} {number}")


def say(line: str) -> None:
    """One write, so that no line is ever half."""
    os.write(1, f"{line}\n".encode())


def main() -> None:
    """See the module."""
    hotrow.set_threads(1)
    step(opened(Path("nowhere")))  # compiles, or loads what is compiled
    for line in sys.stdin:
        operation, path = line.rstrip("\n").split(" ", 1)
        child = os.fork()
        if child == 0:
            try:
                live(operation, Path(path))
            finally:
                traceback.print_exc()
                os._exit(1)
        _, status = os.waitpid(child, 0)
        say("gone" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else "died by itself")


if __name__ == "__main__":
    main()
