"""What it costs that nothing is lost: saving beside cp, loading beside reading, steps beside a save, opening a view."""

from __future__ import annotations

import logging
import os
import random
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import numpy as np

import hotrow
from benchmarks import harness, machine
from benchmarks.harness import Result
from benchmarks.workload import STREAMS, Sizes, batches, gradients, raw_ids
from hotrow.store import snapshot

log = logging.getLogger("benchmarks")

PLACE = Path(__file__).parents[1] / "build" / "durability"
ROWS, DIM = 10_000_000, 32
FEW = 1000
SLOWER = 1 / 0.6
"""How many times as long as copying or reading the same bytes saving or loading may take."""
HELD = 3.0
"""How many times as long as the median step alone the longest step beside a save may take: itself, and two more."""
MEMORY = 0.10
"""Of the table's bytes, what a save may take."""
FLIPS = 1000
_ROUNDS = 3
_ALONE = 1000  # steps


def run(sizes: Sizes) -> Iterator[Result]:
    """10 million rows, D = 32, Adam; each time in a folder that holds nothing else."""
    rows = sizes.rows if sizes.quick else ROWS
    if not machine.fits(2 * rows * (12 * DIM + 60), f"a table of {rows:,} rows, twice"):
        return
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    try:
        table = _table(rows)
        yield from _saving(table, sizes)
        yield from _beside(table, sizes)
        del table
        yield from _loading(sizes)
        yield from _opening(sizes)
        yield _flipping()
    finally:
        shutil.rmtree(PLACE, ignore_errors=True)


def _table(rows: int) -> hotrow.Table:
    table = hotrow.Table(DIM, optimizer=hotrow.Adam(1e-3))
    for ids in np.array_split(raw_ids(rows), -(-rows // 1_000_000)):
        table.find(ids, grow=True)
    return table


def _title(table: hotrow.Table) -> str:
    return f"{len(table):,} rows, D = {DIM}, Adam"


def _saving(table: hotrow.Table, sizes: Sizes) -> Iterator[Result]:
    """A whole save, and cp of its files with fsync, on the same disk in turns."""
    log.info("durability: saving")
    source, copy = PLACE / "saved", PLACE / "copy"
    extra: list[float] = []

    def save(_: int) -> float:
        with _Watched() as watched:
            seconds = _timed(lambda: table.save(source, keep=1), source)
        extra.append(watched.most)
        return seconds

    def cp(_: int) -> float:
        return _timed(lambda: _copy(source, copy), copy)

    medians = {"cp and fsync": list[float](), "save": list[float]()}
    for _ in range(1 if sizes.quick else _ROUNDS):
        medians["save"].append(1e3 * save(0))
        medians["cp and fsync"].append(1e3 * cp(0))
    most = None if sizes.quick else {"save": SLOWER}
    yield from harness.results(f"Saving {_title(table)}", {"GB": f"{_size(source) / 1e9:.2f}"}, medians, most=most)
    share = statistics.median(extra) / table.stats()["bytes"]
    bound = None if sizes.quick else MEMORY
    title = "Memory that a save takes, as a share of the table's"
    yield Result(title, {"rows": f"{len(table):,}"}, "peak", "", share, most=bound)


class _Watched:
    """Within, how many bytes more than at its beginning this process held in memory at most."""

    def __enter__(self) -> Self:
        self._begin, self.most, self._ended = _resident(), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            self.most = max(self.most, _resident() - self._begin)

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


def _timed(call: Callable[[], object], target: Path) -> float:
    """Seconds, when what was there is gone and the disk has nothing else to write."""
    shutil.rmtree(target, ignore_errors=True)
    os.sync()
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    for file in _files(target):
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in _files(folder))


def _beside(table: hotrow.Table, sizes: Sizes) -> Iterator[Result]:
    """Each step of a training that goes on while the table is saved, beside the same steps without."""
    ids, back = raw_ids(len(table)), gradients(sizes.batch, DIM)
    for stream in STREAMS:
        log.info("durability: a step beside a save, %s", stream)
        drawn = [ids[numbers] for numbers in batches(stream, len(table), sizes.batch)]
        alone, before, longest, beside, cut = [], [], [], [], []
        for _ in range(1 if sizes.quick else _ROUNDS):
            taken = _steps(table, drawn, back, lambda done: done == _ALONE)
            alone.append(float(np.median(taken)))
            before.append(float(max(taken)))
            shutil.rmtree(PLACE / "beside", ignore_errors=True)
            os.sync()
            begin = time.perf_counter()
            saving = table.save(PLACE / "beside", wait=False)
            cut.append(1e3 * (time.perf_counter() - begin))
            taken = _steps(table, drawn, back, lambda _, saving=saving: saving.done())
            saving.result()
            beside.append(float(np.median(taken)))
            longest.append(float(max(*taken, cut[-1])))
        title = f"A training step of {sizes.batch:,} ids while {_title(table)} is saved"
        case, one = {"ids": stream}, min(alone)
        yield Result(title, case, "alone", "ms", one, alone)
        yield Result(title, case, "alone, longest", "ms", min(before), before, min(before) / one)
        yield Result(title, case, "beside a save, median", "ms", min(beside), beside, min(beside) / one)
        yield Result(title, case, "the call of save", "ms", min(cut), cut, min(cut) / one)
        most = None if sizes.quick else HELD
        yield Result(title, case, "beside a save, longest", "ms", min(longest), longest, min(longest) / one, most=most)
    shutil.rmtree(PLACE / "beside", ignore_errors=True)


def _steps(table: hotrow.Table, drawn: list[np.ndarray], back: np.ndarray, ended: Callable[[int], bool]) -> list[float]:
    taken: list[float] = []
    while not taken or not ended(len(taken)):
        begin = time.perf_counter()
        batch = table.find(drawn[len(taken) % len(drawn)], grow=True)
        table.lookup(batch)
        table.update(batch, back)
        taken.append(1e3 * (time.perf_counter() - begin))
    return taken


def _loading(sizes: Sizes) -> Iterator[Result]:
    """hotrow.load, and reading the same files into memory, in turns; the system has them in its cache for both."""
    log.info("durability: loading")
    source = PLACE / "saved"
    medians = {"reading the files": list[float](), "load": list[float]()}
    for _ in range(1 if sizes.quick else _ROUNDS):
        for side, call in (("load", lambda: hotrow.load(source)), ("reading the files", lambda: _read(source))):
            begin = time.perf_counter()
            held = call()
            medians[side].append(1e3 * (time.perf_counter() - begin))
            del held
    most = None if sizes.quick else {"load": SLOWER}
    case = {"GB": f"{_size(source) / 1e9:.2f}"}
    yield from harness.results("Loading the same table, every checksum compared", case, medians, most=most)


def _read(source: Path) -> list[np.ndarray]:
    return [np.fromfile(file, np.uint8) for file in _files(source)]


def _opening(sizes: Sizes) -> Iterator[Result]:
    """A view of the table, and one of a thousand rows, in turns."""
    log.info("durability: opening")
    small = PLACE / "small"
    _table(FEW).save(small)
    many = len(hotrow.view(PLACE / "saved"))
    sides = {f"{FEW:,} rows": small, f"{many:,} rows": PLACE / "saved"}
    races = {name: lambda _, path=path: hotrow.view(path) and None for name, path in sides.items()}
    medians = harness.race(races, sizes.rounds, sizes.steps)
    most = None if sizes.quick else {f"{many:,} rows": 2.0}
    yield from harness.results("Opening a view", {"what": "hotrow.view"}, medians, most=most)


def _flipping() -> Result:
    """Single bits of a saved table are flipped, one at a time, anywhere; `hotrow verify` must notice each."""
    log.info("durability: flipped bits")
    path = PLACE / "small"
    files = [file for file in _files(path) if file.name != "lock"]
    drawn, noticed = random.Random(0), 0
    for _ in range(FLIPS):
        file = drawn.choices(files, [one.stat().st_size for one in files])[0]
        data = bytearray(file.read_bytes())
        bit = drawn.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        noticed += bool(snapshot.verify(path))
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
    if snapshot.verify(path):
        raise harness.UnequalError("the files aren't as they were")
    return Result(
        f"Flipped bits that verify notices, of {FLIPS:,}", {"bits": "single"}, "noticed", "", noticed, least=FLIPS
    )
