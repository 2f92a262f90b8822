"""A column as its distinct values and a small number for each row, batch by batch.

    given      "cup", "lantern" │ "cup", "mug"
    codes      0, 1, 0, 2           values  cup, lantern, mug     in the order they are first seen

A row costs the four bytes of its code, whatever its text. What a column can hold as an id is decided here, too.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np

from hotrow.apps.arrow import Array, compute, is_text, pa
from hotrow.errors import IdError, KindError

_MERGE = 1 << 21  # rows that may wait to be merged; later, as many as there are distinct values

_CANONICAL = r"^(0|-?[1-9][0-9]*)$"
_EXACT = {"halffloat": 2.0**11, "float": 2.0**24, "double": 2.0**53}  # from here on, whole floats are no longer exact


class Distinct:
    """Collects the values of a column."""

    def __init__(self) -> None:
        self._values: Array | None = None
        self._codes = array("i")
        self._waiting: list[tuple[Array, np.ndarray]] = []
        self._rows = 0

    def add(self, values: Array, codes: np.ndarray) -> None:
        """Some more rows: row i is values[codes[i]], of the same type as before."""
        self._waiting.append((values, codes))
        self._rows += len(codes)
        if self._rows >= max(_MERGE, 0 if self._values is None else len(self._values)):
            self._merge()

    def _merge(self) -> None:
        """Give the waiting values the numbers that they have, or the next free ones."""
        parts = [values for values, _ in self._waiting]
        if self._values is not None:
            parts.insert(0, self._values)
        merged = pa.concat_arrays(parts).dictionary_encode()
        numbers = merged.indices.to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
        at = len(numbers) - sum(len(values) for values, _ in self._waiting)
        for values, codes in self._waiting:
            self._codes.frombytes(numbers[at : at + len(values)][codes].data.cast("B"))
            at += len(values)
        self._values, self._waiting, self._rows = merged.dictionary, [], 0

    def finish(self) -> tuple[Array, np.ndarray]:
        """The distinct values, and int32 (n,): which of them each row is. There must have been an `add`."""
        if self._waiting:
            self._merge()
        assert self._values is not None
        return self._values, np.frombuffer(self._codes, np.int32)


def plain(column: Array) -> Array:
    """The column in a type that Arrow can compute with: views of text and bytes it can't."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        values = plain(column.dictionary)
        return column if values is column.dictionary else pa.DictionaryArray.from_arrays(column.indices, values)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return column.cast(pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary())
    return column


def encode(column: Array) -> tuple[Array, np.ndarray]:
    """A column without nulls as the values that are in it, in the order they are first seen, and their numbers."""
    if pa.types.is_dictionary(column.type):  # it may hold values that no row uses
        codes = column.indices.to_numpy()
        if codes.dtype == np.int32 and _as_seen(codes, len(column.dictionary)):
            return column.dictionary, codes
        encoded = column.indices.dictionary_encode()
        return column.dictionary.take(encoded.dictionary), encoded.indices.to_numpy()
    encoded = column.dictionary_encode()
    return encoded.dictionary, encoded.indices.to_numpy()


def _as_seen(codes: np.ndarray, values: int) -> bool:
    """Whether codes, int32 (n,), are numbered as they are first seen, and are all of so many values."""
    most = np.maximum.accumulate(codes)
    if not len(codes) or codes[0] or most[-1] != values - 1:
        return False
    return int(np.diff(most).max(initial=0)) <= 1


def missing(column: Array) -> Array:
    """Which rows are null or NaN, which is how pandas writes null."""
    if pa.types.is_dictionary(column.type) and column.dictionary.null_count:
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        return compute.is_null(column, nan_is_null=True)
    return compute.is_null(column)


# --- what an id can be -----------------------------------------------------------------------------------------------


def check_type(kind: Any, name: str) -> None:
    """Refuse a column whose type no id can have."""
    types = pa.types
    of = kind.value_type if types.is_dictionary(kind) else kind
    number = types.is_integer(of) or types.is_floating(of) or types.is_decimal(of)
    if not (number or is_text(of) or types.is_binary(of) or types.is_large_binary(of)):
        hint = "; write one pair a row" if types.is_nested(of) else ""
        raise KindError(f"column {name!r} can't be ids: it is {kind}{hint}. Ids are integers or text")


def to_ids(values: Array, name: str, row: Callable[[int], int]) -> Array:
    """Distinct values of a column whose type `check_type` lets pass as ids: int64, uint64 or large_string.

    row: the number of the row in which value i stands, for messages.
    """
    kind, types = values.type, pa.types
    if types.is_integer(kind):
        return values if types.is_uint64(kind) else values.cast(pa.int64())
    if types.is_floating(kind):
        return _whole(values, name, row)
    if types.is_decimal(kind):
        return _decimals(values, name)
    return values.cast(pa.large_string()) if is_text(kind) else _utf8(values, name, row)


def _whole(values: Array, name: str, row: Callable[[int], int]) -> Array:
    """Floats as int64, if they are whole and small enough to be exact."""
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
    limit = _EXACT[str(values.type)]
    bad = ~((numbers == np.floor(numbers)) & (np.abs(numbers) < limit))
    if bad.any():
        i = int(np.argmax(bad))
        large = abs(numbers[i]) >= limit and np.isfinite(numbers[i])
        why = f"too large to be exact as {values.type}" if large else "not whole"
        raise IdError(f"column {name!r}, row {row(i)}: {values[i].as_py()!r} is {why}. Ids are integers or text")
    return pa.array(numbers.astype(np.int64))


def _decimals(values: Array, name: str) -> Array:
    """Decimals as int64, if they are whole: how some databases write integers."""
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise IdError(f"column {name!r} is {values.type}, and not all of it is whole and in int64") from error


def _utf8(values: Array, name: str, row: Callable[[int], int]) -> Array:
    try:
        return values.cast(pa.large_string())
    except pa.ArrowInvalid:
        for i, value in enumerate(values.to_pylist()):
            try:
                value.decode()
            except UnicodeDecodeError as error:
                raise IdError(f"column {name!r}, row {row(i)}: {value[:40]!r} is no UTF-8") from error
        raise


def to_integers(texts: Array) -> tuple[Array, str]:
    """Distinct texts as int64 or uint64 if each of them is how that integer is written; else as they are, and why.

    >>> from hotrow.apps.arrow import pa
    >>> to_integers(pa.array(["7", "0", "-12"], pa.large_string()))[0].to_pylist()
    [7, 0, -12]
    >>> to_integers(pa.array(["7", "007"], pa.large_string()))[1]
    "'007' isn't how an integer is written"
    """
    canonical = compute.match_substring_regex(texts, _CANONICAL)
    i = compute.index(canonical, pa.scalar(False)).as_py()
    if i >= 0:
        return texts, f"{texts[i].as_py()[:80]!r} isn't how an integer is written"
    for kind in (pa.int64(), pa.uint64()):
        try:
            return texts.cast(kind), ""
        except pa.ArrowInvalid:
            pass
    first = next(text for text in texts.to_pylist() if len(text) > 20 or not -(2**63) <= int(text) < 2**63)
    return texts, f"{first[:80]!r} isn't in the range of int64, and not all are in that of uint64"
