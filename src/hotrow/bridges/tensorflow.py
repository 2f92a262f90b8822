"""The lookup in TensorFlow, eager and in graphs; `tf.numpy_function` is stateful, so calls keep their order.

XLA can't call the host, so `jit_compile=True` fails to compile rather than go wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakMethod

import numpy as np
import tensorflow as tf

from hotrow.bridges.crossing import Crossing
from hotrow.errors import ArgumentError


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
