"""Simulated time: processes that wait for cores, links and one another. What `simulation.py` is written in.

A process is a generator that yields the event it waits for, and is sent what the event has brought:

    def request(world, cores, link):
        yield cores.use(0.001)              a millisecond of one core, longer if others want it too
        yield link.send(4096)               bytes, one message after the other
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from heapq import heappop, heappush
from itertools import count
from typing import Any

_CLOSE = 1e-12  # seconds of work that are none


class Event:
    """Something that happens once; who waits for it goes on then."""

    __slots__ = ("_waiting", "done", "value")

    def __init__(self) -> None:
        self.done, self.value = False, None
        self._waiting: list[Callable[[Any], None]] = []

    def then(self, call: Callable[[Any], None]) -> None:
        """Call it when this happens, or now if it has."""
        if self.done:
            call(self.value)
        else:
            self._waiting.append(call)

    def fire(self, value: Any = None) -> None:
        """It happens now."""
        self.done, self.value = True, value
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call(value)


Process = Generator[Event, Any, Any]


class World:
    """The clock: `now` in seconds, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._count = count()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it so much later; of two at one moment, what was asked for first comes first."""
        heappush(self._coming, (self.now + seconds, next(self._count), call))

    def start(self, process: Process) -> Event:
        """Let a process run beside all others; the event is its end, and brings what it returns."""
        end = Event()

        def go_on(value: Any = None) -> None:
            try:
                waited = process.send(value)
            except StopIteration as stop:
                end.fire(stop.value)
            else:
                waited.then(go_on)

        self.after(0.0, go_on)
        return end

    def run(self, end: Event) -> None:
        """Go on until this has happened. RuntimeError if nothing is left that could bring it about."""
        while not end.done:
            if not self._coming:
                raise RuntimeError("the simulated processes wait for one another")
            self.now, _, call = heappop(self._coming)
            call()


def every(events: Iterable[Event]) -> Event:
    """When all of these have happened."""
    waited, end = list(events), Event()
    left = len(waited)

    def one(_: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            end.fire()

    for event in waited:
        event.then(one)
    if not waited:
        end.fire()
    return end


class Cores:
    """Cores that share their time evenly among jobs, of which each runs on one core at a time.

    busy   seconds of all cores that were worked
    """

    def __init__(self, world: World, cores: int) -> None:
        self.cores, self.busy = cores, 0.0
        self._world, self._since, self._worked, self._version = world, 0.0, 0.0, 0
        self._jobs: list[tuple[float, int, Event]] = []  # by the work that each job has had when this one ends
        self._count = count()

    def use(self, seconds: float) -> Event:
        """A job of so many seconds of one core; the event is its end."""
        end = Event()
        self._bring_up()
        heappush(self._jobs, (self._worked + seconds, next(self._count), end))
        self._expect()
        return end

    def _speed(self) -> float:
        return min(1.0, self.cores / len(self._jobs))

    def _bring_up(self) -> None:
        """What each job has had up to now."""
        if self._jobs:
            passed = self._world.now - self._since
            self._worked += passed * self._speed()
            self.busy += passed * min(self.cores, len(self._jobs))
        else:
            self._worked = 0.0
        self._since = self._world.now

    def _expect(self) -> None:
        """Be called when the next job ends, if no other begins before."""
        self._version += 1
        if self._jobs:
            version, left = self._version, max(0.0, self._jobs[0][0] - self._worked)
            self._world.after(left / self._speed(), lambda: self._end(version))

    def _end(self, version: int) -> None:
        if version != self._version:
            return
        self._bring_up()
        ended = [heappop(self._jobs)[2]]  # it is due, however sums were rounded
        while self._jobs and self._jobs[0][0] <= self._worked + _CLOSE:
            ended.append(heappop(self._jobs)[2])
        self._expect()
        for event in ended:
            event.fire()


class Link:
    """One direction of a machine's network: messages go one after the other.

    busy   seconds in which it carried something
    """

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second, self.busy, self.free = bytes_per_second, 0.0, 0.0

    def take(self, now: float, nbytes: float) -> tuple[float, float]:
        """When a message that is ready now begins and ends to be carried."""
        begin = max(now, self.free)
        self.free = begin + nbytes / self.bytes_per_second
        self.busy += self.free - begin
        return begin, self.free


def carry(world: World, out: Link, into: Link, nbytes: float, latency: float) -> Event:
    """A message from one machine to another, which takes it as it comes; the event is its arrival."""
    begin, sent = out.take(world.now, nbytes)
    _, taken = into.take(begin, nbytes)
    end = Event()
    world.after(max(sent, taken) + latency - world.now, end.fire)
    return end


class Turn:
    """What one process at a time may hold: the only thread of a program."""

    def __init__(self) -> None:
        self._held, self._waiting = False, deque[Event]()

    def take(self) -> Event:
        """When it is this one's turn."""
        event = Event()
        if self._held:
            self._waiting.append(event)
        else:
            self._held = True
            event.fire()
        return event

    def give_back(self) -> None:
        """The next one's turn, who has waited longest."""
        if self._waiting:
            self._waiting.popleft().fire()
        else:
            self._held = False


class Inbox:
    """Messages in the order of arrival, for one process that takes them."""

    def __init__(self) -> None:
        self._messages, self._waiting = deque[Any](), deque[Event]()

    def put(self, message: Any) -> None:
        """A message has come."""
        if self._waiting:
            self._waiting.popleft().fire(message)
        else:
            self._messages.append(message)

    def get(self) -> Event:
        """When there is one; the event brings it."""
        event = Event()
        if self._messages:
            event.fire(self._messages.popleft())
        else:
            self._waiting.append(event)
        return event
