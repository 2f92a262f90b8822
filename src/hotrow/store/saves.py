"""The saves in a table's folder, whichever sort each is of, of one table or of a table in shards: which go, and how.

Who removes something holds the folder's lock.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from hotrow.errors import CorruptError, DataError
from hotrow.store import generations as folders
from hotrow.store.files import sync_folder
from hotrow.store.lock import lock
from hotrow.store.manifest import read_manifest
from hotrow.store.sharded import Sharded, describe, free_file

log = logging.getLogger("hotrow")
_FREE = re.compile(r"free-(\d{6,18})\.safetensors", re.ASCII)
_HALF = re.compile(r"sharded-\d{6,18}\.json\.tmp", re.ASCII)


def names_of(root: Path, number: int) -> set[str]:
    """The checksums by which a save may be known, see `Manifest.names`. CorruptError, DataError if it can't be read."""
    if number in folders.sharded(root):
        return {describe(root, number).sha256}
    return read_manifest(folders.folder_of(root, number)).names()


def sha256_of(root: Path, number: int) -> str:
    """The checksum of a save, as `Saved` has it. Raises as `names_of`."""
    if number in folders.sharded(root):
        return describe(root, number).sha256
    return read_manifest(folders.folder_of(root, number)).sha256


def is_whole(root: Path, number: int) -> bool:
    """Whether a save is no change to another: as far as can be read."""
    if number not in folders.sharded(root):
        return folders.is_snapshot(folders.folder_of(root, number))
    described = _described(root, number)
    return described is not None and described.is_whole


def is_newest(root: Path, sha256: str) -> bool:
    """Whether the newest save is of this checksum."""
    found = folders.numbers(root)
    return bool(found) and sha256 in names_of(root, found[-1])


def _described(root: Path, number: int) -> Sharded | None:
    try:
        return describe(root, number)
    except (CorruptError, DataError):
        return None


def other_choice(root: Path, number: int) -> str:
    """The sentence that offers another generation in place of a damaged one; "" if there is none."""
    others = [other for other in folders.numbers(root) if other != number and _looks_whole(root, other)]
    if not others:
        return ""
    best = max((other for other in others if other < number), default=others[-1])
    return f"; another generation is there: generation={best} (hotrow verify {root} checks it)"


def _looks_whole(root: Path, number: int) -> bool:
    if number not in folders.sharded(root):
        return folders.looks_whole(folders.folder_of(root, number))
    described = _described(root, number)
    if described is None:
        return False
    shards = enumerate(described.shards)
    return all(folders.looks_whole(folders.folder_of(folders.shard_folder(root, at), one)) for at, (one, _) in shards)


# --- what goes -------------------------------------------------------------------------------------------------------


def tidy(root: Path, keep: int) -> None:
    """Remove what goes when `keep` whole saves stay, with all changes after the oldest of these."""
    found = folders.numbers(root)
    first = [number for number in found if is_whole(root, number)][-keep:][:1]
    remove(root, [number for number in found if first and number < first[0]])


def remove(root: Path, numbers: Iterable[int]) -> None:
    """Remove saves, the newest first, so that at no instant there is a change whose parent has gone.

    What can't be removed now is left to the next save, and that is logged.
    """
    in_shards = folders.sharded(root)
    numbers = sorted(numbers, reverse=True)
    ties = [folders.sharded_file(root, number) for number in numbers if number in in_shards]
    folders.remove_all([folders.folder_of(root, number) for number in numbers if number not in in_shards])
    try:
        for tie in ties:
            os.unlink(tie)
    except OSError as error:
        _tell(root, error)
    if folders.shards(root):
        clear_shards(root)


def remove_leftovers(root: Path) -> None:
    """Clear away saves that never ended, and files of generations from which ids were taken out."""
    there = folders.whole(root)
    left = sorted(set(folders.begun(root)) - set(there))
    folders.remove_all([folders.folder_of(root, number) for number in left])
    for number in there:
        folders.remove_strangers(folders.folder_of(root, number))
    if folders.shards(root):
        clear_shards(root)


def keep_only(root: Path, numbers: Collection[int]) -> None:
    """Remove all but these saves and what they are changes to; nothing, if a damaged one doesn't tell what that is."""
    in_shards = folders.sharded(root)
    try:
        wanted = {
            folders.number_of(link)
            for number in numbers
            if number not in in_shards
            for link, _ in folders.chain(root, number)
        }
    except (CorruptError, DataError):
        return
    unwanted = [number for number in folders.begun(root) if number not in wanted]
    folders.remove_all([folders.folder_of(root, number) for number in unwanted])
    remove(root, [number for number in in_shards if number not in numbers])


def clear_shards(root: Path) -> None:
    """Remove what of the shards no save needs; nothing, if a damaged one doesn't tell what it needs. As `remove`."""
    there = folders.sharded(root)
    described = [_described(root, number) for number in there]
    try:
        sync_folder(root)  # or a save that was removed could be back after a crash, and its shards not
        for name in os.listdir(root):
            found = _FREE.fullmatch(name)
            if _HALF.fullmatch(name) or (
                found and free_file(root, int(found[1])).name == name and int(found[1]) not in there
            ):
                os.unlink(root / name)
        if None not in described:
            for at in folders.shards(root):
                needed = [one.shards[at][0] for one in described if one is not None and at < len(one.shards)]
                _clear_shard(folders.shard_folder(root, at), needed)
    except OSError as error:
        _tell(root, error)


def _tell(root: Path, error: OSError) -> None:
    log.warning("%s: what is no longer wanted couldn't be removed (%s); the next save tries again", root, error)


def _clear_shard(folder: Path, needed: list[int]) -> None:
    with lock(folder):
        keep_only(folder, needed)
    if not needed:
        shutil.rmtree(folder)
