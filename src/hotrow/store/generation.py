"""One generation, read into memory or mapped, and what checksums can't tell of it. `snapshot.py` has chains of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from hotrow.errors import CorruptError
from hotrow.store import generations as folders
from hotrow.store.checks import cells_problem, config_problem, index_size_problem
from hotrow.store.files import Advance, check_part
from hotrow.store.format import map_arrays, read_arrays, spans_of
from hotrow.store.manifest import GONE, INDEX, KEYS, STRINGS, WEIGHTS, Manifest, slot_file
from hotrow.store.manifest import NAME as MANIFEST
from hotrow.store.pouring import Poured
from hotrow.store.strings import check_text, map_strings, read_strings
from hotrow.store.writing import Meter
from hotrow.table.kept import Progress
from hotrow.table.state import State

if TYPE_CHECKING:
    import pyarrow as pa


def read_generation(folder: Path, manifest: Manifest, slots: list[str], progress: Progress | None = None) -> State:
    """What one generation holds, in memory, with these slots, all of it checked: a table, or what has changed."""
    meter = Meter(progress, size_of(manifest), folders.number_of(folder))
    return checked(folder, manifest, _assemble(_Reading(folder, manifest, meter), slots))


def pour_generation(folder: Path, manifest: Manifest, progress: Progress | None = None) -> State:
    """What a snapshot's generation holds, its weights and slots only to be poured into the rows of a table; checked."""
    read = _Reading(folder, manifest, Meter(progress, size_of(manifest), folders.number_of(folder)))
    return checked(folder, manifest, _assemble(read, manifest.slots(), rows=read.pour))


def map_generation(folder: Path, manifest: Manifest, slots: Sequence[str] = ()) -> State:
    """One generation as read-only memory maps, with these slots.

    Opens in the same time whatever the number of rows: sizes, headers and the manifest's checksum are checked,
    contents are not. Later saves don't disturb it: files are removed, never changed.
    """
    read = _Reading(folder, manifest, Meter(None, 0, 0), mapped=True)
    return _assemble(read, slots)


def map_checked(folder: Path, manifest: Manifest, slots: Sequence[str], at: Callable[[str], Advance]) -> State:
    """As `read_generation`, but maps of files that have just been compared with their checksums: no memory is taken.

    at: what to call with the bytes of a file that are read.
    """
    others = {slot_file(name) for name in manifest.slots() if name not in slots}
    for role, part in manifest.parts.items():
        if role not in others:
            for problem in check_part(folder / part.name, part, at(part.name)):
                raise CorruptError(problem)
    state = checked(folder, manifest, map_generation(folder, manifest, slots))
    if state.strings is not None:
        check_text(folder / manifest.parts[STRINGS].name, state.strings)
    return state


def size_of(manifest: Manifest) -> int:
    """Bytes in its files."""
    return sum(part.size for part in manifest.parts.values())


class _Reading:
    """How the files of a generation become arrays: read and compared with their checksums, or mapped."""

    def __init__(self, folder: Path, manifest: Manifest, meter: Meter, *, mapped: bool = False) -> None:
        self.folder, self.manifest, self._meter, self._mapped = folder, manifest, meter, mapped

    def _path(self, role: str) -> Path:
        return self.folder / self.manifest.parts[role].name

    def rows(self, role: str, name: str, dtype: str, *shape: int | None) -> np.ndarray:
        """The one array of a file."""
        part, expected = self.manifest.parts[role], {name: (dtype, shape)}
        if self._mapped:
            return map_arrays(self._path(role), expected, part)[name]
        return read_arrays(self._path(role), expected, part, self._meter.at(part.name))[name]

    def pour(self, role: str, name: str, dtype: str, *shape: int | None) -> np.ndarray:
        """The one array of a file, to be poured into a table's rows."""
        part = self.manifest.parts[role]
        span = spans_of(self._path(role), {name: (dtype, shape)}, part)[name]
        return cast("np.ndarray", Poured(self._path(role), part, span, self._meter.at(part.name)))

    def strings(self) -> pa.LargeStringArray | None:
        """The strings, or None."""
        if (part := self.manifest.parts.get(STRINGS)) is None:
            return None
        if self._mapped:
            return map_strings(self._path(STRINGS), part, self.manifest.rows)
        return read_strings(self._path(STRINGS), part, self.manifest.rows, self._meter.at(part.name))


def _assemble(read: _Reading, slots: Sequence[str], rows: Callable[..., np.ndarray] | None = None) -> State:
    """A State from a manifest's files, after the checks that need none of their bytes. rows: how weights are read."""
    manifest, rows = read.manifest, rows or read.rows
    config, n = manifest.config, manifest.rows
    if problem := config_problem(config) or _kind_problem(manifest):
        raise CorruptError(f"{read.folder / MANIFEST}: {problem}")
    cells, gone = np.zeros(0, np.uint64), None
    if manifest.parent is not None:
        gone = read.rows(GONE, "gone", "U64", None)
    else:
        cells = read.rows(INDEX, "cells", "U64", None)
        if problem := index_size_problem(len(cells), n):
            raise CorruptError(f"{read.folder / manifest.parts[INDEX].name}: {problem}")
    return State(
        config=config,
        keys=read.rows(KEYS, "keys", "U64", n),
        weights=rows(WEIGHTS, "weights", "F32", n, config["dim"]),
        cells=cells,
        slots={name: rows(slot_file(name), name, "F32", n, None) for name in slots},
        strings=read.strings(),
        gone=gone,
    )


def _kind_problem(manifest: Manifest) -> str:
    wanted = manifest.config["ids"] == "string"
    if manifest.rows and wanted != (STRINGS in manifest.parts):
        return f"ids are {manifest.config['ids']}, and {STRINGS} is {'missing' if wanted else 'there'}"
    return ""


def checked(folder: Path, manifest: Manifest, state: State) -> State:
    """The same state, after the checks of keys that need the contents."""
    if state.gone is None:
        if problem := cells_problem(state.cells, len(state.keys)):
            raise CorruptError(f"{folder / manifest.parts[INDEX].name}: {problem}")
    elif len(np.unique(state.keys)) < len(state.keys):
        raise CorruptError(f"{folder / manifest.parts[KEYS].name}: has a key twice")
    return state


def check_contents(folder: Path, manifest: Manifest) -> None:
    """What checksums can't tell: whether what was written was a table."""
    state = checked(folder, manifest, map_generation(folder, manifest, manifest.slots()))
    if state.strings is not None:
        check_text(folder / manifest.parts[STRINGS].name, state.strings)
