"""The lookup in JAX, eager and under jit. `io_callback`, for a `pure_callback` may be repeated or left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from hotrow.bridges.crossing import Crossing


def lookup(ids: Any, hook: Any, rate: Any, crossing: Crossing) -> tuple[Any, Any]:
    """Vectors and penalty, see `hotrow.bridges.crossing`."""
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    vectors = jax.ShapeDtypeStruct((*ids.shape, crossing.dim), jnp.float32)

    def pull(ids: Any, hook: Any) -> Any:
        return crossing.pull(np.array(ids), np.asarray(hook))  # a copy: the stage remembers it

    def push(ids: Any, *gradients: Any) -> Any:
        return crossing.push(*map(np.asarray, (ids, *gradients)))

    @jax.custom_vjp
    def forward(ids: Any, hook: Any, rate: Any) -> Any:
        return io_callback(pull, (vectors, scalar), ids, hook)

    def keep(ids: Any, hook: Any, rate: Any) -> Any:
        return forward(ids, hook, rate), (ids, rate)

    def backward(kept: Any, gradients: Any) -> Any:
        ids, rate = kept  # the new hook waits for push, and the next pull for the hook
        return None, io_callback(push, scalar, ids, *gradients, rate), None

    forward.defvjp(keep, backward)
    return forward(jnp.asarray(ids), jnp.asarray(hook), jnp.asarray(rate, jnp.float32))


def on_host(function: Callable[[np.ndarray], np.ndarray], ids: Any, dtype: str) -> Any:
    """function(ids), of the same shape, also under jit."""

    def on_arrays(ids: Any) -> np.ndarray:
        return function(np.asarray(ids))

    return io_callback(on_arrays, jax.ShapeDtypeStruct(ids.shape, dtype), ids)


def is_symbolic(tensor: Any) -> bool:
    """Whether it has no value yet."""
    return isinstance(tensor, jax.core.Tracer)


def refusal() -> str:
    """Why ids that are tensors may not be what they were, or ""."""
    if jax.config.read("jax_enable_x64"):
        return ""
    return "JAX, without x64, cuts 64-bit integers to 32 bits before a layer sees them: 2**32 + 5 arrives as 5"
