"""Both sides of the benchmark `two_towers`, in a process of their own: prints JSON.

python -m benchmarks.two_towers_child '{"protocol": "tfrs", "rounds": 3, "threads": 2}'
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import hotrow
from benchmarks.protocols import PROTOCOLS, Cut
from hotrow.models.ranking import blas_on_one_thread, rank

DIM, BATCH, EPOCHS, RATE = 32, 8192, 3, 0.1
OURS, KERAS = "hotrow.Table", "Keras on TensorFlow"


class Towers(keras.Model):
    """A string to a vector for each side, and the softmax of a batch."""

    def __init__(self, users: np.ndarray, items: np.ndarray, first: list[np.ndarray]) -> None:
        super().__init__()
        self.ids = [keras.layers.StringLookup(vocabulary=names, num_oov_indices=0) for names in (users, items)]
        self.vectors = [keras.layers.Embedding(len(names), DIM) for names in (users, items)]
        for layer, weights in zip(self.vectors, first, strict=True):
            layer.build(None)
            layer.set_weights([weights])

    def call(self, pairs):
        """Strings (n,) and (n,) to vectors (n, DIM) each."""
        return tuple(vectors(ids(side)) for ids, vectors, side in zip(self.ids, self.vectors, pairs, strict=True))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """−log of the softmax of each pair's item among the batch's, summed."""
        users, items = y_pred
        logits = tf.matmul(users, items, transpose_b=True)
        of_pairs = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(tf.shape(logits)[0]), logits)
        return tf.reduce_sum(of_pairs)


class Tables:
    """The same on two tables."""

    def __init__(self, seed: int) -> None:
        adagrad = hotrow.Adagrad(RATE, epsilon=0.0, initial_accumulator=0.1, epsilon_in_root=1e-7)
        self.users, self.items = (
            hotrow.Table(DIM, optimizer=adagrad, initializer=hotrow.Uniform(0.05), seed=seed + side) for side in (0, 1)
        )

    def fit(self, users: np.ndarray, items: np.ndarray) -> None:
        """Three epochs over strings, in their order."""
        with blas_on_one_thread:
            found = self.users.find(users, grow=True), self.items.find(items, grow=True)
            for _ in range(EPOCHS):
                for start in range(0, len(users), BATCH):
                    self._step(found, np.arange(start, min(start + BATCH, len(users))))

    def _step(self, found: tuple, part: np.ndarray) -> None:
        """Rows of the softmax are distinct users, columns distinct items, each counted as often as it comes."""
        (users, u, _), (items, i, times) = (_distinct(batch, part) for batch in found)
        of_users, of_items = self.users.lookup(users), self.items.lookup(items)
        scores = of_users @ of_items.T
        scores -= scores.max(1, keepdims=True)
        chances = np.exp(scores, out=scores)
        chances *= times.astype(np.float32)
        chances *= (np.bincount(u) / chances.sum(1))[:, None].astype(np.float32)
        np.subtract.at(chances, (u, i), np.float32(1))
        gradients = chances @ of_items, chances.T @ of_users
        self.users.update(users, gradients[0])
        self.items.update(items, gradients[1])


def _distinct(batch: hotrow.table.batch.Batch, part: np.ndarray) -> tuple:
    """The part's distinct rows as a Batch, which of them each position has, and how often each comes."""
    _, first, inverse, times = np.unique(batch.rows[part], return_index=True, return_inverse=True, return_counts=True)
    return batch.take(part[first]), inverse, times


def _keras(names: list[np.ndarray], first: list[np.ndarray]) -> Towers:
    model = Towers(*names, first)
    model.compile(optimizer=keras.optimizers.Adagrad(RATE))
    return model


def main(protocol: str, rounds: int, threads: int) -> dict:
    """Each seed is a round: milliseconds of both sides, and the metrics of both."""
    hotrow.set_threads(threads)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    chosen = PROTOCOLS[protocol]
    ms: dict[str, list[float]] = {OURS: [], KERAS: []}
    values: dict[str, dict[str, list[float]]] = {side: {name: [] for name in chosen.metrics} for side in ms}
    _train(chosen.cut(99, False), 99, [0, 1])  # both sides compile, whatever they compile
    for seed in range(rounds):
        cut = chosen.cut(seed, False)
        taken, vectors = _train(cut, seed, [0, 1] if seed % 2 else [1, 0])
        asked, _ = cut.asked()
        for side, seconds, (users, items) in zip(ms, taken, vectors, strict=True):
            ms[side].append(1e3 * seconds)
            known = cut.known(seen_kept=chosen.seen_kept)
            best, _ = rank(users[asked], items, asked, known, min(cut.items, chosen.longest))
            for name, value in chosen.measure(best, cut).items():
                values[side][name].append(100 * value)
    return {"ms": ms, "metrics": values}


def _train(cut: Cut, seed: int, order: list[int]) -> tuple[list[float], list[list[np.ndarray]]]:
    """Both sides in this order, from the same first vectors: seconds of each, and the vectors of users and items."""
    strings = [side.astype(str) for side in cut.train]
    names = [np.arange(size).astype(str) for size in (cut.users, cut.items)]
    tables = Tables(seed)
    first = [table.lookup(ids) for table, ids in zip((tables.users, tables.items), names, strict=True)]
    model = _keras(names, first)
    given = tf.data.Dataset.from_tensor_slices(tuple(map(tf.constant, strings))).batch(BATCH).cache()
    given = given.map(lambda *pair: (pair, 0)).prefetch(2)
    model.fit(given, epochs=1, shuffle=False, verbose=0)  # traced, and the cache is filled
    for layer, weights in zip(model.vectors, first, strict=True):
        layer.set_weights([weights])
    for slot in model.optimizer.variables:
        if "accumulator" in slot.path:
            slot.assign(tf.fill(slot.shape, 0.1))
    sides = [lambda: tables.fit(*strings), lambda: model.fit(given, epochs=EPOCHS, shuffle=False, verbose=0)]
    taken = [0.0, 0.0]
    for side in order:
        begin = time.perf_counter()
        sides[side]()
        taken[side] = time.perf_counter() - begin
    ours = [table.lookup(ids) for table, ids in zip((tables.users, tables.items), names, strict=True)]
    return taken, [ours, [layer.get_weights()[0] for layer in model.vectors]]


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
