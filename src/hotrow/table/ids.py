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
    Arrow arrays of integers, floats, strings, UTF-8 binary, and dictionaries of these; what a dictionary
        holds and no id uses doesn't matter
    anything with Arrow's C interface, or `__array__` (polars, pandas, torch on the CPU, JAX, TensorFlow)

bytes are UTF-8 and the same id as the str of that text. PyArrow is imported when there are strings or Arrow data.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import numpy as np

from hotrow.errors import ArgumentError, IdError, KindError
from hotrow.kernels import readonly, threads
from hotrow.kernels.fingerprint import fingerprint64

Shape = tuple[int, ...]
LargeStringArray = Any  # pyarrow's, which has no types

_INT64 = np.dtype(np.int64)
_MOST = 2**63 - 1  # in int64
_RANGES = {"int64": range(-(2**63), 2**63), "uint64": range(2**64)}
_GRAIN = 1 << 15  # strings that are worth a thread
_DEEPEST = 32  # nested lists; no array has more axes
_FAMILIES = {"int": (int, np.integer), "float": (float, np.floating), "str": (str,), "bytes": (bytes,)}
_NULLS = {"NoneType", "NAType", "NaTType", "MaskedConstant"}  # by name: pandas isn't imported for it


@dataclass(frozen=True)
class Keys:
    """The keys of ids, in the order of the ids.

    kind   "int64", "uint64" or "string"; "" for no ids at all, which decide nothing
    keys   uint64 (n,), contiguous; may be a view of the array that was given
    shape  of the ids, () for a single one
    texts  strings only: one for each id, or the distinct values of a dictionary-encoded array
    at     int64 (n,), which of `texts` each id is; None where id i is text i
    """

    kind: str
    keys: np.ndarray
    shape: tuple[int, ...]
    texts: LargeStringArray | None
    at: np.ndarray | None


def to_keys(ids: Any, kind: str | None) -> Keys:
    """Convert ids, of a table of this kind or, with None, of the kind that they show.

    They show "string" if they are str or bytes; "int64" if all of them fit it; else "uint64".

    Raises KindError for ids that aren't of this kind, for mixed types and for types that are no ids (bool among them);
    IdError for one that is null, not whole, too large to be exact, out of range, or not UTF-8; ArgumentError for ragged
    lists. Nothing is converted then.

    >>> from hotrow.table.ids import to_keys
    >>> keys = to_keys([[3, 5]], None)
    >>> keys.kind, keys.keys.tolist(), keys.shape
    ('int64', [3, 5], (1, 2))
    >>> to_keys("cup", None).keys == to_keys([b"cup"], "string").keys
    array([ True])
    """
    if type(ids) is np.ndarray:
        if ids.dtype is _INT64 and kind in (None, "int64") and ids.size and ids.flags.c_contiguous:
            return Keys("int64", ids.reshape(-1).view(np.uint64), ids.shape, None, None)
        return _from_array(ids, kind)
    if isinstance(ids, (list, tuple, range)):
        flat = list(cast("Sequence[Any]", ids))
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
    if kind not in _RANGES:
        raise KindError(f"keys of kind {kind!r} aren't the ids; only those of 'int64' and 'uint64' are")
    return keys.view(kind)


def buffers(texts: LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of an Arrow array of n strings, and where each begins and ends, without copying.

    Returns data uint8 and offsets int64 (n + 1,): string i is data[offsets[i] : offsets[i + 1]]. Offsets don't begin
    at 0 in a slice.

    >>> import pyarrow as pa
    >>> from hotrow.table.ids import buffers
    >>> buffers(pa.array(["cat", "dog"], pa.large_string()))[1]
    array([0, 3, 6])
    """
    _, places, data = texts.buffers()
    if not len(texts):  # Arrow may leave out either buffer then
        return readonly(np.zeros(0, np.uint8)), readonly(np.zeros(1, np.int64))
    offsets = np.frombuffer(places, np.int64, len(texts) + 1, 8 * texts.offset)
    return readonly(np.frombuffer(b"" if data is None else data, np.uint8)), readonly(offsets)


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
    if code in "OUST":
        return _from_list(array.reshape(-1).tolist(), array.shape, kind)
    raise _offence(list(array.reshape(-1)[:1]), array.shape)


def _nothing(shape: Shape, kind: str | None) -> Keys:
    """No ids: they fit a table of any kind, and decide none."""
    texts = _pyarrow().array([], _pyarrow().large_string()) if kind == "string" else None
    return Keys(kind or "", np.zeros(0, np.uint64), shape, texts, None)


def _from_integers(array: np.ndarray, kind: str | None) -> Keys:
    """int64 or uint64, at least one."""
    flat = np.ascontiguousarray(array).reshape(-1)
    signed = flat.dtype == _INT64
    if kind is None:
        kind = "int64" if signed or flat.max() <= _MOST else "uint64"
    if kind == "string":
        raise _wrong_kind(flat[0], "integers", array.shape, kind)
    if signed and kind == "uint64" and flat.min() < 0:
        raise _out_of_range(flat, int(np.argmax(flat < 0)), array.shape, kind)
    if not signed and kind == "int64" and flat.max() > _MOST:
        raise _out_of_range(flat, int(np.argmax(flat > _MOST)), array.shape, kind)
    return Keys(kind, flat.view(np.uint64), array.shape, None, None)


def _from_floats(array: np.ndarray, kind: str | None, bits: int) -> Keys:
    """Floats, of which those below 2**bits are exact."""
    with np.errstate(invalid="ignore"):
        good = (np.abs(array) < 2.0**bits) & (np.trunc(array) == array)
    if not good.all():
        raise _bad_float(array.reshape(-1), int(np.argmin(good.reshape(-1))), array.shape, bits)
    return _from_integers(array.astype(np.int64), kind)


def _exact_bits(dtype: Any) -> int:
    return min(53, np.finfo(dtype).nmant + 1)


def _from_list(flat: list[Any], shape: Shape, kind: str | None) -> Keys:
    """Python objects: one type of id, or lists of them."""
    flat, shape, types = _unnest(flat, shape)
    if not flat:
        return _nothing(shape, kind)
    if types == {np.ndarray}:
        return _from_array(_stack(flat, shape), kind)
    families = {_family(t) for t in types}
    family = families.pop()
    if families or not family:
        raise _offence(flat, shape)
    if family == "int":
        return _from_ints(flat if types == {int} else list(map(int, flat)), shape, kind)
    if family == "float":
        array = np.array(flat, np.result_type(*map(_float_dtype, types)))
        return _from_floats(array.reshape(shape), kind, min(_exact_bits(_float_dtype(t)) for t in types))
    return _from_texts(_str_to_arrow(flat, shape) if family == "str" else _bytes_to_arrow(flat, shape), shape, kind)


def _unnest(flat: list[Any], shape: Shape) -> tuple[list[Any], Shape, set[type]]:
    """Lists of lists, one level after the other, to one list, its shape, and the types in it.

    [[1, 2], [3, 4]], (2,)  →  [1, 2, 3, 4], (2, 2), {int}
    """
    while True:
        types = set(map(type, flat))
        nested = sum(issubclass(t, (list, tuple)) for t in types)
        if not nested:
            return flat, shape, types
        if nested < len(types) or len(set(map(len, flat))) > 1 or len(shape) == _DEEPEST:
            raise _ragged([_length(x) for x in flat], shape)
        shape = (*shape, len(flat[0]))
        flat = list(chain.from_iterable(flat))


def _length(item: Any) -> int:
    return len(cast("Sequence[Any]", item)) if isinstance(item, (list, tuple)) else -1


def _stack(arrays: list[np.ndarray], shape: Shape) -> np.ndarray:
    """A list of arrays of one dtype and one shape, as a single one."""
    for i, array in enumerate(arrays):
        if array.dtype != arrays[0].dtype:
            first, other = f"{arrays[0].dtype} at position 0", f"{array.dtype}{_place(shape, i)}"
            raise KindError(f"got arrays of mixed types, {first} and {other}; expected one dtype, e.g. all of int64")
    if len({array.shape for array in arrays}) > 1:
        raise _ragged([array.shape for array in arrays], shape)
    return np.stack(arrays).reshape(*shape, *arrays[0].shape)


def _family(t: type) -> str:
    """What ids of this Python type are: "int", "float", "str", "bytes", or "" if they can't be ids."""
    if issubclass(t, (bool, np.timedelta64)):  # Python and NumPy take these for integers
        return ""
    return next((name for name, parents in _FAMILIES.items() if issubclass(t, parents)), "")


def _float_dtype(t: Any) -> np.dtype[Any]:
    return np.dtype(cast("Any", t if issubclass(t, np.generic) else np.float64))


def _from_ints(flat: list[int], shape: Shape, kind: str | None) -> Keys:
    """Python ints; NumPy itself would make float64 of [1, 2**63]."""
    if kind == "string":
        raise _wrong_kind(flat[0], "integers", shape, kind)
    for dtype in [np.uint64] if kind == "uint64" else [np.int64, np.uint64]:
        try:
            array = np.fromiter(flat, dtype, len(flat))
        except OverflowError:
            continue
        return _from_integers(array.reshape(shape), kind)
    raise _beyond(flat, shape, kind)


# --- strings and Arrow; in here alone is PyArrow wanted ---------------------------------------------------------------


def _pyarrow() -> Any:
    import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs] — not above: integers do without it

    return pa


def _from_other(ids: Any, kind: str | None) -> Keys:
    """An object of another library, or none that we know."""
    dtype = getattr(ids, "dtype", None)
    inner = getattr(getattr(dtype, "categories", None), "dtype", dtype)  # of a pandas Categorical: its values'
    if isinstance(inner, np.dtype) and (inner is dtype or inner.kind == "O"):
        return _from_array(_as_numpy(ids), kind)  # what NumPy says is what there is; Arrow guesses at objects
    convert = next((to for attribute, to in _ARROW.items() if hasattr(ids, attribute)), None)
    if convert is not None:
        try:
            return _from_arrow(_as_arrow(ids, convert), kind)
        except _UnreadableError as error:
            if not hasattr(ids, "__array__"):
                raise KindError(f"Arrow can't read this {_name(ids)} ({error}); expected ids, e.g. a list") from error
    if hasattr(ids, "__array__"):
        return _from_array(_as_numpy(ids), kind)
    if isinstance(ids, Iterable):  # a set has no order, a dict two kinds of things, a generator only one reading
        raise KindError(f"got a {_name(ids)}; expected a list, tuple or array of ids, e.g. table.lookup(list(ids))")
    return _from_list([ids], (), kind)


class _UnreadableError(Exception):
    """Arrow was promised an array, and got something else."""


def _as_arrow(ids: Any, convert: str) -> Any:
    """The Array or ChunkedArray that `ids` offers."""
    pa = _pyarrow()
    if isinstance(ids, (pa.Array, pa.ChunkedArray)):
        return ids
    try:
        return getattr(pa, convert)(ids)
    except Exception as error:  # a library's own
        raise _UnreadableError(str(error)) from error


def _as_numpy(ids: Any) -> np.ndarray:
    if isinstance(ids, np.ndarray):
        mask = np.ma.getmaskarray(cast("Any", ids))
        if mask.any():
            raise _null("a masked element", mask.shape, int(np.argmax(mask.reshape(-1))))
    try:
        return np.asarray(cast("Any", ids))
    except Exception as error:  # a library's own
        raise KindError(
            f"NumPy can't read this {_name(ids)} ({error}); expected an array of integers in the CPU's memory, "
            "e.g. tensor.detach().cpu()"
        ) from error


def _from_arrow(array: Any, kind: str | None) -> Keys:
    """An Arrow Array or ChunkedArray of any type."""
    types = _pyarrow().types
    shape = (len(array),)
    if not len(array):
        return _nothing(shape, kind)
    if types.is_dictionary(array.type):
        return _from_dictionary(array, kind)
    if "list" in str(array.type).split("<")[0]:
        raise ArgumentError(f"got an Arrow array of {array.type}{_place(shape, 0)}; {_BAGS}")
    is_number = types.is_integer(array.type) or types.is_floating(array.type)
    if not is_number and not types.is_null(array.type) and _wide_type(array.type) is None:
        raise _no_id(array[0], f"Arrow type {array.type}", shape, 0)
    _refuse_nulls(array)
    if is_number:
        numbers = array.to_numpy() if hasattr(array, "chunks") else array.to_numpy(zero_copy_only=False)
        return _from_array(numbers, kind)
    return _from_texts(_to_texts(array), shape, kind)


def _refuse_nulls(array: Any) -> None:
    if array.null_count:
        raise _null("null", (len(array),), int(np.argmax(np.asarray(array.is_null()))))


def _wide_type(type_: Any) -> Any:
    """The type with 64-bit offsets for a type of strings or binary; None for any other type."""
    pa = _pyarrow()
    if type_ in (pa.string(), pa.large_string(), pa.string_view()):
        return pa.large_string()
    return pa.large_binary() if type_ in (pa.binary(), pa.large_binary(), pa.binary_view()) else None


def _from_dictionary(array: Any, kind: str | None) -> Keys:
    """A dictionary-encoded array: few strings are hashed and stand for many ids."""
    _refuse_nulls(array)
    if hasattr(array, "chunks"):
        array = _one_chunk(array)
    values, at = array.dictionary, array.indices.to_numpy().astype(np.int64)
    wide = _wide_type(values.type)
    if wide is None or len(values) > len(at):  # nothing is won by going through all of the values
        return _from_arrow(_take(values, at), kind)
    used = np.zeros(len(values), bool)
    used[at] = True
    if not used.all():
        values, at = _take(values, np.flatnonzero(used)), (np.cumsum(used) - 1)[at]
    try:
        keys = _from_arrow(values, kind)
    except (IdError, KindError):
        return _from_arrow(_take(values, at), kind)  # the same again, told by the place of the id
    return Keys(keys.kind, keys.keys[at], (len(at),), keys.texts, at)


def _one_chunk(array: Any) -> Any:
    """The chunks of a dictionary-encoded array as one; each may have a dictionary of its own."""
    pa = _pyarrow()
    chunks = array.chunks
    indices = pa.concat_arrays([chunk.indices.cast(pa.int64()) for chunk in chunks])
    values, first = [chunks[0].dictionary], chunks[0].dictionary
    if any(not chunk.dictionary.equals(first) for chunk in chunks[1:]):
        values = [chunk.dictionary for chunk in chunks]
        ends = np.cumsum([len(v) for v in values])
        moved = np.repeat(ends - [len(v) for v in values], [len(chunk) for chunk in chunks])
        indices = pa.array(indices.to_numpy() + moved)
    return pa.DictionaryArray.from_arrays(indices, pa.concat_arrays([_widen(v) for v in values]))


def _widen(values: Any) -> Any:
    wide = _wide_type(values.type)
    return values if wide is None else values.cast(wide)


def _take(values: Any, at: np.ndarray) -> Any:
    """The values at these positions; widened, for Arrow has no `take` of views, and 32-bit offsets may overflow."""
    return _widen(values).take(_pyarrow().array(at))


def _to_texts(array: Any) -> Any:
    """An Arrow array of strings or binary without nulls, checked, as large_string in one chunk."""
    pa = _pyarrow()
    try:
        array.validate(full=True)  # Arrow's string type is a promise that others made
        texts = array.cast(pa.large_string())
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):  # broken offsets: not to be read at all
            raise IdError(f"got a broken Arrow array ({error}); expected one that passes ids.validate()") from error
        raise _bad_utf8(_to_bytes(array), (len(array),)) from error
    if not hasattr(texts, "chunks"):
        return texts
    return texts.chunk(0) if texts.num_chunks == 1 else texts.combine_chunks()


def _to_bytes(array: Any) -> list[bytes]:
    pa = _pyarrow()
    chunks = getattr(array, "chunks", [array])
    return [raw for chunk in chunks for raw in _widen(chunk).view(pa.large_binary()).to_pylist()]


def _str_to_arrow(flat: list[str], shape: Shape) -> Any:
    pa = _pyarrow()
    try:
        return pa.array(flat, pa.large_string())
    except UnicodeEncodeError as error:
        raise _lone_surrogate(flat, shape) from error


def _bytes_to_arrow(flat: list[bytes], shape: Shape) -> Any:
    pa = _pyarrow()
    try:
        return pa.array(flat, pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid as error:
        raise _bad_utf8(flat, shape) from error


def _from_texts(texts: Any, shape: Shape, kind: str | None) -> Keys:
    """Strings as large_string, one for each id, at least one."""
    if kind not in (None, "string"):
        raise _wrong_kind(texts[0].as_py(), "strings", shape, kind)
    keys = np.empty(len(texts), np.uint64)
    threads.run(fingerprint64, threads.even(len(texts), _GRAIN), *buffers(texts), keys)
    return Keys("string", keys, shape, texts, None)


# --- what to say when it can't be -------------------------------------------------------------------------------------

_ARROW = {"__arrow_c_stream__": "chunked_array", "__arrow_c_array__": "array", "__arrow_array__": "array"}
_BAGS = "ragged groups of ids go as flat values and offsets: table.lookup(values, offsets=[0, 2, 5])"
_ALIKE = {
    frozenset({"int", "float"}): "list(map(int, ids))",
    frozenset({"str", "bytes"}): "[i.decode() if isinstance(i, bytes) else i for i in ids]",
}
_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 50


def _name(item: Any) -> str:
    return type(item).__name__


def _show(item: Any) -> str:
    """A short repr, without the name of NumPy's or Arrow's type."""
    plain: Any = item
    if isinstance(item, (np.number, np.bool_, np.str_, np.bytes_)):
        plain = cast("Any", item).item()
    try:
        return _shortened.repr(plain.as_py() if hasattr(plain, "as_py") else plain)
    except ValueError:  # Python doesn't write out an int of thousands of digits
        return f"an int of {plain.bit_length()} bits" if isinstance(plain, int) else f"a {_name(plain)}"


def _place(shape: Shape, i: int) -> str:
    if not shape:
        return ""
    index = np.unravel_index(i, shape)
    return f" at position {int(index[0])}" if len(shape) == 1 else f" at position {tuple(map(int, index))}"


def _given(item: Any, shape: Shape, i: int) -> str:
    return f"{_show(item)}{_place(shape, i)}"


def _wrong_kind(item: Any, right: str, shape: Shape, kind: str | None) -> KindError:
    own, other = ("strings", "int64") if right == "integers" else ("integers", "string")
    return KindError(
        f"got {_given(item, shape, 0)} for a table of {kind} ids; expected {own}. "
        f'A table of {right} is Table(…, ids="{other}")'
    )


def _out_of_range(flat: Sequence[Any] | np.ndarray, i: int, shape: Shape, kind: str | None) -> IdError:
    item = int(flat[i])
    given = f"got {_given(item, shape, i)}"
    fits = [name for name, numbers in _RANGES.items() if item in numbers]
    if not fits:
        return IdError(f"{given}, beyond 64 bits; expected -2**63 to 2**64 - 1. Longer ids can be strings: str(id)")
    limits = "from 0 to 2**64 - 1" if kind == "uint64" else "from -2**63 to 2**63 - 1"
    right = f'Table(…, ids="{fits[0]}")'
    return IdError(f"{given} for a table of {kind} ids; expected integers {limits}. A table for such ids is {right}")


def _beyond(flat: list[int], shape: Shape, kind: str | None) -> IdError:
    """The error for Python ints that neither int64 nor uint64 holds all of."""
    wanted = [_RANGES[name] for name in _RANGES if kind in (None, name)]
    for i, item in enumerate(flat):
        if not any(item in numbers for numbers in wanted):
            return _out_of_range(flat, i, shape, kind)
    low = next(i for i, item in enumerate(flat) if item < 0)
    high = next(i for i, item in enumerate(flat) if item > _MOST)
    return IdError(
        f"got {_given(flat[low], shape, low)} and {_given(flat[high], shape, high)}, which no 64-bit integer type has "
        'both of; expected -2**63 to 2**63 - 1, Table(…, ids="int64"), or 0 to 2**64 - 1, Table(…, ids="uint64")'
    )


def _offence(flat: list[Any], shape: Shape) -> IdError | KindError:
    """The error for Python objects that aren't all of one type of id: at the first that isn't as the one before."""
    first = ""
    for i, item in enumerate(flat):
        family = _family(type(item))  # pyright: ignore[reportUnknownArgumentType]
        if _is_null(item):
            return _null(_show(item), shape, i)
        if not family:
            return _no_id(item, f"type {_name(item)}", shape, i)
        if first and family != first:
            right = _ALIKE.get(frozenset({first, family}), "list(map(str, ids))")
            return KindError(
                f"got mixed types, {_given(flat[0], shape, 0)} and {_given(item, shape, i)}; "
                f"expected all integers or all strings, e.g. table.lookup({right})"
            )
        first = family
    raise AssertionError("unreachable: called for ids that are of one type")


def _is_null(item: Any) -> bool:
    if isinstance(item, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(cast("Any", item)))
    is_nan = isinstance(item, (float, np.floating)) and bool(np.isnan(cast("Any", item)))
    return is_nan or _name(item) in _NULLS


def _null(what: str, shape: Shape, i: int) -> IdError:
    return IdError(
        f"got {what}{_place(shape, i)}, where an id is missing; expected an integer or a string. Leave it out, or give "
        "all that are missing an id of their own, e.g. table.lookup([-1 if i is None else i for i in ids])"
    )


def _no_id(item: Any, what: str, shape: Shape, i: int) -> KindError:
    example = 'table.lookup([3, 5]) or table.lookup(["cup", "hat"])'
    if isinstance(item, (bool, np.bool_)) or what == "Arrow type bool":
        example = "table.lookup(np.asarray(ids, 'int64')) if 0 and 1 are meant"
    return KindError(f"got {_given(item, shape, i)}, of {what}; expected integers or strings, e.g. {example}")


def _bad_float(flat: np.ndarray, i: int, shape: Shape, bits: int) -> IdError:
    item = flat[i]
    if np.isnan(item):
        return _null("nan", shape, i)
    given = f"got {_given(item, shape, i)}"
    if abs(item) < 2.0**bits or abs(item) == np.inf:
        return IdError(f"{given}, not a whole number; expected integers, e.g. np.floor(ids).astype('int64')")
    return IdError(
        f"{given}, which may have been another number before it became {flat.dtype} (exact below 2**{bits}); expected "
        "integers that were never floats, e.g. np.array([3, 5], 'int64')"
    )


def _ragged(lengths: list[Any], shape: Shape) -> ArgumentError:
    """lengths: of each list, -1 for what is no list."""
    i = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
    if i is None:
        return ArgumentError(f"got lists nested more than {_DEEPEST} deep; expected ids, or lists of ids; {_BAGS}")
    first, other = ("no list" if lengths[k] == -1 else f"one of length {lengths[k]}" for k in (0, i))
    return ArgumentError(
        f"got ragged lists, {first}{_place(shape, 0)} and {other}{_place(shape, i)}; expected one length; {_BAGS}"
    )


def _lone_surrogate(flat: list[str], shape: Shape) -> IdError:
    i = next(i for i, text in enumerate(flat) if any("\ud800" <= c <= "\udfff" for c in text))
    return IdError(
        f"got {_given(flat[i], shape, i)}, which has a lone surrogate; expected text that UTF-8 can hold, "
        "e.g. table.lookup(text.encode('utf-8', 'replace'))"
    )


def _bad_utf8(flat: list[bytes], shape: Shape) -> IdError:
    i = next(i for i, raw in enumerate(flat) if not _is_utf8(raw))
    return IdError(
        f"got {_given(flat[i], shape, i)}, which isn't UTF-8; expected text, e.g. table.lookup(raw.decode('latin-1')), "
        "or table.lookup(raw.hex()) for any bytes"
    )


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
