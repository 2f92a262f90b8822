"""A look at a table from inside JAX: vectors of ids, read when the compiled function runs, and never written.

What is read is a constant to JAX: gradients of other numbers go past it, and none comes to the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import numpy as np
from jax.custom_batching import custom_vmap
from jax.extend.core import Primitive
from jax.interpreters import mlir

from hotrow.bridges.jax_calls import call

jnp: Any = jax.numpy  # its types are incomplete
_probe = Primitive("hotrow_is_recording")
_ALIGNED = 64  # bytes
Look = Callable[..., np.ndarray]


def is_recording() -> bool:
    """Whether jit or scan is recording what is done now, to do it again later without Python.

    Nothing is computed for it, so that it may be asked anywhere.
    """
    return isinstance(_probe.bind(), jax.core.Tracer)


@_probe.def_abstract_eval
def _shape() -> Any:
    return jax.core.ShapedArray((), np.dtype(bool))


@_probe.def_impl
def _no() -> bool:
    return False


mlir.register_lowering(_probe, mlir.lower_fun(lambda: jnp.zeros((), bool), multiple_results=False))


def holds_tracer(given: Any) -> bool:
    """Whether this is a value that JAX is tracing, or a list that begins with one."""
    while isinstance(given, (list, tuple)) and given:
        given = given[0]
    return isinstance(given, jax.core.Tracer)


def room(shape: tuple[int, ...]) -> np.ndarray:
    """Memory for float32 of this shape that `to_jax` needn't copy: it begins where XLA wants an array to begin."""
    n = math.prod(shape)
    wider = np.empty(n + _ALIGNED // 4, np.float32)
    begin = -wider.ctypes.data % _ALIGNED // 4
    return wider[begin : begin + n].reshape(shape)


def to_jax(array: np.ndarray) -> Any:
    """A JAX array with these values; on a CPU it may be the same memory, so nobody may write to it any more."""
    return jax.device_put(array)  # jnp.asarray always copies


def to_host(array: Any) -> np.ndarray:
    """A NumPy array with these values; kinds of float that NumPy itself hasn't got, as bfloat16, become float32."""
    host = np.asarray(array)
    return host.astype(np.float32) if host.dtype.kind == "V" and jnp.issubdtype(host.dtype, jnp.floating) else host


def read(look: Look, ids: Any, dim: int) -> Any:
    """look(ids): float32 (*ids.shape, dim) of integers that are being traced. `look` is called when they have values.

    Under vmap it is one call for all examples.
    """

    def on_array(ids: np.ndarray) -> tuple[np.ndarray]:
        return (look(ids),)

    @custom_vmap
    def reading(ids: Any) -> Any:
        result = jax.ShapeDtypeStruct((*ids.shape, dim), jnp.float32)
        return call(on_array, (result,), ids)[0]

    @reading.def_vmap
    def of_examples(_: int, __: Any, ids: Any) -> Any:  # pyright: ignore[reportUnusedFunction]
        return reading(ids), True

    return reading(ids)


def read_fixed(look: Look, shape: tuple[int, ...]) -> Any:
    """look(): float32 of this shape, each time that the function that is being recorded runs."""
    return call(lambda: (look(),), (jax.ShapeDtypeStruct(shape, jnp.float32),))[0]
