"""A shard: a Ray actor with a part of a table, which answers one request after the other.

Ray starts it, starts it again when it has died, and says where it is. Requests come by ZeroMQ: an actor call takes a
millisecond, and a large answer of one three (docs/cluster.md). What a shard is told:

    pull              vectors and numbers of keys, once the changes that the asker knows of are in
    a change          the next in its owner's order: each is taken once, however often it is sent
    keep              write what has changed to the shard's home, from which it comes back
    save              write its part of a snapshot, as of this moment in the order of changes
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from hotrow.cluster.arena import Name
from hotrow.cluster.home import Home
from hotrow.cluster.keyed import Keyed
from hotrow.cluster.server import Server
from hotrow.errors import ClusterError
from hotrow.kernels import threads
from hotrow.table import initializers, optimizers
from hotrow.table.state import State
from hotrow.table.utf8 import arrow

PATIENCE = 120.0  # seconds
_REMEMBERED = 4  # pulls


class Shard:
    """The actor. plan: {"name", "index", "shards", "dim", "ids", "seed", "optimizer", "initializer", "threads"}."""

    def __init__(self, plan: dict[str, Any], home: str, secret: str) -> None:
        threads.set_threads(plan["threads"])
        self.plan, self.incarnation, self._secret = plan, uuid4().hex, secret
        self._began, self._started = time.monotonic(), time.time()
        self._heard = 0  # of changes: the number of the last that it was sent, or asked to wait for
        self._home = Home(Path(home), plan["index"])
        self.table, self.applied = self._home.load() or (self._new(), 0)
        self.durable = self.applied if self._home.is_there() else 0
        self.counts = dict.fromkeys(("pulls", "pushes", "rows_pulled", "rows_pushed"), 0)
        self._moved = threading.Condition()
        self._kept: Any = None
        self._pulled: dict[int, tuple[Keyed, int, np.ndarray]] = {}
        self._server = Server(secret, self._answer)
        self._server.start()

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
            "node": here,
            "pid": os.getpid(),
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

    def install(self, state: State, applied: int) -> None:
        """Become the part of a table whose state this is; that was the change of this number, and is on disk."""
        self._take_over(Keyed.from_state(state), applied)

    def install_from(self, path: str, number: int | None, applied: int) -> tuple[dict[str, Any], int]:
        """Become this shard's part of what was saved at `path`; its config, and how many rows it has."""
        from hotrow.cluster.taking import part_of

        state = part_of(path, number, self.plan["index"], self.plan["shards"])
        self._take_over(Keyed.from_state(state), applied)
        return state.config, len(state.keys)

    def _take_over(self, table: Keyed, applied: int) -> None:
        self._finish_keeping()
        with self._moved:
            self.table, self.applied = table, applied
            self._moved.notify_all()
        self._home.begin_anew()
        self._home.keep(table, applied).result()
        self.durable = applied

    def stop(self) -> None:
        """Write nothing more, and answer nobody."""
        self._finish_keeping()
        self._server.stop()

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
        if number is not None:
            self._change(what, number, fields, arrays)
            reply({"applied": self.applied, "durable": self.durable})
            return True
        if fields.get("after", 0) > self.applied:
            return False
        if what == "pull":
            self._pull(fields, arrays, reply)
        elif what == "sizes":
            rows, _ = self.table.locate(arrays[0], None)
            reply({"sizes": self.table.sizes(rows)})
        elif what == "keep":
            self._keep(reply)
        elif what == "save":
            self._save(fields, reply)
        else:
            raise ClusterError(f"a shard knows no request {what!r}")
        return True

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

    def _change(self, what: str, number: int, fields: dict[str, Any], arrays: list[np.ndarray]) -> None:
        """Take a change, if it is the next. One that it has is passed by; after a gap the owner sends them again."""
        if number != self.applied + 1:
            return
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
        else:
            raise ClusterError(f"a shard knows no change {what!r}")
        with self._moved:
            self.applied = number
            self._moved.notify_all()

    def _finish_keeping(self) -> None:
        """Wait for what is being written: a table is saved to one place at a time."""
        if self._kept is not None:
            self._kept.exception()

    def _keep(self, reply: Callable[..., None]) -> None:
        self._finish_keeping()
        applied = self.applied
        keeping = self._kept = self._home.keep(self.table, applied)

        def done(_: Any) -> None:
            error = keeping.exception()
            if error is None:
                self.durable = applied
            reply({"applied": self.applied, "durable": self.durable, "error": None if error is None else str(error)})

        keeping.add_done_callback(done)

    def _save(self, fields: dict[str, Any], reply: Callable[..., None]) -> None:
        self._finish_keeping()
        self.table.counted(fields["steps"])
        if fields["delta"]:
            saving = self.table.save_delta(fields["path"], wait=False)
        else:
            saving = self.table.save(fields["path"], keep=fields["keep"], wait=False)
        self._kept = saving
        self._home.left()

        def done(_: Any) -> None:
            error, saved = saving.exception(), self.table.saved
            if error is not None or saved is None:
                reply({"error": f"{type(error).__name__}: {error}"})
            else:
                reply({"generation": saved.generation, "sha256": saved.sha256})

        saving.add_done_callback(done)


def _node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def _address() -> str:
    import ray.util

    return ray.util.get_node_ip_address()
