"""Folders of those who were killed, and could remove nothing: each notes whose it is, and goes once that is gone.

A process is told by its number and when it began, on this boot of this machine: a folder that another machine sees, or
another container, is not for that to judge. Where there is no /proc nothing is noted, and nothing removed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

_NOTE = "kept-for.json"
_BEGAN = 19  # the place of a process's start in /proc/…/stat, after its name: proc(5) counts it as the 22nd


def note(folder: Path, process: int) -> None:
    """Note that a folder is kept for this process, unless it is for another one that isn't gone."""
    whose, path = _identity(process), folder / _NOTE
    if whose is None or _is_kept(path):
        return
    with suppress(OSError):  # a full disk: then it stays, should it be left
        made = folder / f"{_NOTE}.{os.getpid()}"
        made.write_text(json.dumps(whose), "utf-8")
        made.replace(path)


def _is_kept(path: Path) -> bool:
    with suppress(OSError, ValueError):
        return not _is_gone(json.loads(path.read_text("utf-8")))
    return False


def sweep(folders: Iterable[Path]) -> None:
    """Remove those that were kept for a process that is gone."""
    for folder in folders:
        with suppress(OSError, ValueError):  # one without a note isn't ours, or is just being made
            path = folder / _NOTE
            if folder.is_symlink() or path.is_symlink() or path.stat().st_uid != os.getuid():
                continue
            if _is_gone(json.loads(path.read_text("utf-8"))):
                rmtree(folder, ignore_errors=True)


def leave(folder: Path) -> None:
    """Remove a folder if nothing but its note is left in it."""
    with suppress(OSError):
        if all(path.name == _NOTE for path in folder.iterdir()):
            rmtree(folder, ignore_errors=True)


def _is_gone(whose: object) -> bool:
    """Whether that process has ended; False where nobody here can tell."""
    here = _identity(os.getpid())
    if here is None or not isinstance(whose, list) or len(whose) != len(here) or whose[:2] != here[:2]:  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        return False
    return isinstance(whose[2], int) and _identity(whose[2]) != whose


def _identity(process: int) -> list[str | int] | None:
    """The boot, the namespace of processes, the number of a process and when it began; None if it isn't there."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        stat = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
        return [boot, str(Path("/proc/self/ns/pid").readlink()), process, stat.rpartition(")")[2].split()[_BEGAN]]
    except (OSError, IndexError):
        return None
