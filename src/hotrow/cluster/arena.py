"""Memory that a table's process shares with shards on its machine: what is large is made there, and never sent.

```
 owner    arena.empty((m, dim))  ──"it lies at 8192"──▶  shard    arenas.array(…, 8192)      the same bytes
```
A file without a name (`memfd_create`), which ends with the last process that has it, however that ends. A block of it
is used again once nobody in its own process holds an array of it any more.
"""

from __future__ import annotations

import mmap
import os
import secrets
from collections import deque
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np

from hotrow.errors import ClusterError

SMALL = 1 << 15
"""Bytes that are quicker sent than shared."""
_ROOM = 1 << 33
"""Bytes at most; only what has been used takes memory."""
_KEPT = 1 << 31
"""Bytes that stay with a process though nobody uses them; more are given back to the system."""
_PAGE = 4096
_TOKEN = 16  # bytes at the beginning of the file, by which a shard knows that it is the right one

Name = list[Any]
"""Of an arena, as it is told to shards: the process, its descriptor, the bytes, the token."""


class _Block:
    """Some bytes; arrays of them hold it."""

    __slots__ = ("__array_interface__", "_arena", "offset", "size")

    def __init__(self, arena: Arena, address: int, offset: int, size: int) -> None:
        self._arena, self.offset, self.size = arena, offset, size
        self.__array_interface__ = {"data": (address, False), "shape": (size,), "typestr": "|u1", "version": 3}

    def __del__(self) -> None:
        self._arena.given_back.append((self.offset, self.size))


class Arena:
    """One process's memory for arrays that shards read and write. Any thread may take some."""

    def __init__(self) -> None:
        file = os.memfd_create("hotrow-arena")
        self._end = finalize(self, os.close, file)
        os.ftruncate(file, _ROOM)
        self._map = mmap.mmap(file, _ROOM)
        token = secrets.token_bytes(_TOKEN)
        self._map[:_TOKEN] = token
        self.name: Name = [os.getpid(), file, _ROOM, token.hex()]
        self._base = np.frombuffer(self._map, np.uint8).ctypes.data
        self._top, self._lock = _PAGE, Lock()
        self._free: dict[int, list[int]] = {}
        self._idle = 0  # bytes of the free ones that are still in memory
        self.given_back: deque[tuple[int, int]] = deque()
        self._lost: list[Any] = []

    @classmethod
    def made(cls) -> Arena | None:
        """One, or None where the system has none: then everything is sent."""
        try:
            return cls()
        except (AttributeError, OSError, ValueError):
            return None

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """As `np.empty`; from the arena if it is worth it, and if there is room."""
        kind = np.dtype(dtype)
        nbytes = int(np.prod(shape)) * kind.itemsize
        block = self._take(nbytes) if nbytes >= SMALL else None
        if block is None:
            return np.empty(shape, kind)
        return np.asarray(block)[:nbytes].view(kind).reshape(shape)

    def _take(self, nbytes: int) -> _Block | None:
        size = _rounded(nbytes)
        if os.getpid() != self.name[0]:  # a forked child has the same bytes, which are its parent's
            return None
        with self._lock:
            self._collect()
            free = self._free.get(size)
            if free:
                offset = free.pop()
                self._idle -= size
            elif self._top + size <= _ROOM:
                offset = self._top
                self._top += size
            else:
                return None
            return _Block(self, self._base + offset, offset, size)

    def _collect(self) -> None:
        """What nobody holds any more is free."""
        while self.given_back:
            offset, size = self.given_back.popleft()
            if self._idle + size > _KEPT:
                self._map.madvise(mmap.MADV_REMOVE, offset, size)
            self._idle += size
            self._free.setdefault(size, []).append(offset)

    def place(self, array: np.ndarray) -> int | None:
        """Where a contiguous array lies in the arena; None if it doesn't."""
        offset = array.__array_interface__["data"][0] - self._base
        return offset if 0 <= offset < _ROOM and array.nbytes else None

    def lose(self, arrays: list[np.ndarray]) -> None:
        """These are never used again: somebody may still write them."""
        self._lost.append(arrays)


def _rounded(nbytes: int) -> int:
    """The size of the block for so many bytes: up to an eighth more, so that batches of about one size share them."""
    pages = -(-nbytes // _PAGE)
    step = 1 << max(0, pages.bit_length() - 4)
    return -(-pages // step) * step * _PAGE


class Arenas:
    """Of other processes on this machine, for a shard: those that Ray has told it of."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Path, np.ndarray]] = {}

    def know(self, name: Name) -> bool:
        """Map the arena of this name; False if it can't be reached from here."""
        pid, file, room, token = name
        if token in self._known:
            return True
        path = Path(f"/proc/{int(pid)}/fd/{int(file)}")
        try:
            with path.open("r+b", buffering=0) as opened:
                found = mmap.mmap(opened.fileno(), room)
        except (OSError, ValueError):
            return False
        if found[:_TOKEN].hex() != token:
            return False
        alive = {other: known for other, known in self._known.items() if os.path.lexists(known[0])}
        self._known = {**alive, token: (path, np.frombuffer(found, np.uint8))}
        return True

    def array(self, token: str, offset: int, dtype: Any, shape: list[int]) -> np.ndarray:
        """An array that lies there. ClusterError if none can."""
        (_, arena), nbytes = self._known.get(token, (None, None)), int(np.prod(shape)) * np.dtype(dtype).itemsize
        if arena is None or offset < 0 or offset + nbytes > len(arena):
            raise ClusterError(
                f"got {nbytes} bytes at {offset} of an arena that has no such place, or isn't known here"
            )
        return arena[offset : offset + nbytes].view(dtype).reshape(shape)
