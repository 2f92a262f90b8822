"""What Python adds around the parts of a step: steps of a few ids on a real cluster here, in processor time."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hotrow.cluster.planning.costs import Costs

IDS = 64
"""A step: so few that kernels take nothing."""
_STEPS, _WARM = 400, 50


@dataclass(frozen=True)
class _Small:
    """Seconds that a small step takes of the owner, and a request of a shard."""

    owner: float
    request: float


def overheads(costs: Costs) -> Costs:
    """The same costs, with what Python takes for a step, and for a request at both of its ends.

    Starts tables of one and of two shards, so this process must be part of a Ray cluster: `hotrow.cluster.connect()`.
    """
    one, two = _small(1), _small(2)
    each = costs.message.call
    request = max(0.0, (two.owner - one.owner) / 2 - 2 * each)
    kernels = sum(part.call for part in (costs.dedupe, costs.split, costs.group, costs.fill, costs.merge))
    return replace(
        costs,
        request=request,
        step_call=max(0.0, one.owner - 2 * (request + 2 * each) - kernels),
        served=max(0.0, two.request - (costs.fetch.call + costs.step.call) / 2),
    )


def _small(shards: int) -> _Small:
    from hotrow.cluster import Table

    table = Table(16, shards=shards, ids="int64")
    try:
        rng = np.random.default_rng(0)
        batches, gradients = rng.integers(0, 10_000, (_WARM + _STEPS, IDS)), np.zeros((IDS, 16), np.float32)
        for ids in batches[:_WARM]:
            _step(table, ids, gradients)
        table.flush()
        before, begin = _busy(table), time.process_time()
        for ids in batches[:_STEPS]:
            _step(table, ids, gradients)
        taken = time.process_time() - begin
        table.flush()
        served = _busy(table) - before
        return _Small(taken / _STEPS, served / (2 * _STEPS * shards))
    finally:
        table.close()


def _step(table: Any, ids: np.ndarray, gradients: np.ndarray) -> None:
    batch = table.find(ids, grow=True)
    table.lookup(batch)
    table.update(batch, gradients)


def _busy(table: Any) -> float:
    """Processor seconds of the shards; where the system doesn't tell, those in which they were at work."""
    facts = table.shards_.call("facts")
    try:
        return sum(processor(one["pid"]) for one in facts)
    except OSError:
        return sum(one["seconds_busy"] for one in facts)


def processor(pid: int) -> float:
    """Seconds that a process here has had of processors."""
    told = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")
