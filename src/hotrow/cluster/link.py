"""One shard, from outside: requests and their answers, and for the owner the changes that it hasn't on disk yet.

```
 owner ──change 7──change 8──▶ shard         the log has 5 … 8: the shard's home has all up to 4
         log [5 6 7 8]          applied 6, durable 4
```
A shard that died comes back with what its home has, and is sent the log from there on. It passes by what it has.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from hotrow.cluster.arena import Arena
from hotrow.cluster.connecting import ray_module, zmq_module
from hotrow.cluster.wire import decode, encode
from hotrow.errors import ClusterError

PATIENCE = 120.0
"""Seconds that a shard may take to come back."""
_FIRST_LOOK, _LOOK = 250, 1000  # milliseconds without an answer after which the shard is looked at
_WINDOW = 16  # changes under way at most: a slow shard holds its owner up
_LOG = 1 << 30
"""Bytes of changes that a link keeps before it asks for them to be written; at twice as many it waits."""

Answer = tuple[dict[str, Any], list[np.ndarray]]
_ids = count(1)


@dataclass
class Asked:
    """A request under way: what was sent, room for the answer, and in which life of the shard."""

    id: int
    fields: dict[str, Any]
    arrays: list[np.ndarray]
    room: list[np.ndarray]
    epoch: int = 0


@dataclass
class _Thread:
    """The socket of one thread, in one life of the shard, and answers that came before they were wanted."""

    socket: Any = None
    epoch: int = 0
    answers: dict[int, Answer] = field(default_factory=dict[int, Answer])

    def __del__(self) -> None:
        """Its thread, or the link, has ended."""
        if self.socket is not None:
            self.socket.close(0)


class Link:
    """To the shard of this actor. Any thread may ask; changes are made under the table's lock."""

    def __init__(self, actor: Any, name: str, secret: str) -> None:
        self.actor, self.name = actor, name
        self._secret = secret
        self._context = zmq_module().Context.instance()
        self._node = ray_module().get_runtime_context().get_node_id()
        self._mine = threading.local()
        self._looking = threading.RLock()
        self._epoch = 0
        self._incarnation = self._endpoint = ""
        self.arena: Arena | None = None
        """Memory of this process, for what goes to the shard and comes from it."""
        self._shares = False
        self._changes: Any = None
        self._opened: set[Any] = set()
        self._log: deque[tuple[int, dict[str, Any], list[np.ndarray], int]] = deque()
        self._logged = 0
        self.sent = self.acknowledged = self.durable = 0
        """Numbers of the last change that was sent, that the shard has, and that its home has."""
        self._keeping: int | None = None
        self.orders: dict[int, dict[str, Any] | None] = {}
        self.revivals = 0

    # --- ask ---------------------------------------------------------------------------------------------------------

    def ask(
        self,
        what: str,
        fields: dict[str, Any],
        arrays: list[np.ndarray] | None = None,
        room: list[np.ndarray] | None = None,
    ) -> Asked:
        """Send a request; `wait` gives the answer. room: arrays of the arena, where a shard that shares it answers."""
        if not self._epoch:
            self._look()
        number = next(_ids)
        told = {"what": what, "id": number, "secret": self._secret, **fields}
        asked = Asked(number, told, arrays or [], room or [])
        self._send(asked)
        return asked

    def _send(self, asked: Asked) -> None:
        mine = self._own()
        asked.epoch = mine.epoch
        mine.socket.send_multipart(encode(asked.fields, asked.arrays, self._shared(), asked.room), copy=False)

    def _shared(self) -> Arena | None:
        """The arena, if the shard as it lives now sees it."""
        return self.arena if self._shares else None

    def _own(self) -> _Thread:
        """The socket of the thread, to the shard as it lives now."""
        mine = getattr(self._mine, "thread", None)
        if mine is None:
            mine = self._mine.thread = _Thread()
        if mine.epoch != self._epoch:
            if mine.socket is not None:
                mine.socket.close(0)
            with self._looking:
                self._opened.discard(mine.socket)
                mine.epoch, mine.socket = self._epoch, self._open()
        return mine

    def _open(self) -> Any:
        zmq = zmq_module()
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.connect(self._endpoint)
        self._opened.add(socket)
        return socket

    def wait(self, asked: Asked) -> Answer:
        """The answer. A shard that has died meanwhile is asked again once it is back. ClusterError if it refuses."""
        look, until = _FIRST_LOOK, time.monotonic() + PATIENCE
        while True:
            mine = self._own()
            if asked.epoch != mine.epoch:
                self._send(asked)
            answer = mine.answers.pop(asked.id, None)
            if answer is not None:
                if answer[0].get("error"):
                    raise ClusterError(f"{self.name}: {answer[0]['error']}")
                return answer
            if mine.socket.poll(look):
                got = decode(mine.socket.recv_multipart(copy=False))
                mine.answers[got[0]["id"]] = got
                continue
            if self._look():
                until = time.monotonic() + PATIENCE
            elif time.monotonic() > until:
                raise ClusterError(f"{self.name} is there, and hasn't answered for {PATIENCE:.0f} s")
            look = _LOOK

    # --- life --------------------------------------------------------------------------------------------------------

    def _look(self) -> bool:
        """See whether the shard lives another life than before, and if so go on with that; ClusterError if none."""
        with self._looking:
            told = self._hello()
            if told["incarnation"] == self._incarnation:
                return False
            self.revivals += bool(self._incarnation)
            self._incarnation, self._endpoint = told["incarnation"], told["endpoint"]
            self._shares = told["shares"]
            self._epoch += 1
            if self._changes is not None:
                self._changes.close(0)
                self._opened.discard(self._changes)
            self._changes = self._open()
            self._keeping = None
            self.orders.clear()
            self._resend(told["applied"])
            return True

    def _hello(self) -> dict[str, Any]:
        """What the shard says of itself, however long it takes to come back."""
        ray = ray_module()
        until, problem = time.monotonic() + PATIENCE, None
        while time.monotonic() < until:
            try:
                told = self.actor.hello.remote(self._node, None if self.arena is None else self.arena.name)
                return ray.get(told, timeout=max(1.0, until - time.monotonic()))
            except ray.exceptions.ActorUnavailableError as error:  # it is being started again
                problem = error
                time.sleep(0.05)
            except ray.exceptions.GetTimeoutError as error:
                problem = error
            except ray.exceptions.RayError as error:
                raise ClusterError(f"{self.name} has died, and Ray doesn't start it again: {_short(error)}") from error
        raise ClusterError(
            f"{self.name} hasn't come up for {PATIENCE:.0f} s; is there a node with room for it? `ray status` says "
            f"({_short(problem)})"
        )

    def _resend(self, applied: int) -> None:
        """Send what the shard hasn't got, in order."""
        first = self._log[0][0] if self._log else self.sent + 1
        if applied < first - 1:
            raise ClusterError(
                f"{self.name} came back with {applied} changes, and those from {first} on are all that its owner still "
                "has: its home has been changed or removed. Load the table from a save: hotrow.cluster.load(path)"
            )
        self.acknowledged = min(self.sent, applied)
        for number, told, arrays, _ in self._log:
            if number > applied:
                self._changes.send_multipart(encode(told, arrays, self._shared()), copy=False)

    # --- change, by the owner alone ----------------------------------------------------------------------------------

    def change(self, what: str, fields: dict[str, Any], arrays: list[np.ndarray]) -> None:
        """Make the next change. It is kept here until the shard's disk has it, so nobody waits for it to be taken.

        The arrays aren't changed any more by anyone.
        """
        if not self._epoch:
            self._look()
        while self.sent - self.acknowledged >= _WINDOW or self._logged > 2 * _LOG:
            self._acknowledge(wait=True)
        number = self.sent + 1
        told = {"what": what, "id": next(_ids), "secret": self._secret, "number": number, **fields}
        length = sum(array.nbytes for array in arrays)
        with self._looking:
            self._log.append((number, told, arrays, length))
            self._logged += length
            self.sent = number
            self._changes.send_multipart(encode(told, arrays, self._shared()), copy=False)
        self._acknowledge(wait=False)
        if self._logged > _LOG and self._keeping is None:
            self.keep()

    def keep(self) -> None:
        """Ask the shard to write what it has; the log is let go of as far as that goes."""
        with self._looking:
            self._keeping = next(_ids)
            fields = {"what": "keep", "id": self._keeping, "secret": self._secret, "after": self.sent}
            self._changes.send_multipart(encode(fields))

    def order(self, what: str, fields: dict[str, Any]) -> int:
        """Ask for something to be done as of now, in the order of changes; `answered` tells, by the number returned."""
        if not self._epoch:
            self._look()
        number = next(_ids)
        with self._looking:
            self.orders[number] = None
            self._changes.send_multipart(encode({"what": what, "id": number, "secret": self._secret, **fields}))
        return number

    def answered(self, order: int, *, wait: bool) -> dict[str, Any] | None:
        """The answer to an order, if it is there. ClusterError if the shard has died, and the order with it."""
        self._acknowledge(wait=wait)
        if order not in self.orders:
            raise ClusterError(f"{self.name} died in the middle of it, and is back")
        told = self.orders[order]
        if told is not None:
            del self.orders[order]
        return told

    def flush(self, *, kept: bool = False) -> None:
        """Wait until the shard has all changes; kept: on its disk."""
        while self.acknowledged < self.sent:
            self._acknowledge(wait=True)
        while kept and self.durable < self.sent:
            if self._keeping is None:
                self.keep()
            self._acknowledge(wait=True)

    def forget_log(self, number: int) -> None:
        """The shard has, on its disk, what it is after this change, which wasn't sent by this link."""
        with self._looking:
            self._log.clear()
            self._logged = 0
            self.sent = self.acknowledged = self.durable = number

    def _acknowledge(self, *, wait: bool) -> None:
        """Read what the shard says of changes: all that is there, or wait for something."""
        if wait and not self._changes.poll(_LOOK):
            self._look()
        while self._changes.poll(0):
            told, _ = decode(self._changes.recv_multipart(copy=False))
            if told["id"] in self.orders:
                self.orders[told["id"]] = told
                continue
            if told.get("error"):
                raise ClusterError(f"{self.name} couldn't take a change: {told['error']}")
            self.acknowledged = max(self.acknowledged, min(told["applied"], self.sent))
            if told["id"] == self._keeping:
                self._keeping = None
            self._let_go(told["durable"])

    def _let_go(self, durable: int) -> None:
        self.durable = max(self.durable, durable)
        with self._looking:
            while self._log and self._log[0][0] <= self.durable:
                self._logged -= self._log.popleft()[-1]

    def close(self) -> None:
        """Nothing is asked any more, by any thread."""
        with self._looking:
            for socket in self._opened:
                socket.close(0)
            self._opened.clear()


def _short(error: Any) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error or "").strip() else type(error).__name__
