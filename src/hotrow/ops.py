"""An embedding by hand: rows of a matrix by their numbers, in NumPy, TensorFlow, torch and JAX, with every id checked.

No framework is imported here, nor for your lists: one that is in use is found in `sys.modules`.
"""

from __future__ import annotations

import operator
import reprlib
import sys
from importlib import import_module
from typing import Any

import numpy as np

from hotrow.bridges.id_range import IdRange
from hotrow.errors import ArgumentError, IdError, KindError
from hotrow.table import refusals
from hotrow.table.ids import Keys, restore, to_keys

_BRIDGES = {  # the module of a framework → ours, imported when an array of that framework has come
    "tensorflow": "hotrow.bridges.tensorflow_ops",
    "torch": "hotrow.bridges.torch_ops",
    "jax": "hotrow.bridges.jax_ops",
}
_HOST = (np.ndarray, list, tuple, range, int, float)  # of no framework, as is plain without asking each


def _not_converted(function: Any) -> Any:
    """The same function, marked for TensorFlow's AutoGraph to leave as it is, not to rewrite in each tf.function.

    The mark is that of `tf.autograph.experimental.do_not_convert`, for which TensorFlow would have to be imported.
    """
    function.__dict__["autograph_info__"] = None
    return function


@_not_converted
def embedding_lookup(params: Any, ids: Any) -> Any:
    """The rows `params[ids]`: (*ids.shape, D), of the kind of `params`.

    params  (V, D): lists (which become float32), NumPy, or a tensor, variable or parameter of TensorFlow, torch or JAX
    ids     integers from 0 to V - 1, of any shape: one int, lists, NumPy, Arrow, or a tensor of the same framework.
            Floats will do if they are whole and exact

    A list or NumPy matrix with ids of a framework gives a tensor of that framework. Gradients with respect to `params`
    are those of the framework: dense, or tf.IndexedSlices in TensorFlow.

    Raises IdError for an id out of range, negative ones too, as for None and NaN; KindError for strings, bools and
    mixed types, and for two frameworks; ArgumentError unless `params` is a matrix of numbers. Inside tf.function and
    jax.jit the framework raises its own class, and its text contains ours. tf.function(jit_compile=True) would drop the
    check, so there it doesn't compile.

    >>> import hotrow
    >>> params = [[0.21, 0.41], [0.22, 0.42], [0.23, 0.43]]
    >>> hotrow.embedding_lookup(params, [2, 0])
    array([[0.23, 0.43],
           [0.21, 0.41]], dtype=float32)
    """
    params, ids = _plain(params), _plain(ids)
    bridge = _bridge(params, ids)
    if bridge is None or not bridge.is_tensor(params):
        return _from_host(_matrix(params), ids, bridge)
    params = bridge.matrix(params)
    allowed = _rows_of(params)
    if allowed.rows is None or _is_traced(bridge, ids):
        return bridge.checked_gather(params, ids, allowed)
    return bridge.gather(params, _checked(ids, allowed))


@_not_converted
def one_hot(ids: Any, depth: int) -> Any:
    """Ones at the ids and zeros elsewhere: float32 (*ids.shape, depth), of the kind of `ids`.

    ids    integers from 0 to depth - 1, as `embedding_lookup` takes them
    depth  how many ids there are

    So `one_hot(ids, V) @ params` are the rows that `embedding_lookup(params, ids)` picks, at V times the work.

    Raises what `embedding_lookup` raises for ids; ArgumentError for a depth that is no whole number from 0.

    >>> import hotrow
    >>> hotrow.one_hot([2, 0], 3)
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    ids, depth = _plain(ids), _depth(depth)
    bridge = _bridge(ids)
    allowed = IdRange(depth, f"the columns of a depth of {depth}")
    if _is_traced(bridge, ids):
        return bridge.checked_one_hot(ids, depth, allowed)
    at = _checked(ids, allowed)
    hot = (at[..., None] == np.arange(depth)).astype(np.float32)
    return hot if bridge is None else _tensor(bridge, hot)


# --- frameworks -------------------------------------------------------------------------------------------------------


def _plain(x: Any) -> Any:
    """What a Keras variable holds, which is an array of its backend; anything else as it is."""
    keras = sys.modules.get("keras")
    return x.value if keras is not None and isinstance(x, getattr(keras, "Variable", ())) else x


def _bridge(*arrays: Any) -> Any:
    """The module for the framework that these are of; None for none. Raises KindError for two."""
    names = [name for name in map(_framework, arrays) if name]
    if len(set(names)) > 1:
        raise KindError(
            f"got params of {names[0]} and ids of {names[1]}; expected both of one framework, or ids of none, e.g. "
            "hotrow.embedding_lookup(params, np.asarray(ids))"
        )
    return import_module(_BRIDGES[names[0]]) if names else None


def _framework(x: Any) -> str:
    """The name of the framework that this is of, "" for none. Whoever has made an array of one has imported it."""
    if isinstance(x, _HOST):
        return ""
    loaded = (name for name in _BRIDGES if sys.modules.get(name) is not None)
    return next((name for name in loaded if import_module(_BRIDGES[name]).is_tensor(x)), "")


def _is_traced(bridge: Any, ids: Any) -> bool:
    """Whether these ids have no values yet, so that it takes the framework to check them."""
    return bridge is not None and bridge.is_tensor(ids) and bridge.is_traced(ids)


def _tensor(bridge: Any, array: np.ndarray) -> Any:
    try:
        return bridge.tensor(array)
    except (TypeError, ValueError) as error:
        name = bridge.__name__.rpartition(".")[2].removesuffix("_ops")
        raise ArgumentError(
            f"got params of dtype {array.dtype}, which {name} doesn't have ({error}); expected e.g. "
            "np.asarray(params, 'float32')"
        ) from error


# --- what NumPy can see -----------------------------------------------------------------------------------------------


def _from_host(matrix: np.ndarray, ids: Any, bridge: Any) -> Any:
    """matrix[ids], as a tensor if there is a bridge: then only these rows go to the framework."""
    allowed = _rows_of(matrix)
    if _is_traced(bridge, ids):
        return bridge.checked_gather(_tensor(bridge, matrix), ids, allowed)
    vectors = np.take(matrix, _checked(ids, allowed), axis=0)
    return vectors if bridge is None else _tensor(bridge, vectors)


def _rows_of(params: Any) -> IdRange:
    """The ids that these params have rows for. Raises ArgumentError unless there are two dimensions."""
    if len(params.shape) != 2:
        raise ArgumentError(
            f"got params of shape {tuple(params.shape)}; expected a matrix (V, D), one row for each id, e.g. "
            "np.zeros((V, D), 'float32')"
        )
    rows, dim = params.shape
    return IdRange(rows, "the rows of params", "dim" if dim is None else dim)


def _matrix(params: Any) -> np.ndarray:
    """An array of numbers; lists become float32."""
    is_list = isinstance(params, (list, tuple))
    name = next(filter(None, map(_framework, params)), "") if is_list else ""
    if name:  # NumPy would read them, and their gradients would be gone
        raise ArgumentError(
            f"got params as a list that holds a tensor of {name}; expected one matrix (V, D), e.g. "
            "tf.stack(params), torch.stack(params) or jnp.stack(params)"
        )
    try:
        matrix = np.asarray(params)
    except Exception as error:  # each library has its own
        raise ArgumentError(
            f"got params of type {refusals.name_of(params)} that are no matrix ({error}); expected one (V, D), e.g. "
            "[[0.1, 0.2], [0.3, 0.4]]"
        ) from error
    if matrix.dtype.kind in "OSUTMm":
        raise ArgumentError(
            f"got params of dtype {matrix.dtype}; expected a matrix of numbers, e.g. np.asarray(params, 'float32')"
        )
    wanted = np.float32 if is_list and matrix.dtype.kind in "biuf" else matrix.dtype
    return matrix.astype(np.dtype(wanted).newbyteorder("="), copy=False)  # frameworks have no other byte order


def _depth(depth: Any) -> int:
    try:
        number = -1 if isinstance(depth, (bool, np.bool_)) else operator.index(depth)
    except TypeError:
        number = -1
    if number < 0:
        raise ArgumentError(
            f"got a depth of {reprlib.repr(depth)}; expected how many ids there are, a whole number from 0, e.g. "
            "hotrow.one_hot(ids, len(params))"
        )
    return number


def _checked(ids: Any, allowed: IdRange) -> np.ndarray:
    """int64 (*shape): the ids, if all of them are allowed. Raises IdError, KindError or ArgumentError."""
    keys = to_keys(ids, None)
    if keys.kind == "string":
        raise _strings(keys, allowed)
    numbers = restore(keys.keys, keys.kind or "int64")
    if numbers.size and (numbers.min() < 0 or numbers.max() >= allowed.rows):
        i = int(np.argmax((numbers < 0) | (numbers >= allowed.rows)))
        raise IdError(allowed.text(str(numbers[i]), refusals.place(keys.shape, i)))
    return numbers.astype(np.int64, copy=False).reshape(keys.shape)


def _strings(keys: Keys, allowed: IdRange) -> KindError:
    assert keys.texts is not None  # that is what makes them strings
    first = keys.texts[0 if keys.at is None else int(keys.at[0])].as_py()
    given, right = f"{reprlib.repr(first)}{refusals.place(keys.shape, 0)}", f"hotrow.Table({allowed.dim})"
    return KindError(
        f"got {given}; expected {allowed.expected('integers')}. Strings go into a table as they are: "
        f"{right}.lookup(ids, grow=True)"
    )
