"""The strings themselves: every id comes back as it went in, and two strings with one key are told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.kernels import fingerprint, readonly, texts, threads
from hotrow.table.memory import Growable

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_BYTES = 2**40
_MOST_ROWS = 2**31
_GRAIN = 8192


@dataclass(frozen=True)
class Texts:
    """Some of many strings: string i is data[starts[at[i]] : ends[at[i]]].

    data uint8, starts and ends int64, at int64 (n,); −1 in `at` is no string.
    """

    data: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    at: np.ndarray

    def take(self, positions: np.ndarray) -> Texts:
        """Those at `positions`."""
        return Texts(self.data, self.starts, self.ends, self.at[positions])

    def bytes(self, i: int) -> bytes:
        """String i, as UTF-8."""
        at = self.at[i]
        return self.data[self.starts[at] : self.ends[at]].tobytes()

    def differ(self, other: Texts) -> np.ndarray:
        """Whether string i isn't the other's string i: bool (n,); False where either is missing."""
        out = np.empty(len(self.at), bool)
        mine, theirs = self._arrays(), other._arrays()
        threads.run(fingerprint.differs, threads.even(len(out), _GRAIN), *mine, *theirs, out)
        return out

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return readonly(self.data), readonly(self.starts), readonly(self.ends), readonly(self.at)


class Strings:
    """The string of each row, in one long array of bytes."""

    def __init__(self) -> None:
        self._data: Any = Growable(np.uint8, _MOST_BYTES)
        self._starts: Any = Growable(np.int64, _MOST_ROWS)
        self._ends: Any = Growable(np.int64, _MOST_ROWS)
        self._used = 0
        self.aliases = Aliases()

    @classmethod
    def over(cls, data: np.ndarray, offsets: np.ndarray, *, writable: bool) -> Strings:
        """The strings of an Arrow array, row i the i-th: copied to be grown, or as they are to be read."""
        strings = cls.__new__(cls)
        if writable:
            strings._data = Growable.holding(data, _MOST_BYTES)
            strings._starts = Growable.holding(offsets[:-1], _MOST_ROWS)
            strings._ends = Growable.holding(offsets[1:], _MOST_ROWS)
        else:
            strings._data, strings._starts, strings._ends = _Fixed(data), _Fixed(offsets[:-1]), _Fixed(offsets[1:])
        strings._used = len(data)
        strings.aliases = Aliases()
        return strings

    def at(self, rows: np.ndarray) -> Texts:
        """The strings of `rows` (int (n,), −1 for none)."""
        return Texts(self._data.array, self._starts.array, self._ends.array, rows.astype(np.int64))

    def write(self, rows: np.ndarray, source: Texts) -> None:
        """Give `rows` (int32 (n,)) the strings of `source`."""
        if not len(rows):
            return
        length = int((source.ends[source.at] - source.starts[source.at]).sum())
        top = int(rows.max()) + 1
        self._data.ensure(self._used + length)
        self._starts.ensure(top)
        self._ends.ensure(top)
        self._used = texts.copy(
            *source._arrays(),  # pyright: ignore[reportPrivateUsage]
            self._data.array,
            self._starts.array,
            self._ends.array,
            readonly(rows),
            self._used,
        )

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

        given (n,) with their fingerprints uint64 (n,); inverse, first and rows tell the distinct fingerprints and the
        row of each. None, the answer for all but one batch in a universe: fingerprints will do.
        """
        clash = given.differ(given.take(first[inverse])) | self.at(rows).differ(given.take(first))[inverse]
        suspicious = self.aliases.concern(fingerprints)
        if clash.any():
            suspicious |= np.isin(inverse, inverse[clash])
        if not suspicious.any():
            return None
        keys = fingerprints.copy()
        new: dict[bytes, int] = {}
        owners: dict[int, bytes] = {}
        present = set(fingerprints[suspicious].tolist())

        def is_taken(key: int) -> bool:
            return key in present or has_key(key)

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

    def erase(self, rows: np.ndarray) -> None:
        """Overwrite the strings of `rows`, and give up their aliases."""
        if self.aliases.key_of:
            gone = self.at(rows)
            for i in range(len(rows)):
                self.aliases.forget(gone.bytes(i))
        texts.wipe(self._data.array, self._starts.array, self._ends.array, readonly(rows))

    def take(self, rows: np.ndarray) -> pa.LargeStringArray:
        """The strings of `rows` as an Arrow array, copied."""
        import pyarrow as pa

        source = self.at(rows)
        n = len(rows)
        lengths = source.ends[source.at] - source.starts[source.at]
        offsets = np.zeros(n + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        data = np.empty(int(offsets[-1]), np.uint8)
        places = np.empty((2, n), np.int64)
        order = np.arange(n, dtype=np.int32)
        texts.copy(*source._arrays(), data, places[0], places[1], readonly(order), 0)  # pyright: ignore[reportPrivateUsage]
        return pa.LargeStringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(data))

    @property
    def nbytes(self) -> int:
        """Bytes of text in use."""
        return self._used


class Aliases:
    """Keys for strings whose own key another string holds already: a true collision of 64-bit fingerprints.

    The first string keeps the fingerprint; each later one is given a free key here, for good. One in 2⁶⁴ pairs of
    honest strings needs this; somebody who wants collisions can make any number of them.
    """

    def __init__(self) -> None:
        self.key_of: dict[bytes, int] = {}
        self._fingerprints: dict[bytes, int] = {}

    def add(self, text: bytes, fingerprint: int, key: int) -> None:
        """Remember that `text` goes by `key`."""
        self.key_of[text] = key
        self._fingerprints[text] = fingerprint

    def forget(self, text: bytes) -> None:
        """Give up the alias of `text`, if it has one."""
        self.key_of.pop(text, None)
        self._fingerprints.pop(text, None)

    def concern(self, fingerprints: np.ndarray) -> np.ndarray:
        """Which of these are fingerprints of strings that go by another key: bool (n,)."""
        if not self.key_of:
            return np.zeros(len(fingerprints), bool)
        return np.isin(fingerprints, np.array(list(self._fingerprints.values()), np.uint64))

    def propose(self, fingerprint: int, is_taken: Callable[[int], bool]) -> int:
        """A key that nobody has, for one more string with this fingerprint."""
        key = fingerprint
        while True:
            key = (key * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) & (2**64 - 1)
            if key and key not in self.key_of.values() and not is_taken(key):
                return key


class _Fixed:
    """A read-only array where a Growable is expected."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
