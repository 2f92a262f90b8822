"""Arrays that grow in place: address space is reserved once, and the system gives pages as they are touched."""

from __future__ import annotations

import mmap
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

if sys.platform != "win32":
    import resource

_SPACE = 1 << 46  # bytes of address space for all tables together; a process has 2⁴⁷, and its threads need theirs
_PART = 64  # one array asks for a part of what is left of it, so that many tables find some, too
_SMALLEST = 1 << 12  # below this a reservation is no use: grow by copying
_NAMED = Path("/proc/self/statm")
_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
_HUGE = 1 << 21  # from this size on huge pages save more in address look-ups than they round up


class Growable:
    """A flat array of zeros with room for `limit` items, of which only the touched ones take memory.

    Where there is no address space to spare (strict overcommit, `ulimit -v`, Windows), `ensure` copies into a larger
    array instead: so hold this object, and take `array` from it at each use.
    """

    def __init__(self, dtype: type[np.generic], limit: int) -> None:
        self._dtype = np.dtype(dtype)
        self._map = _reserve(self._dtype.itemsize * limit)
        self._huge = False
        if self._map is None:
            self.array = np.zeros(0, self._dtype)
        else:
            self.array = np.frombuffer(self._map, self._dtype, len(self._map) // self._dtype.itemsize)

    @classmethod
    def holding(cls, values: np.ndarray, limit: int) -> Growable:
        """A growable copy of `values`."""
        grown = cls(values.dtype.type, limit)
        grown.ensure(len(values))
        grown.array[: len(values)] = values
        return grown

    def ensure(self, n: int) -> None:
        """Make room for `n` items in all; what is there stays, and what is new is zero."""
        if n > len(self.array):
            larger = np.zeros(max(n, 2 * len(self.array), 1024), self._dtype)
            larger[: len(self.array)] = self.array
            self.array, self._map = larger, None
        elif not self._huge and self._map is not None and n * self._dtype.itemsize >= _HUGE:
            self._huge = True
            if hasattr(mmap, "MADV_HUGEPAGE"):
                self._map.madvise(mmap.MADV_HUGEPAGE)

    def release(self, start: int, stop: int) -> None:
        """Give the memory of the items start to stop, which nobody will look at any more, back to the system."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            first, last = (-(-at * self._dtype.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE for at in (start, stop))
            if last > first:
                self._map.madvise(mmap.MADV_DONTNEED, first, last - first)


class _Space:
    """The address space that is left for tables. Naming it costs nothing, but it isn't endless."""

    def __init__(self) -> None:
        self.left = _SPACE
        self._lock = threading.RLock()  # again from within: a map may end wherever Python collects garbage

    def take(self, size: int) -> None:
        """`size` bytes are named."""
        with self._lock:
            self.left -= size

    def give_back(self, size: int) -> None:
        """A map of `size` bytes has ended."""
        with self._lock:
            self.left += size


_space = _Space()


def _left() -> int:
    """Bytes of address space that may still be named, as far as we know."""
    left = _space.left
    if sys.platform != "win32":
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            left = min(left, most - _named())
    return left


def _named() -> int:
    """Bytes of address space that this process has named, where the system tells."""
    with suppress(OSError):
        return int(_NAMED.read_text("ascii").split()[0]) * mmap.PAGESIZE
    return 0


def _counts_all() -> bool:
    """Whether the system counts memory as taken when it is named, touched or not (vm.overcommit_memory = 2)."""
    with suppress(OSError):
        return _OVERCOMMIT.read_text("ascii").strip() == "2"
    return False


def physical() -> int:
    """Bytes of memory that this machine has: more of them no array can hold without swapping."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _SPACE


def shrinking(size: int) -> Iterator[int]:
    """Sizes of address space to ask for, at most `size` and one table's part: each a sixteenth of the one before."""
    size = min(size, _left() // _PART)
    while size >= _SMALLEST:
        yield size
        size //= 16


def name_space(sizes: Iterable[int], make: Callable[[int], mmap.mmap]) -> tuple[mmap.mmap | None, OSError | None]:
    """The map of the first of these sizes that the system lets us name, or None and what it said to the last."""
    refused = None
    for size in sizes:
        try:
            named = make(size)
        except (OSError, ValueError, OverflowError) as error:
            refused = error if isinstance(error, OSError) else OSError(str(error))
            continue
        _space.take(size)
        weakref.finalize(named, _space.give_back, size).atexit = False
        return named, None
    return None, refused


def _reserve(size: int) -> mmap.mmap | None:
    """Private zero pages, `size` bytes of them or as many as the system lets us name."""
    if sys.platform == "win32" or _counts_all():  # what no row uses would be taken from others
        return None
    flags = (
        mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
    )
    named, _ = name_space(shrinking(min(size, physical())), lambda size: mmap.mmap(-1, size, flags=flags))
    return named
