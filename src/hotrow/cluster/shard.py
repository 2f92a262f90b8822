"""A shard: a Ray actor with a part of a table, which answers one request after the other.

Ray starts it, starts it again when it has died, and says where it is. Requests come by ZeroMQ: an actor call takes a
millisecond, and a large answer of one three (docs/cluster.md). What a shard is told:

    pull              vectors and numbers of keys, once the changes that the asker knows of are in
    a change          the next in its owner's order: each is taken once, however often it is sent
    keep              write what has changed to the shard's home, from which it comes back
    save              a change, too, that changes nothing: write its part of a snapshot, as of this moment among them

A change that comes too early waits for those before it, and one that fails ends this life: half of it may be done, so
the shard comes back from its home, as after a kill, and is sent the change again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from hotrow.cluster.arena import Name
from hotrow.cluster.ending import enter_home, leave_home
from hotrow.cluster.home import Home
from hotrow.cluster.keyed import SAVES, Keyed
from hotrow.cluster.server import Server
from hotrow.errors import ClusterError
from hotrow.kernels import threads
from hotrow.table import initializers, optimizers
from hotrow.table.state import State
from hotrow.table.utf8 import arrow

log = logging.getLogger("hotrow")
PATIENCE = 120.0  # seconds
_REMEMBERED = 4  # pulls
_LAST_WORDS = 0.5  # seconds in which an answer leaves before the process ends


class Shard:
    """The actor. plan: {"name", "index", "shards", "dim", "ids", "seed", "optimizer", "initializer", "threads"}."""

    def __init__(self, plan: dict[str, Any], home: str, secret: str) -> None:
        threads.set_threads(plan["threads"])
        self.plan, self.incarnation, self._secret = plan, uuid4().hex, secret
        self._began, self._started = time.monotonic(), time.time()
        self._heard = 0  # of changes: the number of the last that it was sent, or asked to wait for
        self._kept_bytes = 0
        self._at = Path(home)
        enter_home(self._at)
        self._home = Home(Path(home), plan["index"], self.incarnation, self._wrote)
        kept = self._home.load()
        self.table, self.applied = kept or (self._new(), 0)
        self.durable = self.applied
        self.counts = dict.fromkeys(("pulls", "pushes", "rows_pulled", "rows_pushed"), 0)
        self._moved = threading.Condition()
        self._pulled: dict[int, tuple[Keyed, int, np.ndarray]] = {}
        self._offers: dict[int, Keyed | BaseException] = {}
        self._writing: Any = None
        self._is_ending = False
        self._server = Server(secret, plan["index"], self._answer)
        self._server.start()

    def _wrote(self, count: int) -> None:
        self._kept_bytes += count

    def _new(self) -> Keyed:
        optimizer = optimizers.from_config(self.plan["optimizer"])
        initializer = initializers.from_config(self.plan["initializer"])
        return Keyed(self.plan["dim"], optimizer=optimizer, initializer=initializer, seed=self.plan["seed"],
                     ids=self.plan["ids"])  # fmt: skip

    # --- over Ray ----------------------------------------------------------------------------------------------------

    def hello(self, node: str, arena: Name | None = None) -> dict[str, Any]:
        """Where it answers whoever is on that node, and what it has; the TCP port is opened once it is needed.

        shares: whether it sees the arena of whoever asks.
        """
        here = _node()
        return {
            "shares": arena is not None and node == here and self._server.arenas.know(arena),
            "incarnation": self.incarnation,
            "endpoint": self._server.local if node == here else self._server.remote(_address()),
            "applied": self.applied,
            "durable": self.durable,
            "keeping": self._writing is not None,
            "kept_bytes": self._kept_bytes,
            "node": here,
            "pid": os.getpid(),
            "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        }

    def introduce(self) -> tuple[dict[str, Any], str]:
        """The table's plan, with what is known since of the kind of its ids, and the secret that requests show."""
        return {**self.plan, "ids": self.table.kind}, self._secret

    def facts(self) -> dict[str, Any]:
        """What it holds and has done; the counts only ever rise, until it is started anew. Waits for no change."""
        stats = self.table.glance()
        return {
            **{key: self.plan[key] for key in ("name", "index", "shards", "dim")},
            "optimizer": stats["optimizer"],
            "ids": stats["ids"],
            "steps": stats["steps"],
            "rows": stats["rows"],
            "bytes": stats["bytes"],
            "bytes_of": stats["bytes_of"],
            **self.counts,
            **self._server.counts(),
            "seconds_up": time.monotonic() - self._began,
            "started": self._started,
            "kept": self._home.kept(),
            "clock": time.time(),
            "heard": max(self._heard, self.applied),
            "applied": self.applied,
            "durable": self.durable,
            "incarnation": self.incarnation,
            "node": _node(),
            "pid": os.getpid(),
        }

    def state(self, after: int, *, whole: bool = True) -> State:
        """Its part of the table, once so many changes are in; whole: with the optimizer's slots and the index."""
        self._wait_for(after)
        with self.table.lock.reading():
            return self.table.part(whole=whole)

    def offer(self, number: int, source: State | tuple[str, int]) -> None:
        """What the table becomes with change `number`, which comes in its place among the others.

        source: its state, or the path and generation of a save, of which the shard takes its part.
        """
        try:
            made: Keyed | BaseException = Keyed.from_state(self._part(source))
        except Exception as error:  # noqa: BLE001 — told when the change comes
            made = error
        if number > self.applied:
            self._offers[number] = made
        self._server.soon(self._server.again)

    def _part(self, source: State | tuple[str, int]) -> State:
        if isinstance(source, State):
            return source
        from hotrow.cluster.taking import part_of

        return part_of(*source, self.plan["index"], self.plan["shards"])

    def stop(self) -> None:
        """Write nothing more, answer nobody, and leave nothing: its table ends."""
        self._is_ending = True
        if self._writing is not None:
            self._writing.exception()
        self._server.stop()
        leave_home(self._at, self.plan["index"])

    def _wait_for(self, after: int) -> None:
        with self._moved:
            if not self._moved.wait_for(lambda: self.applied >= after, PATIENCE):
                raise ClusterError(
                    f"shard {self.plan['index']} of {self.plan['name']!r} has {self.applied} changes, and was asked "
                    f"for what it is after {after}; none came for {PATIENCE:.0f} s"
                )

    # --- over ZeroMQ: on the server's thread -------------------------------------------------------------------------

    def _answer(self, fields: dict[str, Any], arrays: list[np.ndarray], reply: Callable[..., None]) -> bool:
        """Answer a request; False to be asked again when a change has been taken."""
        what, number = fields["what"], fields.get("number")
        self._heard = max(self._heard, number or fields.get("after", 0))
        if self._is_ending:  # whoever asks will look, and ask the next life
            return True
        if number is not None:
            return self._take(what, number, fields, arrays, reply)
        if fields.get("after", 0) > self.applied:
            return False
        if what == "pull":
            self._pull(fields, arrays, reply)
        elif what == "sizes":
            rows, _ = self.table.locate(arrays[0], None)
            reply({"sizes": self.table.sizes(rows)})
        elif what == "keep":
            return self._keep(reply)
        else:
            raise ClusterError(f"a shard knows no request {what!r}")
        return True

    def _told(self) -> dict[str, Any]:
        return {"applied": self.applied, "durable": self.durable}

    def _pull(self, fields: dict[str, Any], arrays: list[np.ndarray], reply: Callable[..., None]) -> None:
        keys, table = arrays[0], self.table
        texts = arrow(arrays[1], arrays[2]) if len(arrays) > 1 else None
        room = fields.get("room", [])
        out = room[-1] if room and fields["vectors"] else None
        if texts is None and fields["vectors"]:
            rows, vectors = table.fetched(keys, out)
            known = keys
        else:
            rows, known = table.locate(keys, texts)
            vectors = table.vectors_of(rows, out) if fields["vectors"] else None
        made = [] if not fields["numbers"] else [table.numbers_of(rows)]
        if room:
            if made:
                room[0][:] = made.pop()
        elif vectors is not None:
            made.append(vectors)
        if known is not keys and not np.array_equal(known, keys):
            made.append(known)
        if fields.get("to_step"):
            self._remember(fields["id"], rows)
        self.counts["pulls"] += 1
        self.counts["rows_pulled"] += len(keys)
        other = known is not keys and bool(made) and made[-1] is known
        reply({"missing": int(np.count_nonzero(rows < 0)), "other_keys": other, "in_room": bool(room)}, made)

    def _remember(self, request: int, rows: np.ndarray) -> None:
        """The owner's next steps may be on what it has just pulled: their rows needn't be found again."""
        self._pulled[request] = self.table, self.table.version, rows
        if len(self._pulled) > _REMEMBERED:
            del self._pulled[next(iter(self._pulled))]

    def _remembered(self, request: int) -> np.ndarray | None:
        """The rows that a pull has found, if they are still those of its keys."""
        table, version, rows = self._pulled.pop(request, (None, 0, None))
        return rows if table is self.table and version == self.table.version else None

    def _take(
        self, what: str, number: int, fields: dict[str, Any], arrays: list[np.ndarray], reply: Callable[..., None]
    ) -> bool:
        """Take a change if it is the next. One that it has is passed by; one that is early waits."""
        if number > self.applied:
            early = number > self.applied + 1 or (what == "install" and number not in self._offers)
            if early or (what == "save" and self._writing is not None):  # one thing is written at a time
                return False
            try:
                if what == "save":
                    self._save(fields, reply)
                else:
                    self._change(what, number, fields, arrays)
            except BaseException as error:  # noqa: BLE001 — half of it may be done: nobody may see what is here now
                self._end(error, reply)
                return True
            with self._moved:
                self.applied = number
                self._moved.notify_all()
        reply(self._told())
        return True

    def _end(self, error: BaseException, reply: Callable[..., None]) -> None:
        """End this life, once that is told."""
        log.error(
            "change %d of %s failed, and the shard begins anew", self.applied + 1, self.plan["name"], exc_info=error
        )
        self._is_ending = True
        reply({**self._told(), "refused": f"{type(error).__name__}: {error}"})
        end = threading.Timer(_LAST_WORDS, os._exit, (1,))
        end.daemon = True
        end.start()

    def _change(self, what: str, number: int, fields: dict[str, Any], arrays: list[np.ndarray]) -> None:
        if what == "admit":
            texts = arrow(arrays[2], arrays[3]) if len(arrays) > 2 else None
            self.table.admit(fields["kind"], arrays[0], texts, arrays[1])
        elif what == "step":
            rows = self._remembered(fields["pulls"])
            self.table.step(arrays[0], arrays[1], fields["rate"], fields["step"], rows)
            self.counts["pushes"] += 1
            self.counts["rows_pushed"] += len(arrays[0])
        elif what == "put":
            self.table.put(arrays[0], arrays[1])
        elif what == "drop":
            self.table.drop(arrays[0])
        elif what == "optimizer":
            self.table.set_optimizer(optimizers.from_config(fields["optimizer"]), fresh=fields["fresh"])
        elif what == "install":
            made = self._offers.pop(number)
            if isinstance(made, BaseException):
                raise made
            self.table = made
        elif what != "nothing":
            raise ClusterError(f"a shard knows no change {what!r}")

    # --- to disk: one thing at a time, and nobody waits for it -------------------------------------------------------

    def _written(self) -> None:
        """What was being written is: what waits for that goes on. On the server's thread."""
        self._writing = None
        self._server.again()

    def _keep(self, reply: Callable[..., None]) -> bool:
        """Write what has changed. Not while a save is under way: so a life that dies then makes the save again."""
        if self._writing is not None:
            return False
        applied = self.applied
        if self.durable >= applied:
            reply(self._told())
            return True
        try:
            keeping = self._writing = self._home.keep(self.table, applied)
        except Exception as error:  # noqa: BLE001 — a full disk, or a home that is gone: the owner is told, and asks again
            self._home.left()
            reply({**self._told(), "problem": f"{type(error).__name__}: {error}"})
            return True

        def done(_: Any) -> None:
            error = keeping.exception()
            if error is None:
                self.durable = max(self.durable, applied)
            reply({**self._told(), "problem": "" if error is None else f"{type(error).__name__}: {error}"})
            self._server.soon(self._written)

        keeping.add_done_callback(done)
        return True

    def _save(self, fields: dict[str, Any], reply: Callable[..., None]) -> None:
        """Save it as it is now, in its place among the changes: one that was cut short by a death is made again so."""
        table, path = self.table, Path(fields["path"])
        try:
            table.turn_to(SAVES)
            table.counted(fields["steps"])
            if fields["delta"] and table.saved is not None and table.saved.path == path:
                saving = table.save_delta(path, wait=False, progress=self._progress)
            else:
                saving = table.save(path, keep=fields["keep"], wait=False, progress=self._progress)
        except Exception as error:  # noqa: BLE001 — a full disk: the owner is told, and nothing has changed
            reply({"answered": True, "error": f"{type(error).__name__}: {error}"})
            return
        self._writing = saving

        def done(_: Any) -> None:
            error, saved = saving.exception(), table.written
            if error is not None or saved is None:
                reply({"answered": True, "error": f"{type(error).__name__}: {error}"})
            else:
                reply({"answered": True, "generation": saved.generation, "sha256": saved.sha256})
            self._server.soon(self._written)

        saving.add_done_callback(done)

    def _progress(self, done: int, total: int, facts: dict[str, Any]) -> None:
        self._wrote(1)


def _node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def _address() -> str:
    import ray.util

    return ray.util.get_node_ip_address()
