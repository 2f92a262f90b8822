"""A generation is written: rows as they come, then keys and index in the same order, then the manifest.

`docs/format.md` has every byte, `docs/durability.md` what is promised when, and in which order files become durable.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hotrow.errors import ArgumentError, CorruptError, LockedError
from hotrow.store import generations as folders
from hotrow.store import saves, sharded
from hotrow.store.checks import check_state
from hotrow.store.files import Advance, Part, make_folders, sync_folder, write_durably
from hotrow.store.format import ArrayOutput, map_arrays, write_arrays
from hotrow.store.lock import lock
from hotrow.store.manifest import (
    GONE,
    INDEX,
    KEYS,
    STRINGS,
    WEIGHTS,
    Manifest,
    encode,
    read_manifest,
    sha256_of,
    slot_file,
)
from hotrow.store.manifest import NAME as MANIFEST
from hotrow.store.strings import write_strings
from hotrow.table.index import cells_of
from hotrow.table.kept import Progress, Saved
from hotrow.table.state import State

if TYPE_CHECKING:
    import pyarrow as pa

StrPath = str | os.PathLike[str]

_PIECE = 1 << 19  # floats


class Source(Protocol):
    """What is written: a table at one step, or what has changed of it, as `hotrow.table.cut.Cut` is.

    config  the table's, see `State`
    n       rows
    slots   name → floats a row of each optimizer array
    gone    of a change, keys that were erased since its parent; None for a whole table
    """

    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def n(self) -> int: ...
    @property
    def slots(self) -> Mapping[str, int]: ...
    @property
    def gone(self) -> np.ndarray | None: ...
    def pieces(self) -> Iterator[list[np.ndarray]]:
        """The rows, some at a time: weights float32 (k, dim) and each slot. They may change after the next but one."""
        ...

    def keys(self) -> Iterator[np.ndarray]:
        """After all pieces: the keys of the rows, in the order in which they came, some at a time."""
        ...

    def strings(self) -> pa.LargeStringArray | None:
        """After all pieces: the strings, in that order; None where ids are integers."""
        ...


@dataclass(frozen=True)
class Still:
    """A state that nobody changes, as a source."""

    state: State

    @property
    def config(self) -> dict[str, Any]:
        return self.state.config

    @property
    def n(self) -> int:
        return len(self.state.keys)

    @property
    def slots(self) -> dict[str, int]:
        return {name: slot.shape[1] for name, slot in self.state.slots.items()}

    @property
    def gone(self) -> np.ndarray | None:
        return self.state.gone

    def pieces(self) -> Iterator[list[np.ndarray]]:
        arrays = [self.state.weights, *self.state.slots.values()]
        step = max(1, _PIECE // sum(array.shape[1] for array in arrays))
        for start in range(0, len(self.state.keys), step):
            yield [np.array(array[start : start + step]) for array in arrays]

    def keys(self) -> Iterator[np.ndarray]:
        yield self.state.keys

    def strings(self) -> pa.LargeStringArray | None:
        return self.state.strings


def save(path: StrPath, state: State, *, keep: int = 2, progress: Progress | None = None) -> int:
    """Write a state that nobody changes as a new generation of the snapshot at `path`, and return its number.

    When it returns, the disk has all of it. Until then the generations before are untouched, and whatever
    interrupts a save, they load. Afterwards the newest `keep` whole ones are kept, and the changes to them.
    `path` is made if it is missing.

    ArgumentError if `state` can't be a table, LockedError if another save to `path` is under way, OSError with
    the path if the disk is full or closed to us; the new generation is then removed.

    >>> from hotrow.table.table import Table
    >>> save("items", Table(32).state())
    1
    >>> save("items", Table(32).state())
    2
    """
    check_state(state)
    writer = Writer(path, keep=keep)
    try:
        return writer.write(Still(state), progress)[0]
    finally:
        writer.close()


class Right:
    """That to add a save at a path, from now until `close`. LockedError if somebody else has it."""

    def __init__(self, path: StrPath, keep: int, parent: str | None) -> None:
        if type(keep) is not int or keep < 1:
            raise ArgumentError(
                f"keep = {keep!r}: expected how many generations to keep, at least 1: save(path, keep=2)"
            )
        self.root = Path(path).absolute()
        self._keep, self._parent = keep, parent
        self._held = ExitStack()
        make_folders(self.root)
        self._held.enter_context(lock(self.root))

    def _tidy(self) -> None:
        """After a whole save: remove what goes for it."""
        if self._parent is None:
            with suppress(CorruptError):  # what can't be listed now is left to the next save; this one is done
                saves.tidy(self.root, self._keep)

    def close(self) -> None:
        """Give the right back; a second call does nothing."""
        self._held.close()


class Writer(Right):
    """The right to add a generation at a path, from now until `close`.

    keep    snapshots that stay when there is one more, with the deltas to them
    parent  the checksum of the manifest that it is a change to, which must be the newest; None for a whole table
    compact  of the newest generation, which must be a delta, the same table whole is to be written

    LockedError if somebody else has that right, or has saved after the parent.
    """

    def __init__(self, path: StrPath, *, keep: int = 2, parent: str | None = None, compact: bool = False) -> None:
        super().__init__(path, keep, parent)
        try:
            newest = self._newest() if parent is not None or compact else None
            if parent is not None:
                self._check_parent(newest, parent)
            self._stands_for = tuple(sorted(newest.names())) if newest and compact else ()
        except BaseException:
            self.close()
            raise

    def _newest(self) -> Manifest | None:
        found = folders.numbers(self.root)
        if not found or found[-1] in folders.sharded(self.root):  # which no delta is a change to
            return None
        return read_manifest(folders.folder_of(self.root, found[-1]))

    def _check_parent(self, newest: Manifest | None, parent: str) -> None:
        if newest is None or parent not in newest.names():
            raise _not_the_newest(self.root)

    def write(self, source: Source, progress: Progress | None = None) -> tuple[int, str]:
        """Write it; return its number and the checksum of its manifest. OSError, and nothing is left, if that fails."""
        self.remove_leftovers()
        number = folders.following(self.root)
        folder = folders.folder_of(self.root, number)
        try:
            os.mkdir(folder)
            parts = write_parts(folder, source, Meter(progress, _bytes(source), number))
            sync_folder(folder)
            manifest = Manifest(source.n, source.config, parts, self._parent, self._stands_for)
            write_durably(folder / MANIFEST, text := encode(manifest))
            sync_folder(self.root)
        except BaseException:
            folders.remove_all([folder] if folder.exists() else [])
            raise
        self._tidy()
        return number, sha256_of(text)

    def remove_leftovers(self) -> None:
        """Clear away saves that never ended, and files of generations from which ids were taken out."""
        saves.remove_leftovers(self.root)


class ShardedWriter(Right):
    """The right to add a save of a table in shards at a path, from now until `close`.

    1. Each shard saves itself to `folder(i)`, with keep=sys.maxsize, for nothing may go before all have.
    2. `write` ties what they were saved as, and removes what is no longer wanted.

    A table whose save failed between the two is saved whole the next time: `writing.ShardedWriter(path, keep=…)`.

    keep    whole saves that stay when there is one more, with the deltas to them
    parent  the checksum of the save that the shards' generations are changes to; None for whole ones

    LockedError if somebody else has that right, or has saved after the parent.
    """

    def __init__(self, path: StrPath, *, keep: int = 2, parent: str | None = None) -> None:
        super().__init__(path, keep, parent)
        try:
            if parent is None:
                saves.remove_leftovers(self.root)
            elif not saves.is_newest(self.root, parent):
                raise _not_the_newest(self.root)
            self.number = folders.following(self.root)
        except BaseException:
            self.close()
            raise

    def folder(self, at: int) -> Path:
        """Where a shard is to be saved."""
        return folders.shard_folder(self.root, at)

    def write(self, saved: list[Saved], facts: dict[str, Any]) -> tuple[int, str]:
        """Tie what the shards were saved as, see `sharded.write`; return the save's number and its checksum."""
        sha256 = sharded.write(self.root, self.number, saved, facts)
        self._tidy()
        return self.number, sha256


def _not_the_newest(root: Path) -> LockedError:
    return LockedError(
        f"{root}: its newest generation isn't the one that this table was saved as or loaded from, so a delta would be "
        f"a change to something else; expected table.save({str(root)!r}), a whole one"
    )


def write_parts(folder: Path, source: Source, meter: Meter, *, prefix: str = "") -> dict[str, Part]:
    """Write all files but the manifest, their names after `prefix`; on return the disk has their contents."""

    def path(role: str) -> Path:
        return folder / (prefix + role)

    parts = _write_rows(path, source, meter)
    parts[KEYS] = _write_keys(path(KEYS), source, meter.at(KEYS))
    if source.gone is None:
        cells = cells_of(map_arrays(path(KEYS), {"keys": ("U64", (source.n,))})["keys"])
        parts[INDEX] = write_arrays(path(INDEX), {"cells": cells}, meter.at(INDEX))
        del cells
    else:
        parts[GONE] = write_arrays(path(GONE), {"gone": source.gone}, meter.at(GONE))
    strings = source.strings()
    if strings is not None:
        parts[STRINGS] = write_strings(path(STRINGS), strings, meter.at(STRINGS))
    return parts


def _write_rows(path: Callable[[str], Path], source: Source, meter: Meter) -> dict[str, Part]:
    """Weights and slots, each in a file of its own, side by side. Apart, so that a view maps no slots."""
    files = {WEIGHTS: ("weights", source.config["dim"])}
    files |= {slot_file(name): (name, width) for name, width in source.slots.items()}
    with ExitStack() as stack:
        outputs = [
            stack.enter_context(ArrayOutput(path(file), name, "F32", (source.n, width), meter.at(file)))
            for file, (name, width) in files.items()
        ]
        for blocks in source.pieces():
            for output, block in zip(outputs, blocks, strict=True):
                output.write(block)
        return {file: output.finish() for file, output in zip(files, outputs, strict=True)}


def _write_keys(path: Path, source: Source, advance: Advance) -> Part:
    with ArrayOutput(path, "keys", "U64", (source.n,), advance) as output:
        for part in source.keys():  # noqa: SIM118 — no dictionary
            output.write(part)
        return output.finish()


def _bytes(source: Source) -> int:
    """About how many bytes are to be written: how many the strings have shows only then."""
    row = 8 + 4 * (source.config["dim"] + sum(source.slots.values()))
    return source.n * row + (0 if source.gone is None else source.gone.nbytes)


class Meter:
    """Adds up bytes and tells `progress`, with the file they were of."""

    def __init__(self, progress: Progress | None, total: int, generation: int) -> None:
        self.progress, self.total, self.generation = progress, total, generation
        self.done = 0

    def at(self, file: str) -> Advance:
        """What to call with the bytes of `file` that are done."""

        def advance(count: int) -> None:
            self.done = min(self.total, self.done + count)
            if self.progress:
                self.progress(self.done, self.total, {"generation": self.generation, "file": file})

        return advance
