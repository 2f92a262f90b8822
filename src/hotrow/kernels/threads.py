"""The one thread pool: slices of a kernel run side by side, for kernels release the GIL.

Nobody waits for work that no thread has begun: whoever needs it does it. Else a thread that holds a table's lock would
wait for the pool, and the pool's threads for the lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

from hotrow.errors import ArgumentError

S = TypeVar("S")
T = TypeVar("T")


def available() -> int:
    """How many processors this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


_threads = available()
_pool: ThreadPoolExecutor | None = None
_task = threading.local()  # has `inside` on a thread that works for `each`


def set_threads(n: int | None) -> None:
    """Let kernels use `n` threads; None: as many as this process may run on.

    Results of a table don't depend on it. One pool serves the whole process.

    Raises ArgumentError if `n` is not a positive whole number.

    >>> import hotrow
    >>> hotrow.set_threads(2)
    """
    global _threads
    if n is not None and (not isinstance(n, int) or isinstance(n, bool) or n < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"threads must be a whole number from 1 on, or None for all; got {n!r}. Try set_threads(2)")
    _threads = n or available()
    _forget_pool()


def get_threads() -> int:
    """The number of threads that kernels use."""
    return _threads


def _forget_pool() -> None:
    """After a fork the child has the pool's memory and none of its threads: the next use makes a new one."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def even(n: int, grain: int) -> list[int]:
    """Bounds of even slices of `range(n)`, at most one a thread and none much smaller than `grain`."""
    slices = min(_threads, n // grain)
    if slices < 2 or hasattr(_task, "inside"):
        return [0, n]
    return [n * k // slices for k in range(slices + 1)]


def later(function: Callable[[], T]) -> Future[T]:
    """Call `function`, which runs no kernel on the pool itself, beside what this thread does next."""
    soon = _Soon(function)
    if _threads > 1:
        _shared().submit(soon.begin)
    else:
        soon.begin()
    return soon


class _Soon(Future[T]):
    """What a function gives, called by whichever thread is there first."""

    def __init__(self, function: Callable[[], T]) -> None:
        super().__init__()
        self._function: Callable[[], T] | None = function
        self._first = threading.Lock()

    def begin(self) -> None:
        """Call the function, unless it was."""
        with self._first:
            function, self._function = self._function, None
            if function is None:
                return
            try:
                self.set_result(function())
            except BaseException as error:  # noqa: BLE001 — `result` raises it
                self.set_exception(error)

    def result(self, timeout: float | None = None) -> T:
        """What the function has given."""
        self.begin()
        return super().result(timeout)


def _shared() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(_threads, thread_name_prefix="hotrow")
    return _pool


def run(kernel: Callable[..., T], bounds: Sequence[int], *args: Any) -> list[T]:
    """What `kernel(*args, start, stop)` gives for each slice between `bounds`, the last one on this thread."""
    if len(bounds) == 2:
        return [kernel(*args, bounds[0], bounds[1])]
    pool = _shared()
    try:
        others = [pool.submit(kernel, *args, bounds[k], bounds[k + 1]) for k in range(len(bounds) - 2)]
    except RuntimeError as error:
        if not is_the_end(error):
            raise
        return [kernel(*args, start, stop) for start, stop in pairwise(bounds)]
    try:
        last = kernel(*args, bounds[-2], bounds[-1])
        taken = [
            kernel(*args, bounds[k], bounds[k + 1]) if other.cancel() else other.result()
            for k, other in enumerate(others)
        ]
        return [*taken, last]
    finally:
        _end(others)  # memory that a slice still writes mustn't be given back


def is_the_end(error: RuntimeError) -> bool:
    """Whether a pool takes no more work because the interpreter ends: what is still to be saved does without it."""
    return "cannot schedule" in str(error)


def each(function: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """`function` of each item, side by side; kernels that it runs are not sliced further.

    Raises what the first item that fails has raised, when all have ended.
    """
    if _threads == 1 or len(items) < 2 or hasattr(_task, "inside"):
        return [function(item) for item in items]
    waiting = iter(range(len(items)))
    results: list[Any] = [None] * len(items)

    def work() -> None:
        _task.inside = True
        try:
            for i in waiting:  # whoever is free takes the next one
                results[i] = function(items[i])
        finally:
            del _task.inside

    others = [_shared().submit(work) for _ in range(min(_threads, len(items)) - 1)]
    failed: list[BaseException] = []
    for part in (work, *(partial(_finish, other) for other in others)):
        try:
            part()
        except BaseException as error:  # noqa: BLE001 — raised below
            failed.append(error)
    _end(others)  # also those from which a Ctrl-C has torn us away
    if failed:
        raise failed[0]
    return results


def _finish(other: Future[None]) -> None:
    """Wait for a thread that takes items; one that hasn't begun isn't needed any more."""
    if not other.cancel():
        other.result()


def _end(others: Sequence[Future[Any]]) -> None:
    """Wait for all that have begun."""
    wait([other for other in others if not other.cancel()])
