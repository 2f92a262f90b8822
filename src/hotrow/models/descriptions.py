"""The file that makes a folder a model, by the kind of it: it is written last, and there is one of them."""

from __future__ import annotations

from pathlib import Path

from hotrow.errors import ArgumentError

PAIRS, NEXT, CLASSIFIER = "model.json", "next.json", "classifier.json"
_WHAT = {PAIRS: "a model of users and items", NEXT: "a next-item model", CLASSIFIER: "a classifier"}


def beside(folder: Path) -> Path | None:
    """The description beside a folder, which may be a part of what it describes; None if there is none."""
    above = folder.resolve().parent
    return next((above / name for name in _WHAT if (above / name).exists()), None)


def check_alone(folder: Path, mine: str) -> None:
    """ArgumentError if a model of another kind is in the folder, which would be found beside the new one, or before."""
    other = next((name for name in _WHAT if name != mine and (folder / name).exists()), None)
    if other is not None:
        raise ArgumentError(f"{folder} holds {_WHAT[other]}; save this one to another folder")
