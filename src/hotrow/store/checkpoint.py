"""Checkpoints: tables, a net's arrays and some facts, all of one step, tied by one small file that is written last.

```
path/
├── lock                          held by the one that writes
├── checkpoint-000002.json        what belongs together, with its checksums: without it the checkpoint doesn't exist
├── net-000002.safetensors        the arrays of the net and of its optimizer
├── table-1/generation-000002/    each table, a snapshot or a delta, see docs/format.md
└── table-2/generation-000002/
```
All names follow from the numbers in the JSON file, so it can name nothing outside of the folder.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from hotrow.errors import ArgumentError, CorruptError, DataError
from hotrow.store import description as described_by
from hotrow.store import generations, load, saves
from hotrow.store.description import Description, describe, json_file, net_file, table_folder
from hotrow.store.files import make_folders, sync_folder, write_durably
from hotrow.store.format import read_arrays, write_arrays
from hotrow.store.lock import lock
from hotrow.table.kept import Saved
from hotrow.table.table import Table

log = logging.getLogger("hotrow")
_TRIES = 5
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """What was read: nobody else has these arrays and tables."""

    number: int
    facts: dict[str, Any]
    arrays: Arrays
    tables: list[Table]


class Checkpoints:
    """A folder of checkpoints, to write and to read.

    keep    of those whose tables are whole, how many stay, with the ones after them
    deltas  how many may follow that write only the rows changed since the one before

    ArgumentError for numbers that can't be.
    """

    def __init__(self, path: str | os.PathLike[str], *, keep: int = 2, deltas: int = 0) -> None:
        for name, given, least in (("keep", keep, 1), ("deltas", deltas, 0)):
            if type(given) is not int or given < least:
                raise ArgumentError(f"{name} = {given!r}: expected a whole number from {least} on")
        self.root = Path(path).absolute()
        self._keep, self._deltas = keep, deltas
        self._last: list[Saved] | None = None  # what the tables were saved as; None: whole ones come next
        self._n_deltas = 0
        self._is_tidy = False

    def numbers(self) -> list[int]:
        """The numbers of the checkpoints that are there, rising."""
        return described_by.numbers(self.root)

    def open(self) -> None:
        """Make the folder and see whether it can be written: what is wrong with it is said before the first save.

        ArgumentError for a folder of other things, LockedError if somebody is saving there, OSError from the system.
        """
        with ExitStack() as held:
            self._enter(held)

    def _enter(self, held: ExitStack) -> None:
        make_folders(self.root)
        other = [] if self.numbers() else described_by.strangers(self.root)
        if other:
            raise ArgumentError(
                f"{self.root}: has {other[0]!r} in it and no checkpoint; expected a new folder, for checkpoints alone: "
                "what none of them needs is removed there"
            )
        held.enter_context(lock(self.root))

    # --- write -------------------------------------------------------------------------------------------------------

    def start(self, tables: Sequence[Table], arrays: Mapping[str, np.ndarray], facts: dict[str, Any]) -> Future[int]:
        """Save the tables as they are now with these arrays, which nobody changes any more; threads write.

        Whatever goes wrong is in the Future, also a lock that somebody else holds, and is logged; what was there before
        is as it was. The result is the number of the checkpoint, once the disk has all of it. Call it again only when
        it is done.
        """
        done: Future[int] = Future()
        done.set_running_or_notify_cancel()
        held, saving, problem = ExitStack(), list[Future[int]](), None
        try:
            number, deltas = self._begin(held, tables)
            for i, table in enumerate(tables):
                where = table_folder(self.root, i)
                one = table.save_delta(wait=False) if deltas else table.save(where, keep=sys.maxsize, wait=False)
                saving.append(one)
        except BaseException as error:  # noqa: BLE001 — it is told when those that have begun are done
            number, deltas, problem = 0, 0, error
        writing = _Writing(done, held, number, deltas, facts, dict(arrays), saving)
        Thread(target=self._write, args=(writing, problem), name="hotrow-checkpoint").start()
        if problem is not None and not isinstance(problem, Exception):
            raise problem
        return done

    def _begin(self, held: ExitStack, tables: Sequence[Table]) -> tuple[int, int]:
        """Take the lock; the number of the new checkpoint, and how many deltas it is after a whole one."""
        self._enter(held)
        if not self._is_tidy:
            self._try_to_tidy()
        number = max([0, *self.numbers(), *described_by.nets(self.root)]) + 1
        as_saved = self._last is not None and [table.saved for table in tables] == self._last
        return number, self._n_deltas + 1 if as_saved and self._n_deltas < self._deltas else 0

    def _write(self, writing: _Writing, problem: BaseException | None) -> None:
        try:
            try:
                if problem is not None:
                    raise problem
                self._write_all(writing)
            except BaseException as error:  # noqa: BLE001 — whoever asks for the result is told
                problem = error
                wait(writing.saving)
                self._last, self._is_tidy = None, False
                if writing.number and not json_file(self.root, writing.number).exists():  # else it is there, whole
                    with suppress(OSError):
                        net_file(self.root, writing.number).unlink(missing_ok=True)
                log.warning("%s: this checkpoint failed, and those before are as they were: %s", self.root, error)
            finally:
                writing.held.close()
        finally:
            if problem is None:
                writing.done.set_result(writing.number)
            else:
                writing.done.set_exception(problem)

    def _write_all(self, writing: _Writing) -> None:
        number = writing.number
        net = write_arrays(net_file(self.root, number), writing.arrays)
        saved = [self._saved(i, one.result()) for i, one in enumerate(writing.saving)]
        text = described_by.encode(net, writing.arrays, saved, writing.facts, writing.deltas)
        sync_folder(self.root)  # the net's name is durable before anything names it
        write_durably(json_file(self.root, number), text)
        self._last, self._n_deltas = saved, writing.deltas
        self._try_to_tidy()

    def _saved(self, at: int, generation: int) -> Saved:
        folder = table_folder(self.root, at)
        return Saved(folder, generation, saves.sha256_of(folder, generation))

    def _try_to_tidy(self) -> None:
        self._is_tidy = False
        try:
            self._tidy()
            self._is_tidy = True
        except OSError as error:
            log.warning(
                "%s: what is no longer wanted couldn't be removed (%s); the next save tries again", self.root, error
            )

    def _tidy(self) -> None:
        """Remove what no checkpoint that stays needs; a checkpoint's own file goes first."""
        found = [(number, self._described_or_none(number)) for number in self.numbers()]
        whole = [number for number, described in found if described is not None and described.deltas == 0]
        first = whole[-self._keep :][:1] or [0]
        for number, _ in found:
            if number < first[0]:
                json_file(self.root, number).unlink()
        if any(number < first[0] for number, _ in found):
            sync_folder(self.root)
        stay = {number: described for number, described in found if number >= first[0]}
        for number in described_by.nets(self.root):
            if number not in stay:
                net_file(self.root, number).unlink()
        readable = [described for described in stay.values() if described is not None]
        if len(readable) == len(stay):  # else a damaged one doesn't tell what it needs
            for at in described_by.tables(self.root):
                needed = [one.tables[at][0] for one in readable if at < len(one.tables)]
                saves.keep_only(table_folder(self.root, at), needed)

    def _described_or_none(self, number: int) -> Description | None:
        try:
            return describe(self.root, number)
        except (CorruptError, DataError):
            return None

    # --- read --------------------------------------------------------------------------------------------------------

    def read(
        self,
        number: int | None = None,
        *,
        fits: Callable[[Description], Sequence[str | os.PathLike[str] | None]],
    ) -> Checkpoint | None:
        """The newest checkpoint, or the one asked for; None if there is none at all.

        fits: refuses what doesn't fit the reader before anything large is read, and says of each table in which folder
        its rows are to be, None for memory. CorruptError, naming the file, for one that is damaged: no other is taken
        in its place. DataError if there is no such number.
        """
        for left in reversed(range(_TRIES)):
            found = self.numbers()
            if number is not None and number not in found:
                raise DataError(f"{self.root}: has no checkpoint {number}; it has {found}")
            if not found:
                return None
            chosen = found[-1] if number is None else number
            try:
                return self._read(chosen, fits)
            except CorruptError as error:
                if left and number is None and not json_file(self.root, chosen).exists():
                    continue  # a newer one has taken its place meanwhile
                others = [other for other in found if other != chosen]
                hint = f"; others are there: {', '.join(map(str, others))}" if others else ""
                raise CorruptError(f"{error}{hint}") from error
        raise AssertionError("the last try returns or raises")

    def _read(self, number: int, fits: Callable[[Description], Sequence[str | os.PathLike[str] | None]]) -> Checkpoint:
        described = describe(self.root, number)
        places = fits(described)
        arrays = read_arrays(net_file(self.root, number), described.arrays, described.net)
        tables = [self._load(i, *table, places[i]) for i, table in enumerate(described.tables)]
        return Checkpoint(number, described.facts, arrays, tables)

    def _load(self, at: int, generation: int, sha256: str, rows: str | os.PathLike[str] | None) -> Table:
        folder = table_folder(self.root, at)
        if sha256 not in saves.names_of(folder, generation):
            mark = generations.mark_of(folder, generation)
            raise CorruptError(f"{mark}: isn't the generation that belongs to this checkpoint")
        try:
            return load(folder, generation, rows=rows)
        except DataError as error:
            raise CorruptError(str(error)) from error

    def go_on_from(self, number: int, tables: Sequence[Table]) -> None:
        """The tables are just what this checkpoint says: a delta may come next, if it is the newest."""
        is_newest, saved = self.numbers()[-1:] == [number], [table.saved for table in tables]
        self._last = [one for one in saved if one is not None]
        if not is_newest or len(self._last) < len(tables):
            self._last = None
        described = self._described_or_none(number)
        self._n_deltas = self._deltas if described is None else described.deltas


@dataclass(frozen=True)
class _Writing:
    """A checkpoint that is being written. number: 0 if it hasn't got one. held: the lock."""

    done: Future[int]
    held: ExitStack
    number: int
    deltas: int
    facts: dict[str, Any]
    arrays: Arrays
    saving: list[Future[int]]
