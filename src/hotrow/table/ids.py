"""What the user has, to keys: one uint64 for each id, by which everything after this knows it.

An integer is its own key (int64 in two's complement), a string's key is its FarmHash Fingerprint64. What comes in is
never coerced: an id that can't be one is refused with the place where it stands.

    given                                             what counts
    int, str, bytes, a NumPy scalar                   a single id, shape ()
    lists and tuples, nested but rectangular; range   one type in all of it
    NumPy arrays of integers, any width, byte order, strides
    NumPy arrays of strings (U, S, StringDType)       NumPy has dropped trailing NULs of U and S before we see them
    floats, scalar or array                           whole, and below 2¹¹, 2²⁴, 2⁵³ for 16, 32, 64 bits
    NumPy arrays of objects                           as the list of them
    Arrow arrays of integers, floats, strings, UTF-8 binary, and dictionaries, of which what is used counts
    anything with Arrow's C interface, or `__array__` (polars, pandas, torch on the CPU, JAX, TensorFlow)

bytes are UTF-8 and the same id as the str of that text. Strings are read in `utf8.py`, which imports PyArrow when
there are strings or Arrow data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import numpy as np

from hotrow.errors import ArgumentError, KindError
from hotrow.kernels import readonly, threads
from hotrow.kernels import texts as kernels
from hotrow.kernels.fingerprint import fingerprint64
from hotrow.table import refusals, utf8
from hotrow.table.refusals import Shape

_INT64 = np.dtype(np.int64)
_GRAIN = 1 << 15  # strings that are worth a thread
_ARROW = {"__arrow_c_stream__": "chunked_array", "__arrow_c_array__": "array", "__arrow_array__": "array"}


@dataclass(frozen=True)
class Keys:
    """The keys of ids, in the order of the ids.

    kind   "int64", "uint64" or "string"; "" for no ids at all, which decide nothing
    keys   uint64 (n,), contiguous; may be a view of the array that was given
    shape  of the ids, () for a single one
    texts  strings only: one for each id, or the distinct values of a dictionary-encoded array
    at     int32 (n,), which of `texts` each id is; None where id i is text i
    first  int32, where each of `texts` stands first among the ids, ascending; None as `at`
    """

    kind: str
    keys: np.ndarray
    shape: tuple[int, ...]
    texts: utf8.LargeStringArray | None = None
    at: np.ndarray | None = None
    first: np.ndarray | None = None

    def restored(self) -> Any:
        """The ids again: integers of their shape, or an Arrow array of strings."""
        texts = self.texts if self.at is None or self.texts is None else self.texts.take(self.at)
        return restore(self.keys, self.kind).reshape(self.shape) if texts is None else texts


def to_keys(ids: Any, kind: str | None) -> Keys:
    """Convert ids, of a table of this kind or, with None, of the kind that they show; Keys may be given again.

    They show "string" if they are str or bytes; "int64" if all of them fit it; else "uint64".

    Raises KindError for ids that aren't of this kind, for mixed types and for types that are no ids (bool among them);
    IdError for one that is null, not whole, too large to be exact, out of range, or not UTF-8; ArgumentError for ragged
    lists. Nothing is converted then.

    >>> from hotrow.table.ids import to_keys
    >>> to_keys([[3, 5]], None).shape
    (1, 2)
    >>> to_keys("cup", None).keys == to_keys([b"cup"], "string").keys
    array([ True])
    """
    if isinstance(ids, Keys):
        return ids if not ids.kind or kind in (None, ids.kind) else to_keys(ids.restored(), kind)
    if type(ids) is np.ndarray:
        if ids.dtype is _INT64 and kind in (None, "int64") and ids.size and ids.flags.c_contiguous:
            return Keys("int64", ids.reshape(-1).view(np.uint64), ids.shape)
        return _from_array(ids, kind)
    if isinstance(ids, (list, tuple, range)):
        flat = ids if isinstance(ids, list) else list(cast("Sequence[Any]", ids))
        return _from_list(flat, (len(flat),), kind)
    if isinstance(ids, (int, float, str, bytes, np.generic)):
        return _from_list([ids], (), kind)
    return _from_other(ids, kind)


def restore(keys: np.ndarray, kind: str) -> np.ndarray:
    """The integers that these keys are: uint64 (n,) → int64 or uint64 (n,), a view.

    Raises KindError for strings, which can't be told from their keys.

    >>> from hotrow.table.ids import restore, to_keys
    >>> restore(to_keys([3, -1], "int64").keys, "int64")
    array([ 3, -1])
    """
    if kind not in refusals.RANGES:
        raise KindError(f"keys of kind {kind!r} aren't the ids; only those of 'int64' and 'uint64' are")
    return keys.view(kind)


# --- NumPy arrays and Python lists ------------------------------------------------------------------------------------


def _from_array(array: np.ndarray, kind: str | None) -> Keys:
    """A NumPy array of any dtype and shape."""
    if array.size == 0:
        return _nothing(array.shape, kind)
    code = array.dtype.kind
    if code == "i" or (code == "u" and array.itemsize < 8):
        return _from_integers(array.astype(np.int64, copy=False), kind)
    if code == "u":
        return _from_integers(array.astype(np.uint64, copy=False), kind)
    if code == "f":
        return _from_floats(array, kind, _exact_bits(array.dtype))
    if code in "UST":
        found = utf8.of_numpy(array)
        if found is not None:
            return _from_texts(found, array.shape, kind)
    if code in "OUST":
        return _from_list(array.reshape(-1).tolist(), array.shape, kind)
    raise refusals.offence(list(array.reshape(-1)[:1]), array.shape)


def _nothing(shape: Shape, kind: str | None) -> Keys:
    """No ids: they fit a table of any kind, and decide none."""
    texts = utf8.pyarrow().array([], utf8.pyarrow().large_string()) if kind == "string" else None
    return Keys(kind or "", np.zeros(0, np.uint64), shape, texts)


def _from_integers(array: np.ndarray, kind: str | None) -> Keys:
    """int64 or uint64, at least one."""
    flat = np.ascontiguousarray(array).reshape(-1)
    signed = flat.dtype == _INT64
    if kind is None:
        kind = "int64" if signed or flat.max() <= refusals.MOST else "uint64"
    if kind == "string":
        raise refusals.wrong_kind(flat[0], "integers", array.shape, kind)
    if signed and kind == "uint64" and flat.min() < 0:
        raise refusals.out_of_range(flat, int(np.argmax(flat < 0)), array.shape, kind)
    if not signed and kind == "int64" and flat.max() > refusals.MOST:
        raise refusals.out_of_range(flat, int(np.argmax(flat > refusals.MOST)), array.shape, kind)
    return Keys(kind, flat.view(np.uint64), array.shape)


def _from_floats(array: np.ndarray, kind: str | None, bits: int) -> Keys:
    """Floats, of which those below 2**bits are exact."""
    with np.errstate(invalid="ignore"):
        good = (np.abs(array) < 2.0**bits) & (np.trunc(array) == array)
    if not good.all():
        raise refusals.bad_float(array.reshape(-1), int(np.argmin(good.reshape(-1))), array.shape, bits)
    return _from_integers(array.astype(np.int64), kind)


def _exact_bits(dtype: Any) -> int:
    return min(53, np.finfo(dtype).nmant + 1)


def _from_list(flat: list[Any], shape: Shape, kind: str | None) -> Keys:
    """Python objects: one type of id, or lists of them."""
    if flat and type(flat[0]) is str:
        try:
            return _from_texts(utf8.of_list(flat, shape, "str"), shape, kind)
        except TypeError:  # not all of them are
            pass
    flat, shape, types = _unnest(flat, shape)
    if not flat:
        return _nothing(shape, kind)
    if types == {np.ndarray} and len({(array.dtype, array.shape) for array in flat}) == 1:
        return _from_array(np.stack(flat).reshape(*shape, *flat[0].shape), kind)
    families = {refusals.family(t) for t in types}
    family = families.pop()
    if families or not family:
        raise refusals.offence(flat, shape)
    if family == "int":
        return _from_ints(flat if types == {int} else list(map(int, flat)), shape, kind)
    if family == "float":
        array = np.array(flat, np.result_type(*map(_float_dtype, types)))
        return _from_floats(array.reshape(shape), kind, min(_exact_bits(_float_dtype(t)) for t in types))
    return _from_texts(utf8.of_list(flat, shape, family), shape, kind)


def _unnest(flat: list[Any], shape: Shape) -> tuple[list[Any], Shape, set[type]]:
    """Lists of lists, one level after the other, to one list, its shape, and the types in it.

    [[1, 2], [3, 4]], (2,)  →  [1, 2, 3, 4], (2, 2), {int}
    """
    while True:
        types = set(map(type, flat))
        nested = sum(issubclass(t, (list, tuple)) for t in types)
        if not nested:
            return flat, shape, types
        if nested < len(types) or len(set(map(len, flat))) > 1 or len(shape) == refusals.DEEPEST:
            raise refusals.ragged([_length(x) for x in flat], shape)
        shape = (*shape, len(flat[0]))
        flat = list(chain.from_iterable(flat))


def _length(item: Any) -> int:
    return len(cast("Sequence[Any]", item)) if isinstance(item, (list, tuple)) else -1


def _float_dtype(t: Any) -> np.dtype[Any]:
    return np.dtype(cast("Any", t if issubclass(t, np.generic) else np.float64))


def _from_ints(flat: list[int], shape: Shape, kind: str | None) -> Keys:
    """Python ints; NumPy itself would make float64 of [1, 2**63]."""
    if kind == "string":
        raise refusals.wrong_kind(flat[0], "integers", shape, kind)
    for dtype in [np.uint64] if kind == "uint64" else [np.int64, np.uint64]:
        try:
            array = np.fromiter(flat, dtype, len(flat))
        except OverflowError:
            continue
        return _from_integers(array.reshape(shape), kind)
    raise refusals.beyond(flat, shape, kind)


# --- strings and Arrow data -------------------------------------------------------------------------------------------


def _from_other(ids: Any, kind: str | None) -> Keys:
    """An object of another library, or none that we know."""
    dtype = getattr(ids, "dtype", None)
    inner = getattr(getattr(dtype, "categories", None), "dtype", dtype)  # of a pandas Categorical: its values'
    if isinstance(inner, np.dtype) and (inner is dtype or inner.kind == "O"):
        return _from_array(_as_numpy(ids), kind)  # what NumPy says is what there is; Arrow guesses at objects
    convert = next((to for attribute, to in _ARROW.items() if hasattr(ids, attribute)), None)
    if convert is not None:
        array, trouble = _as_arrow(ids, convert)
        if array is not None:
            return _from_arrow(array, kind)
        if not hasattr(ids, "__array__"):
            raise KindError(
                f"Arrow can't read this {refusals.name_of(ids)} ({trouble}); expected ids, e.g. a list"
            ) from trouble
    if hasattr(ids, "__array__"):
        return _from_array(_as_numpy(ids), kind)
    if isinstance(ids, Iterable):  # a set has no order, a dict two kinds of things, a generator only one reading
        raise KindError(
            f"got a {refusals.name_of(ids)}; expected a list, tuple or array of ids, e.g. table.lookup(list(ids))"
        )
    return _from_list([ids], (), kind)


def _as_arrow(ids: Any, convert: str) -> tuple[Any, Exception | None]:
    """The Array or ChunkedArray that `ids` offers, or what went wrong."""
    pa = utf8.pyarrow()
    try:
        return (ids if isinstance(ids, (pa.Array, pa.ChunkedArray)) else getattr(pa, convert)(ids)), None
    except Exception as error:  # noqa: BLE001 — each library has its own
        return None, error


def _as_numpy(ids: Any) -> np.ndarray:
    if isinstance(ids, np.ndarray):
        mask = np.ma.getmaskarray(cast("Any", ids))
        if mask.any():
            raise refusals.null("a masked element", mask.shape, int(np.argmax(mask.reshape(-1))))
    try:
        return np.asarray(cast("Any", ids))
    except Exception as error:  # each library has its own
        raise KindError(
            f"NumPy can't read this {refusals.name_of(ids)} ({error}); expected integers in the CPU's memory, "
            "e.g. tensor.detach().cpu()"
        ) from error


def _from_arrow(array: Any, kind: str | None) -> Keys:
    """An Arrow Array or ChunkedArray of any type."""
    types, shape = utf8.pyarrow().types, (len(array),)
    if not len(array):
        return _nothing(shape, kind)
    is_dictionary = types.is_dictionary(array.type)
    type_ = array.type.value_type if is_dictionary else array.type
    if "list" in str(type_).split("<")[0]:
        raise ArgumentError(f"got an Arrow array of {type_}{refusals.place(shape, 0)}; {refusals.BAGS}")
    is_number = types.is_integer(type_) or types.is_floating(type_)
    if not is_number and not types.is_null(type_) and utf8.wide_type(type_) is None:
        raise refusals.no_id(array[0], f"Arrow type {type_}", shape, 0)
    _refuse_nulls(array)
    if is_dictionary:
        return _from_dictionary(array, kind)
    if is_number:
        return _from_array(np.asarray(array), kind)
    return _from_texts(utf8.of_arrow(array), shape, kind)


def _refuse_nulls(array: Any) -> None:
    if array.null_count:
        raise refusals.null("null", (len(array),), int(np.argmax(np.asarray(array.is_null()))))


def _from_dictionary(array: Any, kind: str | None) -> Keys:
    """A dictionary-encoded array: few strings are hashed and stand for many ids."""
    if hasattr(array, "chunks"):
        array = _one_chunk(array)
    values, at, shape = array.dictionary, _indices(array), (len(array),)
    if utf8.wide_type(values.type) is None:
        return _from_arrow(values.take(utf8.pyarrow().array(at)), kind)
    if values.null_count and (missing := np.asarray(values.is_null())[at]).any():
        raise refusals.null("null", shape, int(np.argmax(missing)))
    if len(values) > len(at):  # nothing is won by going through all of the values
        return _from_texts(_taken(values, at, at), shape, kind)
    inverse, first = np.empty(len(at), np.int32), np.empty(len(values), np.int32)
    used = np.empty(len(values), np.int64)
    m = kernels.number(readonly(at), np.full(len(values), -1, np.int32), inverse, first, used)
    once = _from_texts(_taken(values, used[:m], at), (m,), kind)
    return Keys(once.kind, once.keys[inverse], shape, once.texts, inverse, first[:m])


def _taken(values: Any, at: np.ndarray, ids: np.ndarray) -> Any:
    """The strings at these places of a dictionary; `ids` are the places of all ids, to say where a bad one stands."""
    found = utf8.taken(values, at)
    if found is None:
        raise refusals.bad_text(utf8.to_bytes(values, ids), (len(ids),))
    return found


def _indices(array: Any) -> np.ndarray:
    """Which value each id of a dictionary-encoded array is: int64 (n,), all of them in it."""
    try:
        array.validate()
    except utf8.pyarrow().ArrowException as error:
        raise utf8.broken(str(error)) from error
    at = array.indices.to_numpy().astype(np.int64, copy=False)
    if at.min() < 0 or at.max() >= len(array.dictionary):
        raise utf8.broken("an index beyond its dictionary")
    return at


def _one_chunk(array: Any) -> Any:
    """The chunks of a dictionary-encoded array as one; each may have a dictionary of its own."""
    pa, chunks = utf8.pyarrow(), [chunk for chunk in array.chunks if len(chunk)]
    at = [_indices(chunk) for chunk in chunks]
    values = [utf8.bounded(chunk.dictionary) for chunk in chunks]
    if all(other.equals(values[0]) for other in values[1:]):
        values = values[:1]
    else:
        begins = np.cumsum([0, *map(len, values)])
        at = [own + begin for own, begin in zip(at, begins, strict=False)]
    return pa.DictionaryArray.from_arrays(pa.array(np.concatenate(at)), pa.concat_arrays(values))


def _from_texts(texts: Any, shape: Shape, kind: str | None) -> Keys:
    """Strings as large_string, one for each id, at least one."""
    if kind not in (None, "string"):
        raise refusals.wrong_kind(texts[0].as_py(), "strings", shape, kind)
    keys = np.empty(len(texts), np.uint64)
    threads.run(fingerprint64, threads.even(len(texts), _GRAIN), *utf8.buffers(texts), keys)
    return Keys("string", keys, shape, texts)
