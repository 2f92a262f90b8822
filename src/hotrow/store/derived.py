"""What is made from saved tables and can be made anew, such as search indexes: a folder of its own beside them.

It has ids and vectors of the save that it was made from, so it goes whenever an id is forgotten.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

NAME = "derived"


def folder_of(root: Path) -> Path:
    """Where that is, of a model or of a saved table; nothing is made yet."""
    return root / NAME


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
