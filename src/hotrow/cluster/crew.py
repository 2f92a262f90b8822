"""Workers that compute the blocks of a step: Ray actors which keep nothing, so that one that dies loses nothing.

```
 submit(step, blocks, shared)      blocks [0 1 2 3 4]      shared ── put once in Ray's store, read in place ──┐
                                    │ one call each                                                           ▼
                                    ├─ worker 0: 0 1     ──▶ function(block, shared) of each ──▶ results ─┐
                                    └─ worker 1: 2 3 4   ──▶   … killed: another does 2 3 4 again ────────┴─▶ result()
```
What comes back is in the order of the blocks, whoever computed them, however often. So as long as the function gives
the same for the same block, so does any number of workers, and any of them may be killed at any moment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any, Self

from hotrow.cluster.connecting import connected, ray_module
from hotrow.errors import ArgumentError, ClusterError, HotrowError
from hotrow.kernels.threads import set_threads

PATIENCE = 60.0
"""Seconds in which a worker must have come, where none is there that could do without it."""
MOST = 10
"""Workers, one after the other, that the same blocks may end before they are taken for the cause."""


def call(block: Any, shared: Any) -> Any:
    """What `shared`, a function of blocks that brings its own arrays, gives for one."""
    return shared(block)


class _Worker:
    """What runs in a worker's process. hotrow's kernels take one thread in it, for other workers take the others."""

    def begin(self, function: Callable[..., Any], setup: Callable[[], Any] | None) -> dict[str, Any]:
        """Make ready; says where it is."""
        set_threads(1)
        self._function = function
        self._before = () if setup is None else (setup(),)
        return {"pid": os.getpid(), "node": ray_module().get_runtime_context().get_node_id()}

    def compute(self, blocks: Sequence[Any], shared: Any) -> tuple[list[Any], float]:
        """The result of each block, and the seconds that they took."""
        began = perf_counter()
        return [self._function(*self._before, block, shared) for block in blocks], perf_counter() - began


@dataclass
class _Place:
    """One of the workers, or who has come in its place. begun: what its `begin` will give; None once it has."""

    actor: Any
    begun: Any
    where: dict[str, Any] = field(default_factory=dict)
    blocks: int = 0
    seconds: float = 0.0
    restarts: int = 0


@dataclass
class _Call:
    """Blocks of a step that one worker computes."""

    blocks: Sequence[Any]
    place: _Place
    actor: Any
    reply: Any
    tries: int = 1


class Pending:
    """A step under way; `result` waits for it."""

    def __init__(self, crew: Crew, step: int, shared: Any, calls: list[_Call]) -> None:
        self.step, self.shared, self.calls = step, shared, calls
        self._crew = crew
        self._results: list[Any] | None = None
        self._error: BaseException | None = None

    @property
    def settled(self) -> bool:
        """Whether it is known how it went."""
        return self._results is not None or self._error is not None

    def result(self) -> list[Any]:
        """What the function gave for each block, in their order. Raises what it raised in a worker.

        Arrays are read-only, and stay in Ray's store for as long as anyone holds them.
        """
        self.settle()
        if self._error is not None:
            raise self._error
        assert self._results is not None
        return self._results

    def settle(self) -> None:
        """Wait until it is known how it went; blocks of a worker that has died are computed again."""
        ray = ray_module()
        while not self.settled:
            every = [call.reply for call in self.calls]
            late = ray.wait(every, num_returns=len(every), timeout=self._crew.patience)[1]
            try:
                if late:
                    self._crew.hurry(self, late)
                    continue
                replies = ray.get([call.reply for call in self.calls])
            except ray.exceptions.RayTaskError as error:
                self._end(_cause(error))
            except ClusterError as refusal:
                self._end(refusal)
            except _lost() as error:
                try:
                    self._crew.again(self)
                except HotrowError as refusal:
                    refusal.__cause__ = error
                    self._end(refusal)
            else:
                for call, (results, seconds) in zip(self.calls, replies, strict=True):
                    call.place.blocks += len(results)
                    call.place.seconds += seconds
                self._results = [result for results, _ in replies for result in results]
                self._end(None)

    def _end(self, error: BaseException | None) -> None:
        """What it was computed from isn't needed any more."""
        self._error, self.calls, self.shared = error, [], None


def _cause(error: Any) -> BaseException:
    """The error as the function raised it, with where in the worker that was as its cause."""
    cause = error.cause
    if not isinstance(cause, Exception):
        return error
    cause.__cause__ = error
    return cause


def _lost() -> tuple[type[Exception], ...]:
    """What Ray raises where a worker has died, or a node with a result on it."""
    known = ray_module().exceptions
    lost = known.RayActorError, known.ObjectLostError, known.WorkerCrashedError, known.OutOfMemoryError
    return *lost, known.NodeDiedError


class Crew:
    """Workers on Ray that compute the blocks of steps: `submit` gives them a step's, `result` has what came of it.

    workers    how many
    function   function(block, shared) → result, in a worker's process; if not given, `shared` is called with the block
    staleness  so many steps may be under way beyond the one whose result is waited for: `submit` waits if more were
    setup      called once in each worker; function is then function(what setup gave, block, shared)
    cpus       of Ray's, that a worker takes
    patience   seconds that a worker may take for its blocks of a step; one that takes longer counts as dead

    A worker that dies is replaced, and its blocks are computed again: nothing is lost, and results are the same to the
    bit if the function's are. Use it within `with`, or `close` it; its workers end with this process in any case. It is
    for one thread at a time.

    Raises ArgumentError for numbers that can't be right, ClusterError if this process is in no cluster or workers don't
    come within a minute, and MissingExtraError without Ray.

    with Crew(2, function=lambda block, shared: shared[block].sum()) as crew:
        crew.submit(0, [slice(0, 2), slice(2, 4)], np.arange(4)).result()      # [1, 5]
    """

    def __init__(
        self,
        workers: int,
        *,
        function: Callable[..., Any] = call,
        staleness: int = 0,
        setup: Callable[[], Any] | None = None,
        cpus: float = 1,
        patience: float = 600.0,
    ) -> None:
        for name, number, least in (("workers", workers, 1), ("staleness", staleness, 0)):
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ArgumentError(f"{name} must be a whole number from {least} on; got {number!r}. Try Crew(2)")
        for name, given in (("function", function), ("setup", setup)):
            if not callable(given) and given is not setup:
                raise ArgumentError(f"{name} must be callable; got {given!r}")
        ray = connected()
        self.workers, self.staleness, self.cpus, self.patience = workers, staleness, cpus, patience
        self._open: list[Pending] = []
        self._places: list[_Place] = []
        self._what = ray.put(function), ray.put(setup)
        self._kind = ray.remote(_Worker).options(num_cpus=cpus, max_restarts=0, scheduling_strategy="SPREAD")
        try:
            for _ in range(workers):
                self._places.append(_Place(*self._hire()))
            self._all_come()
        except BaseException:
            self.close()
            raise

    def _hire(self) -> tuple[Any, Any]:
        """A worker, and what its `begin` will give."""
        actor = self._kind.remote()
        return actor, actor.begin.remote(*self._what)

    def _all_come(self) -> None:
        until = monotonic() + PATIENCE
        while waiting := [place for place in self._places if place.begun is not None]:
            left = until - monotonic()
            if left <= 0:
                free = ray_module().available_resources().get("CPU", 0)
                raise ClusterError(
                    f"{len(waiting)} of {self.workers} workers haven't come within {PATIENCE:.0f} s: each takes "
                    f"{self.cpus:g} CPUs, and {free:g} are free in this Ray. Ask for fewer, or start Ray with more"
                )
            self._welcome(waiting, len(waiting), left)

    def _welcome(self, waiting: list[_Place], count: int, seconds: float) -> None:
        """Wait so long for so many of those; who has died on the way in is replaced."""
        ray = ray_module()
        for begun in ray.wait([place.begun for place in waiting], num_returns=count, timeout=seconds)[0]:
            place = next(place for place in waiting if place.begun == begun)
            try:
                place.where, place.begun = ray.get(begun), None
            except ray.exceptions.RayTaskError as error:
                raise _cause(error) from error
            except _lost():
                self._replace(place)

    def _replace(self, place: _Place) -> None:
        """Another worker in the place of one that has died, or can't be reached: then it is ended."""
        ray_module().kill(place.actor)
        place.actor, place.begun = self._hire()
        place.restarts += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Crew of {self.workers} workers, staleness {self.staleness}>"

    def close(self) -> None:
        """End the workers. Steps under way are lost."""
        places, self._places, self._open = self._places, [], []
        ray = ray_module()
        if ray.is_initialized():
            for place in places:
                ray.kill(place.actor)

    def _check_open(self) -> None:
        if not self._places:
            raise ArgumentError("this crew is closed; make another Crew")

    def submit(self, step: int, blocks: Sequence[Any], shared: Any = None) -> Pending:
        """Let the workers compute blocks, of anything that can be pickled, whose arrays they get read-only.

        step    its number, for messages
        shared  what all blocks need: each node gets it once
        """
        self._check_open()
        self._open = [pending for pending in self._open if not pending.settled]
        while len(self._open) > self.staleness:
            self._open.pop(0).settle()
        live = self._live()
        put = None if shared is None else ray_module().put(shared)
        bounds = [len(blocks) * k // len(live) for k in range(len(live) + 1)]
        shares = [(live[k], blocks[bounds[k] : bounds[k + 1]]) for k in range(len(live)) if bounds[k] < bounds[k + 1]]
        pending = Pending(self, step, put, [self._ask(place, share, put) for place, share in shares])
        self._open.append(pending)
        return pending

    @staticmethod
    def _ask(place: _Place, blocks: Sequence[Any], shared: Any) -> _Call:
        return _Call(blocks, place, place.actor, place.actor.compute.remote(blocks, shared))

    def _live(self) -> list[_Place]:
        """The workers that have come; if there are none, one is waited for."""
        until = monotonic() + PATIENCE
        while True:
            self._check_open()
            coming = [place for place in self._places if place.begun is not None]
            someone = len(coming) < len(self._places)
            if coming:
                left = 0.0 if someone else until - monotonic()
                if left < 0:
                    raise ClusterError(f"all {self.workers} workers have died, and none came back in {PATIENCE:.0f} s")
                self._welcome(coming, len(coming) if someone else 1, left)
            live = [place for place in self._places if place.begun is None]
            if live:
                return live

    def again(self, pending: Pending) -> None:
        """Give the blocks of workers that have died to others. ClusterError if they have ended many workers."""
        ray = ray_module()
        for at, call in enumerate(pending.calls):
            if not ray.wait([call.reply], timeout=0)[0]:
                continue
            try:
                ray.get(call.reply)
            except ray.exceptions.RayTaskError:
                continue
            except _lost() as error:
                self._ask_another(pending, at, error)

    def hurry(self, pending: Pending, late: list[Any]) -> None:
        """Give blocks that don't come to other workers: whoever had them is stopped, or works on something endless."""
        for at, call in enumerate(pending.calls):
            if call.reply in late:
                self._ask_another(pending, at, TimeoutError(f"no answer for {self.patience:g} s"))

    def _ask_another(self, pending: Pending, at: int, error: BaseException) -> None:
        """Replace the worker that was to answer a call, and give its blocks to one that is there."""
        call = pending.calls[at]
        if call.tries == MOST:
            what = f"{len(call.blocks)} blocks of step {pending.step} have ended {MOST} workers in a row"
            raise ClusterError(f"{what}: {error}") from error
        if call.place.actor is call.actor:
            self._replace(call.place)
        place = min(self._live(), key=self._busy)
        pending.calls[at] = self._ask(place, call.blocks, pending.shared)
        pending.calls[at].tries = call.tries + 1

    def _busy(self, place: _Place) -> int:
        return sum(call.place is place for pending in self._open for call in pending.calls)

    def stats(self) -> list[dict[str, Any]]:
        """Of each worker: pid, node (Ray's name for it), blocks computed, seconds busy with them, and restarts."""
        return [
            {**place.where, "blocks": place.blocks, "seconds": place.seconds, "restarts": place.restarts}
            for place in self._places
        ]
