"""A table on disk, whole: save, read, map, verify.

```
path/
├── lock                        held by the one that writes
├── generation-000001/          the one before
└── generation-000002/          the newest
    ├── keys.safetensors        uint64 (n,)
    ├── weights.safetensors     float32 (n, dim)
    ├── index.safetensors       uint64 (power of two,)
    ├── slot-NAME.safetensors   float32 (n, width), one file for each of the optimizer's arrays
    ├── strings.arrow           the ids, where they are strings
    └── manifest.json           written last: without it the generation doesn't exist
```
`docs/format.md` has every byte.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotrow.errors import ArgumentError, CorruptError, DataError
from hotrow.store import generations as folders
from hotrow.store.checks import cells_problem, check_state, config_problem, index_size_problem
from hotrow.store.files import Advance, Part, check_part, make_folders, sync_folder, write_durably
from hotrow.store.format import Expected, map_arrays, read_arrays, write_arrays
from hotrow.store.lock import lock
from hotrow.store.manifest import INDEX, KEYS, STRINGS, WEIGHTS, Manifest, encode, read_manifest, slot_file
from hotrow.store.manifest import NAME as MANIFEST
from hotrow.store.strings import check_text, map_strings, read_strings, write_strings
from hotrow.table.state import State

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

StrPath = str | os.PathLike[str]
Progress = Callable[[int, int, dict[str, Any]], object]
"""Called with bytes done, bytes in all, and facts: {"generation": 2, "file": "weights.safetensors"}."""

_TRIES = 5


# --- save ------------------------------------------------------------------------------------------------------


def save(path: StrPath, state: State, *, keep: int = 2, progress: Progress | None = None) -> int:
    """Write `state` as a new generation of the snapshot at `path`, and return its number.

    When it returns, the disk has all of it. Until then the generations before are untouched, and whatever
    interrupts a save, they load. Afterwards the newest `keep` are kept. `path` is made if it is missing.

    ArgumentError if `state` can't be a table, LockedError if another save to `path` is under way, OSError with
    the path if the disk is full or closed to us; the new generation is then removed.

    >>> from hotrow.table.table import Table
    >>> save("items", Table(32).state())
    1
    >>> save("items", Table(32).state())
    2
    >>> generations("items"), verify("items")
    ([1, 2], [])
    """
    if type(keep) is not int or keep < 1:
        raise ArgumentError(f"keep = {keep!r}: expected how many generations to keep, at least 1: save(path, keep=2)")
    check_state(state)
    root = Path(path)
    make_folders(root)
    with lock(root):
        _remove_leftovers(root)
        number = max(folders.begun(root), default=0) + 1
        folder = folders.folder_of(root, number)
        try:
            _write(folder, state, _Meter(progress, _bytes(state), number))
            sync_folder(root)
        except BaseException:
            folders.remove_all([folder] if folder.exists() else [])
            raise
        folders.remove_all([folders.folder_of(root, old) for old in folders.whole(root)[:-keep]])
    return number


def _remove_leftovers(root: Path) -> None:
    """Clear away saves that never ended."""
    left = sorted(set(folders.begun(root)) - set(folders.whole(root)))
    folders.remove_all([folders.folder_of(root, number) for number in left])


def _write(folder: Path, state: State, meter: _Meter) -> None:
    """All parts, durable, and only then the manifest."""
    os.mkdir(folder)
    parts = [write_arrays(folder / file, {name: array}, meter.at(file)) for file, name, array in _files(state)]
    if state.strings is not None:
        parts.append(write_strings(folder / STRINGS, state.strings, meter.at(STRINGS)))
    sync_folder(folder)
    manifest = Manifest(len(state.keys), state.config, {part.name: part for part in parts})
    write_durably(folder / MANIFEST, encode(manifest))


def _files(state: State) -> list[tuple[str, str, np.ndarray]]:
    """(file, name of its one array, array). Weights lie apart from slots, so that a view maps no slots."""
    slots = [(slot_file(name), name, array) for name, array in state.slots.items()]
    return [(KEYS, "keys", state.keys), (WEIGHTS, "weights", state.weights), (INDEX, "cells", state.cells), *slots]


def _bytes(state: State) -> int:
    strings = 0 if state.strings is None else state.strings.nbytes
    return strings + sum(array.nbytes for _, _, array in _files(state))


class _Meter:
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


# --- read ------------------------------------------------------------------------------------------------------


def read(
    path: StrPath, generation: int | None = None, *, map_rows: bool = False, progress: Progress | None = None
) -> State:
    """The newest generation at `path`, or the one asked for, in memory, every checksum compared.

    map_rows: weights and slots are compared too, and then mapped, not read: they may be larger than memory.
    It never takes another generation by itself: a damaged one is a CorruptError that names the file and, if there
    is one, the generation to ask for. DataError if `path` has no snapshot or not that generation.
    """
    return _open(path, generation, lambda number, folder: _read(number, folder, map_rows, progress))


def open_mapped(path: StrPath, generation: int | None = None) -> State:
    """The newest generation at `path`, or the one asked for, as read-only memory maps without slots.

    Opens in the same time whatever the number of rows: sizes, headers and the manifest's checksum are checked,
    contents are not (`verify` does it). Later saves don't disturb it: files are removed, never changed.
    """
    return _open(path, generation, lambda number, folder: _map(folder, read_manifest(folder)))


def _open(path: StrPath, generation: int | None, load: Callable[[int, Path], State]) -> State:
    root = Path(path)
    for left in reversed(range(_TRIES)):
        number, folder = folders.choose(root, generation)
        try:
            return load(number, folder)
        except CorruptError as error:
            replaced = not (folder / MANIFEST).exists()  # by saves that ended meanwhile: readers hold no lock
            if not (left and generation is None and replaced):
                raise CorruptError(f"{error}{folders.other_choice(root, number)}") from error
    raise AssertionError("the last try returns or raises")


def _read(number: int, folder: Path, map_rows: bool, progress: Progress | None) -> State:
    manifest = read_manifest(folder)
    meter = _Meter(progress, sum(part.size for part in manifest.parts.values()), number)

    def arrays(part: Part, expected: Expected) -> dict[str, np.ndarray]:
        file, advance = folder / part.name, meter.at(part.name)
        if not map_rows or part.name in {KEYS, INDEX}:
            return read_arrays(file, expected, part, advance)
        for problem in check_part(file, part, advance):
            raise CorruptError(problem)
        return map_arrays(file, expected, part)

    def strings(part: Part) -> pa.LargeStringArray:
        return read_strings(folder / part.name, part, manifest.rows, meter.at(part.name))

    state = _assemble(folder, manifest, _Loader(arrays, strings), manifest.slots())
    _check_cells(folder, state)
    return state


def _map(folder: Path, manifest: Manifest, slots: list[str] | None = None) -> State:
    def arrays(part: Part, expected: Expected) -> dict[str, np.ndarray]:
        return map_arrays(folder / part.name, expected, part)

    def strings(part: Part) -> pa.LargeStringArray:
        return map_strings(folder / part.name, part, manifest.rows)

    return _assemble(folder, manifest, _Loader(arrays, strings), slots or [])


@dataclass(frozen=True)
class _Loader:
    """How a file becomes arrays: read or mapped."""

    arrays: Callable[[Part, Expected], dict[str, np.ndarray]]
    strings: Callable[[Part], pa.LargeStringArray]


def _assemble(folder: Path, manifest: Manifest, load: _Loader, slots: list[str]) -> State:
    """A State from a manifest's files, after the checks that need none of their bytes."""
    config, rows, parts = manifest.config, manifest.rows, manifest.parts
    if problem := config_problem(config) or _kind_problem(manifest):
        raise CorruptError(f"{folder / MANIFEST}: {problem}")

    def array(file: str, name: str, dtype: str, *shape: int | None) -> np.ndarray:
        return load.arrays(parts[file], {name: (dtype, shape)})[name]

    cells = array(INDEX, "cells", "U64", None)
    if problem := index_size_problem(len(cells), rows):
        raise CorruptError(f"{folder / INDEX}: {problem}")
    return State(
        config=config,
        keys=array(KEYS, "keys", "U64", rows),
        weights=array(WEIGHTS, "weights", "F32", rows, config["dim"]),
        cells=cells,
        slots={name: array(slot_file(name), name, "F32", rows, None) for name in slots},
        strings=load.strings(parts[STRINGS]) if STRINGS in parts else None,
    )


def _kind_problem(manifest: Manifest) -> str:
    wanted = manifest.config["ids"] == "string"
    if manifest.rows and wanted != (STRINGS in manifest.parts):
        return f"ids are {manifest.config['ids']}, and {STRINGS} is {'missing' if wanted else 'there'}"
    return ""


def _check_cells(folder: Path, state: State) -> None:
    if problem := cells_problem(state.cells, len(state.keys)):
        raise CorruptError(f"{folder / INDEX}: {problem}")


# --- list and verify -------------------------------------------------------------------------------------------


def generations(path: StrPath) -> list[int]:
    """Numbers of the generations at `path`, oldest first; [] if no save ever ended. DataError if it is no folder."""
    root = Path(path)
    if not root.is_dir():
        folders.choose(root, None)
    return folders.whole(root)


def verify(path: StrPath, generation: int | None = None, *, progress: Progress | None = None) -> list[str]:
    """What is wrong with all generations at `path`, or with one: sentences that name the file, [] if nothing.

    Every checksum is compared and everything that `read` checks, in little memory. DataError if `path` has no
    snapshot or not that generation.
    """
    root = Path(path)
    newest, _ = folders.choose(root, generation)
    numbers = folders.whole(root) if generation is None else [newest]
    found = {number: _problems(root, number, progress) for number in numbers}
    if generation is None:  # a generation that a save has removed meanwhile isn't damaged
        found = {number: found[number] for number in folders.whole(root) if number in found}
    return [problem for problems in found.values() for problem in problems]


def _problems(root: Path, number: int, progress: Progress | None) -> list[str]:
    try:
        _, folder = folders.choose(root, number)
        manifest = read_manifest(folder)
        meter = _Meter(progress, sum(part.size for part in manifest.parts.values()), number)
        parts = manifest.parts.values()
        found = [line for part in parts for line in check_part(folder / part.name, part, meter.at(part.name))]
        if not found:
            _check_contents(folder, manifest)
    except (CorruptError, DataError) as error:
        return [str(error)]
    return found


def _check_contents(folder: Path, manifest: Manifest) -> None:
    """What checksums can't tell: whether what was written was a table."""
    state = _map(folder, manifest, manifest.slots())
    _check_cells(folder, state)
    if state.strings is not None:
        check_text(folder / STRINGS, state.strings)
