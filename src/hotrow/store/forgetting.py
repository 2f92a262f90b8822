"""Ids are taken out of generations that exist: files without them are written beside, then a manifest that lists these.

Until the manifest is replaced, the generation is as it was; afterwards the old files are removed. Generations go from
the oldest to the newest, so a delta that says an id is forgotten says so for as long as an older one still has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import CorruptError
from hotrow.store import derived
from hotrow.store import generations as folders
from hotrow.store.checks import config_problem
from hotrow.store.files import check_part, sync_folder, write_durably
from hotrow.store.generation import map_generation
from hotrow.store.manifest import GONE, INDEX, KEYS, STRINGS, Manifest, encode, read_manifest, slot_file
from hotrow.store.manifest import NAME as MANIFEST
from hotrow.store.writing import Meter, Still, Writer, write_parts
from hotrow.table.ids import to_keys
from hotrow.table.index import BYTES_OF_A_CELL
from hotrow.table.kept import Progress
from hotrow.table.state import State

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Removed:
    """What one file of one generation lost: `rows` of it, `bytes` in all. shard: which of a table's it is, if it is."""

    generation: int
    file: str
    rows: int
    bytes: int
    shard: int | None = None


def forget(path: str | os.PathLike[str], ids: Any, *, progress: Progress | None = None) -> list[Removed]:
    """Take ids out of every generation at `path`, so that no byte of their vectors and strings is left in its files.

    ids: of the table's kind, one or many. Returns what was removed from where, [] if no generation has any of them.
    Of a table in shards it takes them out of every shard; their numbers are then no row's, as if they were free.
    What was made from the table, `derived/` in its folder, goes whole, whatever it has, and isn't counted; that of a
    model, whose tables are in folders of its own, stays: `hotrow forget` removes it.
    When it returns, the disk has it so. Interrupted, some generations have lost them and the others not: call it again.
    Who has mapped a file keeps its bytes until it lets go (`view.refresh()`), and a table in memory keeps its rows:
    call its own `forget`. Raises CorruptError for a damaged generation, before anything of that one has changed,
    KindError for ids of another kind, and LockedError if somebody is saving there.

    >>> import hotrow
    >>> table = hotrow.Table(4)
    >>> vector = table.lookup(["ann", "bob"], grow=True)
    >>> table.save("people")
    1
    >>> [(found.generation, found.file, found.bytes) for found in forget("people", ["ann"])][:1]
    [(1, 'weights.safetensors', 16)]
    >>> "ann" in hotrow.load("people")
    False
    """
    writer = Writer(path)
    try:
        writer.remove_leftovers()
        found = _forget_in_all(writer.root, ids, progress, writer.root)
        for at in folders.shards(writer.root):
            shard = Writer(folders.shard_folder(writer.root, at))
            try:
                shard.remove_leftovers()
                lost = _forget_in_all(shard.root, ids, progress, writer.root)
                found += [replace(one, shard=at) for one in lost]
                sync_folder(shard.root)
            finally:
                shard.close()
        derived.remove(writer.root)  # made from what had them, perhaps since they went
        sync_folder(writer.root)  # generations that were removed before have them, and mustn't come back in a crash
        return found
    finally:
        writer.close()


def _forget_in_all(root: Path, ids: Any, progress: Progress | None, whole: Path) -> list[Removed]:
    """Take ids out of the generations in a folder, of a table or of one of its shards. whole: the table's folder."""
    found: list[Removed] = []
    removed = np.zeros(0, np.uint64)
    for number in folders.whole(root):
        removed = _forget_in(folders.folder_of(root, number), ids, removed, found, progress, whole)
    return found


def _forget_in(
    folder: Path, ids: Any, removed: np.ndarray, found: list[Removed], progress: Progress | None, whole: Path
) -> np.ndarray:
    """Take ids out of a generation, and add to `found` what it has lost.

    removed uint64 (n,): the keys that the ids had in older generations; those that they have here are added.
    """
    number = folders.number_of(folder)
    manifest = read_manifest(folder)
    if problem := config_problem(manifest.config):
        raise CorruptError(f"{folder / MANIFEST}: {problem}")
    meter = Meter(progress, 2 * sum(part.size for part in manifest.parts.values()), number)
    for part in manifest.parts.values():  # what is damaged isn't given a checksum that says it is right
        for problem in check_part(folder / part.name, part, meter.at(part.name)):
            raise CorruptError(problem)
    state = map_generation(folder, manifest, manifest.slots())
    stays = _which_stay(state, ids)
    removed = np.union1d(removed, state.keys[~stays])
    gone_stays = None if state.gone is None else ~np.isin(state.gone, _keys_of(state, ids, removed))
    if stays.all() and (gone_stays is None or gone_stays.all()):
        return removed
    derived.remove(whole)  # before they go: interrupted, what is there isn't of a table that hasn't them
    config = state.config | {"aliases": _aliases(state, stays)}
    stands_for = (*manifest.stands_for, manifest.sha256)
    try:
        parts = write_parts(folder, _Without(state, stays, gone_stays), meter, prefix=_next_prefix(manifest))
        sync_folder(folder)
        new = Manifest(int(stays.sum()), config, parts, manifest.parent, stands_for)
        write_durably(folder / MANIFEST, encode(new))
    except BaseException:
        if read_manifest(folder).sha256 == manifest.sha256:  # else the disk may still show either, and needs both
            folders.remove_strangers(folder)
        raise
    folders.remove_strangers(folder)
    lost = (_removed(number, role, state, stays, gone_stays) for role in parts)
    found += [one for one in lost if one.rows]
    return removed


def _which_stay(state: State, ids: Any) -> np.ndarray:
    """Which rows aren't those of the ids: bool (n,)."""
    keys = to_keys(ids, state.config["ids"])
    if state.strings is None:
        return ~np.isin(state.keys, keys.keys)
    import pyarrow.compute as pc

    named = pc.is_in(state.strings, value_set=keys.texts)  # type: ignore[attr-defined]
    return ~named.to_numpy(zero_copy_only=False)


def _keys_of(state: State, ids: Any, removed: np.ndarray) -> np.ndarray:
    """The keys by which a delta says that the ids are gone: those they had, or would have, if no other may have these.

    A string's own key may be another string's, where there are such twins: then it is only taken out if it was its.
    """
    if state.config["ids"] == "string" and state.config["aliases"]:
        return removed
    return np.union1d(removed, to_keys(ids, state.config["ids"]).keys)


def _aliases(state: State, stays: np.ndarray) -> int:
    """How many of the strings that stay go by another key than theirs."""
    if state.strings is None or not state.config["aliases"]:
        return int(state.config["aliases"])
    other = to_keys(state.strings, "string").keys != state.keys
    return int(state.config["aliases"]) - int((other & ~stays).sum())


def _next_prefix(manifest: Manifest) -> str:
    """What the new files are called, before what they are."""
    return f"rewritten-{len(manifest.stands_for) + 1}-"


@dataclass(frozen=True)
class _Without(Still):
    """A generation without some of its rows, as a source."""

    stays: np.ndarray
    gone_stays: np.ndarray | None

    @property
    def n(self) -> int:
        return int(self.stays.sum())

    @property
    def gone(self) -> np.ndarray | None:
        return None if self.state.gone is None else self.state.gone[self.gone_stays]

    def pieces(self) -> Iterator[list[np.ndarray]]:
        start = 0
        for arrays in super().pieces():
            stays = self.stays[start : start + len(arrays[0])]
            start += len(stays)
            yield [array[stays] for array in arrays]

    def keys(self) -> Iterator[np.ndarray]:
        yield self.state.keys[self.stays]

    def strings(self) -> pa.LargeStringArray | None:
        import pyarrow as pa

        return None if self.state.strings is None else self.state.strings.filter(pa.array(self.stays))


def _removed(number: int, role: str, state: State, stays: np.ndarray, gone_stays: np.ndarray | None) -> Removed:
    """What a file has lost."""
    rows, row = int((~stays).sum()), {KEYS: 8, INDEX: BYTES_OF_A_CELL}
    if role == GONE:
        rows = 0 if gone_stays is None else int((~gone_stays).sum())
        return Removed(number, role, rows, 8 * rows)
    if role == STRINGS:
        import pyarrow.compute as pc

        sizes = pc.binary_length(state.strings).to_numpy(zero_copy_only=False)  # type: ignore[attr-defined]
        return Removed(number, role, rows, int(sizes[~stays].sum()))
    slots = {slot_file(name): 4 * slot.shape[1] for name, slot in state.slots.items()}
    return Removed(number, role, rows, rows * (row | slots).get(role, 4 * state.weights.shape[1]))
