"""Files that are checksummed as they are written and as they are read, and the calls that make them durable.

Every change to the disk goes through a function of this module, so that tests can fail each one in turn.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from hotrow.errors import CorruptError
from hotrow.kernels import threads

CHUNK = 1 << 20
"""Bytes under one checksum: few enough that a mapped file can be checked chunk by chunk as it is used."""
PIECE = 4 << 20
"""Bytes moved at a time; two such buffers are all the memory that writing a table takes."""

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_NOT_MADE_THERE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL}
"""Why a folder can't be synced in which we couldn't have made one: not ours, or of a system that is only read."""

Advance = Callable[[int], None]
"""Told after each piece how many bytes it had."""


@dataclass(frozen=True)
class Part:
    """A file of a snapshot as its manifest lists it.

    size   bytes in the file
    chunk  bytes under each checksum; the last chunk may be shorter
    crc32  the CRC-32 of each chunk, in order
    at     name → (start, stop), bytes of interest in a file that isn't in the safetensors layout
    """

    name: str
    size: int
    chunk: int
    crc32: tuple[int, ...]
    at: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


@contextmanager
def naming(path: Path) -> Generator[None]:
    """Give an OSError that names no file (a full disk doesn't) the path it happened at.

    One without a number, as of HDF5, keeps its text, which it would no longer show beside a path.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


class Output:
    """A new file that takes bytes in order and keeps their checksums. FileExistsError if the file is there.

    It writes behind: while `write` sums some bytes, the ones before go to the disk. So the memory given to `write`
    may change after the next `write`, and an error may show only there or in `finish`. After `finish` the file is
    durable, and not before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._sums: list[int] = []
        self._behind = ThreadPoolExecutor(1)
        self._under_way: Future[None] | None = None
        self._handle = os.open(path, _CREATE, 0o666)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: Any) -> int:
        """Append `data`, anything with contiguous bytes. OSError with the path, on a full disk for example."""
        view = memoryview(data).cast("B")
        self._sum(view)
        self._wait()
        if len(view) < CHUNK:  # a thread would take longer
            with naming(self.path):
                write_all(self._handle, view)
        else:
            self._begin(view)
        return len(view)

    def _begin(self, view: memoryview) -> None:
        try:
            self._under_way = self._behind.submit(write_all, self._handle, view)
        except RuntimeError as error:
            if not threads.is_the_end(error):
                raise
            with naming(self.path):
                write_all(self._handle, view)

    def _sum(self, view: memoryview) -> None:
        for start, stop in _cut(self.size, len(view)):
            if (self.size + start) % CHUNK == 0:
                self._sums.append(0)
            self._sums[-1] = zlib.crc32(view[start:stop], self._sums[-1])
        self.size += len(view)

    def _wait(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way:
            with naming(self.path):
                under_way.result()

    def finish(self) -> None:
        """Return once the disk has it all."""
        self._wait()
        with naming(self.path):
            os.fsync(self._handle)
            if (size := os.fstat(self._handle).st_size) != self.size:
                raise OSError(errno.EIO, f"{size:,} bytes are there, and {self.size:,} were written")

    def close(self) -> None:
        """Give the handle back; a second call does nothing."""
        self._behind.shutdown()
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    @property
    def closed(self) -> bool:
        """For Arrow, which asks."""
        return self._handle < 0

    def flush(self) -> None:
        """Do nothing, for Arrow, which calls it."""

    def part(self) -> Part:
        """What the manifest says of the file."""
        return Part(self.path.name, self.size, CHUNK, tuple(self._sums))


def _cut(position: int, length: int) -> Iterator[tuple[int, int]]:
    """Spans of `length` bytes, written from `position` on, that don't cross a chunk.

    >>> list(_cut(CHUNK - 2, 5))
    [(0, 2), (2, 5)]
    """
    start = 0
    while start < length:
        stop = min(length, start + CHUNK - (position + start) % CHUNK)
        yield start, stop
        start = stop


def write_all(handle: int, view: memoryview) -> None:
    """Write every byte: the system may take fewer than it was given."""
    done = 0
    while done < len(view):
        done += os.write(handle, view[done:])
    _begin_writing_back(handle, len(view))


def _begin_writing_back(handle: int, count: int) -> None:
    """Have the disk start on what was just written, rather than on everything at the end, in the fsync.

    On Linux, the advice that some pages won't be needed queues the dirty ones among them; elsewhere it may be nothing.
    """
    if count >= CHUNK and hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(handle, os.lseek(handle, 0, os.SEEK_CUR) - count, count, os.POSIX_FADV_DONTNEED)


def write_durably(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step: afterwards there is all of it or nothing, even if the power fails."""
    temporary = path.with_name(path.name + ".tmp")
    if os.path.lexists(temporary):  # left by a process that was killed in here
        os.unlink(temporary)
    try:
        with Output(temporary) as out:
            out.write(data)
            out.finish()
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable. Windows has no such call, and its renames are journaled."""
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(handle)
    finally:
        os.close(handle)


def make_folders(path: Path) -> None:
    """Make a folder and those above it that are missing, each of them durable.

    Also if it is there: perhaps somebody has made it who didn't, or died before that.
    """
    if path.is_dir():
        try:
            sync_folder(path.parent)
        except OSError as error:
            if error.errno not in _NOT_MADE_THERE:
                raise
        return
    if path.parent != path:
        make_folders(path.parent)
    try:
        os.mkdir(path)
    except FileExistsError:  # perhaps another process has just made it
        if not path.is_dir():
            raise
    sync_folder(path.parent)


def open_part(path: Path) -> io.FileIO:
    """Open a plain file for reading. CorruptError for anything else: a link could lead out, a pipe would hang."""
    with reading(path):
        if path.is_symlink():
            raise CorruptError(f"{path}: is a symbolic link, and a snapshot has none")
        handle = os.open(path, _READ)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise CorruptError(f"{path}: isn't a plain file")
    return io.FileIO(handle, "rb")


@contextmanager
def reading(path: Path) -> Generator[None]:
    """Turn the system's errors into a CorruptError that names the file."""
    try:
        yield
    except CorruptError:
        raise
    except FileNotFoundError as error:
        raise CorruptError(f"{path}: the file is missing") from error
    except OSError as error:
        raise CorruptError(f"{path}: can't be read: {error.strerror or error}") from error


def size_of(file: io.FileIO) -> int:
    """Bytes in an open file."""
    return os.fstat(file.fileno()).st_size


def check_size(path: Path, size: int, part: Part | None) -> None:
    """CorruptError unless the file is as long as its manifest says."""
    if part is not None and size != part.size:
        raise CorruptError(f"{path}: has {size:,} bytes, and {part.size:,} were written")


def read_checked(path: Path, part: Part | None = None, advance: Advance | None = None) -> np.ndarray:
    """All bytes of a file, every chunk checked against `part` if there is one: uint8 (size,).

    CorruptError names the file and the first chunk that isn't what was written.
    """
    with open_part(path) as file:
        size = size_of(file)
    check_size(path, size, part)
    buffer = np.empty(size, np.uint8)
    chunk = part.chunk if part else CHUNK
    sums = list(_fill(path, buffer, chunk, advance))
    if part is not None:
        for problem in differences(part, sums):
            raise CorruptError(f"{path}: {problem}")
    return buffer


def _fill(path: Path, buffer: np.ndarray, chunk: int, advance: Advance | None) -> Iterator[int]:
    """Read the file into `buffer` on two threads (one copies while the other sums) and yield the checksums."""
    step = _step(chunk)
    spans = [(start, min(start + step, len(buffer))) for start in range(0, len(buffer), step)]
    if len(spans) == 1:  # threads would take longer
        yield from _fill_piece(path, buffer.data, 0, chunk)
        if advance:
            advance(len(buffer))
        return
    pool = ThreadPoolExecutor(2)
    try:
        jobs = [pool.submit(_fill_piece, path, buffer.data[start:stop], start, chunk) for start, stop in spans]
        for (start, stop), job in zip(spans, jobs, strict=True):
            yield from job.result()
            if advance:
                advance(stop - start)
    finally:
        pool.shutdown(cancel_futures=True)


def _step(chunk: int) -> int:
    """A piece that is a whole number of chunks."""
    return max(1, PIECE // chunk) * chunk


def _fill_piece(path: Path, view: memoryview, start: int, chunk: int) -> list[int]:
    with open_part(path) as file:
        file.seek(start)
        _read_into(file, view, path)
    return [zlib.crc32(view[at : at + chunk]) for at in range(0, len(view), chunk)]


def steps(part: Part, first: int, last: int) -> list[tuple[int, int]]:
    """Pieces of whole chunks that cover the bytes first to last of a file."""
    step = _step(part.chunk)
    begin = first // part.chunk * part.chunk
    end = min(part.size, -(-last // part.chunk) * part.chunk)
    return [(at, min(at + step, end)) for at in range(begin, end, step)]


def piece_buffer(part: Part) -> np.ndarray:
    """Room for any of these pieces: uint8 (bytes,)."""
    return np.empty(_step(part.chunk), np.uint8)


def read_piece(path: Path, part: Part, start: int, stop: int, buffer: np.ndarray) -> np.ndarray:
    """The bytes start to stop of a file, whole chunks, compared with their checksums: a view of `buffer`, uint8."""
    view = buffer[: stop - start]
    sums = _fill_piece(path, view.data, start, part.chunk)
    for problem in differences(part, sums, start // part.chunk):
        raise CorruptError(f"{path}: {problem}")
    return view


def _read_into(file: io.FileIO, view: memoryview, path: Path) -> None:
    done = 0
    while done < len(view):
        with reading(path):
            count = file.readinto(view[done:])
        if not count:
            raise CorruptError(f"{path}: ends while it is being read")
        done += count


def differences(part: Part, sums: list[int], first: int = 0) -> list[str]:
    """One sentence for each chunk, from the number `first` on, whose checksum isn't the one in the manifest."""
    spans = ((i * part.chunk, min(part.size, (i + 1) * part.chunk)) for i in range(first, first + len(sums)))
    return [
        f"bytes {start:,} to {stop:,} aren't what was written (their checksum differs)"
        for (start, stop), found, wanted in zip(spans, sums, part.crc32[first : first + len(sums)], strict=True)
        if found != wanted
    ]


def check_part(path: Path, part: Part, advance: Advance | None = None) -> list[str]:
    """What is wrong with a file, read through a buffer of one piece: sentences, or none if it is whole."""
    try:
        with open_part(path) as file:
            check_size(path, size_of(file), part)
            return [f"{path}: {problem}" for problem in differences(part, list(_sums(file, part, path, advance)))]
    except CorruptError as error:
        return [str(error)]


def _sums(file: io.FileIO, part: Part, path: Path, advance: Advance | None) -> Iterator[int]:
    buffer = memoryview(bytearray(min(_step(part.chunk), part.size)))
    for start in range(0, part.size, max(1, len(buffer))):
        view = buffer[: part.size - start]
        _read_into(file, view, path)
        yield from (zlib.crc32(view[at : at + part.chunk]) for at in range(0, len(view), part.chunk))
        if advance:
            advance(len(view))
