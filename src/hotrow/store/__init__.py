"""Tables on disk: a snapshot is a folder of generations, each whole or not there. The format is in docs/format.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hotrow.store.checks import made_of
from hotrow.table.mapped import folder_of
from hotrow.table.table import Table
from hotrow.table.view import View

if TYPE_CHECKING:
    from os import PathLike


def load(path: str | PathLike[str], generation: int | None = None, *, rows: str | PathLike[str] | None = None) -> Table:
    """The table saved at `path`, to go on training: equal in every bit to the one that was saved.

    generation: an older one that is still there; by default the newest. Never falls back to another by itself.
    rows: a folder, where the rows of the table live in a file, as with `Table(…, path=folder)`.
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
    from hotrow.store import snapshot

    folder = None if rows is None else folder_of(rows)
    state = snapshot.read(Path(path), generation, map_rows=folder is not None)
    with made_of(path):
        return Table.from_state(state, path=folder)


def view(path: str | PathLike[str], generation: int | None = None) -> View:
    """The table saved at `path`, to look up only: mapped from disk, opened at once whatever its size.

    Arguments and errors are those of `load`; checksums aren't read at opening (see `hotrow verify`).
    """
    from hotrow.store import snapshot

    state = snapshot.open_mapped(Path(path), generation)
    with made_of(path):
        return View.from_state(state)
