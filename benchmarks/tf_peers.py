"""TensorFlow's own ways from raw ids to vectors: its mutable hash table, and Keras's IntegerLookup before a matrix."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from benchmarks.peers import Peer
from benchmarks.workload import Workload

_EMPTY, _DELETED = -1, -2
"""Ids that a DenseHashTable can't hold; the workload hasn't got them."""


def tensorflow(threads: int) -> Any:
    """The module, with so many threads for an operation; the first call decides."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    tf = import_module("tensorflow")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf


class _InTensorFlow(Peer):
    """What both share: ids as tensors, called eagerly, which was no slower than in a tf.function."""

    given = "raw ids"
    optimizers: ClassVar = {}
    needs = ("tensorflow", "pip install tensorflow")
    takes_out = False

    def __init__(self, work: Workload, threads: int) -> None:
        self._tf, self._ids = tensorflow(threads), work.ids

    def ids(self, rows: np.ndarray) -> Any:
        return self._tf.constant(self._ids[rows])


class DenseTable(_InTensorFlow):
    """tf.lookup.experimental.DenseHashTable from an id to its vector; told the number of ids beforehand."""

    name = "TensorFlow DenseHashTable"

    def __init__(self, work: Workload, threads: int) -> None:
        super().__init__(work, threads)
        tf = self._tf
        self._table = tf.lookup.experimental.DenseHashTable(
            tf.int64, tf.float32, tf.zeros(work.dim), _EMPTY, _DELETED, 1 << (2 * work.rows - 1).bit_length()
        )
        for rows, weights in work.weights():
            self._table.insert(tf.constant(self._ids[rows]), tf.constant(weights))

    def lookup(self, ids: Any, out: Any = None) -> Any:
        return self._table.lookup(ids)


class LookupLayer(_InTensorFlow):
    """keras.layers.IntegerLookup, whose vocabulary is all ids, then tf.nn.embedding_lookup in a matrix."""

    name = "IntegerLookup + embedding_lookup"

    def __init__(self, work: Workload, threads: int) -> None:
        super().__init__(work, threads)
        self._rows = import_module("keras").layers.IntegerLookup(vocabulary=self._ids)
        weights = np.zeros((work.rows + 1, work.dim), np.float32)  # row 0 is of ids that it doesn't know
        for rows, drawn in work.weights():
            weights[rows.start + 1 : rows.stop + 1] = drawn
        self._weights = self._tf.Variable(weights)

    def lookup(self, ids: Any, out: Any = None) -> Any:
        return self._tf.nn.embedding_lookup(self._weights, self._rows(ids))
