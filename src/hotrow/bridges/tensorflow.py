"""The lookup in TensorFlow, eager and in graphs; `tf.numpy_function` is stateful, so calls keep their order.

XLA can't call the host, so `jit_compile=True` fails to compile rather than go wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakMethod

import numpy as np
import tensorflow as tf

from hotrow.bridges.crossing import Crossing
from hotrow.errors import ArgumentError, HotrowError
from hotrow.kernels import threads


def lookup(ids: Sequence[Any], hooks: Sequence[Any], rate: Any, crossing: Crossing) -> list[Any]:
    """Vectors, masks and penalty, see `hotrow.bridges.crossing`. Whoever calls this holds the crossing."""
    pull, push = _unheld(crossing.pull), _unheld(crossing.push)
    ids = [tf.convert_to_tensor(tensor) for tensor in ids]
    rate = tf.convert_to_tensor(rate, tf.float32)
    shapes = crossing.shapes([tuple(tensor.shape) for tensor in ids])

    def forward(*values: Any) -> tuple[Any, Any]:
        pulled = tf.numpy_function(pull, [*ids, *values], [tf.float32] * len(shapes))

        def backward(*gradients: Any) -> Any:
            dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
            numbers = tf.numpy_function(push, [*ids, *dense, rate], [tf.float32] * len(values))
            return [tf.ensure_shape(number, ()) for number in tf.nest.flatten(numbers)]  # eagerly, one is no list

        return tuple(map(tf.ensure_shape, pulled, shapes)), backward

    return list(tf.custom_gradient(forward)(*map(tf.convert_to_tensor, hooks)))


def _unheld(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, but not what it is of: TensorFlow keeps each function of a graph for as long as the process lives."""
    weak = WeakMethod(method)

    def function(*arrays: Any) -> Any:
        held = weak()
        if held is None:
            raise ArgumentError("the layer that this graph calls is gone; hold the model for as long as its functions")
        return held(*arrays)

    return function


def on_host(function: Callable[[np.ndarray], np.ndarray], ids: Any, dtype: str) -> Any:
    """function(ids), of the same shape, also in a graph, which keeps the function for ever."""
    ids = tf.convert_to_tensor(ids)
    return tf.ensure_shape(tf.numpy_function(function, [ids], dtype), ids.shape)


def value_of(variable: Any) -> float:
    """A scalar variable's value now, without any tape's or gradient's notice."""
    return float(tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype))


def is_symbolic(tensor: Any) -> bool:
    """Whether it has no value yet."""
    return tf.is_tensor(tensor) and not hasattr(tensor, "numpy")


def refusal() -> str:
    """Why ids that are tensors may not be what they were, or ""."""
    return ""


def differentiated(function: Callable[..., Any]) -> Callable[..., Any]:
    """function(watched, *others) → (float (), tensors), as one that also gives its gradient by all of watched.

    That one takes NumPy arrays in lists and tuples, compiles for each shape of them, and returns (value, tensors,
    gradients) as NumPy arrays.
    """

    def compute(watched: Any, others: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            value, more = function(watched, *others)
        return value, more, tape.gradient(value, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    compiled: Any = tf.function(compute)

    def run(watched: Any, *others: Any) -> Any:
        found = compiled(*tf.nest.map_structure(tf.convert_to_tensor, (watched, others)))
        return tf.nest.map_structure(_to_host, found)

    return run


def _to_host(tensor: Any) -> np.ndarray:
    return tensor.numpy()


def hold_threads(wanted: int | None = None) -> int:
    """Let an operation take as many threads as wanted, which shows in the last bits of its sums; how many it may take.

    None: as it is. Raises HotrowError where TensorFlow has computed something already, with another number of them.
    """
    if wanted is not None:
        with suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(wanted)
    given = tf.config.threading.get_intra_op_parallelism_threads() or int(os.environ.get("TF_NUM_INTRAOP_THREADS", "0"))
    have = given or threads.available()
    if wanted not in (None, have):
        raise HotrowError(
            f"TensorFlow computes with {have} threads in this process, and must with {wanted}, for the same sums to "
            "the bit: expected a new process"
        )
    return have
