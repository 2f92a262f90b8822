"""The folders of a snapshot: which generations there are, which of them are whole, which go.

A table in shards (`sharded.py`) is saved under the same numbers, so the save with the largest number is the newest,
whichever sort it is of.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hotrow.errors import CorruptError, DataError
from hotrow.store.files import reading, sync_folder
from hotrow.store.manifest import NAME as MANIFEST
from hotrow.store.manifest import Manifest, read_manifest, role_of

log = logging.getLogger("hotrow")
_PATTERN = re.compile(r"generation-(\d{6,18})", re.ASCII)
_SHARDED = re.compile(r"sharded-(\d{6,18})\.json", re.ASCII)
_SHARD = re.compile(r"shard-(\d{3,9})", re.ASCII)
_EXPECTED = "expected a folder with generation-000001/manifest.json in it, as `table.save(path)` writes"


def folder_of(root: Path, number: int) -> Path:
    """Where a generation is: `root/generation-000001`."""
    return root / f"generation-{number:06d}"


def number_of(folder: Path) -> int:
    """The number of a generation's folder."""
    return int(folder.name.removeprefix("generation-"))


def sharded_file(root: Path, number: int) -> Path:
    """What makes a save of a table in shards be there: `root/sharded-000001.json`."""
    return root / f"sharded-{number:06d}.json"


def shard_folder(root: Path, at: int) -> Path:
    """Where a shard of such a table is, the first at 0: `root/shard-000`, an ordinary table's folder.

    CorruptError for a link, by which a save would write and remove elsewhere.
    """
    path = root / f"shard-{at:03d}"
    if path.is_symlink():
        raise CorruptError(f"{path}: is a symbolic link, and a table's folder has none")
    return path


def begun(root: Path) -> list[int]:
    """Numbers of all generations in a folder, rising, also of those whose save never ended."""
    return _numbered(root, _PATTERN, folder_of)


def sharded(root: Path) -> list[int]:
    """Numbers of the saves of a table in shards, rising."""
    return _numbered(root, _SHARDED, sharded_file)


def shards(root: Path) -> list[int]:
    """The places of the shards that have a folder, rising."""
    return _numbered(root, _SHARD, lambda root, at: root / f"shard-{at:03d}")


def _numbered(root: Path, pattern: re.Pattern[str], name: Callable[[Path, int], Path]) -> list[int]:
    with reading(root):
        names = [found for found in map(pattern.fullmatch, os.listdir(root)) if found]
    return sorted(int(found[1]) for found in names if found[0] == name(root, int(found[1])).name)


def numbers(root: Path) -> list[int]:
    """Numbers of all saves that are there, of either sort, rising."""
    return sorted({*whole(root), *sharded(root)})


def mark_of(root: Path, number: int) -> Path:
    """The file without which a save isn't there: its manifest, or what ties its shards."""
    path = sharded_file(root, number)
    return path if os.path.lexists(path) else folder_of(root, number) / MANIFEST


def following(root: Path) -> int:
    """The number of the next save. CorruptError after the last that can be, for no reader would see it."""
    number = max([*begun(root), *sharded(root)], default=0) + 1
    if not _PATTERN.fullmatch(folder_of(root, number).name):
        raise CorruptError(f"{folder_of(root, number - 1)}: is no save's, and no number is left after it; remove it")
    return number


def whole(root: Path) -> list[int]:
    """Numbers of the generations that have a manifest, rising. Without one, a generation doesn't exist."""
    return [number for number in begun(root) if os.path.lexists(folder_of(root, number) / MANIFEST)]


def chain(root: Path, number: int) -> list[tuple[Path, Manifest]]:
    """The snapshot that a generation is a chain of changes to, then these, in order; itself is the last.

    CorruptError if one is damaged or missing.
    """
    folder = folder_of(root, number)
    links = [(folder, read_manifest(folder))]
    for older in (n for n in reversed(whole(root)) if n < number):
        parent = links[-1][1].parent
        if parent is None:
            break
        before = folder_of(root, older)
        manifest = read_manifest(before)
        if parent in manifest.names():
            links.append((before, manifest))
    if (parent := links[-1][1].parent) is not None:
        raise CorruptError(
            f"{links[-1][0] / MANIFEST}: is a change to a generation whose manifest has the checksum {parent}, and it "
            "isn't there any more"
        )
    return links[::-1]


def is_snapshot(folder: Path) -> bool:
    """Whether it is a whole table, and not a change to one: as far as can be read."""
    try:
        return read_manifest(folder).parent is None
    except (CorruptError, DataError):
        return False


def choose(root: Path, number: int | None) -> int:
    """The number of the newest save, or the one asked for. DataError if there is none such."""
    found = numbers(root) if root.is_dir() else []
    if not found:
        raise DataError(f"{root}: {_what_is_there(root)}; {_EXPECTED}")
    if number is None:
        return found[-1]
    if number not in found:
        raise DataError(f"{root}: has no generation {number}; it has {', '.join(map(str, found))}")
    return number


def _what_is_there(root: Path) -> str:
    if not root.exists():
        return "there is nothing here"
    if not root.is_dir():
        return "this is a file"
    if left := begun(root):
        return f"the only save here, generation {left[-1]}, never ended"
    if shards(root):
        return "the only save here, of a table in shards, never ended"
    within = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and numbers(entry))[:10]
    return f"no snapshot here, but in {', '.join(within)}" if within else "no snapshot here"


def looks_whole(folder: Path) -> bool:
    """The manifest is intact and the files have their sizes: quick, and no proof."""
    try:
        parts = read_manifest(folder).parts.values()
        return all((folder / part.name).stat().st_size == part.size for part in parts)
    except (OSError, DataError):
        return False


def remove(folder: Path) -> None:
    """Remove a generation, its manifest first: whenever this is interrupted, what is left doesn't exist."""
    if folder.is_symlink():
        os.unlink(folder)
        return
    with suppress(FileNotFoundError):
        os.unlink(folder / MANIFEST)
    sync_folder(folder)  # also if it was gone: whoever removed it may have died before the disk knew
    shutil.rmtree(folder)


def remove_strangers(folder: Path) -> None:
    """Remove what is called like a file of a generation and isn't listed in its manifest: left by a rewriting."""
    try:
        listed = {part.name for part in read_manifest(folder).parts.values()}
        strangers = [name for name in os.listdir(folder) if role_of(name) and name not in listed]
    except (CorruptError, DataError, OSError):  # damaged: nothing of it goes
        return
    for name in strangers:
        os.unlink(folder / name)
    if strangers:
        sync_folder(folder)


def remove_all(folders: list[Path]) -> None:
    """Remove what is no longer wanted. What can't be (Windows keeps mapped files) is left to the next save."""
    for folder in folders:
        try:
            remove(folder)
        except OSError as error:
            log.warning("%s couldn't be removed (%s); the next save tries again", folder, error)
