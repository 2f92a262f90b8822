"""Where the time of a training step goes, and how long memory alone would take for it.

    ids ──find──▶ rows ──gather──▶ vectors       merge: which ids are the same, and where each stands
    gradients ──step──▶ rows                     Python: everything between the kernels

Kernels are timed from outside, each by the file it is written in. So no kernel knows of it, and a step that nobody
measures is as quick as ever.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from types import ModuleType
from typing import Any, Self

import numpy as np

import hotrow
from hotrow.kernels import threads
from hotrow.table.optimizers import Optimizer

PHASES = ("find", "gather", "merge", "step", "first values", "Python")
"""The parts of a step. "first values" is of ids that are new."""

_PHASE_OF = {
    "hotrow.kernels.fingerprint": "find",
    "hotrow.kernels.texts": "find",
    "hotrow.kernels.decoding": "find",
    "hotrow.kernels.probing": "find",
    "hotrow.kernels.pooling": "gather",
    "hotrow.kernels.merging": "merge",
    "hotrow.kernels.stepping": "step",
    "hotrow.kernels.saving": "step",
    "hotrow.kernels.drawing": "first values",
}

CHUNK = 1 << 17
"""How many ids at once get their row when a table is filled."""

_LINE = 64  # bytes of a cache line, in which memory is read
_WARM = 3  # steps of a round before the clock starts: caches are others' until then


class Watch:
    """Within, the kernels that this thread calls are timed: `taken` has the seconds of each phase.

    Modules outside of `hotrow.kernels` call kernels as `probing.find(…)` or `threads.run(probing.find, …)`. Their names
    for these modules are replaced, and `threads.run` is, until the end; the kernels themselves call one another as
    before. What another thread does meanwhile isn't counted, unless `threads.run` waits for it.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.taken: dict[str, float] = dict.fromkeys(PHASES[:-1], 0.0)
        self._clock = clock
        self._thread = threading.get_ident()
        self._before: list[tuple[ModuleType, str, Any]] = []

    def __enter__(self) -> Self:
        self._replace(threads, "run", partial(self._run, threads.run))
        for module in [module for name, module in sys.modules.items() if name.startswith("hotrow.")]:
            if not module.__name__.startswith("hotrow.kernels"):
                for name, value in list(vars(module).items()):
                    if isinstance(value, ModuleType) and value.__name__ in _PHASE_OF:
                        self._replace(module, name, _Kernels(value, self))
        return self

    def __exit__(self, *_: object) -> None:
        for module, name, value in reversed(self._before):
            setattr(module, name, value)

    def _replace(self, module: ModuleType, name: str, value: Any) -> None:
        self._before.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    def _run(self, run: Callable[..., Any], kernel: Any, *given: Any) -> Any:
        """`threads.run`, timed as a whole; what it runs isn't timed once more."""
        return self.call(run, _untimed(kernel), *given)

    def call(self, function: Callable[..., Any], *given: Any) -> Any:
        """Call a kernel, or something that runs the kernel which is its first argument."""
        kernel = given[0] if given and callable(given[0]) else function
        phase = _PHASE_OF.get(getattr(kernel, "__module__", ""))
        if phase is None or threading.get_ident() != self._thread:
            return function(*given)
        begin = self._clock()
        try:
            return function(*given)
        finally:
            self.taken[phase] += self._clock() - begin


class _Kernels:
    """A module of kernels, each of which is timed when it is called."""

    def __init__(self, module: ModuleType, watch: Watch) -> None:
        self._module, self._watch = module, watch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        value = _Timed(found, self._watch) if callable(found) else found
        setattr(self, name, value)  # the next time it isn't looked for
        return value


class _Timed:
    """A kernel that is timed."""

    def __init__(self, kernel: Callable[..., Any], watch: Watch) -> None:
        self.kernel, self._watch = kernel, watch

    def __call__(self, *given: Any) -> Any:
        return self._watch.call(self.kernel, *given)


def _untimed(kernel: Any) -> Any:
    return kernel.kernel if isinstance(kernel, _Timed) else kernel


@dataclass(frozen=True)
class Traffic:
    """Bytes that a step must move at least, each once, if caches kept nothing from the step before.

    For n ids, of which m are distinct, vectors of D floats, and rows of D floats and S more in slots:

        ids          8 · n              read
        index       64 · m              a cache line of it for each distinct id
        rows         4 · (D + S) · m    read, weights and slots
        rows_back    4 · (D + S) · m    written
        vectors      4 · D · n          written
        gradients    4 · D · n          read

    >>> Traffic.of(ids=4, distinct=3, dim=2, slots=4).total
    432
    """

    ids: int
    index: int
    rows: int
    rows_back: int
    vectors: int
    gradients: int

    @classmethod
    def of(cls, *, ids: int, distinct: int, dim: int, slots: int) -> Traffic:
        """That of a step of so many ids, on rows of `dim` weights and `slots` more floats."""
        rows = 4 * (dim + slots) * distinct
        return cls(8 * ids, _LINE * distinct, rows, rows, 4 * dim * ids, 4 * dim * ids)

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, one.name) for one in fields(self))


@dataclass(frozen=True)
class Split:
    """A step, on average: the seconds of each of `PHASES`, whose sum is that of the step."""

    seconds: dict[str, float]

    @property
    def total(self) -> float:
        """The seconds of a step."""
        return sum(self.seconds.values())

    @classmethod
    def of(cls, steps: Sequence[dict[str, float]]) -> Split:
        """The mean of the middle half of steps, by how long they took: what else the machine does lengthens some."""
        ranked = sorted(steps, key=lambda step: sum(step.values()))
        quarter = len(ranked) // 4
        middle = ranked[quarter : len(ranked) - quarter]
        return cls({phase: statistics.fmean(step[phase] for step in middle) for phase in PHASES})


class Copy:
    """How fast memory is: an array is copied into another, both larger than caches, on the threads of kernels."""

    def __init__(self, nbytes: int) -> None:
        self._from, self._to = np.ones(nbytes // 4, np.float32), np.ones(nbytes // 4, np.float32)

    def speed(self) -> float:
        """Bytes a second, read and written: a copy of N bytes moves 2 N."""
        begin = time.perf_counter()
        threads.run(_copy, threads.even(len(self._to), 1), self._from, self._to)
        return 2 * self._to.nbytes / (time.perf_counter() - begin)


def _copy(source: np.ndarray, target: np.ndarray, start: int, stop: int) -> None:
    target[start:stop] = source[start:stop]


def draw(rows: int, shape: tuple[int, int], zipf: float | None, seed: int = 1) -> np.ndarray:
    """Row numbers below `rows`, int64: uniform for None, else by Zipf's law with that exponent, low ones frequent.

    Numbers beyond are folded back by their remainder. Raises ValueError for an exponent of 1 or less.

    >>> draw(10, (2, 3), None).shape
    (2, 3)
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, rows, shape) if zipf is None else (rng.zipf(zipf, shape) - 1) % rows
    return drawn.astype(np.int64)


def fill(
    dim: int, optimizer: Optimizer, ids: np.ndarray, advance: Callable[[int], None] = lambda done: None
) -> hotrow.Table:
    """A table of these ids (int64), in the order in which they come; `advance` is told how many have their row."""
    table = hotrow.Table(dim, optimizer=optimizer, ids="int64")
    for start in range(0, len(ids), CHUNK):
        table.find(ids[start : start + CHUNK], grow=True)
        advance(min(start + CHUNK, len(ids)))
    return table


def step(table: hotrow.Table, ids: np.ndarray, gradients: np.ndarray) -> None:
    """A training step from raw ids: what is measured."""
    batch = table.find(ids, grow=True)
    table.lookup(batch)
    table.update(batch, gradients)


def split_round(
    table: hotrow.Table, batches: Sequence[np.ndarray], gradients: np.ndarray, seconds: float, least: int = 5
) -> Split:
    """A round of steps on batches of ids (int64 (n,)), for so many seconds: where a step's time goes.

    gradients: float32 (n, dim). The first steps aren't counted; at least `least` are.
    """
    for i in range(_WARM):
        step(table, batches[i % len(batches)], gradients)
    steps: list[dict[str, float]] = []
    with Watch() as watch:
        end = time.perf_counter() + seconds
        while len(steps) < least or time.perf_counter() < end:
            watch.taken = dict.fromkeys(watch.taken, 0.0)
            begin = time.perf_counter()
            step(table, batches[len(steps) % len(batches)], gradients)
            whole = time.perf_counter() - begin
            steps.append({**watch.taken, "Python": whole - sum(watch.taken.values())})
    return Split.of(steps)


@dataclass(frozen=True)
class Measured:
    """Where the time of a step goes, and what memory alone would take."""

    rounds: list[Split]
    speeds: list[float]
    ids: int
    distinct: int
    traffic: Traffic

    @property
    def split(self) -> Split:
        """The median round."""
        return sorted(self.rounds, key=lambda one: one.total)[len(self.rounds) // 2]

    @property
    def speed(self) -> float:
        """Bytes a second that this machine copies: the median of the rounds."""
        return statistics.median(self.speeds)

    @property
    def limit(self) -> float:
        """The seconds in which a copy moves as many bytes as a step must."""
        return self.traffic.total / self.speed


def measure(
    table: hotrow.Table,
    batches: Sequence[np.ndarray],
    gradients: np.ndarray,
    copy: Copy,
    *,
    rounds: int = 7,
    seconds: float = 1.0,
    advance: Callable[[int], None] = lambda done: None,
) -> Measured:
    """Rounds of steps and copies in turn; `advance` is called after each with how many are done."""
    splits: list[Split] = []
    speeds: list[float] = []
    for done in range(1, rounds + 1):
        speeds.append(copy.speed())
        splits.append(split_round(table, batches, gradients, seconds))
        advance(done)
    distinct = round(statistics.fmean(len(np.unique(ids)) for ids in batches))
    slots = table.optimizer.slots(table.dim)
    traffic = Traffic.of(ids=len(batches[0]), distinct=distinct, dim=table.dim, slots=slots)
    return Measured(splits, speeds, len(batches[0]), distinct, traffic)
