"""The threads that do what would hold up everybody else, no more of it at a time than they can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from hotrow.serve.answers import busy
from hotrow.serve.limits import Limits

T = TypeVar("T")


class Hands:
    """`limits.threads` threads, and a line of `limits.waiting` before them. To be used in one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pool: ThreadPoolExecutor | None = None
        self._taken = 0

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Refused with 503: if the line is full, or it takes longer than it may.

        What nobody waits for any more isn't begun; what is begun can't be ended, and keeps its thread until it is done.
        """
        if self._taken >= self._limits.threads + self._limits.waiting:
            raise busy("too many requests are being worked on; try again soon")
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._limits.threads, "hotrow-answering")
        self._taken += 1
        begun = self._pool.submit(work)
        doing = asyncio.wrap_future(begun)
        doing.add_done_callback(partial(self._left, self._pool))
        try:
            async with asyncio.timeout(self._limits.answer):
                return await asyncio.shield(doing)
        except TimeoutError:
            if doing.done():  # the work itself raised it
                raise
            if begun.cancel():
                raise busy("too many requests are before this one; try again soon") from None
            raise busy(f"this would take longer than {self._limits.answer:g} s; ask for less") from None
        except asyncio.CancelledError:
            begun.cancel()
            raise

    def _left(self, pool: ThreadPoolExecutor, doing: asyncio.Future[Any]) -> None:
        if pool is self._pool:
            self._taken -= 1
        if not doing.cancelled():
            doing.exception()  # or it would be said that nobody took it

    def close(self) -> None:
        """Let go of the threads; what is being done isn't waited for. What is to be done later gets new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool, self._taken = None, 0
