"""What is made from saved tables and can be made anew, such as search indexes: a folder of its own beside them.

It has ids and vectors of the save that it was made from, so it goes whenever an id is forgotten.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hotrow.errors import CorruptError

NAME = "derived"


def folder_of(root: Path) -> Path:
    """Where that is, of a model or of a saved table; nothing is made yet."""
    return root / NAME


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
    """Remove it, whole; how many bytes that were. A link goes, and what it leads to stays."""
    folder = folder_of(root)
    if folder.is_symlink():
        os.unlink(folder)
        return 0
    if not folder.is_dir():
        return 0
    size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
    shutil.rmtree(folder)
    return size
