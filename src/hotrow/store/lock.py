"""One writer a folder: a lock of the operating system, which dies with the process that holds it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from hotrow.errors import CorruptError, LockedError
from hotrow.store.files import naming

NAME = "lock"
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_LONGEST = 64
"""Bytes in a lock at most; there is a number in it."""
_held: set[int] = set()

if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> bool:
        try:
            os.lseek(handle, 1 << 30, os.SEEK_SET)  # far behind the text: Windows forbids reading locked bytes
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _release(handle: int) -> None:
        os.lseek(handle, 1 << 30, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)


@contextmanager
def lock(folder: Path) -> Generator[None]:
    """Hold the right to write to `folder`. LockedError at once if another writer, or thread, has it.

    The lock is on the file `lock` in the folder. The file stays: whoever removed it could hold one lock while the
    next writer holds another. Its text is the process id of the holder, for the message only.
    """
    path = folder / NAME
    handle = os.open(path, _OPEN, 0o666)
    try:
        _check_own(path, handle)
        with naming(path):
            taken = _take(handle)
        if not taken:
            raise LockedError(f"{folder}: {_holder(handle)} is saving to it; save again when it is done")
    except BaseException:
        os.close(handle)
        raise
    _held.add(handle)
    try:
        _sign(handle)
        yield
    finally:
        _give_back(handle)


def _check_own(path: Path, handle: int) -> None:
    """CorruptError for what isn't a file of this folder alone: what is written there would be lost, or a pipe hang."""
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_size > _LONGEST:
        raise CorruptError(f"{path}: is no lock of hotrow's, but something else by that name; move it away")


def _sign(handle: int) -> None:
    with suppress(OSError):  # on a full disk: the text is a courtesy
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, f"{os.getpid()}\n".encode())


def _holder(handle: int) -> str:
    text = os.read(handle, 32).strip()
    return f"process {int(text)}" if text.isdigit() else "another process"


def _give_back(handle: int) -> None:
    if handle in _held:  # not so in a forked child, where it is closed already
        _held.remove(handle)
        _release(handle)
        os.close(handle)


def _forget_in_child() -> None:
    """A fork shares the lock: were its copy kept open, the lock would outlive the process that took it."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
