"""A model on disk: two tables, the known pairs, and model.json, which is written last and names the rest.

```
model/
├── lock                             held by the one that saves
├── model.json                       {"format": 1, "config": {…}, "generations": {"users": 2, "items": 2}, "pairs": {…},
│                                     "sha256": …}
├── pairs-000002.safetensors         uint64 (n,): user << 32 | item, both numbered as in users.ids() and items.ids()
├── users/generation-000002/         a table, see docs/format.md
├── items/generation-000002/
│                                    with features: "format": 2, and "features": {"user": [], "item": [{"name": "tag",
│                                     "pairs": {…}}]}, the first of which has the number 1
├── item-feature-1/generation-000002/                 the table of its values
└── item-feature-1-000002.safetensors                 uint64 (n,): item << 32 | value, as in the pairs
```
Until model.json is replaced, the model is the one before, all of it. It ends with a checksum of itself, see
`store/sealed.py`. Nothing outside of the folder is read, written or removed: a link in the place of a table is refused.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hotrow.errors import CorruptError
from hotrow.models.descriptions import PAIRS as NAME
from hotrow.models.descriptions import check_alone
from hotrow.models.features import Feature
from hotrow.models.gathering import plain
from hotrow.store import generations, saves
from hotrow.store import load as load_table
from hotrow.store.files import Part, check_part, make_folders, sync_folder, write_durably
from hotrow.store.format import read_arrays, write_arrays
from hotrow.store.lock import lock
from hotrow.store.manifest import part_from_json, part_to_json
from hotrow.store.sealed import read_sealed, sealed
from hotrow.store.strict_json import MalformedError, natural, object_of
from hotrow.table.table import Table

if TYPE_CHECKING:
    from hotrow.models.retrieval import Retrieval

M = TypeVar("M", bound="Retrieval")
FORMAT = 1
WITH_FEATURES = 2
_FIELDS = {"format", "config", "generations", "pairs"}
_SIDES = ("users", "items")
_PAIRS = re.compile(r"(?:pairs|(?:user|item)-feature-[1-9][0-9]{0,5})-[0-9]{6,18}\.safetensors")
_FEATURE = re.compile(r"(?:user|item)-feature-[1-9][0-9]{0,5}")


def save(model: Retrieval, folder: Path) -> None:
    """Write `model` to `folder`, over the model that is there, in one step.

    LockedError if somebody else is saving there; ArgumentError if a model of another kind is there; OSError, with the
    path, and the model before as it was.
    """
    make_folders(folder)
    with lock(folder):
        check_alone(folder, NAME)
        numbers: dict[str, int] = {}
        features = {side: list(model.parts[side].items()) for side in ("user", "item")}
        tables = {"users": model.users, "items": model.items}
        tables |= {_folder_of(side, i): f.table for side, all in features.items() for i, (_, f) in enumerate(all)}
        try:
            for name, table in tables.items():
                numbers[name] = _save_table(table, table_folder(folder, name))
            described: dict[str, Any] = {
                "format": FORMAT,
                "config": model.config,
                "generations": numbers,
                "pairs": _save_pairs(model.pairs_in_order(), _pairs_of(folder, "pairs", numbers)),
            }
            if len(tables) > len(_SIDES):
                described["format"] = WITH_FEATURES
                described["features"] = {
                    side: [
                        {"name": name, "pairs": _save_pairs(f.pairs, _pairs_of(folder, _folder_of(side, i), numbers))}
                        for i, (name, f) in enumerate(all)
                    ]
                    for side, all in features.items()
                }
            sync_folder(folder)  # or a crash could leave a model.json that names pairs whose name isn't there
            write_durably(folder / NAME, sealed(described))
        except BaseException:
            _undo(folder, numbers)
            raise
        _tidy(folder, numbers)


def _folder_of(side: str, place: int) -> str:
    """That of the table of a side's feature, by its place: names are the user's, and may be no names of files."""
    return f"{side}-feature-{place + 1}"


def _pairs_of(folder: Path, name: str, numbers: dict[str, int]) -> Path:
    return folder / f"{name}-{numbers['items']:06d}.safetensors"


def _all_pairs_of(folder: Path, numbers: dict[str, int]) -> list[Path]:
    """Of the known pairs, and of each feature."""
    return [_pairs_of(folder, name, numbers) for name in ("pairs", *(n for n in numbers if n not in _SIDES))]


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
    for side, number in numbers.items():
        saves.remove(folder / side, [number])
    if "items" in numbers:
        for path in _all_pairs_of(folder, numbers):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _save_table(table: Table, path: Path) -> int:
    """As `Table.save`, but nothing goes: until model.json is replaced it names a generation that may be any old.

    A table of another class, as one in shards, is saved as the plain one that it equals: it comes here for that.
    """
    return plain(table).save(path, keep=sys.maxsize)


def table_folder(folder: Path, side: str) -> Path:
    """Where a table is. CorruptError for a link, by which a save would write and remove elsewhere."""
    path = folder / side
    if path.is_symlink():
        raise CorruptError(f"{path}: is a symbolic link, and a model has none")
    return path


def _tidy(folder: Path, numbers: dict[str, int]) -> None:
    """Remove what the new model.json doesn't need, but for each table's generation before; what can't be, stays."""
    for side, number in numbers.items():
        older = [old for old in generations.numbers(folder / side) if old < number]
        saves.remove(folder / side, older[:-1])
    kept = _all_pairs_of(folder, numbers)
    for old in folder.iterdir():
        if _PAIRS.fullmatch(old.name) and old not in kept and not old.is_dir():
            with suppress(OSError):
                old.unlink()


def load(kind: type[M], folder: Path, open_table: Callable[[Path, int], Any] = load_table) -> M:
    """The model in `folder`, its tables opened by `open_table`. CorruptError, naming the file, for what isn't one."""
    described = read_description(folder)
    model = _empty(kind, folder / NAME, described["config"])
    numbers = described["generations"]

    def opened(name: str, dim: int) -> Any:
        table = open_table(table_folder(folder, name), numbers[name])
        if table.dim != dim:
            raise CorruptError(f"{folder / NAME}: table {name} has vectors of {table.dim} floats, expected {dim}")
        return table

    model.users, model.items = (opened(side, getattr(model, side).dim) for side in _SIDES)
    path, part = pairs_file(folder, described["pairs"])
    model.remember(_read_pairs(path, part, model.users, model.items))
    for side, entities in (("user", model.users), ("item", model.items)):
        features = model.parts[side]
        for place, told in enumerate(described.get("features", {side: []})[side]):
            table = opened(_folder_of(side, place), entities.dim)
            path, part = pairs_file(folder, told["pairs"])
            features[told["name"]] = Feature(entities, table, _read_pairs(path, part, entities, table))
    return model


def _read_pairs(path: Path, part: Part, first: Table, second: Table) -> np.ndarray:
    """Pairs of rows of two tables, ascending: uint64 (n,)."""
    pairs = read_arrays(path, {"pairs": ("U64", (None,))}, part)["pairs"]
    if len(pairs) and (
        (pairs >> np.uint64(32)).max() >= len(first)
        or (pairs & np.uint64(0xFFFFFFFF)).max() >= len(second)
        or (pairs[1:] <= pairs[:-1]).any()
    ):
        raise CorruptError(f"{path}: has pairs of rows that the tables haven't, or not in their order")
    return pairs


def _empty(kind: type[M], path: Path, config: dict[str, Any]) -> M:
    """A model of this config that has learned nothing yet."""
    try:
        return kind(**config)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{path}: its config is no model's: {error!r:.300}") from error


def verify(folder: Path) -> list[str]:
    """What is wrong with model.json and the known pairs; the tables are verified by `store.snapshot`."""
    try:
        described = read_description(folder)
        told = [described["pairs"], *(each["pairs"] for side in _features(described) for each in side)]
        files = [pairs_file(folder, each) for each in told]
    except CorruptError as error:
        return [str(error)]
    return [problem for path, part in files for problem in check_part(path, part)]


def tables(folder: Path) -> dict[str, Path]:
    """Where each table of the model is: users, items, and one for each feature."""
    try:
        names = list(read_description(folder)["generations"])
    except CorruptError:  # `verify` says so; what there is can still be looked at
        names = [*_SIDES, *sorted(path.name for path in folder.iterdir() if _FEATURE.fullmatch(path.name))]
    return {name: table_folder(folder, name) for name in names}


def is_ours(name: str) -> bool:
    """Whether a save may have written what has this name in a model's folder, but for the lock."""
    return name in {*_SIDES, NAME, NAME + ".tmp"} or bool(_PAIRS.fullmatch(name) or _FEATURE.fullmatch(name))


def names_of(folder: Path) -> dict[str, str]:
    """What the features of the model are called, by their folders: {"item-feature-1": "tag"}."""
    return _names_of(read_description(folder))


def _names_of(described: dict[str, Any]) -> dict[str, str]:
    return {
        _folder_of(side, place): told["name"]
        for side, all in zip(("user", "item"), _features(described), strict=True)
        for place, told in enumerate(all)
    }


def read_description(folder: Path) -> dict[str, Any]:
    """model.json, its checksum and its outline checked."""
    path = folder / NAME
    described = read_sealed(path)
    number = described.get("format")
    if type(number) is not int or number not in (FORMAT, WITH_FEATURES):
        raise CorruptError(f"{path}: is of format {number!r:.20}, and this hotrow reads {FORMAT} and {WITH_FEATURES}")
    fields = _FIELDS | ({"features"} if number == WITH_FEATURES else set())
    if set(described) != fields or not isinstance(described["config"], dict):
        raise CorruptError(f"{path}: expected an object of {', '.join(sorted(fields))}")
    if number == WITH_FEATURES:
        _check_features(path, described["features"])
    expected = {*_SIDES, *_names_of(described)}
    numbers = object_of(described["generations"], expected)
    if numbers is None or not all(map(natural, numbers.values())):
        raise CorruptError(f"{path}: its generations aren't numbers of {' and '.join(sorted(expected))}")
    return described


def _features(described: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Those of users, and those of items, as model.json tells of them."""
    told = described.get("features", {"user": [], "item": []})
    return told["user"], told["item"]


def _check_features(path: Path, told: Any) -> None:
    sides = object_of(told, {"user", "item"})
    for all in (None,) if sides is None else sides.values():
        each = [object_of(one, {"name", "pairs"}) for one in all] if isinstance(all, list) else [None]
        names = [one["name"] for one in each if one is not None and isinstance(one["name"], str) and one["name"]]
        if len(set(names)) < len(each):
            raise CorruptError(f"{path}: its features aren't lists of names and pairs, one for users, one for items")


def pairs_file(folder: Path, told: Any) -> tuple[Path, Part]:
    """Where pairs are that model.json tells of, and what they must be."""
    try:
        _, part = part_from_json(told, lambda name: "pairs" if _PAIRS.fullmatch(name) else None)
    except MalformedError as error:
        raise CorruptError(f"{folder / NAME}: {error}") from error
    return folder / part.name, part
