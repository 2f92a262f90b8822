"""`hotrow cluster plan`: how many shards and machines a table needs, and what would be its limit."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from hotrow.apps.bench import optimizer_of
from hotrow.apps.charts import Series, bars
from hotrow.apps.console import Output, printable
from hotrow.apps.svg import check_writable, write
from hotrow.cluster.planning.costs import Costs
from hotrow.cluster.planning.measured import MEASURED
from hotrow.cluster.planning.plan import FULL, Plan
from hotrow.cluster.planning.plan import plan as make
from hotrow.cluster.planning.simulation import Machine, Setup
from hotrow.errors import ArgumentError

_HOUR = 3600
_BAR = 30  # cells


def plan(options: argparse.Namespace, output: Output) -> None:
    """Work the plan out, and show it."""
    setup = _setup(options)
    if options.out is not None:
        check_writable(options.out)
    costs = _costs(options, output)
    with output.bar("simulating", lambda facts: f"{facts.get('shards', 0):,} shards") as progress:
        made = make(
            setup,
            costs,
            ids_per_second=options.ids_per_second,
            string=options.strings or 0.0,
            disk=1e9 * options.disk,
            progress=progress,
        )
    if options.out is not None:
        write(options.out, picture(made))
    output.result(_json(options, costs, made))
    if not output.as_json:
        _show(options, costs, made, output)


def _setup(options: argparse.Namespace) -> Setup:
    optimizer = optimizer_of(options.optimizer)
    share, times = _stragglers(options.stragglers)
    machine = Machine(options.cores, 1e9 * options.memory, 1e9 / 8 * options.network, options.price)
    return Setup(
        batch=options.batch,
        rows=options.rows,
        zipf=options.zipf,
        dim=options.dim,
        slots=optimizer.slots(options.dim),
        per_machine=options.per_machine,
        shard_threads=max(1, options.cores // options.per_machine),
        machine=machine,
        owner=machine,
        threads=options.cores,
        latency=1e-6 * options.latency,
        dense=1e-3 * (options.dense or 0.0),
        workers=options.workers or 0,
        staleness=options.staleness,
        stragglers=share,
        times=times,
    )


def _stragglers(text: str | None) -> tuple[float, float]:
    if text is None:
        return 0.0, 1.0
    try:
        share, times = map(float, text.split(":"))
    except ValueError:
        raise ArgumentError(
            f"--stragglers is a share of requests and how many times as long they take; got {printable(text)[:40]!r}. "
            "Try --stragglers 0.01:5"
        ) from None
    return share, times


def _costs(options: argparse.Namespace, output: Output) -> Costs:
    if not options.measure:
        return MEASURED
    from hotrow import cluster
    from hotrow.cluster.planning.measuring import measure
    from hotrow.cluster.planning.overheads import overheads

    cluster.connect()
    with output.bar("measuring", lambda facts: str(facts.get("what", ""))) as progress:
        return overheads(measure(progress=progress))


def _show(options: argparse.Namespace, costs: Costs, made: Plan, output: Output) -> None:
    setup, done, row = made.setup, made.simulated, made.row
    name = type(optimizer_of(options.optimizer)).__name__
    skew = "all as frequent" if setup.zipf is None else f"Zipf {setup.zipf:g}"
    output.say(f"{setup.rows:,} rows of D = {setup.dim} with {name}; batches of {setup.batch:,} ids, {skew}")
    output.say()
    parts = {part: value for part, value in asdict(row).items() if value}
    told = [
        ["shards", f"{made.shards:,}", _where(options, made)],
        ["a row", f"{row.memory:,.0f} B", ", ".join(f"{part} {value:,.0f}" for part, value in parts.items())],
        ["memory", _bytes(made.memory), f"at most {FULL:.0%} of each machine's"],
        [
            "a snapshot",
            _bytes(made.disk),
            f"written in {_time(made.save)}, each machine its part at {options.disk:g} GB/s",
        ],
        ["a restart", _time(made.restart), "to read one machine's part, before the steps since then"],
        ["a step", _time(done.seconds), f"{done.ids_per_second:,.0f} ids/s; {_time(done.high)} for the slowest of 100"],
        ["changes kept", f"{_bytes(made.kept)}/s", "by the owner, until shards have them on disk"],
    ]
    if made.price is not None:
        billion = made.price * 1e9 / (done.ids_per_second * _HOUR)
        told.append(["price", f"{made.price:,.2f}", f"an hour, of all machines; {billion:,.2f} for 1,000,000,000 ids"])
    output.table("", ["", "", ""], told, left={0, 2})
    output.say()
    block = "█" if output.console.encoding.startswith("utf") else "#"
    busy = sorted(done.busy.items(), key=lambda one: -one[1])
    output.table(
        "", ["busy", "share", ""], [[one, f"{v:.0%}", block * round(_BAR * v)] for one, v in busy], left={0, 2}
    )
    output.say()
    output.say(_verdict(options, made))
    output.say(f"Times of one core: {costs.machine}. What the simulation leaves out says docs/scale.md.")
    if options.out is not None:
        output.say(f"written to {printable(options.out)}")


def _where(options: argparse.Namespace, made: Plan) -> str:
    machines = "1 machine" if made.machines == 1 else f"{made.machines:,} machines"
    others = f", {made.setup.workers:,} for workers" if made.setup.workers else ""
    size = f"{options.memory:g} GB, {options.cores} cores, {options.network:g} Gbit/s"
    return f"on {machines} of {size}; one more for the owner{others}"


def _verdict(options: argparse.Namespace, made: Plan) -> str:
    rate, limit = made.simulated.ids_per_second, made.simulated.limit
    if made.enough is None:
        return f"As many shards as memory needs. The busiest is {limit}."
    if made.enough:
        return f"Enough for {options.ids_per_second:,.0f} ids/s. The busiest is {limit}."
    return (
        f"NOT enough for {options.ids_per_second:,.0f} ids/s: {rate:,.0f} at most, however many shards there are. The "
        f"limit is {limit}; try a larger --batch{', or --staleness 1' if not made.setup.staleness else ''}."
    )


def picture(made: Plan) -> str:
    """Who is how busy: SVG."""
    busy = sorted(made.simulated.busy.items(), key=lambda one: -one[1])
    title = f"{made.setup.rows:,} rows, {made.shards:,} shards: {made.simulated.ids_per_second:,.0f} ids/s"
    return bars(title, [name for name, _ in busy], [Series("busy", [100 * share for _, share in busy])], "%")


def _json(options: argparse.Namespace, costs: Costs, made: Plan) -> dict[str, Any]:
    return {
        "rows": made.setup.rows,
        "dim": made.setup.dim,
        "optimizer": type(optimizer_of(options.optimizer)).__name__,
        "shards": made.shards,
        "machines": made.machines,
        "bytes_a_row": made.row.memory,
        "bytes_of": asdict(made.row),
        "bytes": made.memory,
        "bytes_on_disk": made.disk,
        "save_seconds": made.save,
        "restart_seconds": made.restart,
        "bytes_kept_per_second": made.kept,
        "milliseconds_a_step": 1e3 * made.simulated.seconds,
        "ids_per_second": made.simulated.ids_per_second,
        "enough": made.enough,
        "limit": made.simulated.limit,
        "busy": made.simulated.busy,
        "price_an_hour": made.price,
        "measured_on": costs.machine,
        "out": options.out,
    }


def _bytes(n: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n >= size:
            return f"{n / size:,.1f} {unit}"
    return f"{n / 1e3:,.1f} kB"


def _time(seconds: float) -> str:
    if seconds >= 2 * _HOUR:
        return f"{seconds / _HOUR:,.1f} h"
    if seconds >= 120:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{1e3 * seconds:,.2f} ms"
