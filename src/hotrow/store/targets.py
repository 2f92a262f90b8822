"""Where a file is written that was asked for: not over somebody's own, and not into a model's folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hotrow.errors import DataError

_HEAD = 64  # bytes that tell what a file is


def check_outside(path: str | os.PathLike[str], model: Path) -> None:
    """A model's folder has nothing but the model: `hotrow forget` wouldn't know of what else has its ids."""
    if Path(path).resolve().is_relative_to(model.resolve()):
        raise DataError(
            f"{path} is within the model's folder, of which hotrow knows every file; give a name outside of {model}"
        )


def check_target(
    path: str | os.PathLike[str], what: str, is_one: Callable[[bytes], bool], *, stem: str = "vectors"
) -> Path:
    """A name that is free, or that of a file of this kind or an empty one, which would be replaced. Else DataError.

    is_one: whether first bytes, 64 at most, are of one; stem: how such a file may be called
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the name of a file, as {path / (stem + path.suffix)}")
    if not path.parent.is_dir():
        raise DataError(f"{path.parent} is no folder: make it first, or give another name than {path}")
    if os.path.lexists(path):
        if not path.is_file():
            raise DataError(f"{path} is no plain file; give another name")
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if head and not is_one(head):
            raise DataError(f"{path} is there and is no {what}: give another name, or remove it first")
    return path
