"""The strings themselves: every id comes back as it went in, and two strings with one key are told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import CorruptError, IdError
from hotrow.kernels import readonly, texts, threads
from hotrow.table.memory import Growable
from hotrow.table.placing import ALIASES

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_BYTES = 2**40
_MOST_ROWS = 2**31
_GRAIN = 8192
_LOWER = (1 << int(ALIASES)) - 1


@dataclass(frozen=True)
class Texts:
    """Some of many strings: string i is data[places[step · at[i]] : places[step · at[i] + 1]].

    data uint8, places int64; at int (n,), or None for string i at i. With step 1 places are Arrow's offsets, with step
    2 each string has a beginning and an end of its own.
    """

    data: np.ndarray
    places: np.ndarray
    step: int
    at: np.ndarray | None = None

    def take(self, positions: np.ndarray) -> Texts:
        """Those at `positions`."""
        return Texts(self.data, self.places, self.step, positions if self.at is None else self.at[positions])

    def bytes(self, i: int) -> bytes:
        """String i, as UTF-8."""
        place = self.step * (i if self.at is None else int(self.at[i]))
        return self.data[self.places[place] : self.places[place + 1]].tobytes()

    def offsets(self, first: int = 0) -> np.ndarray:
        """Where each would lie in one array of bytes, one after the other from `first` on: int64 (n + 1,)."""
        assert self.at is not None
        offsets = np.empty(len(self.at) + 1, np.int64)
        bounds = threads.even(len(self.at), _GRAIN)
        arrays = readonly(self.places), self.step, len(self.data), readonly(self.at)
        threads.run(texts.sizes, bounds, *arrays, offsets[1:])
        if len(self.at) and offsets[1:].min() < 0:  # a mapped file is believed until then
            raise CorruptError("a string of this table lies outside of its file; `hotrow verify` says what is broken")
        offsets[0] = first
        return np.cumsum(offsets, out=offsets)

    def copy(self, offsets: np.ndarray, data: np.ndarray) -> None:
        """Write them to `data`, the i-th from offsets[i] on."""
        assert self.at is not None
        bounds = threads.even(len(self.at), _GRAIN)
        arrays = readonly(self.data), readonly(self.places), self.step, readonly(self.at), readonly(offsets)
        threads.run(texts.gather, bounds, *arrays, data)

    def copied(self) -> tuple[np.ndarray, np.ndarray]:
        """All of them, one after the other: uint8, and where each begins and ends, int64 (n + 1,)."""
        offsets = self.offsets()
        data = np.empty(int(offsets[-1]), np.uint8)
        self.copy(offsets, data)
        return data, offsets


class Strings:
    """The string of each row, in one long array of bytes."""

    def __init__(self) -> None:
        self._data: Any = Growable(np.uint8, _MOST_BYTES)
        self._places: Any = Growable(np.int64, 2 * _MOST_ROWS)
        self._step = 2  # a row's beginning and end lie side by side: one cache miss
        self._used = 0
        self.aliases = Aliases()
        self.erased: dict[int, bytes] | None = None
        """While a save goes on, the strings that rows had when they were erased."""

    @classmethod
    def over(cls, data: np.ndarray, offsets: np.ndarray, *, writable: bool) -> Strings:
        """The strings of an Arrow array, row i the i-th: copied to be grown, or as they are to be read."""
        strings = cls()
        strings._used = len(data)
        if writable:
            strings._data.ensure(len(data))
            strings._data.array[: len(data)] = data
            strings._place(np.arange(len(offsets) - 1), offsets)
        else:
            strings._data, strings._places, strings._step = _Fixed(data), _Fixed(offsets), 1
        return strings

    def at(self, rows: np.ndarray) -> Texts:
        """The strings of `rows` (int (n,))."""
        return Texts(self._data.array, self._places.array, self._step, rows)

    def write(self, rows: np.ndarray, source: Texts) -> None:
        """Give `rows` (int32 (n,)) the strings of `source`."""
        if not len(rows):
            return
        offsets = source.offsets(self._used)
        self._used = int(offsets[-1])
        self._data.ensure(self._used)
        source.copy(offsets, self._data.array)
        self._place(rows, offsets)

    def _place(self, rows: np.ndarray, offsets: np.ndarray) -> None:
        """Note that the string of rows[i] lies at offsets[i] : offsets[i + 1]."""
        at = 2 * rows.astype(np.int64)
        if len(at):
            self._places.ensure(int(at.max()) + 2)
        self._places.array[at] = offsets[:-1]
        self._places.array[at + 1] = offsets[1:]

    def tell_apart(
        self,
        given: Texts,
        fingerprints: np.ndarray,
        inverse: np.ndarray,
        first: np.ndarray,
        rows: np.ndarray,
        has_key: Callable[[int], bool],
        grow: bool,
    ) -> np.ndarray | None:
        """The key that each given string goes by, where some string isn't the one that its fingerprint stands for.

        given: all strings of an Arrow array (n,), with their fingerprints uint64 (n,); inverse, first and rows tell the
        distinct fingerprints and the row of each. None, the answer for all but one batch in a universe: fingerprints
        will do.
        """
        clash = self._strangers(given, inverse, first, rows)
        if clash is None and not self.aliases.key_of:
            return None
        suspicious = self.aliases.concern(fingerprints)
        if clash is not None:
            suspicious |= np.isin(inverse, inverse[clash])
        if not suspicious.any():
            return None
        keys = fingerprints.copy()
        new: dict[bytes, int] = {}
        owners: dict[int, bytes] = {}
        present: set[int] = set()
        is_taken = partial(_is_taken, present, fingerprints, has_key)
        for i in np.flatnonzero(suspicious).tolist():
            text, key, row = given.bytes(i), int(fingerprints[i]), int(rows[inverse[i]])
            alias = self.aliases.key_of.get(text) or new.get(text)
            owner = self.at(np.array([row])).bytes(0) if row >= 0 else owners.get(key)
            if alias is None and owner is None:
                owner = owners[key] = text
            if alias is None and text != owner:
                alias = new[text] = self.aliases.propose(key, is_taken)
                present.add(alias)
                if grow:
                    self.aliases.add(text, key, alias)
            if alias is not None:
                keys[i] = alias
        return keys

    def _strangers(self, given: Texts, inverse: np.ndarray, first: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
        """Which given strings aren't the one that their fingerprint stands for: bool (n,), or None for none at all.

        Only the first string of a fingerprint is compared with its row's, all others with the first.
        """
        batch = given.data, given.places
        stored = readonly(self._data.array), readonly(self._places.array), self._step
        strange, other = np.empty(len(first), bool), np.zeros(len(inverse), bool)
        bounds, arrays = threads.even(len(first), _GRAIN), (readonly(first), readonly(rows))
        threads.run(texts.differ_from_rows, bounds, *batch, *arrays, *stored, strange)
        if len(first) < len(inverse):
            bounds, arrays = threads.even(len(inverse), _GRAIN), (readonly(inverse), readonly(first))
            threads.run(texts.differ_from_firsts, bounds, *batch, *arrays, other)
        return other | strange[inverse] if strange.any() or other.any() else None

    def erase(self, rows: np.ndarray) -> None:
        """Overwrite the strings of `rows`, and give up their aliases."""
        gone, erased = self.at(rows), self.erased
        for i, row in enumerate(rows.tolist() if self.aliases.key_of or erased is not None else ()):
            text = gone.bytes(i)
            self.aliases.forget(text)
            if erased is not None:
                erased.setdefault(row, text)
        texts.wipe(self._data.array, self._places.array, readonly(rows))

    def take(self, rows: np.ndarray) -> pa.LargeStringArray:
        """The strings of `rows` as an Arrow array, copied."""
        import pyarrow as pa

        data, offsets = self.at(rows).copied()
        return pa.LargeStringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(data))

    def copy_as_saved(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The strings of `rows` as they were when a save began: uint8, and their offsets, int64 (n + 1,)."""
        erased = self.erased or {}
        lost = [i for i, row in enumerate(rows.tolist()) if row in erased] if erased else []
        data, offsets = self.at(rows).copied()
        if not lost:
            return data, offsets
        texts = [data[start:stop].tobytes() for start, stop in pairwise(offsets)]
        for i in lost:
            texts[i] = erased[int(rows[i])]
        offsets[1:] = np.cumsum([len(text) for text in texts])
        return np.frombuffer(b"".join(texts), np.uint8), offsets

    @property
    def nbytes(self) -> int:
        """Bytes of text in use."""
        return self._used


def _is_taken(present: set[int], fingerprints: np.ndarray, has_key: Callable[[int], bool], key: int) -> bool:
    """Whether a string has this key, or is about to: one of the batch may get its row with just this one."""
    if not present:
        present.update(fingerprints.tolist())
    return key in present or has_key(key)


class Aliases:
    """Keys for strings whose own key another string holds already: a true collision of 64-bit fingerprints.

    The first string keeps the fingerprint; each later one is given a free key here, for good. One in 2⁶⁴ pairs of
    honest strings needs this; somebody who wants collisions can make any number of them.
    """

    def __init__(self) -> None:
        self.key_of: dict[bytes, int] = {}
        self._fingerprints: dict[bytes, int] = {}
        self._keys: set[int] = set()

    def add(self, text: bytes, fingerprint: int, key: int) -> None:
        """Remember that `text` goes by `key`."""
        self.key_of[text] = key
        self._fingerprints[text] = fingerprint
        self._keys.add(key)

    def forget(self, text: bytes) -> None:
        """Give up the alias of `text`, if it has one."""
        self._keys.discard(self.key_of.pop(text, -1))
        self._fingerprints.pop(text, None)

    def concern(self, fingerprints: np.ndarray) -> np.ndarray:
        """Which of these are fingerprints of strings that go by another key: bool (n,)."""
        if not self.key_of:
            return np.zeros(len(fingerprints), bool)
        return np.isin(fingerprints, np.array(list(self._fingerprints.values()), np.uint64))

    def propose(self, fingerprint: int, is_taken: Callable[[int], bool]) -> int:
        """A key that nobody has, for one more string with this fingerprint.

        It has the fingerprint's upper 44 bits: where a table is in shards, all strings of a fingerprint are on one. A
        linear congruence with a period of all lower 20 bits (Hull and Dobell 1962) tries each of these keys once.
        IdError if all are taken, which takes somebody who makes strings that collide.
        """
        block, low = fingerprint & ~_LOWER, fingerprint & _LOWER
        for _ in range(_LOWER + 1):
            low = (low * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) & _LOWER
            key = block | low
            if key and key not in self._keys and not is_taken(key):
                return key
        raise IdError(
            f"a string has the fingerprint {fingerprint}, and all {_LOWER + 1:,} keys for strings with one like that "
            "are taken: somebody makes strings that collide; expected other ids, such as their hash with a secret, "
            "hashlib.blake2b(text, key=secret).hexdigest()"
        )


class _Fixed:
    """A read-only array where a Growable is expected."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
