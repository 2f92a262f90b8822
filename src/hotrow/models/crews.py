"""Who computes the gradients of a step: this process, or a crew, whose workers may be elsewhere.

```
 a step's users   [ block 0 | block 1 | block 2 | block 3 ]         cut by their number, see `blocks`
                      │         └────┬────┘         │
                   worker 0       worker 1       worker 2           any number of them, or none
                      ▼              ▼              ▼
 gradients        share 0   +   share 1 + share 2  +  share 3       added up in this order, whoever computed them
```
Each block is computed as it would be here, by the same products of the same shapes. So the gradients are the same to
the bit with any crew, on one CPU model with one NumPy.

What a crew is, this room doesn't know: `hotrow.cluster.Crew` is one, on Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from hotrow.models.blocks import Block, Scratch, Share, blocks, in_slices
from hotrow.models.losses import Gradients, Loss
from hotrow.models.ranking import blas_on_one_thread


class Pending(Protocol):
    """Blocks that are being computed."""

    def result(self) -> list[Any]:
        """What came of each, in their order."""
        ...


class Crew(Protocol):
    """The seam: `submit` lets it call shared(block) for each block, in any process, as often as it likes.

    Up to `staleness` steps may be under way beyond the one whose result is waited for.
    """

    staleness: int

    def submit(self, step: int, blocks: Sequence[Any], shared: Any) -> Pending: ...


@dataclass(frozen=True)
class Work:
    """What all blocks of a step need: its loss, and its users and candidates as one Block, without scores.

    It is the one place that knows where vectors come from. Here they come with it.
    """

    loss: Loss
    step: Block

    def cut(self, bounds: tuple[int, int]) -> Block:
        """The users of a block, with room for their scores."""
        start, stop = bounds
        return self.step.cut(start, stop, _scratch.take(stop - start, len(self.step.items)))


class Gradient(Work):
    """Gives the share that a block has in the step's gradients."""

    def __call__(self, bounds: tuple[int, int]) -> Share:
        with blas_on_one_thread:
            return self.loss.share(self.cut(bounds), self._scored, [0, bounds[1] - bounds[0]])

    @cached_property
    def _scored(self) -> np.ndarray:
        return self.loss.scored(self.step.items)[0]


class Highest(Work):
    """Gives how high each candidate scores for any user of a block: float32 (c,)."""

    def __call__(self, bounds: tuple[int, int]) -> np.ndarray:
        with blas_on_one_thread:
            return self.loss.highest(self.cut(bounds), self._factors, [0, bounds[1] - bounds[0]])

    @cached_property
    def _factors(self) -> np.ndarray:
        return self.loss.item_factors(self.step.items, self.step.bias)


_scratch = Scratch()  # a worker's own: one block of scores after the other is in it


@dataclass
class Calculator:
    """Who computes the steps of a fit: this process, or a crew."""

    loss: Loss
    crew: Crew | None = None
    scores: Scratch = field(default_factory=Scratch)
    steps: int = 0

    def begin(self, block: Block) -> Callable[[], Gradients]:
        """Let a step's gradients be computed; what is returned gives them. The block has no scores yet."""
        if self.crew is None:
            return partial(self.loss.gradients, self._with_scores(block))
        pending = self._submit(Gradient(self.loss, block))
        return lambda: self._added_up(block, pending.result())

    def highest(self, block: Block) -> np.ndarray:
        """How high each candidate scores for any user with whom it is no pair: float32 (c,)."""
        if self.crew is not None:
            return np.max(self._submit(Highest(self.loss, block)).result(), 0)
        factors = self.loss.item_factors(block.items, block.bias)
        return self.loss.highest(self._with_scores(block), factors, blocks(len(block.users)))

    def _with_scores(self, block: Block) -> Block:
        return replace(block, scores=self.scores.take(len(block.users), len(block.items)))

    def _submit(self, work: Work) -> Pending:
        assert self.crew is not None
        self.steps += 1
        return self.crew.submit(self.steps, list(pairwise(blocks(len(work.step.users)))), work)

    def _added_up(self, block: Block, shares: list[Share]) -> Gradients:
        items, norms = self.loss.scored(block.items)
        gradients, bias = np.empty_like(items), np.zeros_like(block.bias)

        def of_items(start: int, stop: int) -> None:
            gradients[start:stop] = shares[0].items[start:stop]
            for share in shares[1:]:
                gradients[start:stop] += share.items[start:stop]

        in_slices(of_items, [0, len(items)])
        for share in shares:
            bias += share.bias
        self.loss.of_items(gradients, items, norms)
        users = np.concatenate([share.users for share in shares])
        return sum(share.loss for share in shares), users, gradients, bias
