"""The lookup in TensorFlow, eager and in graphs; `tf.numpy_function` is stateful, so calls keep their order.

XLA can't call the host, so `jit_compile=True` fails to compile rather than go wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

import numpy as np
import tensorflow as tf

from hotrow.bridges.crossing import Crossing
from hotrow.errors import ArgumentError


def lookup(ids: Any, hook: Any, rate: Any, crossing: Crossing) -> tuple[Any, Any]:
    """Vectors and penalty, see `hotrow.bridges.crossing`. Whoever calls this holds the crossing."""
    pull, push, dim = _unheld(crossing.pull), _unheld(crossing.push), crossing.dim
    ids = tf.convert_to_tensor(ids)
    rate = tf.convert_to_tensor(rate, tf.float32)

    def forward(value: Any) -> tuple[Any, Any]:
        vectors, penalty = tf.numpy_function(pull, [ids, value], [tf.float32, tf.float32])
        vectors = tf.ensure_shape(vectors, ids.shape.concatenate([dim]))

        def backward(*gradients: Any) -> Any:
            dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
            return tf.reshape(tf.numpy_function(push, [ids, *dense, rate], tf.float32), ())

        return (vectors, tf.reshape(penalty, ())), backward

    return tf.custom_gradient(forward)(tf.convert_to_tensor(hook))


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
