"""A cluster of three nodes on this machine, one of which is lost abruptly while a table learns; a program of its own.

Prints how many shards came up elsewhere, "lost", and "equal" if the table is as one that nothing happened to.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.cluster_utils import Cluster

import hotrow
from hotrow import cluster

DIM = 6


def main(folder: Path) -> None:
    urgent = {"worker_niceness": 0}  # as hotrow.cluster.connect() has it
    head = {"num_cpus": 0, "object_store_memory": 80 << 20, "include_dashboard": False, "_system_config": urgent}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    others = [nodes.add_node(num_cpus=2, object_store_memory=80 << 20) for _ in range(2)]
    ray.init(nodes.address, namespace="hotrow", log_to_driver=False, configure_logging=False)
    try:
        table = cluster.Table(DIM, shards=2, home=folder / "home", optimizer=hotrow.Adam(0.01), log=20_000)
        twin = hotrow.Table(DIM, optimizer=hotrow.Adam(0.01))
        random = np.random.default_rng(0)

        def learn(steps: int) -> None:
            for _ in range(steps):
                ids, gradients = random.integers(0, 500, 60), random.standard_normal((60, DIM))
                for each in (table, twin):
                    batch = each.find(ids, grow=True)
                    each.update(batch, gradients + 0.1 * each.lookup(batch))

        def living() -> list[dict[str, Any]]:
            return ray.get([link.actor.hello.remote(link.node) for link in table.shards_.links])

        learn(30)
        before = living()
        where = [shard["node"] for shard in before]
        assert len(set(where)) == 2, where  # one on each: SPREAD
        lost = next(node for node in others if node.node_id == where[0])
        nodes.remove_node(lost, allow_graceful=False)  # Ray's own processes there; the shard would see that in a while,
        with contextlib.suppress(ProcessLookupError):  # and answer until then, as nothing on a lost machine does
            os.kill(before[0]["pid"], signal.SIGKILL)
        began = time.monotonic()
        learn(30)
        print(f"back after {time.monotonic() - began:.1f} s")
        print(sum(link.revivals for link in table.shards_.links), "lost")
        now = [shard["node"] for shard in living()]
        assert now == [where[1]] * 2, (where, now)
        a, b = table.state(), twin.state()
        same = a.config == b.config and np.array_equal(a.keys, b.keys) and a.weights.tobytes() == b.weights.tobytes()
        same &= all(a.slots[name].tobytes() == np.ascontiguousarray(slot).tobytes() for name, slot in b.slots.items())
        print("equal" if same else "different")
        table.close()
    finally:
        ray.shutdown()
        nodes.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
