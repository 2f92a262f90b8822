"""One shard, from outside: requests and their answers. Who only reads has this; an `OwnLink` also makes changes.

A shard that dies is started again by Ray, as another **life** of it: whoever waited for the one before looks, finds the
new one, and asks again.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from hotrow.cluster.arena import Arena
from hotrow.cluster.connecting import ray_module, zmq_module
from hotrow.cluster.keys import show
from hotrow.cluster.whole import uninterrupted
from hotrow.cluster.wire import decode, encode
from hotrow.errors import ClusterError, HotrowError

PATIENCE = 120.0
"""Seconds that a shard may take to come back, or to say anything, unless the table was told otherwise."""
_FIRST_LOOK, _LOOK = 0.25, 1.0  # seconds without an answer after which the shard is looked at
_HELLO = 1.0  # seconds that a look waits
_PAUSE = 0.05  # seconds between two looks at a shard that is being started
_MOST_LIVES = 8  # that a shard may begin without getting anywhere, until patience runs out all the same
_SPARE = 8  # answers that a thread keeps that nobody has asked for yet

Answer = tuple[dict[str, Any], list[np.ndarray]]
ids = count(secrets.randbits(48))
"""Numbers of requests; no other process has the same, for a shard remembers what was asked by them."""


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

    def shut(self) -> None:
        """Close the socket, if there is one."""
        if self.socket is not None:
            self.socket.close(0)
            self.socket = None

    def __del__(self) -> None:
        self.shut()  # the thread has ended, or the link


class Patience:
    """How long nothing may move. where: how far it has come, whatever tells that."""

    def __init__(self, seconds: float, where: Any = None) -> None:
        self._seconds, self._where = seconds, where
        self.moved()

    def moved(self) -> None:
        """From now on it is counted anew."""
        self._until = time.monotonic() + self._seconds

    def see(self, where: Any) -> None:
        """It has moved, if that is another than when it was last seen."""
        if where != self._where:
            self._where = where
            self.moved()

    def left(self) -> float:
        """Seconds, 0 or less when it is over."""
        return self._until - time.monotonic()


class Link:
    """To the shard of this actor. Any thread may ask.

    patience  seconds that the shard may be away, or silent, until a ClusterError says so
    """

    def __init__(self, actor: Any, name: str, secret: str, patience: float = PATIENCE) -> None:
        self.actor, self.name, self.patience = actor, name, patience
        self.secret = secret
        self.context = zmq_module().Context.instance()
        self.node = ray_module().get_runtime_context().get_node_id()
        self._process = os.getpid()
        self._mine = threading.local()
        self.guard = threading.RLock()
        """Held by whoever looks, or uses what all threads share."""
        self._epoch = 0
        self._incarnation = self._endpoint = ""
        self.arena: Arena | None = None
        """Memory of this process, for what goes to the shard and comes from it."""
        self._shares = False
        self._hello: Any = None
        self._problem: Any = None
        self.is_away = False
        """Whether it didn't answer the last look."""
        self.ended = ""
        """Why nothing can be asked any more, if so."""
        self.lives = 0
        """How many it has begun since it last got anywhere."""
        self.revivals = 0
        """How often it has come back."""
        self._got_to: tuple[int, ...] = ()
        self.sent = 0
        """The number of the last change that this process knows of: what it reads has that one in."""

    # --- ask ---------------------------------------------------------------------------------------------------------

    def ask(
        self,
        what: str,
        fields: dict[str, Any],
        arrays: list[np.ndarray] | None = None,
        room: list[np.ndarray] | None = None,
    ) -> Asked:
        """Send a request; `wait` gives the answer. room: arrays of the arena, where a shard that shares it answers.

        ClusterError if the shard isn't there, or was never ours.
        """
        self.meet()
        number = next(ids)
        told = {"what": what, "id": number, "secret": self.secret, **fields}
        asked = Asked(number, told, arrays or [], room or [])
        self._send(asked)
        return asked

    def _send(self, asked: Asked) -> None:
        mine = self._own()
        asked.epoch = mine.epoch
        parts = encode(asked.fields, asked.arrays, self.shared(), asked.room)
        with uninterrupted():  # half a message would be the beginning of the next
            mine.socket.send_multipart(parts, copy=False)

    def shared(self) -> Arena | None:
        """The arena, if the shard as it lives now sees it."""
        return self.arena if self._shares else None

    def _own(self) -> _Thread:
        """The socket of the thread, to the shard as it lives now."""
        mine = getattr(self._mine, "thread", None)
        if mine is None:
            mine = self._mine.thread = _Thread()
        if mine.epoch != self._epoch or mine.socket is None:
            self._check_ended()
            with self.guard:
                mine.shut()
                mine.answers.clear()
                mine.epoch, mine.socket = self._epoch, self.open()
        return mine

    def open(self) -> Any:
        """A socket to the shard as it lives now."""
        zmq = zmq_module()
        socket = self.context.socket(zmq.DEALER)
        for option in (zmq.LINGER, zmq.SNDHWM, zmq.RCVHWM):  # who asks has a bound of its own
            socket.setsockopt(option, 0)
        if self.is_afar:
            show(socket, self.secret)
        socket.connect(self._endpoint)
        return socket

    def wait(self, asked: Asked) -> Answer:
        """The answer. A shard that has died meanwhile is asked again once it is back. ClusterError if it refuses."""
        look, silent, again, patience = _FIRST_LOOK, 0, 2, Patience(self.patience, self.where())
        while True:
            mine = self._own()
            if asked.epoch != mine.epoch:
                self._send(asked)
            answer = mine.answers.pop(asked.id, None)
            if answer is not None:
                if answer[0].get("error"):
                    raise ClusterError(f"{self.name}: {answer[0]['error']}")
                self.lives = 0
                return answer
            if mine.socket.poll(_PAUSE * 1000 if self.is_away else look * 1000):
                self._receive(mine)
                continue
            look, silent = _LOOK, silent + 1
            self.see(patience)
            if self.is_afar and silent == again and not self.is_away:  # a connection may have been lost
                self._send(asked)
                again *= 2

    @staticmethod
    def _receive(mine: _Thread) -> None:
        got = decode(mine.socket.recv_multipart(copy=False))
        mine.answers[got[0]["id"]] = got
        while len(mine.answers) > _SPARE:  # of requests that nobody waits for any more, after a Ctrl-C
            del mine.answers[next(iter(mine.answers))]

    def begin(self, method: str, *args: Any, **options: Any) -> tuple[Any, str, tuple[Any, ...], dict[str, Any]]:
        """Call a method of its actor; `called` waits for what it gives."""
        self.meet()
        return getattr(self.actor, method).remote(*args, **options), method, args, options

    def called(self, begun: tuple[Any, str, tuple[Any, ...], dict[str, Any]]) -> Any:
        """What a method gave that was begun, and may be large. It is called again if the shard dies meanwhile."""
        ray, patience = ray_module(), Patience(self.patience)
        reference, method, args, options = begun
        while True:
            try:
                return ray.get(reference, timeout=_LOOK)
            except ray.exceptions.GetTimeoutError:
                self.see(patience)
                if not self.is_away:  # it takes its time
                    patience.moved()
            except ray.exceptions.RayTaskError as error:
                raise ClusterError(f"{self.name}: {_short(error.cause)}") from error
            except ray.exceptions.RayError:
                self.see(patience)
                reference = getattr(self.actor, method).remote(*args, **options)

    # --- life --------------------------------------------------------------------------------------------------------

    @property
    def is_afar(self) -> bool:
        """Whether it is on another node."""
        return self._endpoint.startswith("tcp")

    def meet(self) -> None:
        """See that this process may ask, and wait for the shard if nobody has yet."""
        if os.getpid() != self._process:
            raise ClusterError(
                f"{self.name} is asked by another process than opened it, perhaps a fork of that; expected "
                "hotrow.cluster.attach(table.name) there, or a process that is started anew (spawn)"
            )
        self._check_ended()
        if not self._epoch:
            patience = Patience(self.patience)
            while not self._epoch:
                self.see(patience)

    def _check_ended(self) -> None:
        if self.ended:
            raise ClusterError(f"{self.name} {self.ended}")

    def see(self, patience: Patience) -> None:
        """Look whether the shard lives, and go on with a new life of it. ClusterError once patience is over."""
        self.look()
        self.watch(patience)
        if patience.left() <= 0:
            raise self.away()

    def watch(self, patience: Patience) -> None:
        """Patience begins anew while it gets on: takes changes, or writes what others wait for."""
        if self.lives <= _MOST_LIVES:
            patience.see(self.where())

    def where(self) -> tuple[int, ...]:
        """How far it has come, in which life."""
        return (self._epoch, *self._got_to)

    def look(self) -> bool:
        """Whether it lives another life than before, with which all goes on; takes `_HELLO` seconds at most."""
        with self.guard:
            self._check_ended()
            told = self._ask_hello()
            self.is_away = told is None
            if told is None:
                return False
            self._got_to = told["applied"], told["durable"], told["kept_bytes"]
            if told["incarnation"] == self._incarnation:
                self.heard(told)
                return False
            with uninterrupted():
                self.revivals += bool(self._incarnation)
                self.lives += bool(self._incarnation)
                self._incarnation, self._endpoint = told["incarnation"], told["endpoint"]
                self._shares = told["shares"]
                self._epoch += 1
                self.begun(told)
            return True

    def heard(self, told: dict[str, Any]) -> None:
        """What the shard said to a look, in the life that is known."""

    def begun(self, told: dict[str, Any]) -> None:
        """It has begun another life, with what it said."""

    def _ask_hello(self) -> dict[str, Any] | None:
        """What the shard says of itself; None if that doesn't come at once. ClusterError if it never will."""
        ray = ray_module()
        if not ray.is_initialized():  # a call would start a cluster
            raise ClusterError(f"{self.name} can't be reached: this process has left its Ray cluster")
        if self._hello is None:
            self._hello = self.actor.hello.remote(self.node, None if self.arena is None else self.arena.name)
        try:
            told = ray.get(self._hello, timeout=_HELLO)
        except ray.exceptions.GetTimeoutError as error:  # the question stays
            self._problem = error
            return None
        except ray.exceptions.ActorUnavailableError as error:  # it is being started again
            self._hello, self._problem = None, error
            time.sleep(_PAUSE)
            return None
        except ray.exceptions.ActorDiedError as error:
            self._hello = None
            raise ClusterError(f"{self.name} has died, and Ray doesn't start it again: {_short(error)}") from error
        except (ray.exceptions.RayError, HotrowError, OSError) as error:
            self._hello, self._problem = None, error
            time.sleep(_PAUSE)
            return None
        self._hello = None
        return told

    def away(self, why: str = "") -> ClusterError:
        """What to raise when patience is over."""
        if not why and self.is_away:
            problem = "no answer" if self._problem is None else _short(self._problem)
            why = f"has been away for {self.patience:.0f} s ({problem}); `ray status` tells whether a node has room"
        why = why or f"is there, and has answered nothing for {self.patience:.0f} s"
        return ClusterError(f"{self.name} {why}. This call did nothing; what was done before is kept for it")

    def close(self) -> None:
        """Nothing is asked any more, by any thread; whoever waits is told, and closes its own socket: no other may."""
        self.ended = self.ended or "isn't there any more: this table was closed"
        mine = getattr(self._mine, "thread", None)
        if mine is not None:
            mine.shut()


def _short(error: Any) -> str:
    text = str(error or "").strip()
    name = type(error).__name__
    return f"{name}: {' '.join(text.split())[:200]}" if text else name
