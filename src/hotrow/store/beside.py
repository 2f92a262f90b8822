"""Checkpoints written beside training: one at a time, and what goes wrong is told and stops nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Any

import numpy as np

from hotrow.store.checkpoint import Checkpoints
from hotrow.table.table import Table

log = logging.getLogger("hotrow")


class Told:
    """What whoever writes checkpoints beside training tells of them."""

    _beside: Beside

    @property
    def error(self) -> BaseException | None:
        """What went wrong with the latest checkpoint; None if it is on disk."""
        return self._beside.error

    @property
    def skipped(self) -> int:
        """How many saves beside training were left out because one was still being written."""
        return self._beside.skipped


class Beside:
    """What a training loop asks of its checkpoints. skipped: those that were due while one was being written."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.skipped = 0
        self._latest: Future[int] | None = None
        self._before: BaseException | None = None

    @property
    def error(self) -> BaseException | None:
        """What went wrong with the latest that has ended; None if it is on disk."""
        latest = self._latest
        return latest.exception() if latest is not None and latest.done() else self._before

    @property
    def latest(self) -> Future[int] | None:
        """The one that was begun last."""
        return self._latest

    def is_busy(self) -> bool:
        """Whether one is being written."""
        return self._latest is not None and not self._latest.done()

    def skip(self) -> None:
        """One is due while another is being written; the first time is told."""
        if not self.skipped:
            log.warning(
                "%s: a checkpoint is due and the one before is still being written, so it is left out, as more may be; "
                "expected fewer, or a faster disk",
                self.checkpoints.root,
            )
        self.skipped += 1

    def begin(self, tables: Sequence[Table], arrays: Mapping[str, np.ndarray], facts: dict[str, Any]) -> None:
        """As `Checkpoints.start`, when none is being written."""
        self._before = self.error
        self._latest = self.checkpoints.start(tables, arrays, facts)

    def wait(self) -> None:
        """Until nothing is being written."""
        if self._latest is not None:
            wait([self._latest])
