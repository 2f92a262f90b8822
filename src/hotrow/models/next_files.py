"""A next-item model on disk: a table, and next.json, which is written last and names its generation.

```
model/
├── lock                             held by the one that saves
├── next.json                        {"format": 1, "config": {…}, "generation": 2, "sha256": …}
└── items/generation-000002/         a table, see docs/format.md
```
Until next.json is replaced, the model is the one before, all of it. It ends with a checksum of itself, see
`store/sealed.py`. Nothing outside of the folder is read, written or removed: a link in the table's place is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hotrow.errors import CorruptError
from hotrow.models.descriptions import NEXT as NAME
from hotrow.models.descriptions import check_alone
from hotrow.models.saving import table_folder
from hotrow.store import generations, saves
from hotrow.store import load as load_table
from hotrow.store.files import make_folders, sync_folder, write_durably
from hotrow.store.lock import lock
from hotrow.store.sealed import read_sealed, sealed
from hotrow.store.strict_json import natural

if TYPE_CHECKING:
    from hotrow.models.next_item import NextItem

M = TypeVar("M", bound="NextItem")
FORMAT = 1
_FIELDS = {"format", "config", "generation"}


def is_ours(name: str) -> bool:
    """Whether a save may have written what has this name in a model's folder, but for the table and the lock."""
    return name in {NAME, NAME + ".tmp"}


def is_next_item(folder: Path) -> bool:
    """Whether a next-item model was saved here."""
    return (folder / NAME).is_file()


def save(model: NextItem, folder: Path) -> None:
    """Write `model` to `folder`, over the next-item model that is there, in one step.

    LockedError if somebody else is saving there; ArgumentError if a model of another kind is there; OSError, with
    the path, and the model before as it was.
    """
    make_folders(folder)
    with lock(folder):
        check_alone(folder, NAME)
        items = table_folder(folder, "items")
        number = None
        try:
            number = model.items.save(items, keep=sys.maxsize)  # next.json may name any old generation: none goes yet
            described = {"format": FORMAT, "config": model.config, "generation": number}
            sync_folder(folder)
            write_durably(folder / NAME, sealed(described))
        except BaseException:
            if number is not None and not _names(folder, number):
                saves.remove(items, [number])
            raise
        older = [old for old in generations.numbers(items) if old < number]
        saves.remove(items, older[:-1])


def _names(folder: Path, number: int) -> bool:
    """Whether next.json may name this generation: if it can't be read, it may."""
    try:
        return read_description(folder)["generation"] == number
    except CorruptError:
        return (folder / NAME).exists()


def load(kind: type[M], folder: Path, open_table: Callable[[Path, int], Any] = load_table) -> M:
    """The model in `folder`, its table opened by `open_table`. CorruptError, naming the file, for what isn't one."""
    described = read_description(folder)
    try:
        model = kind(**described["config"])
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{folder / NAME}: its config is no model's: {error!r:.300}") from error
    items = open_table(table_folder(folder, "items"), described["generation"])
    if items.dim != model.items.dim:
        raise CorruptError(
            f"{folder / NAME}: its table has rows of {items.dim} floats, expected {model.items.dim}, which is "
            f"2 · {model.dim} + 1"
        )
    model.items = items
    return model


def verify(folder: Path) -> list[str]:
    """What is wrong with next.json; the table is verified by `store.snapshot`."""
    try:
        read_description(folder)
    except CorruptError as error:
        return [str(error)]
    return []


def read_description(folder: Path) -> dict[str, Any]:
    """next.json, its checksum and its outline checked."""
    path = folder / NAME
    described = read_sealed(path)
    if set(described) != _FIELDS or not isinstance(described["config"], dict):
        raise CorruptError(f"{path}: expected an object of {', '.join(sorted(_FIELDS))}")
    if type(described["format"]) is not int or described["format"] != FORMAT:
        raise CorruptError(f"{path}: is of format {described['format']!r:.20}, and this hotrow reads {FORMAT}")
    if not natural(described["generation"]):
        raise CorruptError(f"{path}: its generation isn't a number")
    return described
