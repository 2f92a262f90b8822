"""The dense part of a model elsewhere: a net of Keras's own layers, which is given weights and gives gradients back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from hotrow.keras.backend import bridge


@dataclass(frozen=True)
class Gradients:
    """What a replica has found of some rows.

    loss     the sum of the rows' losses, times the share
    vectors  its gradients by the vectors, float32 (rows, dim) each
    weights  its gradients by the weights
    rest     what batch normalization makes of its moving averages
    """

    loss: float
    vectors: list[np.ndarray]
    weights: list[np.ndarray]
    rest: list[np.ndarray]


class Replica:
    """A net from vectors and numbers to predictions, whose weights come with each call.

    text     the net, as its `to_json` says
    loss     one of Keras's, by name, of each row
    threads  that an operation may take, see the bridge's `hold_threads`
    """

    def __init__(self, text: str, loss: str, threads: int) -> None:
        bridge.hold_threads(threads)
        net: Any = keras.models.model_from_json(text)
        loss_of: Any = keras.losses.get(loss)
        self._seeds = [is_seed(variable) for variable in net.non_trainable_variables]
        self._dtypes = [np.dtype(str(variable.dtype)) for variable in net.non_trainable_variables]

        def value(watched: Any, *others: Any) -> Any:
            on_device: Any = keras.tree.map_structure(keras.ops.convert_to_tensor, (watched, others))
            (weights, vectors), (rest, numbers, targets, share) = on_device
            outputs, rest = net.stateless_call(weights, rest, [*vectors, *numbers], training=True)
            return keras.ops.sum(loss_of(targets, outputs)) * share, list(rest)

        self._differentiated = bridge.differentiated(value)

    def __call__(
        self,
        weights: Sequence[np.ndarray],
        rest: Sequence[np.ndarray],
        vectors: Sequence[np.ndarray],
        numbers: Sequence[np.ndarray],
        targets: np.ndarray,
        *,
        share: float,
        seed: Sequence[int],
    ) -> Gradients:
        """Forward, as in training, and backward.

        weights, rest    of the net: `trainable_variables`; and the others without the states of random generators
        vectors, numbers  float32 (rows, width) each, the net's inputs
        share            by what the loss is multiplied
        seed             whole numbers, that what is random is a function of
        """
        drawn = iter(np.random.SeedSequence(list(seed)).generate_state(sum(self._seeds)) >> 1)
        given = iter(rest)
        whole = [
            np.array([next(drawn), 0], dtype) if is_one else next(given)
            for is_one, dtype in zip(self._seeds, self._dtypes, strict=True)
        ]
        others = whole, list(numbers), targets, np.float32(share)
        loss, after, (by_weights, by_vectors) = self._differentiated((list(weights), list(vectors)), *others)
        kept = [array for array, is_one in zip(after, self._seeds, strict=True) if not is_one]
        return Gradients(float(loss), list(by_vectors), list(by_weights), kept)


def is_seed(variable: Any) -> bool:
    """Whether it is the state of a random generator, as of a Dropout layer."""
    return variable.path.endswith("seed_generator_state")
