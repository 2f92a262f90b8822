"""How many shards and machines a table needs: its bytes by arithmetic, its steps by `simulation`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hotrow.cluster.planning.costs import Costs
from hotrow.cluster.planning.simulation import Setup, Simulated, check, simulate
from hotrow.errors import ArgumentError
from hotrow.table.index import MOST_ROWS, bytes_for

FULL = 0.8
"""The share of a machine's memory that rows may take: the rest is the system's, the requests', and a save's."""
_NUMBER, _KEY, _FLOAT, _OFFSET = 8, 8, 4, 16  # bytes; a string's place in memory takes two numbers
_Progress = Callable[[int, int, dict[str, Any]], None]
_BETTER = 1.05  # times the rate, for twice the shards: else more don't help


@dataclass(frozen=True)
class Bytes:
    """Bytes a row, of each part; the index's depend on how many rows a shard has, for it doubles.

    number   which the owner knows the row by; on disk a slot as any other
    """

    weights: float
    slots: float
    number: float
    index: float
    strings: float

    @classmethod
    def of(cls, rows: float, dim: int, slots: int, string: float = 0.0) -> Bytes:
        """Those of a shard of so many rows: dim weights, so many floats of slots, ids of `string` bytes or 0.

        >>> Bytes.of(4_000_000, 32, 64).memory
        408.777216
        """
        n = max(1, min(int(rows), MOST_ROWS))
        strings = string + _OFFSET if string else 0.0
        return cls(_FLOAT * dim, _FLOAT * slots, _NUMBER, bytes_for(n) / n, strings)

    @property
    def memory(self) -> float:
        """In memory."""
        return self.weights + self.slots + self.number + self.index + self.strings

    @property
    def disk(self) -> float:
        """In a snapshot: the keys are also listed in the order of the rows."""
        return self.memory + _KEY


@dataclass(frozen=True)
class Plan:
    """What it takes. Seconds a save and a restart are those of one machine, for all of them work at the same time.

    shards, machines         of shards; the owner's is one more
    row                      bytes a row
    memory, disk             bytes in all, of one snapshot
    save, restart            seconds to write a machine's part of a snapshot, and to read it back
    kept                     bytes a second that the owner keeps until shards have them on disk
    simulated                the steps, of that many shards
    enough                   whether the wanted ids a second are reached; None if no rate was asked for
    price                    an hour, of all machines; None without the price of one
    """

    setup: Setup
    machines: int
    row: Bytes
    memory: float
    disk: float
    save: float
    restart: float
    kept: float
    simulated: Simulated
    enough: bool | None
    price: float | None

    @property
    def shards(self) -> int:
        """How many shards."""
        return self.setup.shards


def plan(
    setup: Setup,
    costs: Costs,
    *,
    ids_per_second: float | None = None,
    string: float = 0.0,
    disk: float = 1e9,
    progress: _Progress | None = None,
) -> Plan:
    """The fewest shards that hold the rows of `setup` in memory and reach a rate; `setup.shards` is not looked at.

    string   bytes of an id that is a string; 0 for integers
    disk     bytes a second that a machine reads and writes

    More shards are tried for as long as twice as many are 5 % quicker. Raises ArgumentError for what can't be.

    >>> from hotrow.cluster.planning.measured import MEASURED
    >>> from hotrow.cluster.planning.simulation import Machine
    >>> plan(Setup(rows=1_000_000_000, machine=Machine(memory=64e9)), MEASURED).machines
    8
    """
    if not (disk > 0 and string >= 0 and (ids_per_second is None or ids_per_second > 0)):
        raise ArgumentError(
            f"disk and ids_per_second must be above 0, string 0 or more; got {disk!r}, {ids_per_second!r}, {string!r}"
        )
    check(setup)
    least = for_memory(setup, string)
    chosen, simulated = _search(setup, costs, least, ids_per_second, progress)
    machines = -(-chosen.shards // chosen.per_machine)
    row = Bytes.of(setup.rows / chosen.shards, setup.dim, setup.slots, string)
    total = row.disk * setup.rows
    moved = simulated.rows_a_shard * chosen.shards / simulated.seconds
    prices = (setup.machine.price, setup.owner.price)
    price = None if None in prices else (machines + setup.workers) * (prices[0] or 0) + (prices[1] or 0)
    enough = None if ids_per_second is None else simulated.ids_per_second >= ids_per_second
    return Plan(
        chosen,
        machines,
        row,
        row.memory * setup.rows,
        total,
        total / machines / disk,
        total / machines / disk,
        moved * (_KEY + _FLOAT * setup.dim),
        simulated,
        enough,
        price,
    )


def for_memory(setup: Setup, string: float = 0.0) -> int:
    """The fewest shards that hold the rows: `per_machine` of them share FULL of a machine's memory."""
    share = FULL * setup.machine.memory / setup.per_machine
    shards = max(1, math.ceil(setup.rows / MOST_ROWS))
    for _ in range(64):  # fewer rows a shard may have an index that is half as large
        row = Bytes.of(setup.rows / shards, setup.dim, setup.slots, string)
        needed = math.ceil(setup.rows * row.memory / share)
        if needed <= shards:
            return shards
        shards = max(shards + 1, min(needed, shards + max(1, (needed - shards) // 2)))
    return shards


def _search(
    setup: Setup, costs: Costs, least: int, wanted: float | None, progress: _Progress | None
) -> tuple[Setup, Simulated]:
    """Twice as many shards until it is quick enough or no use, then as few as are enough."""

    def tried(shards: int) -> tuple[Setup, Simulated]:
        one = replace(setup, shards=shards)
        result = simulate(one, costs)
        if progress is not None:
            progress(shards, shards, {"shards": shards, "ids_per_second": result.ids_per_second})
        return one, result

    best = tried(least)
    if wanted is None or best[1].ids_per_second >= wanted:
        return best
    low = least
    while True:
        more = tried(2 * best[0].shards)
        if more[1].ids_per_second >= wanted:
            return _fewest(tried, low, more, wanted)
        if more[1].ids_per_second < _BETTER * best[1].ids_per_second:
            return max(best, more, key=lambda one: one[1].ids_per_second)
        low, best = more[0].shards, more


def _fewest(
    tried: Callable[[int], tuple[Setup, Simulated]], low: int, enough: tuple[Setup, Simulated], wanted: float
) -> tuple[Setup, Simulated]:
    """Between so many, which are too few, and those that are enough: to a sixteenth."""
    while enough[0].shards - low > max(1, low // 16):
        middle = tried((low + enough[0].shards) // 2)
        if middle[1].ids_per_second >= wanted:
            enough = middle
        else:
            low = middle[0].shards
    return enough
