"""`hotrow bench`: where a training step's time goes on this machine, beside what its memory alone would take."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

import numpy as np

from hotrow.apps.charts import Series, bars
from hotrow.apps.console import Output, printable
from hotrow.apps.phases import PHASES, Copy, Measured, draw, fill, measure
from hotrow.apps.svg import check_writable, write
from hotrow.errors import ArgumentError
from hotrow.kernels.threads import get_threads
from hotrow.table.memory import physical
from hotrow.table.optimizers import OPTIMIZERS, Optimizer, from_config

ROUNDS, SECONDS = 7, 1.0
"""How many rounds of steps there are, and how long each is."""
COPIED = 1 << 28
"""Bytes of the array that is copied: more than any processor's cache."""
ZIPF = 1.2
_BATCHES = 1 << 20  # ids in all batches, about
_BAR = 40  # cells
_ROUND = 1_500_000  # rows that are filled while a round is measured, about: for the time left


def bench(options: argparse.Namespace, output: Output) -> None:
    """Fill a table, measure steps on it, and show where their time goes."""
    optimizer = optimizer_of(options.optimizer)
    if options.out is not None:
        check_writable(options.out)
    _check_memory(options, optimizer)
    measured = _measure(options, optimizer, output)
    if options.out is not None:
        write(options.out, picture(options, optimizer, measured))
    output.result(_json(options, optimizer, measured))
    if not output.as_json:
        _show(options, optimizer, measured, output)


def optimizer_of(name: str) -> Optimizer:
    """The optimizer of this name, however its words are written: rowwise_adagrad is RowwiseAdagrad."""
    plain = {one.lower(): one for one in OPTIMIZERS}
    chosen = plain.get(name.lower().replace("_", "").replace("-", ""))
    if chosen is None:
        raise ArgumentError(
            f"--optimizer is one of {', '.join(plain)}; got {printable(name)[:60]!r}. Try --optimizer adam"
        )
    return from_config({"name": chosen})


def _check_memory(options: argparse.Namespace, optimizer: Optimizer) -> None:
    """ArgumentError for a table that this machine has no room for."""
    row = 4 * (options.dim + optimizer.slots(options.dim)) + 48  # an id, its place in the index, a draw
    rows = options.rows * row
    batches = 24 * (_BATCHES + 3 * options.batch) + 12 * options.batch * options.dim
    needed, there = rows + batches + 2 * COPIED, physical()
    if needed > there:
        best = f"--rows {max(1, int(there / 4) // row)}" if rows > batches else "--batch 40000"
        raise ArgumentError(
            f"{options.rows:,} rows of --dim {options.dim} with {type(optimizer).__name__}, and batches of "
            f"{options.batch:,}, need about {needed / 2**30:,.1f} GiB; here are {there / 2**30:,.1f}. Try {best}"
        )


def _measure(options: argparse.Namespace, optimizer: Optimizer, output: Output) -> Measured:
    rng = np.random.default_rng(0)
    ids = rng.integers(-(2**63), 2**63 - 1, options.rows, endpoint=True)
    total = options.rows + ROUNDS * _ROUND
    with output.bar("measuring", lambda facts: facts.get("what", "")) as progress:

        def filled(done: int) -> None:
            progress(done, total, {"what": "filling a table"})

        def stepped(done: int) -> None:
            progress(options.rows + done * _ROUND, total, {"what": f"round {done} of {ROUNDS}"})

        table = fill(options.dim, optimizer, ids, filled)
        gradients = rng.standard_normal((options.batch, options.dim), np.float32)
        batches, copy = _batches(options, ids), Copy(COPIED)
        return measure(table, batches, gradients, copy, rounds=ROUNDS, seconds=SECONDS, advance=stepped)


def _batches(options: argparse.Namespace, ids: np.ndarray) -> list[np.ndarray]:
    """Batches of ids: of Zipf's law, under which the first ids that came are the frequent ones, or uniform."""
    count = max(3, min(100, _BATCHES // options.batch))
    zipf = ZIPF if options.ids == "zipf" else None
    return [ids[rows] for rows in draw(options.rows, (count, options.batch), zipf)]


def _title(options: argparse.Namespace, optimizer: Optimizer) -> str:
    threads = get_threads()
    return (
        f"A training step of {options.batch:,} {options.ids} ids on {options.rows:,} rows: "
        f"{type(optimizer).__name__}, D = {options.dim}, {threads} thread{'s' if threads > 1 else ''}"
    )


def _milliseconds(measured: Measured) -> dict[str, float]:
    """The phases that took time, in milliseconds."""
    seconds = measured.split.seconds
    return {phase: 1e3 * seconds[phase] for phase in PHASES if seconds[phase] or phase != "first values"}


def _rates(measured: Measured) -> dict[str, float]:
    """Ids, distinct rows and bytes a second."""
    whole = measured.split.total
    counts = {"ids": measured.ids, "rows": measured.distinct, "bytes": measured.traffic.total}
    return {f"{name}_per_second": count / whole for name, count in counts.items()}


def picture(options: argparse.Namespace, optimizer: Optimizer, measured: Measured) -> str:
    """The step as a bar of its phases, and the limit below it: SVG."""
    parts = [Series(phase, [value, None]) for phase, value in _milliseconds(measured).items()]
    limit = Series("as many bytes, copied", [None, 1e3 * measured.limit])
    title = _title(options, optimizer)
    return bars(title, ["a step", "the limit"], [*parts, limit], "ms")


def _show(options: argparse.Namespace, optimizer: Optimizer, measured: Measured, output: Output) -> None:
    """The table with its bars, and what there is to say about it."""
    whole, least = 1e3 * measured.split.total, 1e3 * measured.limit
    block = "█" if output.console.encoding.startswith("utf") else "#"
    rows = [
        [name, f"{value:,.3f}", f"{value / whole:.0%}", block * round(_BAR * value / whole)]
        for name, value in {**_milliseconds(measured), "a step": whole, "the limit": least}.items()
    ]
    output.say(_title(options, optimizer))
    output.say()
    output.table("", ["", "ms", "share", ""], rows, left={0, 3})
    output.say()
    moved, speed = measured.traffic.total, measured.speed
    output.say(
        f"The limit: {_bytes(moved)} that a step must move, at the {speed / 1e9:.1f} GB/s at which this machine "
        f"copies memory. A step takes {whole / least:.1f} times as long."
    )
    rates = _rates(measured)
    output.say(
        f"{_count(rates['ids_per_second'])} ids/s; {_count(rates['rows_per_second'])} rows/s "
        f"({measured.distinct:,} of a batch's ids are distinct); {rates['bytes_per_second'] / 1e9:.1f} GB/s."
    )
    output.say("Python is all between the kernels: checks, new arrays, handing work to threads.")
    if options.out is not None:
        output.say(f"written to {printable(options.out)}")


def _bytes(n: float) -> str:
    return f"{n / 1e6:,.1f} MB" if n >= 1e6 else f"{n / 1e3:,.1f} kB"


def _count(n: float) -> str:
    return f"{n / 1e6:,.1f} million" if n >= 1e6 else f"{n:,.0f}"


def _json(options: argparse.Namespace, optimizer: Optimizer, measured: Measured) -> dict[str, Any]:
    """What `--json` gives: `milliseconds` of the phases, whose sum is `milliseconds_a_step`."""
    return {
        "optimizer": type(optimizer).__name__,
        "dim": options.dim,
        "rows": options.rows,
        "ids": options.ids,
        "batch": measured.ids,
        "distinct": measured.distinct,
        "threads": get_threads(),
        "rounds": len(measured.rounds),
        "milliseconds": _milliseconds(measured),
        "milliseconds_a_step": 1e3 * measured.split.total,
        "milliseconds_at_least": 1e3 * measured.limit,
        "times_the_limit": measured.split.total / measured.limit,
        "bytes": asdict(measured.traffic),
        "bytes_a_step": measured.traffic.total,
        "copied_bytes_per_second": measured.speed,
        **_rates(measured),
        "out": options.out,
    }
