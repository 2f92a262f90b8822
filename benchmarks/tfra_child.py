"""A table of TFRA's in its own Python, which has no hotrow: questions on stdin, answers on stdout, a JSON line each.

build/tfra/bin/python benchmarks/tfra_child.py CASE    # see tfra.py, which starts it

lookup  ids[, out]      vectors of ids, and into the file `out` if it is given
insert  ids, vectors    ids get these vectors, and a row if they have none
step    ids, gradients  a training step
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import cache

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
from tensorflow_recommenders_addons import dynamic_embedding as de


class Table:
    """A variable of ids to vectors, with its optimizer if it has one."""

    def __init__(self, dim, expected, threads, optimizer, rate, epsilon):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        self.dim = dim
        self.variable = de.get_variable(
            "vectors", tf.int64, tf.float32, dim, devices=["/CPU:0"], initializer=0.0, init_size=expected
        )
        if optimizer is not None:
            self.shadow = de.shadow_ops.ShadowVariable(self.variable, name="shadow")
            more = {"initial_accumulator_value": 0.0} if optimizer == "Adagrad" else {}
            base = getattr(tf.keras.optimizers.legacy, optimizer)(rate, epsilon=epsilon, **more)
            self.optimizer = de.DynamicEmbeddingOptimizer(base)
            self.compiled = tf.function(self._step, reduce_retracing=True)

    def lookup(self, ids, out=None):
        """The seconds that a lookup takes."""
        given = tensor(ids)
        begin = time.perf_counter()
        vectors = self.variable.lookup(given)
        seconds = time.perf_counter() - begin
        if out is not None:
            np.save(out, vectors.numpy())
        return seconds

    def insert(self, ids, vectors):
        """The seconds that an insertion takes."""
        ids, vectors = tf.constant(np.load(ids)), tf.constant(np.load(vectors))
        begin = time.perf_counter()
        self.variable.upsert(ids, vectors)
        return time.perf_counter() - begin

    def step(self, ids, gradients):
        """The seconds that a step takes."""
        given, back = tensor(ids), tensor(gradients)
        begin = time.perf_counter()
        self.compiled(given, back)
        return time.perf_counter() - begin

    def _step(self, ids, gradients):
        with tf.GradientTape() as tape:
            vectors = de.shadow_ops.embedding_lookup_unique(self.shadow, ids, self.dim)
        gradient = tape.gradient(vectors, self.shadow, output_gradients=gradients)
        self.optimizer.apply_gradients([(gradient, self.shadow)])


@cache
def tensor(path):
    """The array of a file, read once."""
    return tf.constant(np.load(path))


def main():
    """Answer until there are no more questions."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever TensorFlow prints is no answer
    table = Table(**json.loads(sys.argv[1]))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        seconds = getattr(table, question.pop("do"))(**question)
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main()
