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

    def push(hook: Any, *arrays: Any) -> Any:
        return (crossing.push(*arrays, hook=hook),)

    @jax.custom_vjp
    def forward(ids: Any, hook: Any, rate: Any) -> Any:
        return tuple(call(pull, (vectors, scalar), ids, hook))

    def keep(ids: Any, hook: Any, rate: Any) -> Any:
        return forward(ids, hook, rate), (hook, ids, rate)

    def backward(kept: Any, gradients: Any) -> Any:
        hook, ids, rate = kept  # the new hook waits for push, and the next pull for the hook
        (number,) = call(push, (scalar,), hook, ids, *gradients, rate)
        return None, number, None

    forward.defvjp(keep, backward)
    return forward(jnp.asarray(ids), jnp.asarray(hook), jnp.asarray(rate, jnp.float32))


@jax.custom_vjp
def after_forward(loss: Any) -> Any:
    """The same loss, float (), whose gradient is taken when it is known.

    Otherwise XLA is free to run a layer's backward pass before another's forward, if none needs the other's numbers.
    """
    return loss


def _keep_loss(loss: Any) -> Any:
    return loss, loss


def _when_known(loss: Any, gradient: Any) -> Any:
    return (jnp.where(jnp.isnan(loss), gradient * (1 + 2.0**-20), gradient),)  # what XLA can't do without the loss


after_forward.defvjp(_keep_loss, _when_known)


def on_host(function: Callable[[np.ndarray], np.ndarray], ids: Any, dtype: str) -> Any:
    """function(ids), of the same shape, also under jit."""

    def on_array(ids: Any) -> Any:
        return (function(ids),)

    (result,) = call(on_array, (jax.ShapeDtypeStruct(ids.shape, dtype),), ids)
    return result


def value_of(variable: Any) -> float | None:
    """A scalar array's value; None where a step has it."""
    try:
        return None if variable is None else float(variable)
    except RuntimeError:  # it was deleted, for a step was given its memory
        return None


def is_symbolic(tensor: Any) -> bool:
    """Whether it has no value yet."""
    return isinstance(tensor, jax.core.Tracer)


def refusal() -> str:
    """Why ids that are tensors may not be what they were, or ""."""
    if jax.config.read("jax_enable_x64"):
        return ""
    return "JAX, without x64, cuts 64-bit integers to 32 bits before a layer sees them: 2**32 + 5 arrives as 5"
