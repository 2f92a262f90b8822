"""A table as values and as files: its state and back, saving beside training, and changes taken from a file.

Read `view.py` first, for the way in. What is saved is cut out in `cut.py`, what has changed is told by `changes.py`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread, get_native_id
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, overload

import numpy as np

from hotrow.errors import ArgumentError, LockedError
from hotrow.table import initializers, optimizers
from hotrow.table.batch import Pending
from hotrow.table.changes import Changes
from hotrow.table.cut import Cut
from hotrow.table.optimizers import Optimizer
from hotrow.table.own import Own
from hotrow.table.rows import Rows
from hotrow.table.state import State

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.store.writing import Writer

log = logging.getLogger("hotrow")
_PATIENCE = 10
"""How nice a thread is that saves beside training, of 19: where the processors are busy it has a tenth of them."""
Progress = Callable[[int, int, dict[str, Any]], object]
T = TypeVar("T")
"""Called with bytes done, bytes in all, and facts: {"generation": 2, "file": "weights.safetensors"}."""


@dataclass(frozen=True)
class Saved:
    """Where a table was saved, or loaded from: the generation, and the checksum of its manifest."""

    path: Path
    generation: int
    sha256: str


class Kept(Own):
    """The part of a `Table` that is about keeping it."""

    optimizer: Optimizer

    def _begin(self, rows: Rows, steps: int) -> None:
        self._rows = rows
        self._steps = steps
        self.pending: Pending | None = None
        self._cut: Cut | None = None
        self._changes: Changes | None = None
        self._saved: Saved | None = None

    # --- values ------------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """The table as plain values. The arrays may be views of live rows: copy what must outlive the next update."""
        self.settle()
        return self._state()

    def read_state(self, read: Callable[[State], T]) -> T:
        """What `read` makes of the table's state, all of it of one moment: no update comes between."""
        self.settle()
        with self.lock.reading():
            return read(self._state())

    def _state(self) -> State:
        keys, rows = self._index.keys(), self._index.rows()
        matrix = self._rows.take(rows) if self._index.has_holes else self._rows.matrix(len(rows))
        slots = {name: matrix[:, columns] for name, columns in self._slots().items()}
        strings = self._strings.take(rows) if self.kind == "string" else None
        return State(self._config(), keys, matrix[:, : self.dim], self._index.cells(keys), slots, strings)

    def _config(self) -> dict[str, Any]:
        return {
            "dim": self.dim,
            "ids": self.kind,
            "seed": self.seed,
            "steps": self._steps,
            "aliases": self._aliases(),
            "optimizer": optimizers.to_config(self.optimizer),
            "initializer": initializers.to_config(self.initializer),
        }

    def _aliases(self) -> int:
        """How many strings go by another key than theirs, of those that have a row."""
        keys = self._strings.aliases.key_of.values()
        return len(keys) and len(keys) - self._index.find(np.array(list(keys), np.uint64))[1]

    @classmethod
    def from_state(cls, state: State, *, path: str | PathLike[str] | None = None) -> Self:
        """A table equal to the one whose state this is; the arrays are copied. path: as of `Table`."""
        table = cls.__new__(cls)
        table._read_config(state.config)
        table.optimizer = optimizers.from_config(state.config["optimizer"])
        state.check_rows(table.dim, table._widths(table.optimizer))
        table._open_ids(state, writable=True)
        rows = Rows(table.dim, table._first_slots(table.optimizer), path=path)
        slots = [(columns, state.slots[name]) for name, columns in table._slots().items()]
        rows.fill(len(state.keys), [(slice(table.dim), state.weights), *slots])
        table._begin(rows, state.config["steps"])
        return table

    def restore(self, state: State) -> None:
        """Become the table whose state this is, in place: whoever holds this table goes on with it.

        Steps that are owed are dropped, and each Batch found before treats all its ids as unknown. A save that is under
        way ends as it began. Raises ArgumentError, with nothing changed, for a state of another dim.
        """
        if state.config["dim"] != self.dim:
            raise ArgumentError(f"this table has vectors of {self.dim} floats, the state {state.config['dim']}")
        other = type(self).from_state(state, path=self._rows.path)
        if self.pending is not None:  # before the lock, for a step that settles takes its own first
            self.pending.drop()
        with self.lock.writing():
            self._mark(np.arange(self._index.n_rows, dtype=np.int32))
            lock, live, pending = self.lock, self._live, self.pending
            self.__dict__.update(other.__dict__)
            self.lock, self._live, self.pending = lock, live, pending

    # --- changes -----------------------------------------------------------------------------------------------------

    def _before_change(self, rows: np.ndarray) -> None:
        """These (int32 (n,), −1 for none) are about to change; the caller holds the write lock."""
        if self._cut is not None:
            self._cut.keep(rows)
        if self._changes is not None:
            self._changes.mark(rows, self._index.n_rows)

    def _slots(self) -> dict[str, slice]:
        return self._columns(self.optimizer)

    more_slots: ClassVar[dict[str, int]] = {}
    """Name → floats a row of what lies behind the optimizer's slots, which no step touches."""

    def _columns(self, optimizer: Optimizer) -> dict[str, slice]:
        """Where in a row each slot lies, with this optimizer."""
        columns = optimizer.slot_columns(self.dim)
        end = self.dim + optimizer.slots(self.dim)
        for name, width in self.more_slots.items():
            columns[name], end = slice(end, end + width), end + width
        return columns

    def _widths(self, optimizer: Optimizer) -> dict[str, int]:
        """Floats a row of each slot, with this optimizer."""
        return optimizer.slot_widths(self.dim) | self.more_slots

    def _first_slots(self, optimizer: Optimizer) -> np.ndarray:
        """What the slots of a new row hold."""
        return np.append(optimizer.first_slots(self.dim), np.zeros(sum(self.more_slots.values()), np.float32))

    def apply(self, change: State) -> None:
        """Become what the table was that a change (see `State.gone`) was saved of; nothing is noted as changed.

        ArgumentError, with nothing changed, for the change of a table of another dim, seed, kind or optimizer.
        """
        optimizer = optimizers.from_config(change.config["optimizer"])
        if optimizer.slot_widths(self.dim) != self.optimizer.slot_widths(self.dim):
            raise ArgumentError(f"its optimizer is {optimizer}, and that of what it is a change to {self.optimizer}")
        self.take(change)
        with self.lock.writing():
            self.optimizer = optimizer
            self._rows.first_slots = self._first_slots(self.optimizer)
            self._steps = change.config["steps"]

    # --- files -------------------------------------------------------------------------------------------------------

    @property
    def saved(self) -> Saved | None:
        """What a delta would be a change to: where this table was saved or loaded from last. None if nowhere."""
        return self._saved

    def follow_from(self, saved: Saved) -> None:
        """It is just as `saved` says: what changes from now on is noted for a delta."""
        self._saved, self._changes = saved, Changes()

    @overload
    def save(self, path: str | PathLike[str], *, keep: int = 2, progress: Progress | None = None) -> int: ...
    @overload
    def save(
        self, path: str | PathLike[str], *, keep: int = 2, progress: Progress | None = None, wait: Literal[False]
    ) -> Future[int]: ...
    @overload
    def save(
        self, path: str | PathLike[str], *, keep: int = 2, progress: Progress | None = None, wait: bool = True
    ) -> int | Future[int]: ...

    def save(
        self, path: str | PathLike[str], *, keep: int = 2, progress: Progress | None = None, wait: bool = True
    ) -> int | Future[int]:
        """Write the table as it is now to a folder, as a new generation; return its number.

        keep      generations to keep: older ones go when the new one is whole
        progress  callable(bytes done, bytes in all, facts), called by the thread that writes
        wait      False: return a Future of the number at once; a thread writes, and training goes on

        Lookups and updates by other threads go on meanwhile; what is written is the table of one step. An interrupted
        save leaves the generations before whole; `hotrow.load(path)` opens the newest. docs/durability.md says what is
        promised. Raises LockedError if somebody is saving there, or this table to anywhere, and OSError with the path.

        >>> import hotrow
        >>> table = hotrow.Table(4)
        >>> table.save("items")
        1
        >>> _ = table.lookup(["lantern"], grow=True)
        >>> saving = table.save("items", wait=False)
        >>> saving.result()
        2
        """
        return self._save(path, keep, progress, wait)

    @overload
    def save_delta(self, path: str | PathLike[str] | None = None, *, progress: Progress | None = None) -> int: ...
    @overload
    def save_delta(
        self, path: str | PathLike[str] | None = None, *, progress: Progress | None = None, wait: Literal[False]
    ) -> Future[int]: ...
    @overload
    def save_delta(
        self, path: str | PathLike[str] | None = None, *, progress: Progress | None = None, wait: bool = True
    ) -> int | Future[int]: ...

    def save_delta(
        self, path: str | PathLike[str] | None = None, *, progress: Progress | None = None, wait: bool = True
    ) -> int | Future[int]:
        """Write what has changed since this table was saved or loaded, as a new generation; return its number.

        Rows that have changed or are new, and which ids were forgotten. `hotrow.load` reads the whole one and the chain
        of changes to it, and `hotrow compact` makes one whole generation of them. progress, wait: as of `save`.

        Raises ArgumentError if this table was never saved there, or has another optimizer since, and LockedError if
        somebody else has saved there meanwhile.

        >>> import hotrow
        >>> table = hotrow.Table(4)
        >>> table.save("words")
        1
        >>> _ = table.lookup(["lantern"], grow=True)
        >>> table.save_delta()
        2
        >>> len(hotrow.load("words"))
        1
        """
        saved, where = self._saved, "its folder" if path is None else repr(str(path))
        if saved is None or (path is not None and Path(path).absolute() != saved.path):
            raise ArgumentError(
                f"a delta is a change to what was saved, and this table wasn't saved to or loaded from {where}"
                f"{'' if saved is None else f', but {saved.path}'}; expected table.save({where}) first, and again "
                "after restore() or another optimizer"
            )
        return self._save(saved.path, 1, progress, wait, saved)

    def _save(
        self,
        path: str | PathLike[str],
        keep: int,
        progress: Progress | None,
        wait: bool,
        since: Saved | None = None,
    ) -> int | Future[int]:
        from hotrow.store.writing import Writer  # the one call against the flow: a table saves itself

        return self.write_to(Writer(path, keep=keep, parent=since and since.sha256), progress, wait=wait, since=since)

    def write_to(
        self, writer: Writer, progress: Progress | None = None, *, wait: bool = True, since: Saved | None = None
    ) -> int | Future[int]:
        """Save by a writer, which is closed: all of the table, or what has changed since it was saved."""
        begun: list[Cutting] = []
        try:
            self.settle()
            self._begin_cut(since, begun)
            if wait:
                return self._write(writer, begun[0], progress)
            done: Future[int] = Future()
            done.set_running_or_notify_cancel()
            thread = Thread(target=self._write_soon, args=(done, writer, begun[0], progress), name="hotrow-save")
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends, and starts no thread any more
                thread.run()
        except BaseException:
            self._give_up(writer, begun)
            raise
        return done

    @staticmethod
    def _give_up(writer: Writer, begun: list[Cutting]) -> None:
        """Let others save, and go on, whatever has happened; twice does no harm."""
        for cutting in begun:
            cutting.cut.close()
        writer.close()

    def _begin_cut(self, since: Saved | None, begun: list[Cutting]) -> None:
        """Take the cut, and add it to `begun` in the same moment: a Ctrl-C may come right behind."""
        Cut.warm_up()
        every = None if since else np.ones(self._index.n_rows + (self._index.n_rows >> 6) + 1024, np.uint8)
        with self.lock.writing():
            if self._cut is not None and self._cut.is_open:
                raise LockedError("this table is being saved: wait for the result() of table.save(…, wait=False)")
            if self._cut is not None:  # given up half way, or that of a parent of this process: what has changed since?
                self._cut = self._changes = self._saved = None
            before, n, gone = self._changes, self._index.n_rows, None
            if since is not None and (before is None or self._saved is not since):
                raise LockedError(
                    f"what has changed since {since.path} isn't known any more: this table was saved or restored "
                    f"meanwhile, or its process forked; expected table.save({str(since.path)!r})"
                )
            if every is not None:
                wanted = every[:n] if n <= len(every) else np.ones(n, np.uint8)
            else:
                assert before is not None
                wanted, gone = before.marks(n), before.gone()
            strings = self._strings if self.kind == "string" else None
            cut = Cut(self.lock, self._index, self._rows, strings, self._config(), self._slots(), wanted, gone)
            after = Changes()
            begun.append(Cutting(cut, before, after))
            self._cut, self._changes = cut, after

    def _write(self, writer: Writer, cutting: Cutting, progress: Progress | None) -> int:
        saved: Saved | None = None
        try:
            number, sha256 = writer.write(cutting.cut, progress)
            saved = Saved(writer.root, number, sha256)
            return number
        finally:
            self._give_up(writer, [cutting])
            with self.lock.writing():
                self._end_cut(cutting, saved)

    def _end_cut(self, cutting: Cutting, saved: Saved | None) -> None:
        if self._cut is cutting.cut:
            self._cut = None
        if self._changes is not cutting.after:  # restored meanwhile: what it was saved as isn't what it is
            return
        if saved is not None:
            self._saved = saved
        elif cutting.before is None:
            self._changes = None
        else:
            cutting.after.absorb(cutting.before, self._index.n_rows)

    def _write_soon(self, done: Future[int], writer: Writer, cutting: Cutting, progress: Progress | None) -> None:
        _be_patient()
        try:
            done.set_result(self._write(writer, cutting, progress))
        except BaseException as error:  # noqa: BLE001 — whoever asks for the result is told
            log.warning("%s: this save failed, and what was there before is as it was: %s", writer.root, error)
            done.set_exception(error)


def _be_patient() -> None:
    """Let others go before this thread, and those that it starts, where the system has a priority for each thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, get_native_id(), _PATIENCE)


@dataclass(frozen=True)
class Cutting:
    """A cut, and what had changed before it and has since."""

    cut: Cut
    before: Changes | None
    after: Changes
