"""What a step learns from: a block of users × candidate items, with some of its cells the pairs that happened.

Every loss has the same face: a Block in, the summed loss and the gradients of users, items and biases out, all
divided by the number of pairs. Scores are of normalised vectors where `normalized` says so, and are used again, by
`user_factors` and `item_factors`, to rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hotrow.errors import ArgumentError


@dataclass
class Block:
    """Vectors of one step.

    users     float32 (r, dim)   the distinct users
    items     float32 (c, dim)   the candidates: the distinct items of the pairs, and the negatives drawn
    bias      float32 (c,)       the items' biases
    log_q     float32 (c,)       log of the chance that an item is among the candidates
    user_of   int (b,)           which user each pair has
    item_of   int (b,)           which candidate each pair has
    known     (rows, columns)    the cells of all pairs that are known to have happened: no negatives
    random    numpy Generator
    scratch   float32 buffers by name, used again from step to step
    """

    users: np.ndarray
    items: np.ndarray
    bias: np.ndarray
    log_q: np.ndarray
    user_of: np.ndarray
    item_of: np.ndarray
    known: tuple[np.ndarray, np.ndarray]
    random: np.random.Generator
    scratch: dict[str, np.ndarray]

    def buffer(self, name: str, *shape: int) -> np.ndarray:
        """Scratch of this shape; a fresh 32 MB array a step would cost more than its arithmetic."""
        size = int(np.prod(shape))
        have = self.scratch.get(name)
        if have is None or have.size < size:
            have = self.scratch[name] = np.empty(size + size // 4, np.float32)
        return have[:size].reshape(shape)


Gradients = tuple[float, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Loss:
    """The seam: how pairs are scored, and the function that makes gradients of a Block."""

    normalized: ClassVar[bool]
    biased: ClassVar[bool]

    @property
    def scale(self) -> float:
        """What the product of two vectors is multiplied by, in a score."""
        return 1.0

    def gradients(self, block: Block) -> Gradients:
        """Mean loss, and the gradients of users (r, dim), items (c, dim) and bias (c,)."""
        raise NotImplementedError

    def user_factors(self, users: np.ndarray) -> np.ndarray:
        """float32 (n, dim + 1) whose product with `item_factors` is the score."""
        out = np.ones((len(users), users.shape[1] + 1), np.float32)
        out[:, :-1] = (normalize(users)[0] if self.normalized else users) * np.float32(self.scale)
        return out

    def item_factors(self, items: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """float32 (n, dim + 1): the vectors, and the bias where it counts."""
        vectors = normalize(items)[0] if self.normalized else items
        return np.column_stack([vectors, bias if self.biased else np.zeros_like(bias)])


@dataclass(frozen=True)
class SampledSoftmax(Loss):
    """−log of the chance of the pair's item among the candidates: cosine / temperature + bias, as logits.

    Negatives are the other pairs' items and some drawn for all; log Q corrects that popular items are among them more
    often (Bengio, Senécal 2008; Yi et al. 2019). Known pairs are no negatives.
    """

    temperature: float = 0.1
    normalized = True
    biased = True

    @property
    def scale(self) -> float:
        return 1 / self.temperature

    def gradients(self, block: Block) -> Gradients:
        scale = np.float32(self.scale)
        users, user_norms = normalize(block.users)
        items, item_norms = normalize(block.items)
        pairs = len(block.user_of)
        own = np.einsum("ij,ij->i", users[block.user_of], items[block.item_of]) * scale + block.bias[block.item_of]
        shift = np.float32(max(float((block.bias - block.log_q).max()), float(block.bias.max())) + scale)
        scores = block.buffer("scores", len(users), len(items))
        np.matmul(users * scale, items.T, out=scores)
        scores += block.bias - block.log_q - shift
        np.exp(scores, out=scores)
        scores[block.known] = 0
        e = np.exp(own - shift)
        total = scores.sum(1)[block.user_of] + e + np.float32(1e-30)
        loss = float((np.log(total) - (own - shift)).sum()) / pairs
        weight = np.bincount(block.user_of, 1 / total, len(users)).astype(np.float32) / np.float32(pairs)
        scores *= weight[:, None]  # now the gradient of each cell's logit
        gradient = (e / total - 1).astype(np.float32) / np.float32(pairs)
        return loss, *_back(block, scores, gradient, users, items, user_norms, item_norms, scale)


@dataclass(frozen=True)
class CosineContrastive(Loss):
    """1 − cos of a pair, and weight · the mean over its negatives of max(0, cos − margin): SimpleX, Mao et al. 2021."""

    margin: float = 0.4
    weight: float = 150.0
    normalized = True
    biased = False

    def gradients(self, block: Block) -> Gradients:
        users, user_norms = normalize(block.users)
        items, item_norms = normalize(block.items)
        pairs = len(block.user_of)
        cosines = block.buffer("scores", len(users), len(items))
        np.matmul(users, items.T, out=cosines)
        cosines -= np.float32(self.margin)
        cosines[block.known] = 0
        np.maximum(cosines, 0, out=cosines)
        negatives = len(items) - np.bincount(block.known[0], minlength=len(users))
        share = np.float32(self.weight) / np.maximum(negatives, 1)
        weight = (np.bincount(block.user_of, minlength=len(users)) * share / pairs).astype(np.float32)
        own = np.einsum("ij,ij->i", users[block.user_of], items[block.item_of])
        loss = float((1 - own).sum()) / pairs + float((cosines.sum(1) * weight).sum())
        np.sign(cosines, out=cosines)
        cosines *= weight[:, None]
        gradient = np.full(pairs, -1 / pairs, np.float32)
        one = np.float32(1)
        g_users, g_items, g_bias = _back(block, cosines, gradient, users, items, user_norms, item_norms, one)
        return loss, g_users, g_items, np.zeros_like(g_bias)


@dataclass(frozen=True)
class BPR(Loss):
    """−log σ(score of the pair − score of a negative), one negative a pair (Rendle et al. 2009); dot product + bias."""

    normalized = False
    biased = True

    def gradients(self, block: Block) -> Gradients:
        pairs, candidates = len(block.user_of), len(block.items)
        negative = block.random.integers(0, candidates, pairs)
        happened = np.zeros((len(block.users), candidates), bool)
        happened[block.known] = True
        fair = ~happened[block.user_of, negative]  # a draw that is no negative teaches nothing
        users = block.users[block.user_of]
        better, worse = block.items[block.item_of], block.items[negative]
        margin = np.einsum("ij,ij->i", users, better - worse) + block.bias[block.item_of] - block.bias[negative]
        count = max(1, int(fair.sum()))
        loss = float(np.logaddexp(0, -margin)[fair].sum()) / count
        pull = (-np.exp(-np.logaddexp(0, margin)) * fair / count).astype(np.float32)
        g_users, g_items = np.zeros_like(block.users), np.zeros_like(block.items)
        np.add.at(g_users, block.user_of, pull[:, None] * (better - worse))
        np.add.at(g_items, block.item_of, pull[:, None] * users)
        np.add.at(g_items, negative, -pull[:, None] * users)
        g_bias = np.bincount(block.item_of, pull, candidates) - np.bincount(negative, pull, candidates)
        return loss, g_users, g_items, g_bias.astype(np.float32)


LOSSES: dict[str, Callable[..., Loss]] = {"softmax": SampledSoftmax, "cosine": CosineContrastive, "bpr": BPR}


def normalize(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1, and the lengths they had: float32 (n, dim), (n, 1). A zero vector stays zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None] + np.float32(1e-12)
    return vectors / norms, norms


def _back(
    block: Block,
    cells: np.ndarray,
    gradient: np.ndarray,
    users: np.ndarray,
    items: np.ndarray,
    user_norms: np.ndarray,
    item_norms: np.ndarray,
    scale: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From the gradient of each cell's score, and of the pairs' own, to those of the vectors before normalising.

    d(w/|w|): g − (g·ŵ) ŵ, over |w|.
    """
    np.add.at(cells, (block.user_of, block.item_of), gradient)
    g_users = np.matmul(cells, items)
    g_items = np.matmul(cells.T, users)
    bias = cells.sum(0)
    return (
        _before_normalizing(g_users, users, user_norms / scale),
        _before_normalizing(g_items, items, item_norms / scale),
        bias,
    )


def _before_normalizing(gradient: np.ndarray, unit: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """In place."""
    gradient -= np.einsum("ij,ij->i", gradient, unit)[:, None] * unit
    gradient /= norms
    return gradient


def make_loss(name: str, **settings: float) -> Loss:
    """The loss of that name; ArgumentError for another, or for settings that it hasn't."""
    if name not in LOSSES:
        raise ArgumentError(f"loss must be one of {', '.join(map(repr, LOSSES))}; got {name!r}")
    try:
        return LOSSES[name](**settings)
    except TypeError as error:
        raise ArgumentError(f"loss {name!r} takes other settings than {sorted(settings)}: {error}") from error
