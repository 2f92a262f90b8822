"""What is said of ids that can't be: what was given and where, what was expected, and the call that would be right.

Each function returns the error, for its caller to raise. `shape` is that of all ids, `i` a position among them.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from hotrow.errors import ArgumentError, IdError, KindError

Shape = tuple[int, ...]

MOST = 2**63 - 1  # in int64
RANGES = {"int64": range(-(2**63), 2**63), "uint64": range(2**64)}
DEEPEST = 32  # nested lists; no array has more axes
_FAMILIES = {"int": (int, np.integer), "float": (float, np.floating), "str": (str,), "bytes": (bytes,)}
_NULLS = {"NoneType", "NAType", "NaTType", "MaskedConstant"}  # by name: pandas isn't imported for it
BAGS = "ragged groups of ids go as flat values and offsets: table.lookup(values, offsets=[0, 2, 5])"
_ALIKE = {
    frozenset({"int", "float"}): "list(map(int, ids))",
    frozenset({"str", "bytes"}): "[i.decode() if isinstance(i, bytes) else i for i in ids]",
}
_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 50


def family(t: type) -> str:
    """What ids of this Python type are: "int", "float", "str", "bytes", or "" if they can't be ids."""
    if issubclass(t, (bool, np.timedelta64)):  # Python and NumPy take these for integers
        return ""
    return next((name for name, parents in _FAMILIES.items() if issubclass(t, parents)), "")


def name_of(item: Any) -> str:
    """The name of its type."""
    return type(item).__name__


def _show(item: Any) -> str:
    """A short repr, without the name of NumPy's or Arrow's type."""
    plain: Any = item
    if isinstance(item, (np.number, np.bool_, np.str_, np.bytes_)):
        plain = cast("Any", item).item()
    try:
        return _shortened.repr(plain.as_py() if hasattr(plain, "as_py") else plain)
    except ValueError:  # Python doesn't write out an int of thousands of digits
        return f"an int of {plain.bit_length()} bits" if isinstance(plain, int) else f"a {name_of(plain)}"


def place(shape: Shape, i: int) -> str:
    """Where it stands: " at position 3", " at position (1, 2)", or nothing for a single id."""
    if not shape:
        return ""
    index = np.unravel_index(i, shape)
    return f" at position {int(index[0])}" if len(shape) == 1 else f" at position {tuple(map(int, index))}"


def _given(item: Any, shape: Shape, i: int) -> str:
    return f"{_show(item)}{place(shape, i)}"


def wrong_kind(item: Any, right: str, shape: Shape, kind: str | None) -> KindError:
    """Strings for a table of integers, or integers for one of strings."""
    own, other = ("strings", "int64") if right == "integers" else ("integers", "string")
    return KindError(
        f"got {_given(item, shape, 0)} for a table of {kind} ids; expected {own}. "
        f'A table of {right} is Table(…, ids="{other}")'
    )


def out_of_range(flat: Sequence[Any] | np.ndarray, i: int, shape: Shape, kind: str | None) -> IdError:
    """An integer that this kind doesn't hold."""
    item = int(flat[i])
    given = f"got {_given(item, shape, i)}"
    fits = [name for name, numbers in RANGES.items() if item in numbers]
    if not fits:
        return IdError(f"{given}, beyond 64 bits; expected -2**63 to 2**64 - 1. Longer ids can be strings: str(id)")
    limits = "from 0 to 2**64 - 1" if kind == "uint64" else "from -2**63 to 2**63 - 1"
    right = f'Table(…, ids="{fits[0]}")'
    return IdError(f"{given} for a table of {kind} ids; expected integers {limits}. A table for such ids is {right}")


def beyond(flat: list[int], shape: Shape, kind: str | None) -> IdError:
    """The error for Python ints that neither int64 nor uint64 holds all of."""
    wanted = [RANGES[name] for name in RANGES if kind in (None, name)]
    for i, item in enumerate(flat):
        if not any(item in numbers for numbers in wanted):
            return out_of_range(flat, i, shape, kind)
    low = next(i for i, item in enumerate(flat) if item < 0)
    high = next(i for i, item in enumerate(flat) if item > MOST)
    return IdError(
        f"got {_given(flat[low], shape, low)} and {_given(flat[high], shape, high)}, which no 64-bit integer type has "
        'both of; expected -2**63 to 2**63 - 1, Table(…, ids="int64"), or 0 to 2**64 - 1, Table(…, ids="uint64")'
    )


def offence(flat: list[Any], shape: Shape) -> IdError | KindError:
    """The error for Python objects that aren't all of one type of id: at the first that isn't as the one before."""
    first = ""
    for i, item in enumerate(flat):
        own = family(type(item))  # pyright: ignore[reportUnknownArgumentType]
        if _is_null(item):
            return null(_show(item), shape, i)
        if not own:
            return no_id(item, f"type {name_of(item)}", shape, i)
        if first and own != first:
            right = _ALIKE.get(frozenset({first, own}), "list(map(str, ids))")
            return KindError(
                f"got mixed types, {_given(flat[0], shape, 0)} and {_given(item, shape, i)}; "
                f"expected all integers or all strings, e.g. table.lookup({right})"
            )
        first = own
    raise AssertionError("unreachable: called for ids that are of one type")


def _is_null(item: Any) -> bool:
    if isinstance(item, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(cast("Any", item)))
    is_nan = isinstance(item, (float, np.floating)) and bool(np.isnan(cast("Any", item)))
    return is_nan or name_of(item) in _NULLS


def null(what: str, shape: Shape, i: int) -> IdError:
    """A missing id: None, NaN, NaT, a null of Arrow's."""
    return IdError(
        f"got {what}{place(shape, i)}, where an id is missing; expected an integer or a string. Leave it out, or give "
        "all that are missing an id of their own, e.g. table.lookup([-1 if i is None else i for i in ids])"
    )


def no_id(item: Any, what: str, shape: Shape, i: int) -> KindError:
    """Of a type that no id has."""
    example = 'table.lookup([3, 5]) or table.lookup(["cup", "hat"])'
    if isinstance(item, (bool, np.bool_)) or what == "Arrow type bool":
        example = "table.lookup(np.asarray(ids, 'int64')) if 0 and 1 are meant"
    return KindError(f"got {_given(item, shape, i)}, of {what}; expected integers or strings, e.g. {example}")


def bad_float(flat: np.ndarray, i: int, shape: Shape, bits: int) -> IdError:
    """NaN, not whole, or too large to be exact."""
    item = flat[i]
    if np.isnan(item):
        return null("nan", shape, i)
    given = f"got {_given(item, shape, i)}"
    if abs(item) < 2.0**bits or abs(item) == np.inf:
        return IdError(f"{given}, not a whole number; expected integers, e.g. np.floor(ids).astype('int64')")
    return IdError(
        f"{given}, which may have been another number before it became {flat.dtype} (exact below 2**{bits}); expected "
        "integers that were never floats, e.g. np.array([3, 5], 'int64')"
    )


def ragged(lengths: list[Any], shape: Shape) -> ArgumentError:
    """Lists of different lengths; -1 stands for what is no list."""
    i = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
    if i is None:
        return ArgumentError(f"got lists nested more than {DEEPEST} deep; expected ids, or lists of ids; {BAGS}")
    first, other = ("no list" if lengths[k] == -1 else f"one of length {lengths[k]}" for k in (0, i))
    return ArgumentError(
        f"got ragged lists, {first}{place(shape, 0)} and {other}{place(shape, i)}; expected one length; {BAGS}"
    )


def bad_text(flat: list[Any], shape: Shape) -> IdError:
    """A lone surrogate in a str, or bytes that aren't UTF-8."""
    i = next(i for i, text in enumerate(flat) if not _is_utf8(text))
    given = f"got {_given(flat[i], shape, i)}"
    if isinstance(flat[i], str):
        right = "table.lookup(text.encode('utf-8', 'replace'))"
        return IdError(f"{given}, which has a lone surrogate; expected text that UTF-8 can hold, e.g. {right}")
    right = "table.lookup(raw.decode('latin-1')), or table.lookup(raw.hex()) for any bytes"
    return IdError(f"{given}, which isn't UTF-8; expected text, e.g. {right}")


def beyond_unicode(point: int, shape: Shape, i: int) -> IdError:
    """A NumPy string with a number in it that is no code point."""
    return IdError(
        f"got a NumPy string{place(shape, i)} with code point {point:#x}, beyond Unicode; expected text, "
        'e.g. np.array(["cup"])'
    )


def _is_utf8(text: str | bytes) -> bool:
    try:
        text.encode() if isinstance(text, str) else text.decode()
    except UnicodeError:
        return False
    return True
