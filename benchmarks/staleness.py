"""What a crew's staleness costs in quality: the same fits, whose steps lack what the last s of them have changed.

Which step lacks what, the staleness alone decides, and not how many workers there are or how long they take. So a crew
in this process, which computes each step when it is begun, gives to the bit the model that any crew of this staleness
gives, and nothing here is simulated but the workers' place.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import hotrow
from benchmarks.harness import Result
from benchmarks.protocols import PROTOCOLS
from benchmarks.workload import Sizes
from hotrow.models import Retrieval

log = logging.getLogger("benchmarks")

STALENESS = 0, 1, 2, 4, 8
METRICS = {"gowalla": ("recall@20", "ndcg@20"), "ml75": ("recall@10", "ndcg@10"), "made_up": ("recall@10", "ndcg@10")}
SEEDS = {"gowalla": 1, "ml75": 3, "made_up": 1}
DIM = 64


@dataclass(frozen=True)
class Computed:
    """A step that was computed when it was begun."""

    shares: list[Any]

    def result(self) -> list[Any]:
        """What came of each block, in their order."""
        return self.shares


@dataclass(frozen=True)
class Here:
    """A crew in this process."""

    staleness: int

    def submit(self, _step: int, blocks: Sequence[Any], shared: Any) -> Computed:
        """Compute the blocks, with the vectors as they are now."""
        return Computed([shared(block) for block in blocks])


def run(sizes: Sizes) -> Iterator[Result]:
    """Metrics on held-out pairs for each staleness, at the defaults."""
    hotrow.set_threads(sizes.threads)
    for name in ("made_up",) if sizes.quick else ("ml75", "gowalla"):
        protocol = PROTOCOLS[name]
        if missing := protocol.missing():
            log.warning("%s is left out: there is no %s", protocol.title, ", ".join(map(str, missing)))
            continue
        for staleness in STALENESS:
            log.info("staleness: %s, %d", protocol.title, staleness)
            seeds = [_measured(name, staleness, seed, sizes) for seed in range(SEEDS[name])]
            for metric in METRICS[name]:
                values = [100 * measured[metric] for measured in seeds]
                table = f"{protocol.title}, {DIM} floats a vector, no other option, seeds: {len(seeds)}"
                case = {"steps that a step's vectors lack": staleness}
                side = metric.upper() if metric.startswith("ndcg") else metric.capitalize()
                yield Result(table, case, side, "%", mean(values), values)


def _measured(name: str, staleness: int, seed: int, sizes: Sizes) -> dict[str, float]:
    cut = PROTOCOLS[name].cut(0, False)
    model = Retrieval(DIM, epochs=2 if sizes.quick else None, batch_size=64 if sizes.quick else 2048, seed=seed)
    model.fit(cut.train, crew=Here(staleness))
    return model.evaluate(cut.held_out, ks=(10, 20))
