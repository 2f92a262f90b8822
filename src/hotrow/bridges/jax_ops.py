"""What `hotrow.ops` needs of JAX: rows of a matrix, and a check of ids that jit, vmap and grad can't lose."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from hotrow.bridges.id_range import IdRange
from hotrow.errors import IdError, KindError
from hotrow.table import refusals

jnp: Any = jax.numpy  # its types are incomplete


def is_tensor(x: Any) -> bool:
    """Whether this is JAX's: an array, or one that is being traced."""
    return isinstance(x, jax.Array)


def is_traced(ids: Any) -> bool:
    """Whether these ids, an array, have no values yet, because jit, vmap or grad is tracing them."""
    return isinstance(ids, Tracer)


def tensor(array: np.ndarray) -> Any:
    """A JAX array with the values of this one; without jax_enable_x64, float64 becomes float32 as everywhere in JAX."""
    return jnp.asarray(array)


def matrix(params: Any) -> Any:
    """`params`; its shape is all there."""
    return params


def gather(params: Any, ids: Any) -> Any:
    """params[ids], for ids that were checked: NumPy or JAX integers; its gradient is dense."""
    if isinstance(ids, np.ndarray) and params.shape[0] <= 2**31:
        ids = ids.astype(np.int32)  # exact by now; JAX itself would do so without a look
    return params.at[ids].get(mode="clip")  # "clip" for its speed: all are in range


def checked_gather(params: Any, ids: Any, allowed: IdRange) -> Any:
    """params[ids] while tracing, for ids of any integer dtype.

    Raises KindError for another dtype, at once. When it runs, an id out of range is JAX's own error with our text; the
    program meets it where it first uses the result.
    """
    return gather(params, _checked(ids, params.shape[0], allowed))


def checked_one_hot(ids: Any, depth: int, allowed: IdRange) -> Any:
    """float32 (*ids.shape, depth) while tracing; errors as of `checked_gather`."""
    ids = _checked(ids, depth, allowed)
    return (ids[..., None] == jnp.arange(depth, dtype=ids.dtype)).astype(np.float32)


def _checked(ids: Any, rows: int, allowed: IdRange) -> Any:
    """The same ids, as a value that can't be had without the check: it is a part of their sum."""
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise KindError(
            f"got ids of dtype {ids.dtype} inside jit, vmap or grad, where their values can't be seen; expected "
            "integers, e.g. ids.astype(int) of whole numbers, or the call outside"
        )
    if not ids.size:
        return ids.astype(np.int32)
    if rows == 0:
        raise IdError(allowed.text("an id", ""))  # whichever it is
    if ids.dtype.itemsize < 4:
        ids = ids.astype(np.int32)  # before the comparison: 1000 rows are none in int8
    outside = _outside(ids, rows).reshape(-1)
    first = jnp.argmax(outside)
    what = (outside[first], ids.reshape(-1)[first], first)
    refuse, zero = partial(_refuse, allowed, ids.shape), jax.ShapeDtypeStruct((), np.int32)
    # Python is called where one is out of range, else not. vmap takes both branches, so `refuse` looks again.
    nothing = jax.lax.cond(
        what[0], lambda: jax.pure_callback(refuse, zero, *what, vmap_method="broadcast_all"), lambda: np.int32(0)
    )
    return ids + nothing.astype(ids.dtype)


def _outside(ids: Any, rows: int) -> Any:
    """Which of the ids are no row: bool, of their shape."""
    below = ids < 0
    return below if rows > np.iinfo(ids.dtype).max else below | (ids >= rows)


def _refuse(allowed: IdRange, shape: refusals.Shape, outside: Any, items: Any, at: Any) -> np.ndarray:
    """Zeros, int32, if none of them is outside; else raises IdError for the first.

    outside, items, at  of one shape: () for one call, (B,) under vmap. `at` counts within one example.
    """
    outside = np.asarray(outside)
    if not outside.any():
        return np.zeros(outside.shape, np.int32)
    i = int(np.argmax(outside.reshape(-1)))
    item, place = (int(np.asarray(x).reshape(-1)[i]) for x in (items, at))
    raise IdError(allowed.text(str(item), refusals.place(shape, place)))
