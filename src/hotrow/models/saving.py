"""A model on disk: two tables, the known pairs, and model.json, which is written last and names the rest.

```
model/
├── lock                             held by the one that saves
├── model.json                       {"format": 1, "config": {…}, "generations": {"users": 2, "items": 2}, "pairs": {…},
│                                     "sha256": …}
├── pairs-000002.safetensors         uint64 (n,): user << 32 | item, both numbered as in users.ids() and items.ids()
├── users/generation-000002/         a table, see docs/format.md
└── items/generation-000002/
```
Until model.json is replaced, the model is the one before, all of it. It ends with a checksum of itself, see
`store/sealed.py`. Nothing outside of the folder is read, written or removed: a link in the place of a table is refused.
"""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import CorruptError
from hotrow.store import generations
from hotrow.store import load as load_table
from hotrow.store.files import Part, check_part, make_folders, sync_folder, write_durably
from hotrow.store.format import read_arrays, write_arrays
from hotrow.store.lock import lock
from hotrow.store.manifest import part_from_json, part_to_json
from hotrow.store.sealed import read_sealed, sealed
from hotrow.store.strict_json import MalformedError, natural, object_of

if TYPE_CHECKING:
    from hotrow.models.retrieval import Retrieval
    from hotrow.table.table import Table

NAME = "model.json"
FORMAT = 1
_FIELDS = {"format", "config", "generations", "pairs"}
_SIDES = ("users", "items")
_PAIRS = re.compile(r"pairs-[0-9]{6,18}\.safetensors")


def save(model: Retrieval, folder: Path) -> None:
    """Write `model` to `folder`, over the model that is there, in one step.

    LockedError if somebody else is saving there; OSError, with the path, and the model before as it was.
    """
    make_folders(folder)
    with lock(folder):
        numbers: dict[str, int] = {}
        try:
            for side in _SIDES:
                numbers[side] = _save_table(getattr(model, side), table_folder(folder, side))
            described = {
                "format": FORMAT,
                "config": model.config,
                "generations": numbers,
                "pairs": _save_pairs(model.pairs_in_order(), _pairs_of(folder, numbers)),
            }
            sync_folder(folder)  # or a crash could leave a model.json that names pairs whose name isn't there
            write_durably(folder / NAME, sealed(described))
        except BaseException:
            _undo(folder, numbers)
            raise
        _tidy(folder, numbers)


def _pairs_of(folder: Path, numbers: dict[str, int]) -> Path:
    return folder / f"pairs-{numbers['items']:06d}.safetensors"


def _save_pairs(pairs: np.ndarray, path: Path) -> dict[str, Any]:
    path.unlink(missing_ok=True)  # of a save that never ended
    part = write_arrays(path, {"pairs": pairs})
    return part_to_json(part)


def _undo(folder: Path, numbers: dict[str, int]) -> None:
    """Remove what a save that failed has written, or each try would leave more on a disk that is full.

    Not if model.json names it by now: then the disk may show this model or the one before, and has both.
    """
    try:
        if read_description(folder)["generations"] == numbers:
            return
    except CorruptError:
        if (folder / NAME).exists():
            return
    generations.remove_all([generations.folder_of(folder / side, number) for side, number in numbers.items()])
    if "items" in numbers:
        with suppress(OSError):
            _pairs_of(folder, numbers).unlink(missing_ok=True)


def _save_table(table: Table, path: Path) -> int:
    """As `Table.save`, but nothing goes: until model.json is replaced it names a generation that may be any old."""
    return table.save(path, keep=sys.maxsize)


def table_folder(folder: Path, side: str) -> Path:
    """Where a table is. CorruptError for a link, by which a save would write and remove elsewhere."""
    path = folder / side
    if path.is_symlink():
        raise CorruptError(f"{path}: is a symbolic link, and a model has none")
    return path


def _tidy(folder: Path, numbers: dict[str, int]) -> None:
    """Remove what the new model.json doesn't need, but for each table's generation before; what can't be, stays."""
    for side, number in numbers.items():
        older = [old for old in generations.whole(folder / side) if old < number]
        generations.remove_all([generations.folder_of(folder / side, old) for old in older[:-1]])
    for old in folder.iterdir():
        if _PAIRS.fullmatch(old.name) and old != _pairs_of(folder, numbers) and not old.is_dir():
            with suppress(OSError):
                old.unlink()


def load(kind: type[Retrieval], folder: Path) -> Retrieval:
    """The model in `folder`. CorruptError, naming the file, for what isn't one."""
    described = read_description(folder)
    path, part = pairs_file(folder, described)
    model = _empty(kind, folder / NAME, described["config"])
    numbers = described["generations"]
    users, items = (load_table(table_folder(folder, side), numbers[side]) for side in _SIDES)
    if (users.dim, items.dim) != (model.users.dim, model.items.dim):
        raise CorruptError(
            f"{folder / NAME}: its tables have vectors of {users.dim} and {items.dim} floats, expected "
            f"{model.users.dim} and {model.items.dim}"
        )
    model.users, model.items = users, items
    pairs = read_arrays(path, {"pairs": ("U64", (None,))}, part)["pairs"]
    most = pairs >> np.uint64(32), pairs & np.uint64(0xFFFFFFFF)
    if len(pairs) and (most[0].max() >= len(users) or most[1].max() >= len(items) or (pairs[1:] <= pairs[:-1]).any()):
        raise CorruptError(f"{path}: has pairs of users or items that the tables haven't, or not in their order")
    model.remember(pairs)
    return model


def _empty(kind: type[Retrieval], path: Path, config: dict[str, Any]) -> Retrieval:
    """A model of this config that has learned nothing yet."""
    try:
        return kind(**config)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{path}: its config is no model's: {error!r:.300}") from error


def verify(folder: Path) -> list[str]:
    """What is wrong with model.json and the known pairs; the tables are verified by `store.snapshot`."""
    try:
        path, part = pairs_file(folder, read_description(folder))
    except CorruptError as error:
        return [str(error)]
    return list(check_part(path, part))


def read_description(folder: Path) -> dict[str, Any]:
    """model.json, its checksum and its outline checked."""
    path = folder / NAME
    described = read_sealed(path)
    if set(described) != _FIELDS or not isinstance(described["config"], dict):
        raise CorruptError(f"{path}: expected an object of {', '.join(sorted(_FIELDS))}")
    if type(described["format"]) is not int or described["format"] != FORMAT:
        raise CorruptError(f"{path}: is of format {described['format']!r:.20}, and this hotrow reads {FORMAT}")
    numbers = object_of(described["generations"], set(_SIDES))
    if numbers is None or not all(map(natural, numbers.values())):
        raise CorruptError(f"{path}: its generations aren't numbers of {' and '.join(_SIDES)}")
    return described


def pairs_file(folder: Path, described: dict[str, Any]) -> tuple[Path, Part]:
    """Where the known pairs are, and what they must be."""
    try:
        _, part = part_from_json(described["pairs"], lambda name: "pairs" if _PAIRS.fullmatch(name) else None)
    except MalformedError as error:
        raise CorruptError(f"{folder / NAME}: {error}") from error
    return folder / part.name, part
