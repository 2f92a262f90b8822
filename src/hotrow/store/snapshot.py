"""A table on disk: read, map, verify. `writing.py` writes it.

```
path/
├── lock                        held by the one that writes
├── generation-000001/          a snapshot: a whole table
│   ├── keys.safetensors        uint64 (n,)
│   ├── weights.safetensors     float32 (n, dim)
│   ├── slot-NAME.safetensors   float32 (n, width), one file for each of the optimizer's arrays
│   ├── index.safetensors       uint64 (power of two,)
│   ├── strings.arrow           the ids, where they are strings
│   └── manifest.json           written last: without it the generation doesn't exist
└── generation-000002/          a delta: what has changed since its parent, the generation before
    ├── keys, weights, slots, strings, of the rows that changed
    ├── gone.safetensors        uint64 (m,), keys that were forgotten, in place of the index
    └── manifest.json           names the parent by its checksum
```
`docs/format.md` has every byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from hotrow.errors import CorruptError, DataError
from hotrow.store import generations as folders
from hotrow.store.checks import cells_problem, config_problem, index_size_problem
from hotrow.store.files import check_part
from hotrow.store.format import map_arrays, read_arrays, spans_of
from hotrow.store.manifest import GONE, INDEX, KEYS, STRINGS, WEIGHTS, Manifest, read_manifest, slot_file
from hotrow.store.manifest import NAME as MANIFEST
from hotrow.store.pouring import Poured
from hotrow.store.strings import check_text, map_strings, read_strings
from hotrow.store.writing import Meter, StrPath
from hotrow.table.kept import Progress, Saved
from hotrow.table.state import State

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

_TRIES = 100  # each of which something else was there, so it ends


# --- read ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chain:
    """A snapshot and the deltas after it, up to the generation that was asked for, whose name is `saved`."""

    links: list[tuple[Path, Manifest]]
    saved: Saved
    progress: Progress | None = None

    def states(self) -> Iterator[State]:
        """The snapshot, then what has changed, each checked. Weights and slots of the snapshot can only be poured."""
        for at, (folder, manifest) in enumerate(self.links):
            read = _Reading(folder, manifest, Meter(self.progress, _size(manifest), folders.number_of(folder)))
            yield _checked(folder, manifest, _assemble(read, manifest.slots(), rows=read.rows if at else read.pour))

    def weights(self) -> Iterator[State]:
        """The same without slots, in memory, for whoever only looks up."""
        return (read_generation(folder, manifest, [], self.progress) for folder, manifest in self.links)

    def names(self) -> tuple[str, ...]:
        """The checksum of each manifest."""
        return tuple(manifest.sha256 for _, manifest in self.links)


def _are_replaced(folder: Path, links: list[tuple[Path, Manifest]]) -> bool:
    """Whether what was read isn't what is there now: saves remove generations, and forgetting ids rewrites them."""
    if not all((link / MANIFEST).exists() for link in (folder, *(link for link, _ in links))):
        return True
    try:
        return any(read_manifest(link).sha256 != manifest.sha256 for link, manifest in links)
    except (CorruptError, DataError):
        return False


def read_generation(folder: Path, manifest: Manifest, slots: list[str], progress: Progress | None = None) -> State:
    """What one generation holds, in memory, with these slots, all of it checked: a table, or what has changed."""
    meter = Meter(progress, _size(manifest), folders.number_of(folder))
    return _checked(folder, manifest, _assemble(_Reading(folder, manifest, meter), slots))


def use(path: StrPath, generation: int | None, make: Callable[[Chain], T], *, progress: Progress | None = None) -> T:
    """What `make` makes of the newest generation at `path`, or of the one asked for.

    It never takes another generation by itself: a damaged one is a CorruptError that names the file and, if there
    is one, the generation to ask for. DataError if `path` has no snapshot or not that generation. `make` is called
    again if saves that end meanwhile remove what it reads: readers hold no lock.
    """
    root = Path(path).absolute()
    for left in reversed(range(_TRIES)):
        number, folder = folders.choose(root, generation)
        links: list[tuple[Path, Manifest]] = []
        try:
            links = folders.chain(root, number)
            return make(Chain(links, Saved(root, number, links[-1][1].sha256), progress))
        except CorruptError as error:
            if not (left and _are_replaced(folder, links) and (generation is None or (folder / MANIFEST).exists())):
                raise CorruptError(f"{error}{folders.other_choice(root, number)}") from error
    raise AssertionError("the last try returns or raises")


def map_generation(folder: Path, manifest: Manifest, *, slots: bool = False) -> State:
    """One generation as read-only memory maps, without slots if they aren't asked for.

    Opens in the same time whatever the number of rows: sizes, headers and the manifest's checksum are checked,
    contents are not. Later saves don't disturb it: files are removed, never changed.
    """
    read = _Reading(folder, manifest, Meter(None, 0, 0), mapped=True)
    return _assemble(read, manifest.slots() if slots else [])


def _size(manifest: Manifest) -> int:
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


def _assemble(read: _Reading, slots: list[str], rows: Callable[..., np.ndarray] | None = None) -> State:
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


def _checked(folder: Path, manifest: Manifest, state: State) -> State:
    """The same, after the checks of keys that need the contents."""
    if state.gone is None:
        if problem := cells_problem(state.cells, len(state.keys)):
            raise CorruptError(f"{folder / manifest.parts[INDEX].name}: {problem}")
    elif len(np.unique(state.keys)) < len(state.keys):
        raise CorruptError(f"{folder / manifest.parts[KEYS].name}: has a key twice")
    return state


# --- list and verify -------------------------------------------------------------------------------------------


def generations(path: StrPath) -> list[int]:
    """Numbers of the generations at `path`, oldest first; [] if no save ever ended. DataError if it is no folder."""
    root = Path(path)
    if not root.is_dir():
        folders.choose(root, None)
    return folders.whole(root)


def deltas(path: StrPath) -> list[int]:
    """Numbers of those of them that are deltas, as far as they can be read."""
    return [number for number in generations(path) if not folders.is_snapshot(folders.folder_of(Path(path), number))]


def verify(path: StrPath, generation: int | None = None, *, progress: Progress | None = None) -> list[str]:
    """What is wrong with all generations at `path`, or with one: sentences that name the file, [] if nothing.

    Every checksum is compared and everything that `hotrow.load` checks, in little memory. DataError if `path` has no
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
        meter = Meter(progress, _size(manifest), number)
        parts = manifest.parts.values()
        found = [line for part in parts for line in check_part(folder / part.name, part, meter.at(part.name))]
        if not found:
            _check_contents(folder, manifest)
            folders.chain(root, number)
    except (CorruptError, DataError) as error:
        return [str(error)]
    return found


def _check_contents(folder: Path, manifest: Manifest) -> None:
    """What checksums can't tell: whether what was written was a table."""
    state = _checked(folder, manifest, map_generation(folder, manifest, slots=True))
    if state.strings is not None:
        check_text(folder / manifest.parts[STRINGS].name, state.strings)
