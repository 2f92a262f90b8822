"""A table in shards on disk: one consistent cut of all of them."""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from hotrow.cluster.numbers import Numbers
from hotrow.cluster.shards import Shards
from hotrow.errors import ArgumentError, ClusterError, LockedError
from hotrow.store.writing import ShardedWriter
from hotrow.table.kept import Progress, Saved
from hotrow.table.table import Table as Plain

if TYPE_CHECKING:
    from os import PathLike

_LOOK = 0.02  # seconds between two looks at a save that goes on beside training


@dataclass
class _Saving:
    """A save under way: what each shard was asked, and what it was saved as."""

    writer: ShardedWriter
    fields: dict[str, Any]
    facts: dict[str, Any]
    orders: list[int]
    saved: list[Saved | None]


class Keeping(Plain):
    """The part of a `cluster.Table` that is about keeping it."""

    shards_: Shards
    _numbers: Numbers
    _saving: bool

    def save(  # pyright: ignore[reportIncompatibleMethodOverride] — one signature in place of three
        self, path: str | PathLike[str], *, keep: int = 2, progress: Progress | None = None, wait: bool = True
    ) -> Any:
        """As of `hotrow.Table`: each shard writes its part, all as of this step, to a folder that all of them see.

        `hotrow.cluster.load` reads it into any number of shards, `hotrow.load` into none. ClusterError if a shard dies
        meanwhile and `wait` is False; with it that shard is asked again.
        """
        return self._save_parts(ShardedWriter(path, keep=keep), progress, wait=wait, since=None)

    def save_delta(  # pyright: ignore[reportIncompatibleMethodOverride] — as `save`
        self, path: str | PathLike[str] | None = None, *, progress: Progress | None = None, wait: bool = True
    ) -> Any:
        """As of `hotrow.Table`; after a shard has died, `save` comes first."""
        since, where = self._saved, "its folder" if path is None else repr(str(path))
        if since is None or (path is not None and Path(path).absolute() != since.path):
            raise ArgumentError(
                f"a delta is a change to what was saved, and this table wasn't saved to or loaded from {where}: "
                f"expected table.save({where}) first, and again after restore(), set_optimizer() or a shard's death"
            )
        writer = ShardedWriter(since.path, keep=1, parent=since.sha256)
        return self._save_parts(writer, progress, wait=wait, since=since)

    def _save_parts(
        self, writer: ShardedWriter, progress: Progress | None, *, wait: bool, since: Saved | None
    ) -> int | Future[int]:
        try:
            self.settle()
            with self.lock.writing():
                if self._saving:
                    raise LockedError("this table is being saved: wait for the result() of table.save(…, wait=False)")
                self._saving = True
                saving = self._order(writer, since)
                if wait:
                    return self._finish(saving, progress, again=True)
        except BaseException:
            self._end_saving(writer)
            raise
        done: Future[int] = Future()
        done.set_running_or_notify_cancel()
        Thread(target=self._finish_soon, args=(done, saving, progress), name="hotrow-save").start()
        return done

    def _end_saving(self, writer: ShardedWriter) -> None:
        writer.close()
        self._saving = False

    def _order(self, writer: ShardedWriter, since: Saved | None) -> _Saving:
        """Ask all shards to save themselves as they are after the changes so far. Locked to write."""
        fields = {"steps": self._steps, "keep": sys.maxsize, "delta": since is not None}
        links = self.shards_.links
        if since is not None and [link.revivals for link in links] != self._lives:
            self._saved = None
            raise ArgumentError(
                "a shard has died since this table was saved, and what has changed in it isn't known any more: "
                f"expected table.save({str(since.path)!r}), all of it"
            )
        facts = {"shards": len(links), "steps": self._steps, "free": self._numbers.free}
        orders = [link.order("save", {**fields, "path": str(writer.folder(i))}) for i, link in enumerate(links)]
        return _Saving(writer, fields, facts, orders, [None] * len(links))

    def _look(self, saving: _Saving, *, again: bool) -> bool:
        """See which shards are done; whether all are. again: one that died is asked again. Locked to write."""
        for at, link in enumerate(self.shards_.links):
            if saving.saved[at] is not None:
                continue
            folder = saving.writer.folder(at)
            try:
                told = link.answered(saving.orders[at], wait=again)
            except ClusterError:
                if not again:
                    raise
                saving.orders[at] = link.order("save", {**saving.fields, "delta": False, "path": str(folder)})
                continue
            if told is None:
                continue
            if told.get("error"):
                raise ClusterError(f"{link.name} couldn't be saved: {told['error']}")
            saving.saved[at] = Saved(folder, told["generation"], told["sha256"])
        return None not in saving.saved

    def _finish(self, saving: _Saving, progress: Progress | None, *, again: bool) -> int:
        """Wait for all shards, and tie what they wrote. Locked to write."""
        while not self._look(saving, again=again):
            _tell(progress, saving)
        return self._tie(saving, progress)

    def _tie(self, saving: _Saving, progress: Progress | None) -> int:
        number, sha256 = saving.writer.write([one for one in saving.saved if one is not None], saving.facts)
        self._saved = Saved(saving.writer.root, number, sha256)
        self._lives = [link.revivals for link in self.shards_.links]
        self._end_saving(saving.writer)
        _tell(progress, saving)
        return number

    def _finish_soon(self, done: Future[int], saving: _Saving, progress: Progress | None) -> None:
        try:
            while True:
                with self.lock.writing():
                    if self._look(saving, again=False):
                        break
                _tell(progress, saving)
                time.sleep(_LOOK)
            done.set_result(self._tie(saving, progress))
        except BaseException as error:  # noqa: BLE001 — whoever asks for the result is told
            self._end_saving(saving.writer)
            done.set_exception(error)

    _lives: list[int]
    """How often each shard had died when the table was saved."""


def _tell(progress: Progress | None, saving: _Saving) -> None:
    """Say how many shards are done: bytes are theirs to know."""
    if progress is not None:
        ready = sum(one is not None for one in saving.saved)
        progress(ready, len(saving.saved), {"generation": saving.writer.number, "file": f"{ready} shards"})
