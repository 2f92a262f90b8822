"""What a step learns from: the scores of its users × its candidate items, some of whose cells are pairs that happened.

```
              candidates
           a   b   c   d   e           a, b, c are items of the step's pairs; d, e were drawn
 users  u  ●   ·   ●   ·   ·           ● a pair of the step
        v  ·   ●   ○   ·   ·           ○ a pair known from before: no negative either
```
Scores are one matrix product, the gradients of users and items two more, so a user with several pairs is multiplied
once. What is between, from scores to their gradients, is all that the losses differ in.

Both are computed in blocks of users, and what these add to the items' gradients is added in their order: so the sums
are the same to the bit, whoever computes which block. See `hotrow.models.blocks`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.models.blocks import Block, Share, blocks, in_slices, slices

Gradients = tuple[float, np.ndarray, np.ndarray, np.ndarray]


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

    def derive(self, part: Block) -> float:
        """What the pairs of a cut block add to the mean loss; its scores are overwritten with their derivatives."""
        raise NotImplementedError

    def gradients(self, block: Block, *, frozen: bool = False) -> Gradients:
        """Mean loss, and its gradients: float32 users (r, dim), items (c, dim) and biases (c,).

        frozen: of the users alone, where items and biases stay as they are; the others are nothing.
        """
        items, norms = self.scored(block.items)
        share = self.share(block, items, blocks(len(block.users)), frozen=frozen)
        if not frozen:
            self.of_items(share.items, items, norms)
        return share.loss, share.users, share.items, share.bias

    def share(self, block: Block, items: np.ndarray, bounds: list[int], *, frozen: bool = False) -> Share:
        """What the users of a block come to, whose blocks are between `bounds`; items: as `scored` has them."""
        scale = np.float32(self.scale)
        users, norms = self.scored(block.users)
        g_users, g_items = np.empty_like(users), np.empty_like(items)
        g_bias, losses = np.zeros_like(block.bias), dict[int, float]()

        def of_users(start: int, stop: int) -> None:
            scores = block.scores[start:stop]
            np.matmul(users[start:stop] * scale, items.T, out=scores)
            if self.biased:
                np.add(scores, block.bias, out=scores)
            losses[start] = self.derive(block.cut(start, stop))
            np.matmul(scores, items, out=g_users[start:stop])
            self._unscored(g_users[start:stop], users[start:stop], norms[start:stop])

        def of_items(start: int, stop: int) -> None:
            total, more = g_items[start:stop], np.empty((stop - start, users.shape[1]), np.float32)
            for first, last in pairwise(bounds):
                scores = block.scores[first:last, start:stop]
                np.matmul(scores.T, users[first:last], out=more if first else total)
                if first:
                    total += more
                if self.biased:
                    g_bias[start:stop] += scores.sum(0)

        in_slices(of_users, bounds)
        if not frozen:
            in_slices(of_items, [0, len(items)])
        loss = sum(sum(losses[start] for start, _ in slices([first, last])) for first, last in pairwise(bounds))
        return Share(loss, g_users, g_items, g_bias)

    def of_items(self, gradients: np.ndarray, items: np.ndarray, norms: np.ndarray) -> None:
        """From the gradients of items as they are scored to those of their vectors, in place; see `scored`."""

        def of_some(start: int, stop: int) -> None:
            self._unscored(gradients[start:stop], items[start:stop], norms[start:stop])

        in_slices(of_some, [0, len(items)])

    def highest(self, block: Block, factors: np.ndarray, bounds: list[int]) -> np.ndarray:
        """How high each candidate scores for any user with whom it is no pair: float32 (c,).

        factors: the `item_factors` of the candidates; bounds: as for `share`
        """
        users, best = self.user_factors(block.users), dict[int, np.ndarray]()

        def of_users(start: int, stop: int) -> None:
            scores = np.matmul(users[start:stop], factors.T, out=block.scores[start:stop])
            part = block.cut(start, stop)
            scores[part.pairs] = scores[part.known] = -np.inf
            best[start] = scores.max(0)

        in_slices(of_users, bounds)
        return np.max(list(best.values()), 0)

    def scored(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Vectors as they are multiplied in a score, and what `of_items` needs to know of how they were made so."""
        return normalize(vectors) if self.normalized else (vectors, vectors)

    def _unscored(self, gradient: np.ndarray, unit: np.ndarray, norms: np.ndarray) -> None:
        """From the gradient of scale · w/|w| to that of w, in place: scale · (g − (g·ŵ) ŵ) / |w|."""
        if self.normalized:
            gradient -= np.einsum("ij,ij->i", gradient, unit)[:, None] * unit
            gradient /= norms
        gradient *= np.float32(self.scale)

    def user_factors(self, users: np.ndarray) -> np.ndarray:
        """float32 (n, dim + 1) whose product with `item_factors` is the score."""
        out = np.ones((len(users), users.shape[1] + 1), np.float32)
        np.multiply(self.scored(users)[0], np.float32(self.scale), out=out[:, :-1])
        return out

    def item_factors(self, items: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """float32 (n, dim + 1): the vectors, and the bias where it counts."""
        return np.column_stack([self.scored(items)[0], bias if self.biased else np.zeros_like(bias)])


@dataclass(frozen=True)
class SampledSoftmax(Loss):
    """−log of the chance of the pair's item among itself and the negatives; cosine / temperature + bias are the logits.

    All candidates are negatives but the user's own. Each counts 1 / Q, the chance that it is a candidate at all, so
    that their sum is expected to be that over all items (Bengio, Senécal 2008; in a batch: Yi et al. 2019).

    temperature  None: 1 / log(items / √pairs per user), between 0.05 and 0.5. A pair's item at cosine 1 can then just
                 outweigh all the others at 0, less sharply where users have many: 0.10 for 35,000 items and 4 pairs a
                 user, 0.19 for 1,700 and 95. The rule was fitted to three data sets and held on a fourth.
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
        return replace(self, temperature=1 / min(20.0, max(2.0, logits)))

    def derive(self, part: Block) -> float:
        scores, row = part.scores, part.pairs[0]
        own = scores[part.pairs]
        np.subtract(scores, part.log_q, out=scores)
        scores[part.pairs] = scores[part.known] = -np.inf
        most = scores.max(1)
        np.maximum.at(most, row, own)
        np.subtract(scores, most[:, None], out=scores)
        np.exp(scores, out=scores)
        own -= most[row]
        e = np.exp(own)
        total = scores.sum(1)[row] + e + np.float32(1e-30)  # not 0 where another pair of the user scores far higher
        np.multiply(scores, part.per_user(1 / total), out=scores)
        scores[part.pairs] = (e / total - 1) / part.count
        return float((np.log(total) - own).sum()) / part.count


@dataclass(frozen=True)
class CosineContrastive(Loss):
    """1 − cos of a pair, and weight · the mean over its negatives of max(0, cos − margin): SimpleX, Mao et al. 2021.

    The negatives are the items drawn, but for those that the user is known to have.
    """

    margin: float = 0.4
    weight: float = 150.0
    normalized = True
    biased = False

    def derive(self, part: Block) -> float:
        scores, row = part.scores, part.pairs[0]
        loss = float((1 - scores[part.pairs]).sum()) / part.count
        often = np.bincount(part.drawn, minlength=scores.shape[1]).astype(np.float32)
        own = sum(np.bincount(r, often[c], len(scores)) for r, c in (part.pairs, part.known))
        share = part.per_user(np.full(len(row), self.weight)) / np.maximum(often.sum() - own, 1)[:, None]
        np.subtract(scores, np.float32(self.margin), out=scores)
        scores[part.pairs] = scores[part.known] = 0
        np.maximum(scores, 0, out=scores)
        loss += float((scores @ often) @ share[:, 0])
        np.sign(scores, out=scores)
        np.multiply(scores, often, out=scores)
        np.multiply(scores, share, out=scores)
        scores[part.pairs] = -1 / part.count
        return loss


@dataclass(frozen=True)
class BPR(Loss):
    """−log σ(score of a pair − score of a negative), by dot product + bias: Rendle et al. 2009.

    Each pair is held against `draws` of the items drawn; one that its user is known to have teaches nothing.
    """

    draws: int = 8
    normalized = False
    biased = True

    def __post_init__(self) -> None:
        if isinstance(self.draws, bool) or not isinstance(self.draws, int) or self.draws < 1:
            raise ArgumentError(f"draws must be a whole number from 1 on; got {self.draws!r}. Try 8")

    def derive(self, part: Block) -> float:
        scores = part.scores
        row, column = (np.repeat(side, self.draws) for side in part.pairs)
        turn = part.before * self.draws + np.arange(len(row))
        other = part.drawn[turn % len(part.drawn)]  # drawn at random, so taking turns is random too
        margin = scores[row, column] - scores[row, other]
        scores.fill(0)
        scores[part.pairs] = scores[part.known] = 1
        weight = (scores[row, other] == 0) / np.float32(part.count * self.draws)
        scores.fill(0)
        pull = np.exp(-np.logaddexp(0, margin)) * weight
        np.add.at(scores, (row, column), -pull)
        np.add.at(scores, (row, other), pull)
        return float((np.logaddexp(0, -margin) * weight).sum())


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
