"""A shard that dies where a test wants it to, by SIGKILL; what it is told lies as a file in its home."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from hotrow.cluster import home as home_module
from hotrow.cluster.shard import Shard

INSTANTS = ("keeping", "kept", "recorded", "half a change", "replaying", "saving", "offered", "loaded")
"""keeping: half of its table is on disk; kept: all of it, and no record says so; recorded: nobody was told."""


def doom(home: Path, index: int, instant: str) -> Path:
    """Let the shard of this index die when it is there next; the file is gone once it has."""
    path = home / f"doom-{index}-{instant.replace(' ', '-')}"
    path.touch()
    return path


class Doomed(Shard):
    """A shard that looks whether it is to die."""

    def __init__(self, plan, home, secret):
        self._dooms, self._index = Path(home), plan["index"]
        self._replayed = 0
        write = home_module.write_durably

        def record(path, data):
            self._meet("kept")
            write(path, data)
            self._meet("recorded")

        home_module.write_durably = record
        super().__init__(plan, home, secret)
        if self.applied:
            self._meet("loaded")

    def _is_due(self, instant: str) -> bool:
        path = self._dooms / f"doom-{self._index}-{instant.replace(' ', '-')}"
        if not path.exists():
            return False
        path.unlink()
        return True

    def _meet(self, instant: str) -> None:
        if self._is_due(instant):
            os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait()

    def _wrote(self, count):
        super()._wrote(count)
        if (self._dooms / "slow").exists():
            threading.Event().wait(1)
        self._meet("keeping")

    def _progress(self, done, total, facts):
        super()._progress(done, total, facts)
        self._meet("saving")

    def offer(self, number, source):
        super().offer(number, source)
        self._meet("offered")

    def _change(self, what, number, fields, arrays):
        self._replayed += 1
        if self._replayed > 3:
            self._meet("replaying")
        if self._is_due("refusing") or (self._dooms / f"doom-{self._index}-always").exists():
            self.table.drop(arrays[0][:1])  # half of something
            raise MemoryError("no memory is left")
        super()._change(what, number, fields, arrays)
        self._meet("half a change")
