"""The lookup in JAX, eager and under jit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from hotrow.bridges.crossing import Crossing
from hotrow.bridges.jax_calls import call


def lookup(ids: Sequence[Any], hooks: Sequence[Any], rate: Any, crossing: Crossing) -> list[Any]:
    """Vectors, masks and penalty, see `hotrow.bridges.crossing`."""
    n, scalar = len(ids), jax.ShapeDtypeStruct((), jnp.float32)
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in crossing.shapes([array.shape for array in ids])]

    def pull(*arrays: Any) -> Any:
        return crossing.pull(*(array.copy() for array in arrays[:n]), *arrays[n:])  # copies, for the stage keeps them

    def push(*arrays: Any) -> Any:
        return crossing.push(*arrays[len(hooks) :], hooks=arrays[: len(hooks)])

    @jax.custom_vjp
    def forward(ids: Any, hooks: Any, rate: Any) -> Any:
        return tuple(call(pull, results, *ids, *hooks))

    def keep(ids: Any, hooks: Any, rate: Any) -> Any:
        return forward(ids, hooks, rate), (ids, hooks, rate)

    def backward(kept: Any, gradients: Any) -> Any:
        ids, hooks, rate = kept  # the new hooks wait for push, and the next pull for the hooks
        return None, call(push, [scalar] * len(hooks), *hooks, *ids, *gradients, rate), None

    forward.defvjp(keep, backward)
    return list(forward([jnp.asarray(i) for i in ids], [jnp.asarray(h) for h in hooks], jnp.asarray(rate, jnp.float32)))


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


def differentiated(function: Callable[..., Any]) -> Callable[..., Any]:
    """As of the bridge of TensorFlow."""
    one_thread = {"xla_cpu_multi_thread_eigen": False}  # for the same sums to the bit, on however many cores
    compute = jax.jit(jax.value_and_grad(function, has_aux=True), compiler_options=one_thread)

    def run(watched: Any, *others: Any) -> Any:
        (value, more), gradients = compute(watched, *others)
        return jax.tree.map(np.asarray, (value, more, gradients))

    return run


def hold_threads(wanted: int | None = None) -> int:
    """Always 1, of what is `differentiated`."""
    return 1
