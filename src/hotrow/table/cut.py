"""A table as it was at one step, for a save that goes on beside the steps after it.

                    wanted rows, in order ──saver──┐
    the live rows                                  ├──▶ pieces, each row once
                    rows about to change ──queue───┘

What a save needs is copied when the saver comes to it, or before it changes, whichever is first. So the memory that a
save takes is that of the queue, which has a bound, and rows come in no order; the file has their keys in the same one.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from threading import Condition, get_ident
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from hotrow.kernels import readonly, saving
from hotrow.table.index import Index
from hotrow.table.locks import ReadersWriter
from hotrow.table.memory import Growable
from hotrow.table.rows import Rows
from hotrow.table.strings import Strings
from hotrow.table.utf8 import arrow

if TYPE_CHECKING:
    import pyarrow as pa

_PIECE = 1 << 19  # floats copied at a time: a waiting step waits less than a millisecond for it
_PIECES = 4  # written at a time
_QUEUED = 0.025  # of the rows; from here on each step waits, but for no longer than _HELD of its own time
_MOST = 0.075  # of the rows; from here on steps wait for the disk
_FEWEST = 8  # pieces
_HELD = 1.5
_PATIENCE = 5.0  # seconds without a move of the saver
_BUCKETS = 1 << 12  # of the index read at a time
_KEYS = 1 << 15  # given at a time
_PAGE = 512  # keys in a page of memory
_STRINGS = 1 << 16


_open: WeakSet[Cut] = WeakSet()


def _close_in_child() -> None:
    """A forked child has the cuts and not the threads that write them."""
    for each in _open:
        each.is_open = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


@dataclass
class _Piece:
    """The first filled[0] rows that were copied: row numbers[i] is data[i · stride : (i + 1) · stride]."""

    data: np.ndarray
    numbers: np.ndarray
    filled: np.ndarray

    @property
    def n(self) -> int:
        return int(self.filled[0])


class Cut:
    """What of a table is to be saved, as it is now; `hotrow.store` writes it.

    wanted uint8 (rows,): 1 for each row that is to be saved, if it isn't free; it becomes the cut's own. slots: name →
    columns of a row. gone uint64 (m,): keys that were erased since the parent of a change, None for a whole table.
    Whoever makes one holds the table's write lock. `keep` is called under that lock, too, before rows change.
    """

    def __init__(
        self,
        lock: ReadersWriter,
        index: Index,
        rows: Rows,
        strings: Strings | None,
        config: dict[str, Any],
        slots: dict[str, slice],
        wanted: np.ndarray,
        gone: np.ndarray | None = None,
    ) -> None:
        wanted[index.free_rows()] = 0
        self.config, self.gone = config, gone
        self.n = int(np.count_nonzero(wanted))
        self.slots = {name: columns.stop - columns.start for name, columns in slots.items()}
        self._columns = [slice(0, rows.dim), *slots.values()]
        self._lock, self._rows, self._wanted = lock, rows, wanted
        self._strings = strings
        if strings is not None:
            strings.erased = {}
        self._scan = index.scan()
        self._order = np.empty(self.n, np.int32)
        self._n_ordered = 0
        self._next = self._warmed = 0
        self._saver = 0
        self._is_patient = True
        self._room = max(16, _PIECE // rows.stride)
        self._soft, self._most = (max(_FEWEST, int(share * self.n / self._room)) for share in (_QUEUED, _MOST))
        self._own, self._went_on = 0.0, time.perf_counter()
        self._queue: deque[_Piece] = deque()
        self._spare: list[_Piece] = []
        self._changed = Condition()
        self.is_open = True
        """Whether somebody still writes it."""
        _open.add(self)

    @staticmethod
    def warm_up() -> None:
        """Compile what a step calls while a table is being saved, if that is to be done, before one waits for it."""
        floats, rows, marks = np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, np.uint8)
        saving.keep(readonly(floats), 1, readonly(rows), 0, marks, floats, rows, np.zeros(1, np.int64))
        saving.mark(readonly(rows), marks)

    # --- the trainer's side ------------------------------------------------------------------------------------------

    def wait_for_room(self, n: int) -> None:
        """Wait until the queue has room for n rows, or is empty. Without a lock: the saver may need it first.

        Where more is waiting than the disk takes at once, each step waits a little, by its own time, so that they share
        what memory there is; only where all of it is taken do they wait for the disk. Where the saver hasn't moved for
        some seconds, memory is spent in place of time: its disk may have stopped, or it waits for whoever waits here. A
        step that the saver takes itself, in `progress`, doesn't wait.
        """
        if not self.is_open or get_ident() == self._saver:
            return
        now = time.perf_counter()
        self._own = min(now - self._went_on, 2 * self._own or math.inf)  # one long pause isn't a step
        until = now + _HELD * self._own
        with self._changed:
            while self.is_open and self._is_patient and (full := self._full()):
                left = until - time.perf_counter()
                if (full - self._soft) * self._room + n <= 0:
                    break
                if (full - self._most) * self._room + n > 0:
                    self._is_patient = self._changed.wait(_PATIENCE)
                elif left <= 0 or not self._changed.wait(left):
                    break
        self._went_on = time.perf_counter()

    def _full(self) -> int:
        """How many pieces wait for the saver."""
        return len(self._queue) - bool(self._queue and self._queue[-1].n < self._room)

    def keep(self, rows: np.ndarray) -> None:
        """Copy those of `rows` (int32 (n,), −1 for none) that are still wanted, for they are about to change."""
        if not self.is_open or self._next == len(self._wanted):
            return
        given, at = readonly(rows), 0
        data = readonly(self._rows.data)
        while at < len(rows):
            piece = self._last_piece()
            at = saving.keep(data, self._rows.stride, given, at, self._wanted, piece.data, piece.numbers, piece.filled)

    def _last_piece(self) -> _Piece:
        """The piece at the end of the queue, with room for at least a row."""
        with self._changed:
            if not self._queue or self._queue[-1].n == self._room:
                self._queue.append(self._spare.pop() if self._spare else self._new_piece())
            return self._queue[-1]

    def _new_piece(self) -> _Piece:
        return _Piece(
            np.empty(self._room * self._rows.stride, np.float32), np.empty(self._room, np.int32), np.zeros(1, np.int64)
        )

    def close(self) -> None:
        """Nothing is wanted any more; whoever waits goes on."""
        with self._changed:
            self.is_open = False
            self._queue.clear()
            self._changed.notify_all()
        if self._strings is not None:
            self._strings.erased = None

    # --- the saver's side --------------------------------------------------------------------------------------------

    def pieces(self) -> Iterator[list[np.ndarray]]:
        """The rows, some at a time: weights float32 (k, dim), and each slot (k, width).

        The arrays are those of the piece before the last again.
        """
        widths = [columns.stop - columns.start for columns in self._columns]
        sets = [[np.empty(_PIECES * self._room * width, np.float32) for width in widths] for _ in range(2)]
        own, self._saver = np.empty(self._room, np.int32), get_ident()
        for blocks in cycle(sets):
            n, more = 0, True
            while more and n <= (_PIECES - 1) * self._room:
                ends = [block[n * width :] for block, width in zip(blocks, widths, strict=True)]
                more = self._from_queue(ends) or self._from_rows(own, ends)
                n += more
            if n:
                yield [block[: n * width].reshape(n, width) for block, width in zip(blocks, widths, strict=True)]
            if not more:
                self._spare.clear()
                return

    def _from_queue(self, blocks: list[np.ndarray], *, full: bool = True) -> int:
        """Write a piece of the queue to `blocks`; how many rows it had, 0 if there is none (that is full)."""
        with self._changed:
            if not self._queue or (full and self._queue[0].n < self._room):
                return 0
            piece = self._queue.popleft()
        n = piece.n
        self._split(piece.data, np.arange(n, dtype=np.int32), blocks)
        self._note(piece.numbers[:n])
        piece.filled[0] = 0
        with self._changed:
            self._is_patient = True
            self._spare.append(piece)
            self._changed.notify_all()
        return n

    def _from_rows(self, numbers: np.ndarray, blocks: list[np.ndarray]) -> int:
        """Write the next wanted rows to `blocks`, or, where there are no more, what the queue still has."""
        self._rows.soon(self._next, self._room)
        with self._lock.reading():
            self._next, n = saving.sweep(self._wanted, self._next, numbers)
            if n:
                self._split(self._rows.data, numbers[:n], blocks)
        self._scan_on()
        if n:
            self._note(numbers[:n])
            return n
        return self._from_queue(blocks, full=False)

    def _split(self, data: np.ndarray, rows: np.ndarray, blocks: list[np.ndarray]) -> None:
        source, rows, stride = readonly(data), readonly(rows), self._rows.stride
        for columns, block in zip(self._columns, blocks, strict=True):
            width = columns.stop - columns.start
            saving.pick(source, stride, columns.start, width, rows, block, 0, len(rows))

    def _note(self, numbers: np.ndarray) -> None:
        self._order[self._n_ordered : self._n_ordered + len(numbers)] = numbers
        self._n_ordered += len(numbers)

    def _scan_on(self) -> bool:
        """Read some keys more; False when all are. First their pages come, which the first bucket would ask for."""
        with self._lock.reading():
            if self._warmed < len(self._wanted):
                self._scan.keys[self._warmed : self._warmed + _KEYS : _PAGE] += np.uint64(0)
                self._warmed += _KEYS
                return True
            return self._scan.advance(_BUCKETS)

    def keys(self) -> Iterator[np.ndarray]:
        """The keys of all rows in the order in which they came, some at a time: uint64 (k,)."""
        while self._scan_on():
            pass
        if self._n_ordered != self.n:
            raise RuntimeError(f"{self._n_ordered:,} rows of {self.n:,} came; this save is given up")
        for start in range(0, self.n, _KEYS):
            yield self._scan.keys[self._order[start : start + _KEYS]]
        self._scan.keys = np.zeros(0, np.uint64)
        if self._strings is None:
            self._order = np.zeros(0, np.int32)

    def strings(self) -> pa.LargeStringArray | None:
        """The strings of all rows in that order; None where ids are integers. Call it once, after the rows."""
        if self._strings is None:
            return None
        offsets, text = np.zeros(self.n + 1, np.int64), Growable(np.uint8, 1 << 40)
        for start in range(0, self.n, _STRINGS):
            rows = self._order[start : start + _STRINGS]
            with self._lock.reading():
                data, places = self._strings.copy_as_saved(rows)
            end = int(offsets[start])
            offsets[start + 1 : start + len(rows) + 1] = end + places[1:]
            text.ensure(end + len(data))
            text.array[end : end + len(data)] = data
        return arrow(text.array[: int(offsets[-1])], offsets)
