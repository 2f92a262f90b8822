"""A shard's home: a folder with what brings it back, its table and how many changes are in that.

kept-000/generation-000001/ …     a snapshot, and deltas after it
kept-000.json                     which of them counts, and how many changes it has: written last

No name is one of a save's, so a table may be saved to its home.
"""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from threading import Thread

from hotrow.cluster.keyed import Keyed
from hotrow.errors import CorruptError
from hotrow.store import load_as
from hotrow.store.files import make_folders, write_durably
from hotrow.store.sealed import read_sealed, sealed

_DELTAS = 8  # after a whole one


class Home:
    """Of the shard of this index."""

    def __init__(self, path: Path, index: int) -> None:
        self._root = path.absolute()
        self._tables, self._record = path / f"kept-{index:03d}", path / f"kept-{index:03d}.json"
        self._deltas = _DELTAS  # so the next one is whole

    def is_there(self) -> bool:
        """Whether anything was kept."""
        return self._record.exists()

    def kept(self) -> float | None:
        """When its disk was last given what it has, in seconds since the epoch; None: never."""
        return self._record.stat().st_mtime if self.is_there() else None

    def load(self) -> tuple[Keyed, int] | None:
        """The table that was kept last, and how many changes are in it; None if none was."""
        if not self.is_there():
            return None
        told = read_sealed(self._record)
        table = load_as(Keyed, self._tables, told["generation"])
        if table.saved is None or table.saved.sha256 != told["generation_sha256"]:
            raise CorruptError(f"{self._tables}: generation {told['generation']} isn't the one that was kept")
        return table, told["applied"]

    def keep(self, table: Keyed, applied: int) -> Future[None]:
        """Write what has changed, or all of it, as of now; done when the disk has it. The one before is done."""
        make_folders(self._root)
        if self._deltas < _DELTAS:
            self._deltas += 1
            saving = table.save_delta(wait=False)
        else:
            self._deltas = 0
            saving = table.save(self._tables, keep=2, wait=False)
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()
        Thread(target=self._record_it, args=(done, saving, table, applied), name="hotrow-keep").start()
        return done

    def _record_it(self, done: Future[None], saving: Future[int], table: Keyed, applied: int) -> None:
        try:
            generation, saved = saving.result(), table.saved
            assert saved is not None
            told = {"format": 1, "generation": generation, "generation_sha256": saved.sha256, "applied": applied}
            write_durably(self._record, sealed(told))
            done.set_result(None)
        except BaseException as error:  # noqa: BLE001 — whoever asks for the result is told
            self.left()
            done.set_exception(error)

    def left(self) -> None:
        """The table was saved elsewhere, or not at all: the next time all of it is written."""
        self._deltas = _DELTAS

    def begin_anew(self) -> None:
        """It is another table from now on."""
        self.left()
