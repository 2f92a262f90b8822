"""What a framework's lookup calls on the host, and its face: `lookup(ids, hook, rate, crossing)` in each bridge.

    lookup(ids, hook, rate, crossing) → vectors float32 (*ids.shape, dim), penalty float32 ()

ids, hook (float32 ()) and rate (float32 (); below 0 for the table's own, NaN for one that the host knows) are the
framework's tensors. Forward calls `crossing.pull`, backward `crossing.push`, whose value is the hook's gradient. And
`on_host(function, ids, dtype)` is a function of NumPy arrays, of the same shape, for tensors that may be symbolic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hotrow.bridges.rounds import Hook
from hotrow.bridges.stage import Stage
from hotrow.table.batch import Batch


@dataclass(frozen=True)
class Crossing:
    """The two calls of one layer's lookup.

    find  the Batch of what the framework brought: ids, or codes
    rate  the learning rate now, where the framework's tensors don't have it
    """

    stage: Stage
    hook: Hook
    dim: int
    training: bool
    find: Callable[[np.ndarray, bool], Batch]
    rate: Callable[[], float]

    def pull(self, ids: np.ndarray, hook: np.ndarray) -> tuple[np.ndarray, np.float32]:
        """Forward: vectors float32 (*ids.shape, dim), and the penalty."""
        with self.stage.working():  # from here on: `find` mustn't ask for the hook's value, which this call waits for
            batch = self.find(ids, self.training)
            vectors, penalty = self.stage.pull(self.hook, ids, batch, float(hook), self.training)
        return vectors, np.float32(penalty)

    def push(
        self,
        ids: np.ndarray,
        vectors: np.ndarray,
        penalty: np.ndarray,
        rate: np.ndarray,
        *,
        hook: np.ndarray | None = None,
        carried: bool = False,
    ) -> np.float32:
        """Backward: the gradients of what `pull` gave, to the gradient of the hook.

        hook     the hook's value, where forward may be left out or run later
        carried  whether the framework adds up gradients, and there is one of the hook that no step has taken

        Whoever asks for gradients trains, also where the layer was called for inference: new ids get their row.
        """
        own = float(self.rate() if np.isnan(rate) else rate)
        with self.stage.working():
            if hook is not None:
                self.stage.look(self.hook, float(hook))
            batch = self.stage.recall(self.hook, ids) or self.find(ids, True)
            return self.stage.push(self.hook, batch, vectors, float(penalty), own if own >= 0 else None, carried)
