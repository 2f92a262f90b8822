"""Tables on disk: a snapshot is a folder of generations, each whole or not there. The format is in docs/format.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from hotrow.store.checks import made_of
from hotrow.table.mapped import folder_of
from hotrow.table.table import Table

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.store.opened import SnapshotView
    from hotrow.table.kept import Progress


def load(
    path: str | PathLike[str],
    generation: int | None = None,
    *,
    rows: str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Table:
    """The table saved at `path`, to go on training: equal in every bit to the one that was saved.

    generation: an older one that is still there; by default the newest. Never falls back to another by itself.
    rows: a folder, where the rows of the table live in a file, as with `Table(…, path=folder)`.
    progress: callable(bytes done, bytes in all, facts), for each generation of a chain anew.
    Raises CorruptError for what isn't a whole snapshot, naming the file.

    >>> import hotrow, tempfile
    >>> table = hotrow.Table(4)
    >>> before = table.lookup(["lantern"], grow=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table.save(folder)
    ...     bool((hotrow.load(folder).lookup(["lantern"]) == before).all())
    1
    True
    """
    return load_as(Table, path, generation, rows=rows, progress=progress)


T = TypeVar("T", bound=Table)


def load_as(
    kind: type[T],
    path: str | PathLike[str],
    generation: int | None = None,
    *,
    rows: str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> T:
    """As `load`, a table of this class."""
    from hotrow.store import snapshot

    folder = None if rows is None else folder_of(rows)

    def make(chain: snapshot.Chain | snapshot.Shards) -> T:
        if kind is Table:
            snapshot.refuse_shard(chain)
        with made_of(path):
            states = chain.states()
            table = kind.from_state(next(states), path=folder)
            for change in states:
                table.apply(change)
        if chain.follows is not None:
            table.follow_from(chain.follows)
        return table

    return snapshot.use(path, generation, make, progress=progress)


def compact(path: str | PathLike[str], *, keep: int = 2, progress: Progress | None = None) -> int:
    """Make a snapshot of the newest generation at `path`, if that is none; return the number of the newest.

    That of a delta is whole, and that of a table in shards is of one table. It takes the memory of the table. Raises
    what `load` and `Table.save` raise, and LockedError if somebody is saving there.
    """
    from hotrow.store import snapshot
    from hotrow.store.writing import Writer

    writer = Writer(path, keep=keep, compact=True)  # from here on nobody else adds a generation
    try:
        if snapshot.use(path, None, snapshot.is_one_snapshot):
            if snapshot.folders.sharded(writer.root):  # left by a compact that kept them
                snapshot.saves.tidy(writer.root, keep)
            return snapshot.generations(path)[-1]
        return cast("int", load(path, progress=progress).write_to(writer, progress))
    finally:
        writer.close()


def view(path: str | PathLike[str], generation: int | None = None) -> SnapshotView:
    """The table saved at `path`, to look up only. A snapshot is mapped: it opens at once, whatever its size.

    Each part of a file is compared with its checksum when it is first looked at; `check()` compares all at once, and
    `refresh()` goes on to a newer generation. One that is a delta is read into memory, with what it is a change to, and
    so is one of a table in shards.
    Arguments and errors are those of `load`.
    """
    from hotrow.store.opened import SnapshotView

    return SnapshotView.open(Path(path), generation)
