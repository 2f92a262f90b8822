"""Processes that train and save, killed by SIGKILL at a random instant, again and again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import nursery
import pytest

import hotrow
from hotrow.store.snapshot import generations, verify

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]


@pytest.fixture
def children():
    """A nursery, as a process."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", nursery.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


def killed_at_random(children, operation: str, path: Path) -> tuple[tuple[int, int], int]:
    """Start a child and kill it: ((step, generation) of the last that it acknowledged, step of the last it began)."""
    children.stdin.write(f"{operation} {path}\n")
    children.stdin.flush()
    pid = int(children.stdout.readline().split()[1])
    acknowledged, begun, seconds = (0, 0), 0, 0.02
    for _ in range(random.randrange(3)):
        begun = int(children.stdout.readline().split()[1])
        start = time.perf_counter()
        _, *numbers = children.stdout.readline().split()
        acknowledged, seconds = (int(numbers[0]), int(numbers[1])), time.perf_counter() - start
    time.sleep(random.uniform(0, 2 * seconds))
    os.kill(pid, signal.SIGKILL)
    while (line := children.stdout.readline().split() or ["nothing"]) != ["gone"]:
        assert line[0] in {"begin", "done"}, line
        if line[0] == "done":
            acknowledged = int(line[1]), int(line[2])
        begun = int(line[1]) if line[0] == "begin" else begun
    return acknowledged, begun


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.parametrize("operation", nursery.OPERATIONS)
def test_a_process_killed_at_any_instant_leaves_what_it_acknowledged_last_or_the_next_whole(
    tmp_path, children, operation, kills
):
    path = tmp_path / "items"
    last, within = (0, 0), 0
    for _ in range(kills):
        acknowledged, begun = killed_at_random(children, operation, path)
        last = max(last, acknowledged)
        within += begun > acknowledged[0]
        if not path.is_dir() or not generations(path):
            assert last == (0, 0)
            continue
        assert verify(path) == []
        table, number = hotrow.load(path), generations(path)[-1]
        newer = {(begun, last[1] + 1), (begun, last[1] + 1 + (operation == "compact"))}  # a delta, a snapshot of it
        assert (table.steps, number) in {last, *newer}
        vectors = table.lookup(np.arange(nursery.BASE + table.steps))
        assert len(table) == len(vectors)
        assert vectors.sum(dtype=np.float64) == nursery.checksum(table.steps)
        assert (vectors == nursery.expected(table.steps)[:, None]).all()
        last = table.steps, number
    assert last[1] > kills // 4
    assert within > kills // 4  # else it wasn't tried
