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
from typing import Any, TypeVar

from hotrow.errors import CorruptError, DataError
from hotrow.store import generations as folders
from hotrow.store import saves
from hotrow.store.files import check_part
from hotrow.store.generation import check_contents, map_generation, pour_generation, read_generation, size_of
from hotrow.store.joining import NUMBER, live_rows
from hotrow.store.manifest import NAME as MANIFEST
from hotrow.store.manifest import Manifest, read_manifest
from hotrow.store.shards import Shards
from hotrow.store.writing import Meter, StrPath
from hotrow.table.kept import Progress, Saved
from hotrow.table.state import State

T = TypeVar("T")

_TRIES = 100  # each of which something else was there, so it ends


# --- read ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chain:
    """A snapshot and the deltas after it, up to the generation that was asked for, whose name is `saved`."""

    links: list[tuple[Path, Manifest]]
    saved: Saved
    progress: Progress | None = None

    @property
    def is_snapshot(self) -> bool:
        """Whether it is one whole generation, which can be mapped."""
        return len(self.links) == 1

    @property
    def follows(self) -> Saved | None:
        """What a delta of a table that is read from it would be a change to."""
        return self.saved

    def config(self) -> dict[str, Any]:
        """The table's, see `State`."""
        return self.links[-1][1].config

    def rows(self) -> int:
        """How many rows the table has."""
        if self.is_snapshot:
            return len(map_generation(*self.links[0]).keys)
        return sum(map(len, live_rows([map_generation(*link) for link in self.links])))

    def states(self) -> Iterator[State]:
        """The snapshot, then what has changed, each checked. Weights and slots of the snapshot can only be poured."""
        yield pour_generation(*self.links[0], self.progress)
        for folder, manifest in self.links[1:]:
            yield read_generation(folder, manifest, manifest.slots(), self.progress)

    def weights(self) -> Iterator[State]:
        """The same without slots, in memory, for whoever only looks up."""
        return (read_generation(folder, manifest, [], self.progress) for folder, manifest in self.links)

    def names(self) -> tuple[str, ...]:
        """The checksum of each manifest."""
        return tuple(manifest.sha256 for _, manifest in self.links)


def open_chain(root: Path, number: int, progress: Progress | None = None) -> Chain | Shards:
    """What a save is made of, to be read. CorruptError if some of it is damaged or missing."""
    if number in folders.sharded(root):
        return Shards.open(root, number, progress)
    links = folders.chain(root, number)
    return Chain(links, Saved(root, number, links[-1][1].sha256), progress)


def refuse_shard(chain: Chain | Shards) -> None:
    """DataError for one shard of a table, whose rows have numbers that only the whole knows what to do with."""
    if isinstance(chain, Chain) and NUMBER in chain.links[-1][1].slots():
        whole = chain.saved.path.parent
        raise DataError(f"{chain.saved.path}: is one shard of a table; hotrow.load({str(whole)!r}) reads all of them")


def is_one_snapshot(chain: Chain | Shards) -> bool:
    """Whether a save is as `hotrow compact` leaves it. Raises as `refuse_shard`."""
    refuse_shard(chain)
    return isinstance(chain, Chain) and chain.is_snapshot


def _are_replaced(mark: Path, links: list[tuple[Path, Manifest]]) -> bool:
    """Whether what was read isn't what is there now: saves remove generations, and forgetting ids rewrites them."""
    if not all(path.exists() for path in (mark, *(link / MANIFEST for link, _ in links))):
        return True
    try:
        return any(read_manifest(link).sha256 != manifest.sha256 for link, manifest in links)
    except (CorruptError, DataError):
        return False


def use(
    path: StrPath, generation: int | None, make: Callable[[Chain | Shards], T], *, progress: Progress | None = None
) -> T:
    """What `make` makes of the newest generation at `path`, or of the one asked for.

    It never takes another generation by itself: a damaged one is a CorruptError that names the file and, if there
    is one, the generation to ask for. DataError if `path` has no snapshot or not that generation. `make` is called
    again if saves that end meanwhile remove what it reads: readers hold no lock.
    """
    root = Path(path).absolute()
    for left in reversed(range(_TRIES)):
        number = folders.choose(root, generation)
        mark, links = folders.mark_of(root, number), list[tuple[Path, Manifest]]()
        try:
            chain = open_chain(root, number, progress)
            links = chain.links
            return make(chain)
        except CorruptError as error:
            if not (left and _are_replaced(mark, links) and (generation is None or mark.exists())):
                raise CorruptError(f"{error}{saves.other_choice(root, number)}") from error
    raise AssertionError("the last try returns or raises")


# --- list and verify -------------------------------------------------------------------------------------------


def generations(path: StrPath) -> list[int]:
    """Numbers of the generations at `path`, oldest first; [] if no save ever ended. DataError if it is no folder.

    Those of a table in shards are among them.
    """
    root = Path(path)
    if not root.is_dir():
        folders.choose(root, None)
    return folders.numbers(root)


def deltas(path: StrPath) -> list[int]:
    """Numbers of those of them that are deltas, as far as they can be read."""
    return [number for number in generations(path) if not saves.is_whole(Path(path), number)]


def verify(path: StrPath, generation: int | None = None, *, progress: Progress | None = None) -> list[str]:
    """What is wrong with all generations at `path`, or with one: sentences that name the file, [] if nothing.

    Every checksum is compared and everything that `hotrow.load` checks, in little memory. DataError if `path` has no
    snapshot or not that generation.
    """
    root = Path(path)
    newest = folders.choose(root, generation)
    numbers = folders.numbers(root) if generation is None else [newest]
    of_shards: dict[Path, list[str]] = {}
    found = {number: _problems(root, number, progress, of_shards) for number in numbers}
    if generation is None:  # a generation that a save has removed meanwhile isn't damaged
        found = {number: found[number] for number in folders.numbers(root) if number in found}
    return list(dict.fromkeys(problem for problems in found.values() for problem in problems))


def _problems(root: Path, number: int, progress: Progress | None, of_shards: dict[Path, list[str]]) -> list[str]:
    """What is wrong with a save. of_shards: what is known of generations that several saves may need."""
    try:
        folders.choose(root, number)
        chain = open_chain(root, number)
        if isinstance(chain, Chain):
            return _problems_of(*chain.links[-1], progress)
        for folder, manifest in chain.links:
            if folder not in of_shards:
                of_shards[folder] = _problems_of(folder, manifest, progress)
        found = [problem for folder, _ in chain.links for problem in of_shards[folder]]
        if not found:
            chain.check()
    except (CorruptError, DataError) as error:
        return [str(error)]
    return found


def _problems_of(folder: Path, manifest: Manifest, progress: Progress | None) -> list[str]:
    meter = Meter(progress, size_of(manifest), folders.number_of(folder))
    parts = manifest.parts.values()
    found = [line for part in parts for line in check_part(folder / part.name, part, meter.at(part.name))]
    if not found:
        check_contents(folder, manifest)
    return found
