"""A process that may take so much memory and no more: in a control group of its own, where we may make one.

A limit of address space (`ulimit -v`) can't serve: it counts a mapped file whether it is in memory or not.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOTS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
"""Where groups are made: of version 1, of version 2."""
_LIMITS = ("memory.max", "memory.limit_in_bytes")
_SWAP = {"memory.swap.max": "0", "memory.swappiness": "0"}
_PEAKS = ("memory.peak", "memory.max_usage_in_bytes")


@dataclass(frozen=True)
class Group:
    """A group with a limit; it is removed when its processes have ended."""

    folder: Path
    limit: int

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs `command` with all its memory, its files' too, in the group from the start."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs"), *command]

    def peak(self) -> int:
        """The most bytes that it has had at once."""
        return int(next(self.folder / name for name in _PEAKS if (self.folder / name).exists()).read_text("ascii"))


@contextmanager
def limited(limit: int) -> Generator[Group | None]:
    """A group with `limit` bytes of memory and no swap; None where we may not make one."""
    folder = next(filter(None, (_make(root, limit) for root in ROOTS)), None)
    try:
        yield folder and Group(folder, limit)
    finally:
        if folder:
            folder.rmdir()


def _make(root: Path, limit: int) -> Path | None:
    folder = root / f"hotrow-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:  # there is none, or we may not
        return None
    with suppress(OSError):
        for name in _LIMITS:
            if (folder / name).exists():
                (folder / name).write_text(str(limit), "ascii")
                for swap, none in _SWAP.items():
                    if (folder / swap).exists():
                        (folder / swap).write_text(none, "ascii")
                return folder
    folder.rmdir()
    return None


def is_on_disk(path: Path) -> bool:
    """Whether files there are on a disk: those of a tmpfs are memory themselves."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return False
    around = [(where, kind) for where, kind in mounts if path.resolve().is_relative_to(where)]
    return max(around, key=lambda mount: len(mount[0]))[1] not in {"tmpfs", "ramfs"}
