"""What a layer's call is at the moment: with ids or with codes, for real or to see where ids go."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np

from hotrow.errors import ArgumentError
from hotrow.keras import backend

SUPPORTS_JIT = backend.NAME == "jax"
"""XLA in TensorFlow and torch.compile can't call the host; JAX can."""

_codes: ContextVar[bool] = ContextVar("codes", default=False)
_seen: ContextVar[list[np.ndarray] | None] = ContextVar("seen", default=None)
_models: ContextVar[tuple[Any, ...]] = ContextVar("models", default=())


def are_codes() -> bool:
    """Whether layers get codes, which a hotrow model has made of ids."""
    return _codes.get()


@contextmanager
def codes(on: bool = True) -> Generator[None]:
    """Within, what layers get are codes, or ids."""
    token = _codes.set(on)
    try:
        yield
    finally:
        _codes.reset(token)


def probing(inputs: Any) -> bool:
    """Whether this call is only to see which codes reach a layer; it saw these."""
    seen = _seen.get()
    if seen is None:
        return False
    seen.append(np.asarray(keras.ops.convert_to_numpy(inputs)))
    return True


@contextmanager
def probe() -> Generator[list[np.ndarray]]:
    """Within, layers give zeros, tables are left alone, and what layers get is in the list."""
    seen: list[np.ndarray] = []
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


def read(variable: Any) -> float:
    """The value of a scalar variable now."""
    for model in _models.get():
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()
    value: Any = keras.ops.convert_to_numpy(variable.value)
    return float(value)


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
