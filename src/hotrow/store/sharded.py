"""A table in shards on disk: which generations of its shards belong together, and the tables that they make.

```
path/
├── lock                          held by the one that writes
├── sharded-000002.json           what belongs together, with its checksums: without it the save doesn't exist
├── free-000002.safetensors       numbers that no row has, where there are some, in the order in which they came free
├── shard-000/generation-000002/  each shard, an ordinary table's folder, with a slot "number"
└── shard-001/generation-000002/
```
A row's number is the row that it would have in a table that isn't in shards: `join` puts rows in that order. All names
follow from numbers, so the JSON file can name nothing outside of the folder. `saves.py` says what is removed when.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from hotrow.errors import ArgumentError, CorruptError, DataError
from hotrow.store import generations as folders
from hotrow.store.checks import json_problem
from hotrow.store.files import Part, sync_folder, write_durably
from hotrow.store.format import read_arrays, write_arrays
from hotrow.store.joining import NUMBER, join, split
from hotrow.store.manifest import (
    generations_from_json,
    generations_to_json,
    library,
    part_from_json,
    part_to_json,
    read_manifest,
    sha256_of,
)
from hotrow.store.sealed import FIELD, LIMIT, check_seal, read_whole, sealed
from hotrow.store.strict_json import MalformedError, natural, parse_object
from hotrow.table.kept import Saved

__all__ = ["Sharded", "free_file", "is_sharded", "join", "read", "shard_folder", "split", "write"]
FORMAT = 1
_FIELDS = {"format", "library", "whole", "shards", "facts", "free", FIELD}
_FREE = "free"

shard_folder = folders.shard_folder


@dataclass(frozen=True)
class Sharded:
    """What the JSON file of a save of a table in shards says.

    number    of the save, among those of the folder
    shards    of each, its generation and the checksum of that one's manifest
    facts     what the writer has to say: "shards", how many, "steps", that the table has taken, "free", the numbers
              that no row has (int, in order), and any JSON besides
    sha256    the checksum of the file, and so the name of this save's content
    is_whole  whether no shard's generation is a delta
    """

    number: int
    shards: list[tuple[int, str]]
    facts: dict[str, Any]
    sha256: str
    is_whole: bool
    free: Part | None = None
    """The file of the free numbers."""


def free_file(root: Path, number: int) -> Path:
    """The free numbers of a save."""
    return root / f"free-{number:06d}.safetensors"


def is_sharded(path: str | os.PathLike[str]) -> bool:
    """Whether the newest save at `path` is of a table in shards."""
    root = Path(path)
    found = folders.numbers(root) if root.is_dir() else []
    return bool(found) and found[-1] in folders.sharded(root)


# --- write -----------------------------------------------------------------------------------------------------------


def write(path: str | os.PathLike[str], number: int, saved: list[Saved], facts: dict[str, Any]) -> str:
    """Tie generations of shards, which are on disk already, to the save of this number; return its checksum.

    saved: of each shard, what it was saved as, in `shard_folder(path, i)`. When it returns, the disk has it so; until
    then there is no such save. Nothing is removed, and who calls it holds the lock: `writing.ShardedWriter` does both.
    ArgumentError for a number that is taken or facts that can't be, DataError if a generation isn't there.
    """
    root = Path(path).absolute()
    described, free = dict(facts), np.array(facts.get(_FREE, []), np.int64)
    described.pop(_FREE, None)
    if type(number) is not int or number < 1 or number in folders.numbers(root):
        raise ArgumentError(f"number = {number!r}: expected one from 1 on that no save in {root} has")
    if (
        problem := _facts_problem(described, len(saved))
        or _free_problem(free)
        or json_problem(described, "what is said")
    ):
        raise ArgumentError(f"facts: {problem}")
    is_whole = [_is_whole(root, at, one) for at, one in enumerate(saved)]
    part = None
    try:
        if len(free):
            with suppress(FileNotFoundError):  # of a save that never ended
                os.unlink(free_file(root, number))
            part = write_arrays(free_file(root, number), {_FREE: free})
        text = sealed(
            {
                "format": FORMAT,
                "library": library(),
                "whole": all(is_whole),
                "shards": generations_to_json(saved),
                "facts": described,
                "free": part and part_to_json(part),
            }
        )
        sync_folder(root)  # all names are durable before anything names them
        write_durably(folders.sharded_file(root, number), text)
    except BaseException:
        if part is not None and not folders.sharded_file(root, number).exists():
            with suppress(OSError):
                os.unlink(free_file(root, number))
        raise
    return sha256_of(text)


def _is_whole(root: Path, at: int, saved: Saved) -> bool:
    """Whether the generation, which must be there, is a snapshot."""
    folder = shard_folder(root, at)
    if saved.path != folder:
        raise ArgumentError(f"shard {at} was saved to {saved.path}; expected {folder}")
    try:
        manifest = read_manifest(folders.folder_of(folder, saved.generation))
    except CorruptError as error:
        raise DataError(
            f"{error}; shard {at} has said that it is saved, so it is in another place: expected a folder that all "
            "nodes with shards share"
        ) from error
    if saved.sha256 not in manifest.names() or NUMBER not in manifest.slots():
        raise DataError(f"{folder}: generation {saved.generation} isn't what shard {at} was saved as")
    return manifest.parent is None


def _facts_problem(facts: dict[str, Any], shards: int) -> str:
    if not shards or facts.get("shards") != shards or not natural(facts.get("steps")):
        return f"{facts!s:.200}; expected them to have shards = {shards}, 1 at least, and steps, how many were taken"
    return ""


def _free_problem(free: np.ndarray) -> str:
    if free.ndim != 1 or (len(free) and free.min() < 0) or len(np.unique(free)) < len(free):
        return "free numbers that are below 0, or the same twice"
    return ""


# --- read ------------------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str], number: int | None = None) -> Sharded:
    """The newest save at `path`, or the one asked for, if all that it names is there.

    DataError if there is none such, or it isn't of a table in shards; CorruptError, naming the file, if it is damaged,
    or a shard's generation is missing or is another one than was saved. No other save is taken in its place.
    """
    root = Path(path).absolute()
    number = folders.choose(root, number)
    if number not in folders.sharded(root):
        raise DataError(f"{root}: generation {number} isn't of a table in shards; hotrow.load({str(root)!r}) reads it")
    described = describe(root, number)
    check_shards(root, described)
    return replace(described, facts=described.facts | {_FREE: free_numbers(root, described).tolist()})


def free_numbers(root: Path, described: Sharded) -> np.ndarray:
    """The numbers that no row has, in the order in which they came free: int64 (n,)."""
    if described.free is None:
        return np.zeros(0, np.int64)
    path = free_file(root, described.number)
    numbers = read_arrays(path, {_FREE: ("I64", (None,))}, described.free)[_FREE]
    if problem := _free_problem(numbers):
        raise CorruptError(f"{path}: has {problem}")
    return numbers


def check_shards(root: Path, described: Sharded) -> None:
    """CorruptError unless each generation that a save names is there, and the one that it names."""
    for at, (generation, sha256) in enumerate(described.shards):
        folder = folders.folder_of(shard_folder(root, at), generation)
        if sha256 not in read_manifest(folder).names():
            tie = folders.sharded_file(root, described.number).name
            raise CorruptError(f"{folder}: isn't the generation that belongs to {tie}")


def describe(root: Path, number: int) -> Sharded:
    """What the file of a save says, its checksum and every field checked; the free numbers aren't read.

    CorruptError names the file; DataError if it takes a newer hotrow to read it.
    """
    path = folders.sharded_file(root, number)
    text = read_whole(path, LIMIT)
    try:
        digits = check_seal(text)
        fields = parse_object(text)
        found = fields.get("format")
        if type(found) is int and found > FORMAT:
            raise DataError(
                f"{path}: is of format {found}, and this hotrow reads format {FORMAT}: pip install --upgrade hotrow"
            )
        if set(fields) != _FIELDS or type(found) is not int or found != FORMAT or fields[FIELD] != digits:
            raise MalformedError(f"expected an object of {', '.join(sorted(_FIELDS))}, as a save writes")
        shards, facts = generations_from_json(fields["shards"]), fields["facts"]
        if shards is None or type(fields["whole"]) is not bool or not isinstance(facts, dict):
            raise MalformedError("has shards, facts or whole that can't be")
        if problem := _facts_problem(cast("dict[str, Any]", facts), len(shards)):
            raise MalformedError(f"has the facts {problem}")
        own = free_file(root, number).name
        free = fields["free"] and part_from_json(fields["free"], lambda name: name if name == own else None)[1]
    except MalformedError as error:
        raise CorruptError(f"{path}: {error}") from error
    return Sharded(number, shards, cast("dict[str, Any]", facts), digits, fields["whole"], free)
