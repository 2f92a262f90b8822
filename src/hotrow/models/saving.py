"""A model on disk: two tables, the known pairs, and model.json, which is written last and names the rest.

```
model/
├── lock                             held by the one that saves
├── model.json                       {"format": 1, "config": {…}, "generations": {"users": 2, "items": 2}, "pairs": {…}}
├── pairs-000002.safetensors         uint64 (n,): user << 32 | item, both numbered as in users.ids() and items.ids()
├── users/generation-000002/         a table, see docs/format.md
└── items/generation-000002/
```
Until model.json is replaced, the model is the one before, all of it.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hotrow.errors import CorruptError, HotrowError
from hotrow.store import generations
from hotrow.store import load as load_table
from hotrow.store.files import Part, check_part, make_folders, sync_folder, write_durably
from hotrow.store.format import read_arrays, write_arrays
from hotrow.store.lock import lock

if TYPE_CHECKING:
    from hotrow.models.retrieval import Retrieval
    from hotrow.table.table import Table

NAME = "model.json"
FORMAT = 1


def save(model: Retrieval, folder: Path) -> None:
    """Write `model` to `folder`, over the model that is there, in one step.

    LockedError if somebody else is saving there; OSError, with the path, and the model before as it was.
    """
    make_folders(folder)
    with lock(folder):
        numbers: dict[str, int] = {}
        try:
            for side, table in (("users", model.users), ("items", model.items)):
                numbers[side] = _save_table(table, folder / side)
            described = {
                "format": FORMAT,
                "config": model.config,
                "generations": numbers,
                "pairs": _save_pairs(model.pairs_in_order(), _pairs_of(folder, numbers)),
            }
            sync_folder(folder)  # or a crash could leave a model.json that names pairs whose name isn't there
            write_durably(folder / NAME, (json.dumps(described, indent=1) + "\n").encode())
        except BaseException:
            _undo(folder, numbers)
            raise
        _tidy(folder, numbers)


def _pairs_of(folder: Path, numbers: dict[str, int]) -> Path:
    return folder / f"pairs-{numbers['items']:06d}.safetensors"


def _save_pairs(pairs: np.ndarray, path: Path) -> dict[str, Any]:
    path.unlink(missing_ok=True)  # of a save that never ended
    part = write_arrays(path, {"pairs": pairs})
    return {"name": part.name, "bytes": part.size, "chunk": part.chunk, "crc32": list(part.crc32)}


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


def _tidy(folder: Path, numbers: dict[str, int]) -> None:
    """Remove what the new model.json doesn't need, but for each table's generation before; what can't be, stays."""
    for side, number in numbers.items():
        older = [old for old in generations.whole(folder / side) if old < number]
        generations.remove_all([generations.folder_of(folder / side, old) for old in older[:-1]])
    for old in folder.glob("pairs-*.safetensors"):
        if old != _pairs_of(folder, numbers):
            with suppress(OSError):
                old.unlink()


def load(kind: type[Retrieval], folder: Path) -> Retrieval:
    """The model in `folder`. CorruptError, naming the file, for what isn't one."""
    described = read_description(folder)
    path, part = pairs_file(folder, described)
    try:
        model = kind(**described["config"])
        numbers = described["generations"]
        model.users, model.items = (load_table(folder / side, numbers[side]) for side in ("users", "items"))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, HotrowError) and not isinstance(error, ValueError):
            raise
        raise CorruptError(f"{folder / NAME}: {error!r} is wrong with it") from error
    pairs = read_arrays(path, {"pairs": ("U64", (None,))}, part)["pairs"]
    users, items = pairs >> np.uint64(32), pairs & np.uint64(0xFFFFFFFF)
    if len(pairs) and (
        users.max() >= len(model.users) or items.max() >= len(model.items) or (np.diff(pairs) == 0).any()
    ):
        raise CorruptError(f"{path}: has pairs of users or items that the tables haven't")
    model.remember(pairs)
    return model


def verify(folder: Path) -> list[str]:
    """What is wrong with model.json and the known pairs; the tables are verified by `store.snapshot`."""
    try:
        path, part = pairs_file(folder, read_description(folder))
    except CorruptError as error:
        return [str(error)]
    return list(check_part(path, part))


def read_description(folder: Path) -> dict[str, Any]:
    """model.json, its outline checked."""
    path = folder / NAME
    try:
        described = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptError(f"{path}: isn't the JSON that a save writes ({error})") from error
    wanted = {"format", "config", "generations", "pairs"}
    if not isinstance(described, dict) or set(cast("dict[str, Any]", described)) != wanted:
        raise CorruptError(f"{path}: expected an object of {', '.join(sorted(wanted))}")
    if described["format"] != FORMAT:
        raise CorruptError(f"{path}: is of format {described['format']!r}, and this hotrow reads {FORMAT}")
    return cast("dict[str, Any]", described)


def pairs_file(folder: Path, described: dict[str, Any]) -> tuple[Path, Part]:
    """Where the known pairs are, and what they must be."""
    try:
        fields = described["pairs"]
        part = Part(str(fields["name"]), int(fields["bytes"]), int(fields["chunk"]), tuple(map(int, fields["crc32"])))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{folder / NAME}: its pairs aren't described as a save does ({error!r})") from error
    if Path(part.name).name != part.name or not part.name.startswith("pairs-") or part.chunk < 4096:
        raise CorruptError(f"{folder / NAME}: names a file that no model has: {part.name!r:.100}")
    return folder / part.name, part
