"""An array in a file without a name: the system keeps the pages in memory that are used, and the others on disk.

a table's rows     ┌────────────┬──────────────────┐ · · · · · · · · · · ┐
in address space   │ has room   │ has room ahead   │  is only named      │
                   └─────┬──────┴────────┬─────────┘ · · · · · · · · · · ┘
the file                 └── pages on disk, allocated before they are used
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import tempfile
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from hotrow.errors import ArgumentError, DiskError, LockedError
from hotrow.table.memory import name_space, shrinking

if sys.platform != "win32":
    import resource

_PAGE = mmap.PAGESIZE
_AHEAD = 1 << 20  # bytes of room made at least; an eighth of what there is already, if that is more
_MOST_AHEAD = 1 << 30
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MOST_ADVISED = 1 << 16  # spans of pages of one batch: more would be gone again before they are used
_FEW = 16  # if a batch has read less than a page for so many of its rows, it isn't worth asking ahead for the next

_forks = 0


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 (one process, one number)
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


def folder_of(path: str | os.PathLike[str]) -> Path:
    """The folder for the file of a table's rows, made if it is missing. ArgumentError if it can't be one."""
    if sys.platform == "win32":
        raise ArgumentError("path= needs Linux or macOS; Windows can't map a file that grows. Leave it out")
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f'path must be a folder for the rows\' file, as in path="/var/tmp"; got {path!r}')
    folder = Path(path).absolute()  # a copy of the table goes there too, wherever the process is by then
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(
            f"path must be a folder, in which the rows' file has no name; {folder} is a file. Try "
            f"path={str(folder.parent)!r}; to keep a table, table.save(path)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Mapped:
    """A flat array of zeros with room for `limit` items, in a file in `folder` that has no name.

    The face is that of `memory.Growable`: take `array` anew at each use. The file ends with its process, however
    that ends, for nothing but the process knows it. Room is allocated on disk before it is used, so that a full disk
    is an error of `ensure` and not, at some later write to memory, a signal that ends the process.
    """

    def __init__(self, dtype: type[np.generic], limit: int, folder: Path) -> None:
        self.folder = folder
        self._dtype = np.dtype(dtype)
        self._forks = _forks
        with tempfile.TemporaryFile(dir=folder, prefix="hotrow-", buffering=0) as file:
            self._handle = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._handle).atexit = False
        self._room = 0
        self._make_room(_PAGE)
        self._use((*shrinking(min(limit * self._dtype.itemsize, _size_of_disk(folder))), self._room))
        self._read = _pages_read()

    @property
    def array(self) -> np.ndarray:
        """All of it, flat; only what `ensure` has made room for may be touched. LockedError in a forked child."""
        self._check_process()
        return self._array

    def _check_process(self) -> None:
        if self._forks != _forks:
            raise LockedError(
                "the rows of this table lie in a file (path=) that a forked child shares with its parent: what one "
                "writes, the other sees. Use it in the process that made it, and hotrow.load(…) what it saves elsewhere"
            )

    def ensure(self, n: int) -> None:
        """Make room for `n` items in all; what is there stays, and what is new is zero.

        DiskError, with nothing changed, where the disk is full.
        """
        self._check_process()
        end = -(-n * self._dtype.itemsize // _PAGE) * _PAGE
        if end > self._room:
            self._make_room(end)
        if end > len(self._map):  # the same file once more: nothing is copied, and the old map shows the same pages
            self._use((2 * end, end))

    def expect(self, rows: np.ndarray, width: int) -> None:
        """Rows of `width` items, int (n,), −1 for none, are used next.

        A page that isn't in memory is waited for, one after the other. So where the last rows came from disk, the
        system is asked for the pages of these at once; where they didn't, asking would take longer than the step.
        """
        before, self._read = self._read, _pages_read()
        if self._read - before <= len(rows) // _FEW:
            return
        rows = np.sort(rows[rows >= 0]).astype(np.int64) * (width * self._dtype.itemsize)
        first, last = rows // _PAGE, (rows + (width * self._dtype.itemsize - 1)) // _PAGE
        apart = first[1:] > last[:-1] + 1
        begins = first[np.concatenate([[True], apart])[: len(first)]]
        ends = last[np.concatenate([apart, [True]])[: len(last)]] + 1
        for begin, end in zip(begins[:_MOST_ADVISED].tolist(), ends[:_MOST_ADVISED].tolist(), strict=True):
            _advise(self._map, "MADV_WILLNEED", begin * _PAGE, (end - begin) * _PAGE)

    def soon(self, start: int, stop: int) -> None:
        """The items start to stop, and as many behind them, are read next: ask the system for what isn't in memory."""
        self._check_process()
        first = start * self._dtype.itemsize // _PAGE * _PAGE
        last = min((2 * stop - start) * self._dtype.itemsize, self._room)
        if last > first:
            _advise(self._map, "MADV_WILLNEED", first, last - first)

    def read_in_order(self, whether: bool) -> None:
        """From now on it is read from front to back, and the system reads ahead; or again here and there."""
        _advise(self._map, "MADV_SEQUENTIAL" if whether else "MADV_RANDOM")

    def _make_room(self, end: int) -> None:
        ahead = self._room + min(max(_AHEAD, self._room // 8), _MOST_AHEAD) // _PAGE * _PAGE
        for wanted in (max(end, ahead), end):
            try:
                _allocate(self._handle, self._room, wanted)
            except OSError as error:
                os.ftruncate(self._handle, self._room)  # what of it was allocated
                if error.errno not in _FULL:
                    error.filename = str(self.folder)
                    raise
                if wanted == end:
                    raise _disk_error(
                        f"{self.folder} has no room for {end - self._room:,} bytes more of a table's rows, beside "
                        f"{self._room:,} ({error.strerror}); nothing was changed. Make room, or save the table and go "
                        'on where there is some: hotrow.load(saved, rows="/another/folder")',
                        error,
                    ) from error
            else:
                self._room = wanted
                return

    def _use(self, sizes: Iterable[int]) -> None:
        """Map the file anew, in the first of these sizes that the system lets us name."""
        named, error = name_space(sizes, self._open)
        if named is None:
            raise _disk_error(
                f"the system maps no {self._room:,} bytes of a file in {self.folder} ({error}); nothing was changed. "
                "Take a folder on a disk of this machine, and give the process address space: ulimit -v unlimited",
                error,
            ) from error
        self._map = named
        self._array = np.frombuffer(named, self._dtype, len(named) // self._dtype.itemsize)

    def _open(self, size: int) -> mmap.mmap:
        """A map, mostly longer than the file: Python wants the file as long, so for a moment it is."""
        try:
            os.ftruncate(self._handle, max(size, self._room))
            opened = mmap.mmap(self._handle, size)
        finally:
            os.ftruncate(self._handle, self._room)
        _advise(opened, "MADV_RANDOM")  # else a miss reads up to 128 KiB, of which a row needs a page or two
        return opened


def _allocate(handle: int, start: int, stop: int) -> None:
    """Bytes `start` to `stop` of the file are on disk afterwards. OSError where there is no room for them."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(handle, start, stop - start)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:  # a C library that doesn't help itself
                raise
        else:
            return
    zeros = memoryview(bytes(min(stop - start, _AHEAD)))
    while start < stop:
        start += os.pwrite(handle, zeros[: stop - start], start)


def _advise(mapped: mmap.mmap, advice: str, *span: int) -> None:
    """Tell the system how a map is used. It may not listen."""
    if hasattr(mmap, advice):
        with suppress(OSError):
            mapped.madvise(getattr(mmap, advice), *span)


def _size_of_disk(folder: Path) -> int:
    """Bytes, used or not: more of them no file there can have."""
    facts = os.statvfs(folder)
    return facts.f_blocks * facts.f_frsize or sys.maxsize


def _pages_read() -> int:
    """Pages that this process has had read from disk so far, asked for or missed."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock * 512 // _PAGE


def _disk_error(text: str, error: OSError | None) -> DiskError:
    """As OSError, it says which: `error.errno == errno.ENOSPC`."""
    ours = DiskError(text)
    ours.errno = error.errno if error else None
    return ours
