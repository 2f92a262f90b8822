"""The lookup in JAX, eager and under jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from hotrow.bridges.crossing import Crossing
from hotrow.bridges.jax_calls import call


def lookup(ids: Any, hook: Any, rate: Any, crossing: Crossing) -> tuple[Any, Any]:
    """Vectors and penalty, see `hotrow.bridges.crossing`."""
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    vectors = jax.ShapeDtypeStruct((*ids.shape, crossing.dim), jnp.float32)

    def pull(ids: Any, hook: Any) -> Any:
        return crossing.pull(ids.copy(), hook)  # a copy, for the stage remembers it

    def push(*arrays: Any) -> Any:
        return (crossing.push(*arrays),)

    @jax.custom_vjp
    def forward(ids: Any, hook: Any, rate: Any) -> Any:
        return tuple(call(pull, (vectors, scalar), ids, hook))

    def keep(ids: Any, hook: Any, rate: Any) -> Any:
        return forward(ids, hook, rate), (ids, rate)

    def backward(kept: Any, gradients: Any) -> Any:
        ids, rate = kept  # the new hook waits for push, and the next pull for the hook
        (hook,) = call(push, (scalar,), ids, *gradients, rate)
        return None, hook, None

    forward.defvjp(keep, backward)
    return forward(jnp.asarray(ids), jnp.asarray(hook), jnp.asarray(rate, jnp.float32))


def on_host(function: Callable[[np.ndarray], np.ndarray], ids: Any, dtype: str) -> Any:
    """function(ids), of the same shape, also under jit."""

    def on_array(ids: Any) -> Any:
        return (function(ids),)

    (result,) = call(on_array, (jax.ShapeDtypeStruct(ids.shape, dtype),), ids)
    return result


def is_symbolic(tensor: Any) -> bool:
    """Whether it has no value yet."""
    return isinstance(tensor, jax.core.Tracer)


def refusal() -> str:
    """Why ids that are tensors may not be what they were, or ""."""
    if jax.config.read("jax_enable_x64"):
        return ""
    return "JAX, without x64, cuts 64-bit integers to 32 bits before a layer sees them: 2**32 + 5 arrives as 5"
