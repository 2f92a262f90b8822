"""What `hotrow.ops` needs of TensorFlow: rows of a matrix, and a check of ids that no graph can lose."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from hotrow.bridges.id_range import IdRange
from hotrow.errors import KindError

# The name of the one operation in the check that XLA can't compile. XLA takes any Assert for done and would go on with
# another row; a string it has to refuse, and its refusal quotes this name, so the name says what to do.
_NAME = "hotrow_checks_every_id__XLA_would_drop_the_check__pass_jit_compile_False"


def is_tensor(x: Any) -> bool:
    """Whether this is TensorFlow's: a tensor, eager or in a graph, or a variable."""
    return isinstance(x, (tf.Tensor, tf.Variable))


def is_traced(ids: Any) -> bool:
    """Whether these ids, a tensor, have no values yet, because a graph is being drawn."""
    return tf.is_symbolic_tensor(ids) or (isinstance(ids, tf.Variable) and not tf.executing_eagerly())


def tensor(array: np.ndarray) -> Any:
    """A tensor with the values of this array, of its dtype."""
    return tf.convert_to_tensor(array)


def matrix(params: Any) -> Any:
    """`params`, with as much of its shape as can be known now; TensorFlow refuses what only the graph shows to be none.

    A side of the shape is None where the running graph alone knows it.
    """
    if params.shape.rank is None or None in params.shape.as_list():
        params = tf.convert_to_tensor(params)  # a variable's value knows more than the variable
    return params if params.shape.rank is not None else tf.ensure_shape(params, [None, None])


def gather(params: Any, ids: Any) -> Any:
    """params[ids], for ids that were checked; its gradient holds these rows alone (tf.IndexedSlices)."""
    return tf.gather(params, tf.cast(ids, tf.int64))


def checked_gather(params: Any, ids: Any, allowed: IdRange) -> Any:
    """params[ids] in a graph, for ids of any integer dtype, or any ids where only the graph knows the number of rows.

    Raises KindError for another dtype, at once. When the graph runs, an id out of range is
    tf.errors.InvalidArgumentError with our text. With jit_compile=True the graph doesn't compile.
    """
    rows = tf.shape(params)[0] if allowed.rows is None else allowed.rows
    return gather(params, _checked(tf.convert_to_tensor(ids), rows, allowed))


def checked_one_hot(ids: Any, depth: int, allowed: IdRange) -> Any:
    """float32 (*ids.shape, depth) in a graph; errors as of `checked_gather`."""
    ids = _checked(tf.convert_to_tensor(ids), depth, allowed)
    return tf.one_hot(tf.cast(ids, tf.int64), depth, dtype=tf.float32)


def _checked(ids: Any, rows: Any, allowed: IdRange) -> Any:
    """The same ids, int64 or uint64, as a value that no graph has without the check."""
    if not ids.dtype.is_integer:
        raise KindError(
            f"got ids of dtype {ids.dtype.name} inside a tf.function, where their values can't be seen; expected "
            "integers, e.g. tf.cast(ids, tf.int64) of whole numbers, or the call outside of the tf.function"
        )
    if ids.dtype != tf.uint64:
        ids = tf.cast(ids, tf.int64)  # before the comparison: 1000 rows are none in int8
    rows = tf.cast(rows, ids.dtype)
    outside = (ids < 0) | (ids >= rows)
    refuse, keep = partial(_refuse, ids, outside, rows, allowed), partial(tf.identity, ids)
    return tf.cond(tf.reduce_any(outside), refuse, keep)


def _refuse(ids: Any, outside: Any, rows: Any, allowed: IdRange) -> Any:
    """The same ids, after an assertion that fails with our text.

    `outside` is asked once more, since tf.vectorized_map takes both branches, this one with the examples that need it
    or with none.
    """
    flat = tf.reshape(ids, [-1])
    first = tf.argmax(tf.cast(tf.reshape(outside, [-1]), tf.int32), output_type=tf.int32)
    place, at = _place(first, ids)
    known = [] if allowed.rows is not None else [rows - 1]
    text = tf.strings.format(allowed.text("{}", place), [tf.gather(flat, first), *at, *known], name=_NAME)
    with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(outside), [text])]):
        return tf.identity(ids)


def _place(first: Any, ids: Any) -> tuple[str, list[Any]]:
    """Where the id stands that is `first` of all: a text with a {} for each coordinate, and the coordinates."""
    if ids.shape.rank is None:
        return " at position {} of all", [first]
    at: list[Any] = []
    for side in reversed(tf.unstack(tf.shape(ids), num=ids.shape.rank)):
        at.insert(0, first % side)
        first //= side
    if len(at) < 2:
        return " at position {}" * len(at), at
    return f" at position ({', '.join(['{}'] * len(at))})", at
