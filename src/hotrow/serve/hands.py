"""The threads that do what would hold up everybody else, no more of it at a time than they can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from hotrow.serve.answers import busy
from hotrow.serve.limits import Limits

T = TypeVar("T")


class Hands:
    """`limits.threads` threads, and a line of `limits.waiting` before them. To be used in one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(limits.threads, "hotrow-answering")
        self._taken = 0

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Refused with 503: if the line is full, or it takes longer than it may.

        What takes longer can't be ended: it keeps its thread until it is done.
        """
        if self._taken >= self._limits.threads + self._limits.waiting:
            raise busy("too many requests are being worked on; try again soon")
        self._taken += 1
        doing = asyncio.get_running_loop().run_in_executor(self._pool, work)
        doing.add_done_callback(self._left)
        try:
            async with asyncio.timeout(self._limits.answer):
                return await asyncio.shield(doing)
        except TimeoutError:
            if doing.done():  # the work itself raised it
                raise
            raise busy(f"this would take longer than {self._limits.answer:g} s; ask for less") from None

    def _left(self, doing: asyncio.Future[Any]) -> None:
        self._taken -= 1
        if not doing.cancelled():
            doing.exception()  # or it would be said that nobody took it

    def close(self) -> None:
        """Take no more work; what is being done isn't waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
