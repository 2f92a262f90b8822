"""What a framework's lookup calls on the host, and its face: `lookup(ids, hook, rate, crossing)` in each bridge.

    lookup(ids, hook, rate, crossing) → vectors float32 (*ids.shape, dim), penalty float32 ()

ids, hook (float32 ()) and rate (float32 (), below 0 for the table's own) are the framework's tensors. Forward calls
`crossing.pull`, backward `crossing.push`, whose value is the hook's gradient. And `on_host(function, ids, dtype)` is a
function of NumPy arrays, of the same shape, for tensors that may be symbolic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hotrow.bridges.stage import Hook, Stage
from hotrow.table.batch import Batch


@dataclass(frozen=True)
class Crossing:
    """The two calls of one layer's lookup.

    find  the Batch of what the framework brought: ids, or codes
    """

    stage: Stage
    hook: Hook
    dim: int
    training: bool
    find: Callable[[np.ndarray, bool], Batch]

    def pull(self, ids: np.ndarray, hook: np.ndarray) -> tuple[np.ndarray, np.float32]:
        """Forward: vectors float32 (*ids.shape, dim), and the penalty."""
        with self.stage.working():  # from here on: `find` mustn't ask for the hook's value, which this call waits for
            batch = self.find(ids, self.training)
            vectors, penalty = self.stage.pull(self.hook, ids, batch, float(hook), self.training)
        return vectors, np.float32(penalty)

    def push(self, ids: np.ndarray, vectors: np.ndarray, penalty: np.ndarray, rate: np.ndarray) -> np.float32:
        """Backward: the gradients of what `pull` gave, to the gradient of the hook."""
        with self.stage.working():
            batch = self.stage.recall(self.hook, ids) or self.find(ids, self.training)
            return self.stage.push(self.hook, batch, vectors, float(penalty), float(rate) if rate >= 0 else None)
