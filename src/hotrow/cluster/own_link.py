"""One shard, from its owner: the changes that its disk hasn't yet are kept here, and sent again to one that came back.

```
 owner ──change 7──change 8──▶ shard         the log has 5 … 8: the shard's home has all up to 4
         log [5 6 7 8]          applied 6, durable 4
```
Why each change is made once (ARCHITECTURE.md has it in full): changes have numbers, a shard takes the next one and no
other, and its home ties a table to the number of the last that is in it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hotrow.cluster.link import PATIENCE, Link, Patience, ids
from hotrow.cluster.whole import uninterrupted
from hotrow.cluster.wire import decode, encode
from hotrow.errors import ClusterError

log = logging.getLogger("hotrow")
LOG = 1 << 29
"""Bytes of changes that a link keeps before it asks for them to be written; at twice as many it waits."""
WINDOW, WINDOW_BYTES = 16, 64 << 20
"""Changes under way at most, and bytes of them (one is always let go): a slow shard holds its owner up."""
_ENTRY = 500  # bytes that a change takes beside its arrays
_SLICE = 20  # milliseconds of waiting at a time, between which other threads have their turn
_QUIET = 0.25, 1.0  # seconds without a word, at first and then, after which the shard is looked at
_BREATH, _LONGEST_BREATH = 0.5, 30.0  # seconds after a keep that failed


@dataclass(frozen=True)
class Change:
    """One of the log.

    offer   what the shard is given through Ray beside it, as the arguments of `Shard.offer`
    answer  the number under which its answer comes, if it is more than a confirmation
    """

    number: int
    fields: dict[str, Any]
    arrays: list[np.ndarray]
    length: int
    offer: tuple[Any, ...] | None = None
    answer: int | None = None


class OwnLink(Link):
    """Makes changes, under the table's lock. log: bytes, see LOG."""

    def __init__(self, actor: Any, name: str, secret: str, patience: float = PATIENCE, log: int = LOG) -> None:
        super().__init__(actor, name, secret, patience)
        self.log = log
        self._changes: Any = None
        self._log: deque[Change] = deque()
        self.logged = 0
        """Bytes of changes that are kept here."""
        self.acknowledged = self.durable = 0
        """Numbers of the last change that the shard has, and that its home has."""
        self._keeping: int | None = None
        self._keep_from, self._breath, self._unkept = 0.0, _BREATH, ""
        self._refusals, self._refused = 0, ""
        self._looks, self._again = 0, 2
        self.answers: dict[int, dict[str, Any] | None] = {}
        """Of changes that are answered with more than a confirmation, by `Change.answer`, until somebody takes them."""
        self._owed: dict[int, int] = {}
        """The numbers of those that aren't answered yet, by `Change.answer`."""
        self._done_since: float | None = None
        """Since when the shard has had them, and written nothing."""

    # --- life --------------------------------------------------------------------------------------------------------

    def begun(self, told: dict[str, Any]) -> None:
        """Send what the shard hasn't got, in order."""
        self._drain()
        self._shut()
        self._changes, self._keeping = self.open(), None
        self._looks, self._again = 0, 2
        applied = told["applied"]
        first = self._log[0].number if self._log else self.sent + 1
        if not first - 1 <= applied <= self.sent:
            self.ended = (
                f"came back with {applied} changes, and its owner has those from {first} to {self.sent}: its home has "
                "been changed, removed, or is a folder that not all nodes see (home=). Load the table from a save: "
                "hotrow.cluster.load(path)"
            )
            raise ClusterError(f"{self.name} {self.ended}")
        self.acknowledged = applied
        self._let_go(told["durable"])
        self._forgo(applied)
        self._resend()

    def _drain(self) -> None:
        """Read the answers of the life before. How far it came isn't of interest: the next one says that of itself."""
        while self._changes is not None and self._changes.poll(0):
            told = decode(self._changes.recv_multipart(copy=False))[0]
            if "answered" in told:
                self._hear(told)

    def _forgo(self, applied: int) -> None:
        """Nobody will answer any more what the shard has: it isn't made again."""
        for answer in [answer for answer, number in self._owed.items() if number <= applied]:
            number = self._owed.pop(answer)
            if answer in self.answers:
                error = f"the answer to change {number} was lost, with the process or the connection; try again"
                self.answers[answer] = {"answered": True, "error": error}

    def _shut(self) -> None:
        if self._changes is not None:
            self._changes.close(0)

    def _resend(self) -> None:
        for change in self._log:
            if change.number > self.acknowledged:
                self._dispatch(change)

    def _dispatch(self, change: Change) -> None:
        fields, arrays = change.fields, change.arrays
        if (
            change.answer is not None and self.answers.get(change.answer, {}) is not None
        ):  # nobody waits for it any more
            fields, arrays = {**fields, "what": "nothing", "id": next(ids)}, []
        if change.offer is not None:
            self.actor.offer.remote(change.number, *change.offer)
        self._changes.send_multipart(encode(fields, arrays, self.shared()), copy=False)

    def heard(self, told: dict[str, Any]) -> None:
        """Between nodes a connection may be lost, and what was under way with it: that is sent again, ever later."""
        stuck = told["applied"] == self.acknowledged < self.sent
        self._progress(told["applied"], told["durable"])
        self._miss(told)
        if not self.is_afar:
            return
        if self._keeping is not None and not told["keeping"] and told["applied"] >= self._keeping:
            self._keeping = None  # the request was lost, or its answer
        self._looks = self._looks + 1 if stuck else 0
        if self._looks >= self._again:
            self._again *= 2
            self._resend()

    def _miss(self, told: dict[str, Any]) -> None:
        """An answer that could have come for as long as the link has patience has been lost."""
        if not self._owed or told["keeping"] or told["applied"] < max(self._owed.values()):
            self._done_since = None
        elif self._done_since is None:
            self._done_since = time.monotonic()
        elif time.monotonic() - self._done_since > self.patience:
            self._acknowledge()  # it may lie there unread
            self._forgo(told["applied"])

    # --- change ------------------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Wait until there is room for one more change. Nothing has changed if it raises ClusterError.

        That is when the shard is away for longer than the link has patience, refuses a change twice in a row, or can't
        write to its home while the log is full. What was changed before stays in the log, and the next call goes on.
        """
        self.meet()
        self._acknowledge()
        self.await_(self._has_room)

    def _has_room(self) -> bool:
        changes, length = self.under_way()
        fits = changes < WINDOW and (length < WINDOW_BYTES or not changes)
        return fits and (self.logged <= 2 * self.log or not self._log)

    def under_way(self) -> tuple[int, int]:
        """Changes that the shard was sent and hasn't confirmed, and their bytes."""
        length = 0
        for change in reversed(self._log):
            if change.number <= self.acknowledged:
                break
            length += change.length
        return self.sent - self.acknowledged, length

    def plan(
        self, what: str, fields: dict[str, Any], arrays: list[np.ndarray], offer: Any = None, *, answer: bool = False
    ) -> Change:
        """The next change, not made yet. The arrays aren't changed any more by anyone.

        TypeError or ValueError if `fields` aren't JSON values: a change in the log is one that can be sent.

        offer: see `Change`, and its bytes. answer: it gets one.
        """
        number, id = self.sent + 1, next(ids)
        told = {"what": what, "id": id, "secret": self.secret, "number": number, **fields}
        encode(told)
        length = _ENTRY + sum(array.nbytes for array in arrays) + (0 if offer is None else offer[1])
        return Change(number, told, arrays, length, None if offer is None else (offer[0],), id if answer else None)

    def make(self, change: Change) -> None:
        """Make the change that was planned, without waiting: within `uninterrupted`, with all that belongs to it."""
        with self.guard:
            if change.answer is not None:
                self.answers[change.answer] = None
                self._owed[change.answer] = change.number
            self._log.append(change)
            self.logged += change.length
            self.sent = change.number
            if self._changes is not None:
                self._dispatch(change)
        self._see_to_keeping(wanted=self.logged > self.log)

    def keep(self) -> None:
        """Ask the shard to write what it has; the log is let go of as far as that goes."""
        with uninterrupted(), self.guard:
            self._keeping = self.sent
            fields = {"what": "keep", "id": next(ids), "secret": self.secret, "after": self.sent}
            self._changes.send_multipart(encode(fields))

    def begin_keeping(self) -> None:
        """Ask the shard to write what it has, if it isn't on disk and nobody has yet."""
        self.meet()
        self._see_to_keeping(wanted=True)

    def _see_to_keeping(self, *, wanted: bool) -> None:
        if wanted and self._keeping is None and self.durable < self.sent and time.monotonic() >= self._keep_from:
            self.keep()

    def answered(self, answer: int) -> dict[str, Any] | None:
        """The answer to a change that gets one, if it is there; a shard that dies meanwhile makes it anew."""
        if not self._acknowledge():
            self._glance()
        return self.answers[answer]

    _glanced = 0.0

    def _glance(self) -> None:
        """Look, if nobody has for a while."""
        if time.monotonic() - self._glanced > _QUIET[1]:
            self._glanced = time.monotonic()
            self.look()

    def flush(self, *, kept: bool = False) -> None:
        """Wait until the shard has all changes; kept: on its disk."""
        self.await_(lambda: self.acknowledged >= self.sent)
        if kept:
            self.await_(lambda: self.durable >= self.sent, keep=True)

    def await_(self, done: Callable[[], bool], *, keep: bool = False) -> None:
        """Wait until something is so, however long it takes, if the shard gets on. keep: by keeping."""
        patience, heard, quiet = Patience(self.patience, self.where()), time.monotonic(), _QUIET[0]
        while not done():
            self._see_to_keeping(wanted=keep or self.logged > self.log)
            if self._acknowledge(_SLICE):
                heard, quiet = time.monotonic(), _QUIET[0]
            elif self.is_away or time.monotonic() - heard > quiet:
                heard, quiet = time.monotonic(), _QUIET[1]
                self.see(patience)
            else:
                time.sleep(0)
            self.watch(patience)
            if patience.left() <= 0:
                raise self.away(f"can't write to its home ({self._unkept})" if self._unkept else "")

    def where(self) -> tuple[int, ...]:
        """As of a link; between two looks changes are confirmed, too."""
        return (*super().where(), self.acknowledged, self.durable)

    # --- what it says ------------------------------------------------------------------------------------------------

    def see(self, patience: Patience) -> None:
        """As of a link; and whether it refuses a change."""
        super().see(patience)
        self._acknowledge()

    def _acknowledge(self, milliseconds: int = 0) -> bool:
        """Read what the shard says of changes: all that is there, or wait for something; whether there was any.

        ClusterError if it refuses a change for the second time.
        """
        heard = False
        with uninterrupted(), self.guard:
            while self._changes is not None and not self.ended and self._changes.poll(0 if heard else milliseconds):
                heard = True
                self._hear(decode(self._changes.recv_multipart(copy=False))[0])
        if self._refusals > 1:
            self._refusals = 1
            raise self.away(f"can't take change {self.acknowledged + 1} ({self._refused})")
        return heard

    def _hear(self, told: dict[str, Any]) -> None:
        if "answered" in told:
            self._owed.pop(told["id"], None)
            if told["id"] in self.answers:
                self.answers[told["id"]] = told
        elif "refused" in told:  # it ends itself, comes back as its home is, and is sent that change again
            self._refusals, self._refused = self._refusals + 1, told["refused"]
            log.warning("%s couldn't take change %d: %s", self.name, told["applied"] + 1, told["refused"])
        elif "applied" in told:
            self._progress(told["applied"], told["durable"])
            if told.get("problem"):
                log.warning("%s couldn't write to its home, and tries again: %s", self.name, told["problem"])
                self._keeping, self._unkept = None, told["problem"]
                self._keep_from = time.monotonic() + self._breath
                self._breath = min(2 * self._breath, _LONGEST_BREATH)
        elif told.get("error"):
            raise ClusterError(f"{self.name}: {told['error']}")

    def _progress(self, applied: int, durable: int) -> None:
        if applied > self.acknowledged:
            self.acknowledged = min(applied, self.sent)
            self.lives = self._refusals = 0
        if durable > self.durable:
            self._let_go(durable)
            self._breath, self._unkept = _BREATH, ""

    def _let_go(self, durable: int) -> None:
        """The log needn't have what is on disk."""
        self.durable = max(self.durable, durable)
        if self._keeping is not None and self.durable >= self._keeping:
            self._keeping = None
        while self._log and self._log[0].number <= self.durable:
            self.logged -= self._log.popleft().length

    def close(self) -> None:
        """As of a link."""
        super().close()
        with self.guard:
            self._shut()
