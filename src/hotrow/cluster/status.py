"""How the tables of a cluster are: what each shard holds and does, looked at from outside, by whoever wants to know.

```
 Ray ──which shards there are, and how each lives──▶ Watcher ──▶ TableStatus ─┬─ ShardStatus: state, node, pid …
 shard ──what it holds and has done──────────────────▶  │                     └─ … told: Told, rates: Rates
                                              the look before
```
All shards are asked at once, and none is waited for longer than the others: one that is hung, dead or being started
again is shown as that, with what it said last.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any

from hotrow.cluster.connecting import connect, ray_module
from hotrow.cluster.starting import actor_of, listed
from hotrow.errors import ClusterError

PATIENCE = 2.0
"""Seconds that a shard is given to answer."""

_OF_THE_HEAD = 8.0  # seconds more, for the cluster's head to answer

_Key = tuple[str, int, int]  # the table's name, the shard's index, how many there are
_LIVES = "ALIVE"
_STATES = {
    "DEPENDENCIES_UNREADY": "starting", "PENDING_CREATION": "starting", _LIVES: "silent", "RESTARTING": "restarting",
}  # fmt: skip
"""What Ray says of an actor, and what that is called here until it has answered."""
_DEAD = "it has died, and Ray doesn't start it again"


@dataclass(frozen=True)
class Rates:
    """What a shard did a second, since the look before; since it started, if it did after that.

    busy  the share of the time in which it worked at a request, from 0 to 1
    """

    pulls: float
    pushes: float
    rows_pulled: float
    rows_pushed: float
    bytes_in: float
    bytes_out: float
    busy: float


@dataclass(frozen=True)
class Told:
    """What a shard says of itself. Counts only ever rise until it is started anew, and then begin at 0.

    rows, bytes      that it holds; bytes_of: of which parts, "rows" (weights and slots), "index" and "strings"
    steps            the number of the last step of the table that it had a part in
    pulls, pushes    requests for vectors, and steps; rows_pulled and rows_pushed: ids in these
    bytes_in, …_out  of requests and answers, sent or in memory that is shared with whoever asks
    seconds_busy     in which it worked at requests, of the seconds_up since it started
    heard            the number of the last change that it knows of: it was sent it, or asked to wait for it
    applied          of the last change that it has; durable: of the last one that it has on disk
    waiting          requests that wait for a change
    started, clock   when it was started, and when it said this; kept: when it last wrote to its disk what it has, None:
                     it hasn't yet; seconds since the epoch, by its own clock
    incarnation      hexadecimal digits, others after each start
    """

    dim: int
    ids: str | None
    optimizer: dict[str, Any]
    rows: int
    bytes: int
    bytes_of: dict[str, int]
    steps: int
    pulls: int
    pushes: int
    rows_pulled: int
    rows_pushed: int
    bytes_in: int
    bytes_out: int
    seconds_busy: float
    seconds_up: float
    heard: int
    applied: int
    durable: int
    waiting: int
    started: float
    clock: float
    kept: float | None
    incarnation: str
    node: str
    pid: int

    @property
    def seconds_since_keep(self) -> float | None:
        """Since it wrote to its disk what it has; None: it hasn't yet."""
        return None if self.kept is None else max(0.0, self.clock - self.kept)

    @property
    def lag(self) -> int:
        """Changes that it knows of and hasn't got yet."""
        return max(0, self.heard - self.applied)

    @property
    def not_on_disk(self) -> int:
        """Changes that it has, and its disk hasn't: those that its owner would send again."""
        return max(0, self.applied - self.durable)


_COUNTED = ("pulls", "pushes", "rows_pulled", "rows_pushed", "bytes_in", "bytes_out")


@dataclass(frozen=True)
class ShardStatus:
    """One shard, as of a look.

    index     from 0
    state     "up": it has answered; "silent": it lives, and hasn't; "starting" and "restarting": Ray does it, or waits
              for room; "dead": Ray doesn't start it again
    told      what it said: in this look if it is up, else the last time; None: it never answered this watcher
    seconds   since it answered; 0.0 if it is up; None if it never did
    rates     None unless it is up, and was looked at before
    restarts  how often Ray has started it again; node (Ray's id), address and pid: where it lives; None: not known
    problem   what is known of why it isn't up, or ""
    """

    index: int
    state: str
    told: Told | None = None
    seconds: float | None = None
    rates: Rates | None = None
    restarts: int | None = None
    node: str | None = None
    address: str | None = None
    pid: int | None = None
    problem: str = ""

    @property
    def alive(self) -> bool:
        """Whether it answers."""
        return self.state == "up"


@dataclass(frozen=True)
class TableStatus:
    """A table: its name, and its shards in their order, those included that are dead."""

    name: str
    shards: tuple[ShardStatus, ...]

    @property
    def told(self) -> Told | None:
        """What some shard said last: dim, ids and optimizer are the same for all. None: none ever did."""
        return next((each.told for each in self.shards if each.told is not None), None)

    @property
    def rows(self) -> int:
        """Of all shards, as they said last."""
        return sum(each.told.rows for each in self.shards if each.told is not None)

    @property
    def bytes_of(self) -> dict[str, int]:
        """Bytes of each part, of all shards, as they said last."""
        parts: dict[str, int] = {}
        for each in self.shards:
            for name, size in each.told.bytes_of.items() if each.told is not None else ():
                parts[name] = parts.get(name, 0) + size
        return parts

    @property
    def steps(self) -> int:
        """Of the table, as far as its shards know."""
        return max((each.told.steps for each in self.shards if each.told is not None), default=0)


@dataclass
class _Seen:
    """What is kept of a shard from look to look.

    asked  what it will answer, and `life`, the restarts that it had when it was asked
    told   what it answered last, and `at`, when that was
    """

    actor: Any
    id: str
    asked: Any = None
    life: int | None = None
    told: Told | None = None
    at: float = 0.0


class Watcher:
    """Looks at all tables of a cluster, as often as it is asked to; each look says what was done since the one before.

    address   as of `connect`; None: the cluster that this process is in, or else "auto"
    patience  seconds that shards are given to answer

    ClusterError where there is no cluster, MissingExtraError without Ray.

    >>> from hotrow.cluster import Watcher
    >>> watcher = Watcher("auto")  # doctest: +SKIP
    >>> [shard.state for table in watcher.look() for shard in table.shards]  # doctest: +SKIP
    ['up', 'up']
    """

    def __init__(self, address: str | None = None, *, patience: float = PATIENCE) -> None:
        ray = ray_module()
        if not ray.is_initialized():
            connect("auto" if address is None else address)
        self.address = str(ray.get_runtime_context().gcs_address)
        """Of the cluster."""
        self._patience = patience
        self._seen: dict[_Key, _Seen] = {}
        self._looking = Lock()

    def look(self) -> list[TableStatus]:
        """All tables by name, as they are now; after some `patience` seconds at the latest. Threads take turns.

        ClusterError if the cluster itself doesn't answer: its head has ended, or can't be reached.
        """
        done: Future[list[TableStatus]] = Future()
        Thread(target=self._look_into, args=(done,), name="hotrow-look", daemon=True).start()
        patience = self._patience + _OF_THE_HEAD
        try:
            return done.result(patience)
        except TimeoutError as error:
            raise ClusterError(
                f"the head of the cluster at {self.address} hasn't answered for {patience:g} s; is it still there? "
                f"`ray status --address {self.address}` says"
            ) from error

    def _look_into(self, done: Future[list[TableStatus]]) -> None:
        """On a thread of its own, for Ray waits a minute for a head that has ended, and then ends the process."""
        try:
            with self._looking:
                done.set_result(self._look())
        except BaseException as error:  # noqa: BLE001 — whoever looks is told
            done.set_exception(error)

    def _look(self) -> list[TableStatus]:
        ray, there = ray_module(), listed()
        tables = sorted({(table, count) for table, _, count in there})
        every = [(table, index, count) for table, count in tables for index in range(count)]
        self._seen = {each: seen for each in every if (seen := self._find(each, each in there)) is not None}
        lives = {each: _life(ray, seen.id) for each, seen in self._seen.items()}
        fresh = [self._ask(seen, lives[each]) for each, seen in self._seen.items()]
        waited = [asked for asked in fresh if asked is not None]
        if waited:
            ray.wait(waited, num_returns=len(waited), timeout=self._patience)
        addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
        made = {each: self._status(ray, each, lives.get(each, {}), addresses) for each in every}
        return [
            TableStatus(table, tuple(made[table, index, count] for index in range(count))) for table, count in tables
        ]

    def _find(self, each: _Key, there: bool) -> _Seen | None:
        """What is known of a shard: nothing, if it was dead before this watcher came. Names are given out again."""
        seen = self._seen.get(each)
        if there:
            with suppress(ValueError):  # it has died since it was listed
                actor = actor_of(*each)
                id = actor._actor_id.hex()
                if seen is None or seen.id != id:
                    seen = _Seen(actor, id)
        return seen

    @staticmethod
    def _ask(seen: _Seen, life: dict[str, Any]) -> Any:
        """Ask a shard for its facts; None if it can't answer now, or has been asked and not yet answered."""
        restarts = life.get("NumRestarts")
        if seen.life != restarts:
            seen.asked = None  # that was another life
        if seen.asked is not None or life.get("State", _LIVES) != _LIVES:
            return None
        seen.asked, seen.life = seen.actor.facts.remote(), restarts
        return seen.asked

    def _status(self, ray: Any, each: _Key, life: dict[str, Any], addresses: dict[str, str]) -> ShardStatus:
        seen = self._seen.get(each)
        if seen is None:
            return ShardStatus(each[1], "dead", problem=_DEAD)
        before = seen.told
        state, problem = self._answer(ray, seen, _STATES.get(life.get("State", _LIVES), "dead"))
        if state == "dead":
            problem = _cause(life) or problem or _DEAD
        told, up = seen.told, state == "up"
        node = told.node if up and told else (life.get("Address") or {}).get("NodeID") or None
        return ShardStatus(
            each[1], state, told,
            seconds=None if told is None else 0.0 if up else time.monotonic() - seen.at,
            rates=_rates(before, told) if up and before and told else None,
            restarts=life.get("NumRestarts"), node=node, address=addresses.get(node or ""),
            pid=told.pid if up and told else life.get("Pid") or None, problem=problem,
        )  # fmt: skip

    @staticmethod
    def _answer(ray: Any, seen: _Seen, state: str) -> tuple[str, str]:
        """Take a shard's answer, if it has come: its state, and what is wrong, if anything."""
        if seen.asked is None or not ray.wait([seen.asked], timeout=0)[0]:
            return state, ""
        asked, seen.asked = seen.asked, None
        try:
            seen.told, seen.at = _told(ray.get(asked)), time.monotonic()
        except ray.exceptions.RayActorError as error:  # it has died meanwhile
            return ("restarting" if state == "silent" else state), _first_line(error)
        except (ray.exceptions.RayError, KeyError) as error:
            return state, f"it can't say how it is, maybe as one of another version of hotrow: {_first_line(error)}"
        return "up", ""


def status(address: str | None = None, *, over: float = 0.0, patience: float = PATIENCE) -> list[TableStatus]:
    """How all tables of a cluster are; with rates, if `over` is the seconds between two looks.

    address  as of `connect`; None: the cluster that this process is in, or else "auto"

    A shard that doesn't answer within `patience` seconds is shown as silent. Raises as `Watcher`.

    >>> import hotrow.cluster
    >>> hotrow.cluster.status("auto", over=1.0)  # doctest: +SKIP
    """
    watcher = Watcher(address, patience=patience)
    if over:
        watcher.look()
        time.sleep(over)
    return watcher.look()


def _life(ray: Any, id: str) -> dict[str, Any]:
    """What Ray says of an actor: state, restarts, where it is.

    Its public way to these needs its dashboard, which many clusters haven't. Should this one be gone from a later Ray,
    then `restarts` is None, and a shard that doesn't answer is silent, whatever the reason.
    """
    try:
        return ray._private.state.actors(id) or {}
    except (AttributeError, ImportError):
        return {}


def _cause(life: dict[str, Any]) -> str:
    """Why an actor is dead, in Ray's words."""
    context = getattr(life.get("DeathCause"), "actor_died_error_context", None)
    said = str(getattr(context, "error_message", "")).strip()
    return f"{_DEAD}: {said.splitlines()[0][:200]}" if said else ""


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _told(facts: dict[str, Any]) -> Told:
    return Told(**{name: facts[name] for name in Told.__dataclass_fields__})


def _rates(before: Told, now: Told) -> Rates | None:
    """What was done a second: counts of another incarnation are no counts of this one, which began at 0."""
    counted = (*_COUNTED, "seconds_busy", "seconds_up")
    same = before.incarnation == now.incarnation
    done = {name: getattr(now, name) - (getattr(before, name) if same else 0) for name in counted}
    seconds = done["seconds_up"]
    if seconds <= 0:
        return None
    busy = min(1.0, max(0.0, done["seconds_busy"] / seconds))
    return Rates(**{name: done[name] / seconds for name in _COUNTED}, busy=busy)
