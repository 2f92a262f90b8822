"""A table in shards on disk: one consistent cut of all of them."""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any

from hotrow.cluster.link import Patience
from hotrow.cluster.numbers import Numbers
from hotrow.cluster.own_shards import OwnShards
from hotrow.cluster.whole import uninterrupted
from hotrow.errors import ClusterError, LockedError
from hotrow.store.writing import ShardedWriter
from hotrow.table.kept import Progress, Saved
from hotrow.table.table import Table as Plain

if TYPE_CHECKING:
    from os import PathLike

_LOOK = 0.02  # seconds between two looks at a save that is under way


@dataclass
class _Saving:
    """A save under way: by which number each shard answers, what it was saved as, and how long it may be away."""

    writer: ShardedWriter
    facts: dict[str, Any]
    answers: list[int]
    saved: list[Saved | None]
    patience: list[Patience]


class Keeping(Plain):
    """The part of a `cluster.Table` that is about keeping it."""

    shards_: OwnShards
    _numbers: Numbers
    _saving: bool

    def _save(
        self,
        path: str | PathLike[str],
        keep: int,
        progress: Progress | None,
        wait: bool,
        since: Saved | None = None,
    ) -> int | Future[int]:
        """Each shard writes its part, all as of this step, to a folder that all of them see.

        `hotrow.cluster.load` reads it into any number of shards, `hotrow.load` into none. A shard that dies meanwhile
        comes back, and saves what it was at this step; for a delta all that it has.
        """
        writer = ShardedWriter(path, keep=keep, parent=since and since.sha256)
        begun = False
        try:
            self.settle()
            with self.lock.writing():
                if self._saving:
                    raise LockedError("this table is being saved: wait for the result() of table.save(…, wait=False)")
                begun = self._saving = True
                saving = self._order(writer, delta=since is not None)
            if wait:  # others look up and train meanwhile: shards save what they were when they were told
                return self._finish(saving, progress)
        except BaseException:
            if begun:
                self._end_saving(writer, saved=None)
            writer.close()
            raise
        done: Future[int] = Future()
        done.set_running_or_notify_cancel()
        Thread(target=self._finish_soon, args=(done, saving, progress), name="hotrow-save").start()
        return done

    def _end_saving(self, writer: ShardedWriter, saved: Saved | None) -> None:
        """Others may save. Without `saved` it failed: shards may have another generation each, so the next is whole."""
        writer.close()
        for link in self.shards_.links:
            link.answers.clear()
        self._saving, self._saved = False, saved

    def _order(self, writer: ShardedWriter, *, delta: bool) -> _Saving:
        """Let all shards save themselves as they are after the changes so far. Locked to write.

        delta: what has changed; one that has died since doesn't know that, and saves all that it has.
        """
        fields = {"steps": self._steps, "keep": sys.maxsize, "delta": delta}
        links = self.shards_.links
        facts = {"shards": len(links), "steps": self._steps, "free": self._numbers.free}
        plan = self.shards_.plan_all(
            lambda at, link: link.plan("save", {**fields, "path": str(writer.folder(at))}, [], answer=True)
        )
        with uninterrupted():
            self.shards_.make(plan)
        answers, patience = [change.answer or 0 for _, change in plan], [Patience(link.patience) for link in links]
        return _Saving(writer, facts, answers, [None] * len(links), patience)

    def _collect(self, saving: _Saving) -> bool:
        """See which shards are done; whether all are. ClusterError if one can't save, or was away for too long."""
        with self.lock.writing():
            for at, link in enumerate(self.shards_.links):
                if saving.saved[at] is not None:
                    continue
                told = link.answered(saving.answers[at])
                if told is None:
                    if not link.is_away:
                        saving.patience[at].moved()
                    elif saving.patience[at].left() <= 0:
                        raise link.away()
                    continue
                if told.get("error"):
                    raise ClusterError(f"{link.name} couldn't be saved: {told['error']}")
                saving.saved[at] = Saved(saving.writer.folder(at), told["generation"], told["sha256"])
        return None not in saving.saved

    def _finish(self, saving: _Saving, progress: Progress | None) -> int:
        """Wait for all shards, and tie what they wrote. Not locked but for each look."""
        while not self._collect(saving):
            _tell(progress, saving)
            time.sleep(_LOOK)
        number, sha256 = saving.writer.write([one for one in saving.saved if one is not None], saving.facts)
        self._end_saving(saving.writer, Saved(saving.writer.root, number, sha256))
        _tell(progress, saving)
        return number

    def _finish_soon(self, done: Future[int], saving: _Saving, progress: Progress | None) -> None:
        try:
            number = self._finish(saving, progress)
        except BaseException as error:  # noqa: BLE001 — whoever asks for the result is told
            self._end_saving(saving.writer, saved=None)
            done.set_exception(error)
        else:
            done.set_result(number)


def _tell(progress: Progress | None, saving: _Saving) -> None:
    """Say how many shards are done: bytes are theirs to know."""
    if progress is not None:
        ready = sum(one is not None for one in saving.saved)
        progress(ready, len(saving.saved), {"generation": saving.writer.number, "file": f"{ready} shards"})
