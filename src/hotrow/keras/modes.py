"""What a layer's call is at the moment: with ids or with codes, for real or to see where ids go."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

from hotrow.errors import ArgumentError
from hotrow.keras import backend

SUPPORTS_JIT = backend.NAME == "jax"
"""XLA in TensorFlow and torch.compile can't call the host; JAX can."""

CAN_PEEK = backend.NAME != "jax"
"""Whether a variable can be read by the host while a step goes on; on JAX it is the step's own result."""

_codes: ContextVar[bool] = ContextVar("codes", default=False)
Seen = list[tuple[Any, np.ndarray]]
"""Layers, and what came to them."""
_seen: ContextVar[Seen | None] = ContextVar("seen", default=None)
_models: ContextVar[tuple[Any, ...]] = ContextVar("models", default=())


def are_codes() -> bool:
    """Whether layers get codes, which a hotrow model has made of ids."""
    return _codes.get()


@contextmanager
def codes() -> Generator[None]:
    """Within, what layers get are codes."""
    token = _codes.set(True)
    try:
        yield
    finally:
        _codes.reset(token)


def is_probing() -> bool:
    """Whether calls are only to see which codes reach a layer."""
    return _seen.get() is not None


def is_tracing() -> bool:
    """Whether Keras builds a model by tracing it: nothing has a value."""
    return in_symbolic_scope()


def probing(layer: Any, inputs: Any) -> bool:
    """Whether this call is only to see which codes reach a layer, which are noted, or what shapes come out."""
    seen = _seen.get()
    if is_tracing():
        return True
    if seen is None:
        return False
    seen.append((layer, np.asarray(keras.ops.convert_to_numpy(inputs))))
    return True


def stand_in(inputs: Any, inner: tuple[int, ...], dtype: str) -> Any:
    """What a layer gives while it is probed: always the same vectors, and not zeros, which would hide a mask."""
    vectors = np.cos(np.arange(1, 1 + np.prod(inner))).astype(np.float32).reshape(inner)
    shape: Any = keras.ops.shape(inputs)
    return keras.ops.zeros((*shape, *inner), dtype) + keras.ops.cast(vectors, dtype)


@contextmanager
def probe() -> Generator[Seen]:
    """Within, layers give `stand_in`, tables are left alone, and what layers get is in the list."""
    seen: Seen = []
    token = _seen.set(seen)
    try:
        with codes():
            yield seen
    finally:
        _seen.reset(token)


@contextmanager
def training(model: Any) -> Generator[None]:
    """Within, JAX may hold the model's weights elsewhere."""
    token = _models.set((*_models.get(), model))
    try:
        yield
    finally:
        _models.reset(token)


def read(variable: Any) -> float | None:
    """The value of a scalar variable now; None where JAX's trainer holds it, in another model's or thread's `fit`."""
    for model in _models.get():
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()
    return backend.bridge.value_of(variable._value)


def refuse_unsupported(layer: Any) -> None:
    """ArgumentError for ways to run that a table can't follow."""
    if getattr(layer, "_remat_mode", None) is not None:
        raise ArgumentError("a hotrow layer can't be rematerialised (keras.RematScope): build it outside of the scope")
    replicas = 1
    if backend.NAME == "tensorflow":
        import tensorflow as tf

        replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1 or keras.distribution.distribution() is not None:
        raise ArgumentError(
            "a table in one process can't serve several replicas; build the model without a distribution strategy"
        )
