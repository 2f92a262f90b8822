"""What a step learns from: the scores of its users × its candidate items, some of whose cells are pairs that happened.

```
              candidates
           a   b   c   d   e           a, b, c are items of the step's pairs; d, e were drawn
 users  u  ●   ·   ●   ·   ·           ● a pair of the step
        v  ·   ●   ○   ·   ·           ○ a pair known from before: no negative either
```
Scores are one matrix product, the gradients of users and items two more, so a user with several pairs is multiplied
once. What is between, from scores to their gradients, is all that the losses differ in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from hotrow.errors import ArgumentError

Cells = tuple[np.ndarray, np.ndarray]
Gradients = tuple[float, np.ndarray, np.ndarray, np.ndarray]


@dataclass
class Block:
    """Vectors of one step, and what is known of their cells.

    users    float32 (r, dim)       distinct users
    items    float32 (c, dim)       the candidates: the distinct items of the pairs, and those drawn
    bias     float32 (c,)           the items' biases
    pairs    int (b,), int (b,)     row and column of each pair, distinct
    known    int (m,), int (m,)     cells of other pairs that are known to have happened
    log_q    float32 (c,)           log of the chance that an item is among the candidates
    drawn    int (n,)               columns of the items drawn, as often as they were
    random   numpy Generator
    scratch  float32 buffers by name, used again from step to step
    """

    users: np.ndarray
    items: np.ndarray
    bias: np.ndarray
    pairs: Cells
    known: Cells
    log_q: np.ndarray
    drawn: np.ndarray
    random: np.random.Generator
    scratch: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])

    def buffer(self, name: str, *shape: int) -> np.ndarray:
        """Scratch of this shape; a fresh 32 MB array a step would cost more than its arithmetic."""
        size = math.prod(shape)
        have = self.scratch.get(name)
        if have is None or have.size < size:
            have = self.scratch[name] = np.empty(size + size // 4, np.float32)
        return have[:size].reshape(shape)


@dataclass(frozen=True)
class Loss:
    """The seam: how a pair is scored, and what the scores of a block should have been.

    A score is scale · (user · item), of vectors made length 1 where `normalized` says so, + bias where `biased` does.
    """

    normalized: ClassVar[bool]
    biased: ClassVar[bool]

    @property
    def scale(self) -> float:
        """What the product of two vectors is multiplied by, in a score."""
        return 1.0

    def suited_to(self, items: int, pairs_per_user: float) -> Loss:
        """The same loss, with what was left open decided by the size of the data."""
        return self

    def derive(self, scores: np.ndarray, block: Block) -> float:
        """The mean loss of the pairs; `scores` (r, c) is overwritten with its derivatives."""
        raise NotImplementedError

    def gradients(self, block: Block) -> Gradients:
        """Mean loss, and its gradients: float32 users (r, dim), items (c, dim) and biases (c,)."""
        scale = np.float32(self.scale)
        users, user_norms = self._scored(block.users)
        items, item_norms = self._scored(block.items)
        scores = block.buffer("scores", len(users), len(items))
        np.matmul(users * scale, items.T, out=scores)
        if self.biased:
            scores += block.bias
        loss = self.derive(scores, block)
        g_users = np.matmul(scores, items) * scale
        g_items = np.matmul(scores.T, users) * scale
        if self.normalized:
            _before_normalizing(g_users, users, user_norms)
            _before_normalizing(g_items, items, item_norms)
        return loss, g_users, g_items, scores.sum(0) if self.biased else np.zeros_like(block.bias)

    def _scored(self, vectors: np.ndarray) -> tuple[np.ndarray, Any]:
        return normalize(vectors) if self.normalized else (vectors, 1)

    def user_factors(self, users: np.ndarray) -> np.ndarray:
        """float32 (n, dim + 1) whose product with `item_factors` is the score."""
        out = np.ones((len(users), users.shape[1] + 1), np.float32)
        np.multiply(self._scored(users)[0], np.float32(self.scale), out=out[:, :-1])
        return out

    def item_factors(self, items: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """float32 (n, dim + 1): the vectors, and the bias where it counts."""
        return np.column_stack([self._scored(items)[0], bias if self.biased else np.zeros_like(bias)])


@dataclass(frozen=True)
class SampledSoftmax(Loss):
    """−log of the chance of the pair's item among itself and the negatives; cosine / temperature + bias are the logits.

    All candidates are negatives but the user's own. Each counts 1 / Q, the chance that it is a candidate at all, so
    that their sum is expected to be that over all items (Bengio, Senécal 2008; in a batch: Yi et al. 2019).

    temperature  None: 1 / log(items / √pairs per user), between 0.05 and 0.5. A pair's item at cosine 1 can then just
                 outweigh all the others at 0, less sharply where users have many: 0.10 for 35,000 items and 4 pairs a
                 user, 0.19 for 1,700 and 95. The rule was fitted to four data sets.
    """

    temperature: float | None = None
    normalized = True
    biased = True

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise ArgumentError(f"temperature must be positive; got {self.temperature!r}. Try 0.1, or None")

    @property
    def scale(self) -> float:
        return 1 / (self.temperature or 0.1)

    def suited_to(self, items: int, pairs_per_user: float) -> Loss:
        if self.temperature is not None:
            return self
        logits = math.log(max(items, 2) / math.sqrt(max(pairs_per_user, 1.0)))
        return replace(self, temperature=round(min(0.5, 1 / max(logits, 1 / 20)), 3) if logits > 0 else 0.5)

    def derive(self, scores: np.ndarray, block: Block) -> float:
        row, _ = block.pairs
        own = scores[block.pairs]
        scores -= block.log_q
        scores[block.pairs] = scores[block.known] = -np.inf
        most = scores.max(1)
        np.maximum.at(most, row, own)
        scores -= most[:, None]
        np.exp(scores, out=scores)
        own -= most[row]
        e = np.exp(own)
        total = scores.sum(1)[row] + e + np.float32(1e-30)  # not 0, where another pair of the row scores far higher
        loss = float((np.log(total) - own).mean())
        scores *= (np.bincount(row, 1 / total, len(scores)) / len(row)).astype(np.float32)[:, None]
        scores[block.pairs] = (e / total - 1) / len(row)
        return loss


@dataclass(frozen=True)
class CosineContrastive(Loss):
    """1 − cos of a pair, and weight · the mean over its negatives of max(0, cos − margin): SimpleX, Mao et al. 2021.

    The negatives are the items drawn, but for those that the user is known to have.
    """

    margin: float = 0.4
    weight: float = 150.0
    normalized = True
    biased = False

    def derive(self, scores: np.ndarray, block: Block) -> float:
        row, _ = block.pairs
        pairs = np.bincount(row, minlength=len(scores)).astype(np.float32) / len(row)
        loss = float((1 - scores[block.pairs]).mean())
        often = np.bincount(block.drawn, minlength=scores.shape[1]).astype(np.float32)
        negative = block.buffer("negative", *scores.shape)
        negative[:] = often
        negative[block.pairs] = negative[block.known] = 0
        negative *= (np.float32(self.weight) * pairs / np.maximum(negative.sum(1), 1))[:, None]
        scores -= np.float32(self.margin)
        np.maximum(scores, 0, out=scores)
        loss += float(np.einsum("ij,ij->", scores, negative))
        np.sign(scores, out=scores)
        scores *= negative
        scores[block.pairs] = -1 / len(row)
        return loss


@dataclass(frozen=True)
class BPR(Loss):
    """−log σ(score of a pair − score of a negative), by dot product + bias: Rendle et al. 2009.

    Each pair is held against `draws` of the items drawn; one that its user is known to have teaches nothing.
    """

    draws: int = 8
    normalized = False
    biased = True

    def derive(self, scores: np.ndarray, block: Block) -> float:
        row, column = (np.repeat(side, self.draws) for side in block.pairs)
        other = block.drawn[block.random.integers(0, len(block.drawn), len(row))]
        own, others = scores[row, column], scores[row, other]
        scores[:] = 0
        scores[block.pairs] = scores[block.known] = 1
        fair = scores[row, other] == 0
        margin = own - others
        count = max(1, int(fair.sum()))
        loss = float(np.logaddexp(0, -margin)[fair].sum()) / count
        pull = np.exp(-np.logaddexp(0, margin)) * fair / np.float32(count)
        scores[:] = 0
        np.add.at(scores, (row, column), -pull)
        np.add.at(scores, (row, other), pull)
        return loss


LOSSES: dict[str, Callable[..., Loss]] = {"softmax": SampledSoftmax, "cosine": CosineContrastive, "bpr": BPR}


def make_loss(name: str, **settings: Any) -> Loss:
    """The loss of that name; ArgumentError for another, or for settings that it hasn't."""
    if name not in LOSSES:
        raise ArgumentError(f"loss must be one of {', '.join(map(repr, LOSSES))}; got {name!r}")
    try:
        return LOSSES[name](**settings)
    except TypeError as error:
        raise ArgumentError(f"loss {name!r} takes other settings than {sorted(settings)}: {error}") from error


def normalize(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1, and the lengths they had: float32 (n, dim), (n, 1). A zero vector stays zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None] + np.float32(1e-12)
    return vectors / norms, norms


def _before_normalizing(gradient: np.ndarray, unit: np.ndarray, norms: np.ndarray) -> None:
    """From the gradient of w/|w| to that of w, in place: (g − (g·ŵ) ŵ) / |w|."""
    gradient -= np.einsum("ij,ij->i", gradient, unit)[:, None] * unit
    gradient /= norms
