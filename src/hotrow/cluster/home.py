"""A shard's home: a folder with what brings it back, its table and how many changes are in that.

kept-000/4f0c…/generation-000001/ …   what one life of the shard has kept: a whole table, and deltas after it
kept-000/4f0c….json                   which generation counts, and how many changes are in it: written last

Each life writes in a folder of its own. So two of them, of which one is thought dead and isn't, are never in each
other's way, and what was begun and not recorded is nobody's. A life begins with the record that has most changes, and
removes the others once a record of its own has as many. No name is one of a save's: a table may be saved
to its home.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from sys import maxsize
from threading import Thread
from typing import Any

from hotrow.cluster.keyed import HOME, Keyed
from hotrow.errors import CorruptError, HotrowError
from hotrow.store import generations, load_as, saves
from hotrow.store.files import make_folders, sync_folder, write_durably
from hotrow.store.sealed import read_sealed, sealed

_DELTAS = 16  # after a whole one, if they aren't as much as that before
_SUFFIX = ".json"


def part_of(home: Path, index: int) -> Path:
    """The folder of a shard in the home of its table."""
    return home / f"kept-{index:03d}"


class Home:
    """Of the shard of this index, in this life.

    wrote  called with bytes that were written, as they are
    """

    def __init__(self, path: Path, index: int, life: str, wrote: Callable[[int], None] = lambda _: None) -> None:
        self._root = part_of(path.absolute(), index)
        self._mine, self._record = self._root / life, self._root / f"{life}{_SUFFIX}"
        self._wrote = wrote
        self._deltas, self._size, self._since = -1, 0, 0
        """Deltas after the last whole one, −1: the next must be whole; bytes of that, and of the deltas."""

    def load(self) -> tuple[Keyed, int] | None:
        """The table that was kept last, and how many changes are in it; None if none was.

        A life that is thought dead may still write, and remove, while this one reads: then it reads again.
        """
        while True:
            before = self._seen()
            try:
                found = self._newest()
            except (HotrowError, OSError):
                if self._seen() == before:
                    raise
            else:
                if self._seen() == before:
                    return found

    def _seen(self) -> dict[Path, bytes]:
        """The records as they are now."""
        seen: dict[Path, bytes] = {}
        for path in self._root.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # removed since they were listed
                seen[path] = path.read_bytes()
        return seen

    def _newest(self) -> tuple[Keyed, int] | None:
        found = self._records()
        if not found:
            return None
        told, path = max(found, key=lambda one: one[0]["applied"])
        table = load_as(Keyed, path.with_suffix(""), told["generation"])
        if table.saved is None or table.saved.sha256 != told["generation_sha256"]:
            raise CorruptError(f"{path}: generation {told['generation']} isn't the one that was kept")
        return table, told["applied"]

    def _records(self) -> list[tuple[dict[str, Any], Path]]:
        return [(read_sealed(path), path) for path in sorted(self._root.glob(f"*{_SUFFIX}"))]

    def kept(self) -> float | None:
        """When its disk was last given what it has, in seconds since the epoch; None: never."""
        return max((path.stat().st_mtime for path in self._root.glob(f"*{_SUFFIX}")), default=None)

    def keep(self, table: Keyed, applied: int) -> Future[None]:
        """Write what has changed, or all of it, as of now; done when the disk has it. The one before is done."""
        make_folders(self._root)
        table.turn_to(HOME)
        full = not 0 <= self._deltas < _DELTAS or self._since >= self._size
        whole = full or table.saved is None  # another table, or another optimizer's
        saving = (
            table.save(self._mine, keep=maxsize, wait=False, progress=self._progress)
            if whole
            else table.save_delta(self._mine, wait=False, progress=self._progress)
        )
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()
        Thread(target=self._record_it, args=(done, saving, table, applied, whole), name="hotrow-keep").start()
        return done

    def _progress(self, done: int, total: int, facts: dict[str, Any]) -> None:
        self._wrote(1)

    def _record_it(self, done: Future[None], saving: Future[int], table: Keyed, applied: int, whole: bool) -> None:
        try:
            generation, saved = saving.result(), table.written
            assert saved is not None
            told = {"format": 1, "generation": generation, "generation_sha256": saved.sha256, "applied": applied}
            write_durably(self._record, sealed(told))
            self._count(generations.folder_of(self._mine, generation), whole=whole)
            with suppress(OSError):  # what can't be removed now is left to the next time
                self._tidy(applied)
            done.set_result(None)
        except BaseException as error:  # noqa: BLE001 — whoever asks for the result is told
            self.left()
            done.set_exception(error)

    def _count(self, folder: Path, *, whole: bool) -> None:
        size = sum(path.stat().st_size for path in folder.iterdir())
        self._deltas, self._size = (0, size) if whole else (self._deltas + 1, self._size)
        self._since = 0 if whole else self._since + size

    def _tidy(self, applied: int) -> None:
        """Remove what this life's record doesn't need: before its last whole one, and of other lives."""
        saves.tidy(self._mine, 1)
        for told, path in self._records():
            if path != self._record and told["applied"] <= applied:
                path.unlink(missing_ok=True)
        for left in self._root.glob(f"*{_SUFFIX}.tmp"):  # this life's own is a record by now
            left.unlink(missing_ok=True)
        sync_folder(self._root)
        recorded = {path.with_suffix("") for path in self._root.glob(f"*{_SUFFIX}")}
        for folder in self._root.iterdir():
            if folder.is_dir() and folder not in recorded:
                rmtree(folder)

    def left(self) -> None:
        """It wasn't kept: the next time all of it is written."""
        self._deltas = -1
