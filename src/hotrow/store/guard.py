"""What a view has found is compared with its checksums before it is given out, a chunk at a time and each once."""

from __future__ import annotations

import zlib
from pathlib import Path
from threading import Lock

import numpy as np

from hotrow.errors import CorruptError
from hotrow.store.files import Part, differences, open_part
from hotrow.store.format import map_bytes, spans_of
from hotrow.store.manifest import INDEX, KEYS, STRINGS, WEIGHTS, Manifest
from hotrow.table.index import Index


class Guard:
    """The mapped files of a snapshot, and which of their chunks are known to be what was written.

    Each method raises CorruptError, with the file and the bytes, where a chunk isn't. Lookups by any number of threads.
    """

    def __init__(self, folder: Path, manifest: Manifest, dim: int) -> None:
        parts, n = manifest.parts, manifest.rows
        self._keys = _Mapped(folder, parts[KEYS], "keys", "U64", n)
        self._weights = _Mapped(folder, parts[WEIGHTS], "weights", "F32", n, dim)
        self._index = _Mapped(folder, parts[INDEX], "cells", "U64", None)
        self._strings = _Mapped(folder, parts[STRINGS]) if STRINGS in parts else None
        self._row_bytes = 4 * dim

    @property
    def done(self) -> bool:
        """Whether all that a lookup may touch is checked."""
        return not (self._index.left or self._weights.left or (self._strings is not None and self._strings.left))

    def found(self, index: Index, keys: np.ndarray, rows: np.ndarray) -> None:
        """These keys (uint64 (n,)) were found to have these rows (int32 (n,), −1 for none)."""
        if self._index.left:
            needed = np.zeros(len(self._index.checked), np.uint8)
            index.touched(keys, self._index.origin, self._index.part.chunk, needed)
            self._index.check(needed)
        rows = rows[rows >= 0].astype(np.int64)
        if self._weights.left:
            starts = self._weights.origin + rows * self._row_bytes
            self._weights.check_bytes(starts, starts + self._row_bytes)
        if self._strings is not None and self._strings.left:
            self._check_strings(self._strings, rows)

    @staticmethod
    def _check_strings(file: _Mapped, rows: np.ndarray) -> None:
        at, text = file.part.at["offsets"], file.part.at["text"]
        file.check_bytes(at[0] + 8 * rows, at[0] + 8 * (rows + 2))
        offsets = file.buffer[slice(*at)].view("<i8")
        if len(rows):
            file.check_bytes(text[0] + offsets[rows], text[0] + offsets[rows + 1])

    def listed(self) -> None:
        """All ids are listed."""
        for file in (self._keys, self._strings):
            if file is not None:
                file.check_all()

    def read_whole(self) -> None:
        """All vectors are read."""
        self._weights.check_all()

    def check_all(self) -> None:
        """Compare what is left."""
        for file in (self._keys, self._weights, self._index, self._strings):
            if file is not None:
                file.check_all()


class _Mapped:
    """A file, mapped, and which of its chunks are checked. origin: where its array begins."""

    def __init__(self, folder: Path, part: Part, name: str = "", dtype: str = "", *shape: int | None) -> None:
        self.path, self.part = folder / part.name, part
        self.origin = spans_of(self.path, {name: (dtype, shape)}, part)[name].start if name else 0
        with open_part(self.path) as file:
            self.buffer = map_bytes(file, self.path)
        self.checked = np.zeros(len(part.crc32), np.uint8)
        self.left = len(self.checked)
        self._lock = Lock()

    def check_bytes(self, starts: np.ndarray, stops: np.ndarray) -> None:
        """Check the chunks of the bytes starts[i] to stops[i]: int64 (n,)."""
        some = stops > starts
        first, last = starts[some] // self.part.chunk, (stops[some] - 1) // self.part.chunk
        n = len(self.checked)
        if len(first) and not 0 <= first.min() <= last.max() < n:
            raise CorruptError(f"{self.path}: what it says lies outside of it; `hotrow verify` says what is broken")
        changes = np.bincount(first, minlength=n + 1)[: n + 1] - np.bincount(last + 1, minlength=n + 1)[: n + 1]
        self.check(np.cumsum(changes[:n]) > 0)

    def check_all(self) -> None:
        """Check every chunk."""
        self.check(np.ones(len(self.checked), np.uint8))

    def check(self, needed: np.ndarray) -> None:
        """Check the chunks that are needed (n,) and weren't checked before."""
        for chunk in np.flatnonzero((needed != 0) & (self.checked == 0)).tolist():
            start = chunk * self.part.chunk
            sums = [zlib.crc32(self.buffer[start : start + self.part.chunk].data)]
            for problem in differences(self.part, sums, chunk):
                raise CorruptError(f"{self.path}: {problem}; `hotrow verify` reads all of it")
            with self._lock:
                self.left -= 1 - int(self.checked[chunk])
                self.checked[chunk] = 1
