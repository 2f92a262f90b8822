"""Ids that a framework can't hold, as numbers it can: int32 codes, which stand for ids on their way to a layer.

    ids    ["lantern", "cup", "lantern"]        any int64, uint64 or string
    codes  [-2147483647, -2147483646, -2147483647]

Keras inputs are float32 or int32, JAX has no int64 by default, and only TensorFlow has strings. So a model encodes ids
on the host, once, and a layer decodes the codes on the host, where its table finds them: whichever layer, whichever
table, however the framework shuffled, cut or reshaped them between. Codes mean something while their `Words` are held.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from hotrow.bridges.code_batch import CodeBatch
from hotrow.errors import ArgumentError, HotrowError, IdError
from hotrow.kernels import decoding, readonly
from hotrow.table import ids as ids_
from hotrow.table.batch import Bags, Batch, Distinct
from hotrow.table.table import Table

Check = Callable[[Any], None]
FIRST, LAST = -(2**31) + 1, -(2**20)
"""The range of codes: no small number is one, so that ids which were never encoded are noticed."""
PAD = FIRST - 1
"""Stands for no id: what fills up a sequence."""


class Coded(Protocol):
    """What codes stand for: place i has code base + i."""

    base: int

    def __len__(self) -> int: ...


class Words:
    """The distinct ids of one array, and the codes that they were given: id i has code base + i.

    ids   int64 or uint64 (n,), or an Arrow array of strings
    keys  uint64 (n,), as `Batch.keys`
    """

    def __init__(self, kind: str, ids: Any, keys: np.ndarray) -> None:
        self.kind, self.ids, self.keys = kind, ids, keys
        self.base = 0
        self._lock = threading.Lock()
        self._known: WeakKeyDictionary[Table, _Known] = WeakKeyDictionary()
        self._places: dict[Any, int] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def known(self, table: Table) -> _Known | None:
        """What is known of the rows in this table."""
        return self._known.get(table)

    def take(self, which: np.ndarray) -> Any:
        """The ids at int64 (m,)."""
        return self.ids.take(which)

    def place(self, id: Any) -> int:
        """Which of the ids this one is, −1 if none.

        Raises what `to_keys` raises for what can't be one of this kind.
        """
        place = self._places.get(id)
        if place is None:
            place = self._places[id] = self._find(id)
        return place

    def _find(self, id: Any) -> int:
        try:
            keys = ids_.to_keys([id], self.kind)
        except IdError:
            return -1  # beyond the range of this kind
        if keys.texts is None:
            return next(iter(np.flatnonzero(self.keys == keys.keys[0]).tolist()), -1)
        return self.ids.index(keys.texts[0]).as_py()

    def rows(self, table: Table, which: np.ndarray, grow: bool, check: Check | None) -> np.ndarray:
        """The rows of the ids at `which`, int64 (m,) distinct; what the table had once isn't asked for again."""
        with self._lock:
            known = self._all_known(table)
            rows = known.rows[which]
            new = np.flatnonzero(rows < 0)
            if not len(new):
                return rows
            ids = self.take(which[new])
            if check is not None:
                check(ids)
            if grow and table.kind is None:
                table.kind = self.kind  # all of these ids, not the first batch of them, decide
            batch = table.find(ids, grow=grow)
            with table.lock.reading():  # what is forgotten from here on, the batch and `known` are both told
                rows[new] = batch.rows
                known.learn(which[new], batch)
            return rows

    def look(self, table: Table) -> None:
        """Find the rows of all ids before they are asked for, on any thread; what has none in the table gets none."""
        batch = table.find(self.ids)
        with self._lock, table.lock.reading():
            known = self._all_known(table, reading=True)
            new = np.flatnonzero(known.rows < 0)
            known.learn(new, batch, new)

    def tables(self) -> list[Table]:
        """Those in which rows were asked for."""
        with self._lock:
            return list(self._known)

    def _all_known(self, table: Table, *, reading: bool = False) -> _Known:
        known = self._known.get(table)
        if known is None:
            known = self._known[table] = _Known(self, table)
            with nullcontext() if reading else table.lock.reading():
                table.watch(known)
        return known


def look_ahead(before: list[Any], words: list[Any]) -> None:
    """Find the ids of a batch in the tables in which those of the one before were looked up, column by column."""
    for old, new in zip(before, words, strict=False):
        for table in old.tables() if isinstance(old, Words) and isinstance(new, Words) else []:
            with suppress(HotrowError):  # whoever looks them up raises it
                new.look(table)


class _Known:
    """What a table says of the ids of some Words.

    rows  of the table's row_dtype (n,), −1 where that isn't known
    keys  uint64 (n,), as `Batch.keys` of this table: of strings that collide they may be others than those of the Words
    """

    def __init__(self, words: Words, table: Table) -> None:
        self.rows, self.keys = np.full(len(words), -1, table.row_dtype), words.keys
        self._collides = words.kind == "string"

    def learn(self, at: np.ndarray, batch: Batch, of: Any = slice(None)) -> None:
        """The ids at these places, int64 (m,), are those of the batch at places `of`, in this order."""
        self.rows[at] = batch.rows[of]
        if self._collides and not np.array_equal(keys := batch.keys[batch.inverse[of]], self.keys[at]):
            own = self.keys.copy()  # for batches look into the keys as they were
            own[at] = keys
            self.keys = own

    def mark(self, rows: np.ndarray) -> None:
        """Forgotten rows are asked for again."""
        self.rows[np.isin(self.rows, rows)] = -1


_lock = threading.Lock()
_live: WeakValueDictionary[int, Coded] = WeakValueDictionary()
_bases: list[int] = []
_next = FIRST


def encode(ids: Any) -> tuple[np.ndarray, Words]:
    """Codes for ids of any kind, int32 of their shape, and the Words that must be held while the codes are in use.

    Raises what `hotrow.table.ids.to_keys` raises for what can't be ids.

    >>> from hotrow.bridges.codes import encode
    >>> codes, words = encode([["lantern", "cup"], ["cup", "lantern"]])
    >>> (codes - words.base).tolist(), words.ids.to_pylist()
    ([[0, 1], [1, 0]], ['lantern', 'cup'])
    """
    keys = ids_.to_keys(ids, None)
    if keys.texts is not None:
        which, words = _encode_texts(keys)
    else:
        unique = Distinct.of(keys.keys)
        which = unique.inverse
        words = Words(keys.kind, ids_.restore(unique.keys, keys.kind or "int64"), unique.keys)
    issue(words)
    return (which + np.int32(words.base)).reshape(keys.shape), words


def _encode_texts(keys: ids_.Keys) -> tuple[np.ndarray, Words]:
    """Strings, told apart by what they say and not by their keys alone."""
    assert keys.texts is not None
    texts: Any = keys.texts if keys.at is None else keys.texts.take(keys.at)
    encoded = texts.dictionary_encode()
    which = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    first = np.empty(len(encoded.dictionary), np.int64)
    first[which[::-1]] = np.arange(len(which) - 1, -1, -1)
    return which, Words("string", encoded.dictionary, keys.keys[first])


def issue(words: Coded) -> None:
    """Give these a range of codes that nobody holds."""
    global _next
    with _lock:
        live = [(base, held) for base in _bases if (held := _live.get(base)) is not None]
        ranges = [(base, base + max(1, len(held))) for base, held in live]
        start, n = _next, max(1, len(words))
        for _ in range(2 * len(live) + 2):  # once up to the last, and once from the first
            if start + n > LAST:
                start = FIRST
            taken = next((end for base, end in ranges if base < start + n and start < end), None)
            if taken is None and start + n <= LAST:
                break
            start = taken or start
        else:
            raise ArgumentError(
                f"{len(words):,} distinct ids or bags at once are more than can be on their way to a layer"
            )
        words.base, _next = start, start + n
        _live[start] = words
        _bases[:] = sorted([start, *(base for base, _ in live)])


def decode(
    codes: np.ndarray,
    table: Table,
    *,
    mask: Any = None,
    grow: bool = False,
    check: Check | None = None,
    bags: Bags | None = None,
    padded: bool = False,
) -> Batch:
    """The Batch of the ids that these codes stand for, int32 of any shape, in `table`.

    mask, grow  as in `Table.find`
    check       called with ids that the table is asked for the first time, to refuse them
    bags        of which these are the ids, one after the other
    padded      whether PAD may be among them

    Raises ArgumentError for numbers that are no codes, or whose Words are gone.
    """
    known = _all_known(codes, table, bags, padded) if mask is None else None
    if known is not None:
        return known
    flat = codes.reshape(-1).astype(np.int64)
    unique = Distinct.of(flat.view(np.uint64))
    distinct = unique.keys.view(np.int64)
    pads = distinct == PAD if padded else np.zeros(len(distinct), bool)
    parts = _words_of(distinct, pads)
    rows, keys = np.full(len(distinct), -1, table.row_dtype), np.zeros(len(distinct), np.uint64)
    padding = pads.copy() if mask is not None or pads.any() else None
    for words, here in parts:
        which = distinct[here] - words.base
        masked = None if mask is None else which == words.place(mask)
        rows[here] = _rows_but(masked, words, table, which, grow, check)
        known = words.known(table)
        keys[here] = (words if known is None else known).keys[which]
        if padding is not None and masked is not None:
            padding[here] = masked

    def name(position: int) -> str:
        code = flat[position : position + 1]
        words = next(words for words, _ in parts if 0 <= int(code[0]) - words.base < len(words))
        return repr(_plain(words.take(code - words.base)))

    with table.lock.reading():
        forgotten = np.zeros(len(distinct), bool)
        for words, here in parts:  # since they were found
            known = words.known(table)
            if known is not None:
                forgotten[here] = (rows[here] >= 0) & (known.rows[distinct[here] - words.base] < 0)
        rows[forgotten] = -1
        ids, chosen = Distinct(unique.inverse, unique.first, keys), slice(None)
        if len(parts) > 1:
            ids, chosen = _merged(unique, rows, keys)
        padding = None if padding is None else padding[chosen]
        batch = Batch(table, codes.shape, ids, rows[chosen], name, bags, padding)
        batch.forgotten = forgotten[chosen] if forgotten.any() else None
        table.watch(batch)
    return batch


def _rows_but(masked: Any, words: Words, table: Table, which: np.ndarray, grow: bool, check: Check | None) -> Any:
    """The rows of the ids at `which`, −1 for those that are masked, for which the table isn't asked."""
    if masked is None:
        return words.rows(table, which, grow, check)
    found = np.full(len(which), -1, table.row_dtype)
    found[~masked] = words.rows(table, which[~masked], grow, check)
    return found


def _merged(unique: Distinct, rows: np.ndarray, keys: np.ndarray) -> tuple[Distinct, np.ndarray]:
    """Ids that have come with two codes, of different Words, are one again: they have one row."""
    apart = np.where(rows >= 0, rows.astype(np.int64), ~np.arange(len(rows)))
    again = Distinct.of(apart.view(np.uint64))
    return Distinct(again.inverse[unique.inverse], unique.first[again.first], keys[again.first]), again.first


def _all_known(codes: np.ndarray, table: Table, bags: Bags | None, padded: bool) -> Batch | None:
    """The Batch of codes that are of one Words and whose rows are known; None where that isn't so."""
    if not codes.size:
        return None
    low, high = int(codes.min()), int(codes.max())
    has_pads = padded and low == PAD
    if has_pads:
        low = int(codes.min(where=codes != PAD, initial=LAST))
    words = _only_words(low, high)
    known = None if words is None else words.known(table)
    if words is None or known is None:
        return None
    which, rows = np.empty(codes.shape, np.int64), np.empty(codes.size, table.row_dtype)
    flat, given = which.reshape(-1), np.ascontiguousarray(codes, np.int32).reshape(-1)
    with table.lock.reading():  # from the look at the rows until the table knows whom to tell of forgotten ones
        if not decoding.rows_of(readonly(given), words.base, PAD, readonly(known.rows), flat, rows):
            return None
        keys = known.keys

        def name(i: int) -> str:
            return repr(_plain(words.take(flat[i : i + 1])))

        def keys_at(positions: np.ndarray) -> np.ndarray:
            places = flat[positions]  # where all is padding, there may be no keys at all
            return keys[places] if len(keys) else np.zeros(len(places), np.uint64)

        return CodeBatch(table, which, rows, keys_at, name, bags=bags, padded=has_pads)


def _plain(ids: Any) -> Any:
    return (ids.tolist() if isinstance(ids, np.ndarray) else ids.to_pylist())[0]


def held(low: int, high: int) -> Coded | None:
    """What all codes from low to high are of, if they are of one."""
    with _lock:
        i = bisect_right(_bases, low) - 1
        found = _live.get(_bases[i]) if i >= 0 else None
        return found if found is not None and high < found.base + len(found) else None


def _only_words(low: int, high: int) -> Words | None:
    found = held(low, high)
    return found if isinstance(found, Words) else None


def _words_of(codes: np.ndarray, pads: np.ndarray) -> list[tuple[Words, Any]]:
    """Whose codes these are, int64 (m,): each Words, and which of the codes are its own. pads: which are no code."""
    real = codes[~pads] if pads.any() else codes
    if not len(real):
        return []
    words = _only_words(int(real.min()), int(real.max()))
    if words is not None:
        return [(words, slice(None) if len(real) == len(codes) else ~pads)]
    with _lock:
        found = {base: coded for base in _bases if isinstance(coded := _live.get(base), Words)}
    parts = [(words, (codes >= base) & (codes < base + len(words))) for base, words in found.items()]
    parts = [(words, here) for words, here in parts if here.any()]
    if sum(int(here.sum()) for _, here in parts) < len(real):
        refuse_stray(next(c for c in real.tolist() if not any(b <= c < b + len(w) for b, w in found.items())))
    return parts


def refuse_stray(code: int) -> None:
    """ArgumentError for a number that is no code, or not of what is wanted."""
    raise ArgumentError(
        f"got {code}, which stands for no id: expected what hotrow.keras.Model makes of ids. Between the model's "
        "input and a hotrow layer, ids may be cut and reshaped, but not calculated with; and a batch may be "
        "trained on only while it is among the latest"
    )
