"""A cluster's training steps in simulated time: an owner, its shards and workers, their cores and their networks.

    owner    dedupe · split ──keys──▶            ▶ fill ──vectors──▶          ▶ merge ──sums──▶ (next step)
    shards                    fetch ──vectors──▶                                        step
    workers                                              dense ──gradients──▶

A shard takes its requests one after the other, in the order of arrival: so a push holds up the next step's pull, and a
slow shard all. How long parts take says `Costs`, how many rows a shard is asked for is drawn for each step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from hotrow.cluster.planning.costs import Cost, Costs, distinct
from hotrow.cluster.planning.events import Cores, Event, Inbox, Link, Process, Turn, World, carry, every
from hotrow.errors import ArgumentError

_KEY, _FLOAT = 8, 4  # bytes
_WARM = 3  # steps, until queues are as long as they stay
_UNDER_WAY = 2  # steps whose pushes may still be carried when another begins: what is under way has a bound
_MOST = 2**63
_APART = 64  # shards that are asked one at a time


@dataclass(frozen=True)
class Machine:
    """One machine: cores, bytes of memory, bytes a second of its network in each direction, and a price an hour."""

    cores: int = 16
    memory: float = 128e9
    network: float = 1.25e9
    price: float | None = None


@dataclass(frozen=True)
class Setup:
    """What is trained on what.

    batch, rows, zipf      ids a step, ids in all, and how they are drawn (see `distinct`)
    dim, slots             floats a vector, and a row's floats beside it
    unique                 distinct ids a step, if known better than by `zipf`
    shards, per_machine    how many there are, and how many of them share one machine
    shard_threads          that a shard's kernels use
    machine, owner         the shards' machines, and the owner's
    together               all on the owner's machine: arrays are in memory that all share, and only headers are sent
    threads                that the owner's kernels use
    latency                seconds between two machines
    dense                  seconds of one core for the dense part of a step, in blocks that workers share
    workers, blocks        0 workers: the owner's threads do it
    staleness              how many steps may be under way beside the one whose gradients are waited for
    stragglers             the share of requests, and of workers' turns, that take `times` as long
    """

    batch: int = 40_000
    rows: int = 1_000_000
    zipf: float | None = 1.2
    unique: float | None = None
    dim: int = 32
    slots: int = 64
    shards: int = 2
    per_machine: int = 1
    shard_threads: int = 1
    machine: Machine = field(default_factory=Machine)
    owner: Machine = field(default_factory=Machine)
    together: bool = False
    threads: int = 2
    latency: float = 50e-6
    dense: float = 0.0
    workers: int = 0
    blocks: int = 0
    staleness: int = 0
    stragglers: float = 0.0
    times: float = 1.0


@dataclass(frozen=True)
class Simulated:
    """What came of it: seconds a step, their 50th and 99th percentile, and the share of time in which each was busy."""

    seconds: float
    median: float
    high: float
    ids_per_second: float
    rows_a_shard: float
    busy: dict[str, float]

    @property
    def limit(self) -> str:
        """What is busiest: more of it, or less to do for it, would help first."""
        return max(self.busy, key=lambda name: self.busy[name])


def simulate(setup: Setup, costs: Costs, *, steps: int | None = None, seed: int = 0) -> Simulated:
    """Run so many steps (by default 8 to 60, fewer with many shards) in simulated time.

    Raises ArgumentError for a setup that can't be.

    >>> from hotrow.cluster.planning.measured import MEASURED
    >>> one, two = (simulate(Setup(shards=n, zipf=None), MEASURED).seconds for n in (1, 2))
    >>> one > two
    True
    """
    check(setup)
    steps = steps or max(8, min(60, 20_000 // setup.shards), 8 * (setup.staleness + _UNDER_WAY))
    return _Run(setup, costs, np.random.default_rng(seed)).run(steps)


def check(setup: Setup) -> None:
    """ArgumentError for a setup that can't be."""
    for name in ("batch", "rows", "dim", "shards", "per_machine", "shard_threads", "threads"):
        if not 1 <= getattr(setup, name) < _MOST:
            raise ArgumentError(f"{name} must be from 1 to below 2**63; got {getattr(setup, name)!r}")
    for name in ("slots", "workers", "blocks", "staleness", "dense", "latency"):
        if getattr(setup, name) < 0:
            raise ArgumentError(f"{name} must be 0 or more; got {getattr(setup, name)!r}")
    if not 0 <= setup.stragglers <= 1 or setup.times < 1:
        raise ArgumentError(
            f"stragglers are a share from 0 to 1 that takes 1 or more times as long; got {setup.stragglers!r} and "
            f"{setup.times!r}. Try stragglers=0.01, times=5"
        )


@dataclass
class _Host:
    """A machine that takes part: its cores, and both directions of its network."""

    cores: Cores
    out: Link
    into: Link

    @classmethod
    def of(cls, world: World, machine: Machine) -> _Host:
        return cls(Cores(world, machine.cores), Link(machine.network), Link(machine.network))


class _Run:
    def __init__(self, setup: Setup, costs: Costs, rng: np.random.Generator) -> None:
        self.setup, self.costs, self.rng, self.world = setup, costs, rng, World()
        self.distinct = setup.unique or distinct(setup.batch, setup.rows, setup.zipf)
        self.owner = _Host.of(self.world, setup.owner)
        machines = -(-setup.shards // setup.per_machine)
        hosts = [self.owner] if setup.together else [_Host.of(self.world, setup.machine) for _ in range(machines)]
        self.shards = [hosts[i // setup.per_machine % len(hosts)] for i in range(setup.shards)]
        self.workers = [_Host.of(self.world, setup.machine) for _ in range(setup.workers)]
        self.inboxes = [Inbox() for _ in self.shards]
        self.served = [0.0] * setup.shards  # seconds of work
        self.turn, self.thread = Turn(), 0.0
        self.ends: list[float] = []

    def run(self, steps: int) -> Simulated:
        ended = [Event() for _ in range(_WARM + steps)]
        self.carried = [Event() for _ in ended]
        for i in range(len(self.shards)):
            self.world.start(self._shard(i))
        for t in range(len(ended)):
            s = self.setup.staleness
            before = [ended[t - 1 - s]] if t > s else []
            before += [self.carried[t - _UNDER_WAY - s]] if t >= _UNDER_WAY + s else []
            self.world.start(self._step(before, ended[t], self.carried[t]))
        self.world.run(self.carried[_WARM - 1])
        begin, before = self.world.now, self._worked()
        self.world.run(every(self.carried))
        whole = self.world.now - begin
        busy = {name: (worked - before[name]) / whole for name, worked in self._worked().items()}
        each = np.diff(np.sort(self.ends))[_WARM - 1 :]
        median, high = np.quantile(each, [0.5, 0.99])
        seconds = whole / steps
        rows = self.distinct / self.setup.shards
        return Simulated(seconds, float(median), float(high), self.setup.batch / seconds, rows, busy)

    def _worked(self) -> dict[str, float]:
        """Seconds that each has worked so far, by how many of it there are."""
        worked = {
            "the owner's thread": self.thread,
            "the owner's cores": self.owner.cores.busy / self.setup.owner.cores,
            "the shards, on average": sum(self.served) / len(self.served),
            "the busiest shard": max(self.served),
        }
        if not self.setup.together:
            worked["the owner's network, in"] = self.owner.into.busy
            worked["the owner's network, out"] = self.owner.out.busy
            worked["a shard's network, out"] = max(host.out.busy for host in self.shards)
        if self.workers:
            worked["the workers"] = sum(host.cores.busy for host in self.workers) / len(self.workers)
        return worked

    # --- the owner ---------------------------------------------------------------------------------------------------

    def _step(self, before: list[Event], ended: Event, carried: Event) -> Process:
        setup, costs = self.setup, self.costs
        yield from before
        yield self.turn.take()
        parts = self.rng.multinomial(round(self.distinct), np.full(setup.shards, 1 / setup.shards)).tolist()
        yield self._own(costs.step_call + costs.dedupe.of(setup.batch) + costs.split.of(self.distinct))
        replies: list[Event] = []
        for group in self._groups():
            yield self._own(sum(costs.request + self._message(_KEY * parts[i]) for i in group))
            replies += [self.world.start(self._pull(i, parts[i])) for i in group]
        yield self._own(costs.group.of(setup.batch))
        yield from self._without_turn(every(replies))
        yield self._kernel(costs.fill, setup.batch)
        yield from self._without_turn(self._dense())
        pushes: list[Event] = []
        for group in self._groups():
            yield self._kernel(costs.merge, setup.batch * len(group) / setup.shards)
            yield self._own(sum(costs.request + self._message(self._pushed(parts[i])) for i in group))
            pushes += [self.world.start(self._push(i, parts[i])) for i in group]
        self.turn.give_back()
        self.ends.append(self.world.now)
        ended.fire()
        yield every(pushes)
        carried.fire()

    def _groups(self) -> list[range]:
        """The shards, one at a time; many at once where they are very many, to be through sooner."""
        size = -(-self.setup.shards // _APART)
        return [range(i, min(i + size, self.setup.shards)) for i in range(0, self.setup.shards, size)]

    def _pushed(self, rows: int) -> int:
        """Bytes of a push."""
        return (_KEY + _FLOAT * self.setup.dim) * rows

    def _own(self, seconds: float) -> Event:
        """Work of the owner's thread."""
        return self._counted(self.owner.cores.use(seconds), seconds)

    def _counted(self, end: Event, seconds: float) -> Event:
        def count(_: object) -> None:
            self.thread += seconds

        end.then(count)
        return end

    def _kernel(self, cost: Cost, ids: float) -> Event:
        """A kernel of the owner's over ids, on its threads; the one that calls it waits."""
        threads = min(self.setup.threads, self.setup.owner.cores)
        each = cost.of(ids / threads, self.setup.dim)
        return self._counted(every([self.owner.cores.use(each) for _ in range(threads)]), each)

    def _without_turn(self, event: Event) -> Process:
        """Wait, while the owner's thread does another step's work."""
        self.turn.give_back()
        yield event
        yield self.turn.take()

    def _message(self, nbytes: float) -> float:
        """What a message takes of an end of it; on one machine arrays lie in an arena, and aren't sent."""
        return self.costs.message.of(0 if self.setup.together else nbytes)

    def _carried(self, out: _Host, into: _Host, nbytes: float) -> Event:
        """A message on its way; on one machine, or between two."""
        if out is into:
            end = Event()
            self.world.after(self.costs.hop, end.fire)
            return end
        return carry(self.world, out.out, into.into, nbytes, self.setup.latency + self.costs.hop)

    # --- the shards --------------------------------------------------------------------------------------------------

    def _pull(self, i: int, rows: int) -> Process:
        """Keys there, vectors back."""
        host, nbytes = self.shards[i], _FLOAT * self.setup.dim * rows
        yield self._carried(self.owner, host, _KEY * rows)
        work = self._message(_KEY * rows) + self.costs.fetch.of(rows, self.setup.dim) + self._message(nbytes)
        yield self._asked(i, work)
        yield self._carried(host, self.owner, nbytes)
        yield self.owner.cores.use(self._message(nbytes))

    def _push(self, i: int, rows: int) -> Process:
        """Gradients there."""
        yield self._carried(self.owner, self.shards[i], self._pushed(rows))
        work = self._message(self._pushed(rows)) + self.costs.step.of(rows, self.setup.dim + self.setup.slots)
        yield self._asked(i, work)

    def _asked(self, i: int, work: float) -> Event:
        end = Event()
        self.inboxes[i].put(((self.costs.served + work) * self._luck(), end))
        return end

    def _shard(self, i: int) -> Process:
        """One request after the other."""
        while True:
            work, end = yield self.inboxes[i].get()
            threads = self.setup.shard_threads
            yield every([self.shards[i].cores.use(work / threads) for _ in range(threads)])
            self.served[i] += work / threads
            end.fire()

    def _luck(self) -> float:
        """How many times as long as on average something takes."""
        spread = self.costs.spread
        at = self.rng.random() * (len(spread) - 1)
        low = math.floor(at)
        usual = spread[low] + (at - low) * (spread[min(low + 1, len(spread) - 1)] - spread[low])
        return usual * (self.setup.times if self.rng.random() < self.setup.stragglers else 1.0)

    # --- the dense part ----------------------------------------------------------------------------------------------

    def _dense(self) -> Event:
        """The model between vectors and gradients: on the owner's threads, or on the workers."""
        if not self.setup.dense and not self.workers:
            return every([])
        if not self.workers:
            threads = self.setup.threads
            return every([self.owner.cores.use(self.setup.dense / threads) for _ in range(threads)])
        blocks, count = self.setup.blocks or len(self.workers), len(self.workers)
        shares = [len(range(w, blocks, count)) / blocks for w in range(min(count, blocks))]
        return every([self.world.start(self._worker(self.workers[w], share)) for w, share in enumerate(shares)])

    def _worker(self, host: _Host, share: float) -> Process:
        """Vectors there, their gradients back."""
        nbytes = _FLOAT * self.setup.dim * self.setup.batch * share
        yield self.owner.cores.use(self._message(nbytes))
        yield self._carried(self.owner, host, nbytes)
        yield host.cores.use(2 * self._message(nbytes) + self.setup.dense * share * self._luck())
        yield self._carried(host, self.owner, nbytes)
        yield self.owner.cores.use(self._message(nbytes))
