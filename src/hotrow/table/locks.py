"""Many readers or one writer."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Condition, Lock
from weakref import WeakSet


class ReadersWriter:
    """A lookup sees each row before or after a whole update, never between.

    A waiting writer goes before new readers, so a busy server doesn't starve training. Not re-entrant.
    `with lock.reading():`, `with lock.writing():`.
    """

    def __init__(self) -> None:
        self._begin()
        _all.add(self)
        # One for all, for each `with` of a generator would cost more than a small lookup's kernel.
        self._read = _Held(self._begin_to_read, self._end_to_read)
        self._write = _Held(self._begin_to_write, self._end_to_write)

    def _begin(self) -> None:
        """Nobody reads, nobody writes."""
        self._mutex = Lock()
        self._changed = Condition(self._mutex)
        self._readers = 0
        self._writing = False
        self._waiting = 0

    @staticmethod
    def begin_in_child() -> None:
        """In a forked child there are no other threads, so whatever they held is free."""
        for each in _all:
            each._begin()

    def reading(self) -> _Held:
        """Beside other readers."""
        return self._read

    def writing(self) -> _Held:
        """Alone."""
        return self._write

    def _begin_to_read(self) -> None:
        with self._mutex:
            while self._writing or self._waiting:
                self._changed.wait()
            self._readers += 1

    def _end_to_read(self) -> None:
        with self._mutex:
            self._readers -= 1
            if not self._readers and self._waiting:
                self._changed.notify_all()

    def _begin_to_write(self) -> None:
        with self._mutex:
            self._waiting += 1
            try:
                while self._writing or self._readers:
                    self._changed.wait()
            finally:
                self._waiting -= 1
            self._writing = True

    def _end_to_write(self) -> None:
        with self._mutex:
            self._writing = False
            self._changed.notify_all()


class _Held:
    """A lock, within a `with`."""

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin, self._end = begin, end

    def __enter__(self) -> None:
        self._begin()

    def __exit__(self, *error: object) -> None:
        self._end()


_all: WeakSet[ReadersWriter] = WeakSet()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ReadersWriter.begin_in_child)
