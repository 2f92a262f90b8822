"""What is made from saved tables and can be made anew, such as search indexes: a folder of its own beside them.

It has ids and vectors of the save that it was made from, so it goes whenever an id is forgotten.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from hotrow.errors import CorruptError
from hotrow.store.files import sync_folder

NAME = "derived"
_LEAVING = re.compile(r"\.derived-[0-9a-f]{16}", re.ASCII)
_TRIES = 20  # to remove what somebody, who had it open, writes into once more


def folder_of(root: Path) -> Path:
    """Where that is, of a model or of a saved table; nothing is made yet."""
    return root / NAME


def is_ours(name: str) -> bool:
    """Whether it is called so, or as what of it was being removed when that was interrupted."""
    return name == NAME or bool(_LEAVING.fullmatch(name))


def check_no_link(folder: Path) -> None:
    """CorruptError if a link is in the place of `derived/`, or of a folder on the way to this one in it.

    Files elsewhere would be written and removed.
    """
    for path in (folder, *folder.parents):
        if path.is_symlink():
            raise CorruptError(f"{path}: is a symbolic link, and what is made from a model has none")
        if path.name == NAME:
            return


def remove(root: Path) -> int:
    """Remove it, whole, and what an interrupted removal has left; how many bytes that were.

    It gets another name first, by which nobody writes into it, so it may be made anew meanwhile. A link goes, and what
    it leads to stays. When it returns, the disk has it so. OSError for what can't be removed.
    """
    folder = folder_of(root)
    if folder.is_dir() and not folder.is_symlink():
        with suppress(FileNotFoundError):  # somebody else has just removed it
            os.rename(folder, root / f".{NAME}-{secrets.token_hex(8)}")
    leaving = [root / name for name in os.listdir(root) if _LEAVING.fullmatch(name)] if root.is_dir() else []
    leaving += [folder] if folder.is_symlink() else []
    size = sum(map(_remove, leaving))
    if leaving:
        sync_folder(root)
    return size


def _remove(folder: Path) -> int:
    if folder.is_symlink():
        folder.unlink(missing_ok=True)
        return 0
    size = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += os.lstat(os.path.join(at, name)).st_size
    for left in range(_TRIES - 1, -1, -1):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            if not folder.exists():
                break
        except OSError:  # a file has come meanwhile
            if not left:
                raise
        else:
            break
    return size
