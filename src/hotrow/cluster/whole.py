"""What is done as a whole: a Ctrl-C in the middle waits for the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def uninterrupted() -> Generator[None]:
    """Within it a Ctrl-C waits, for work that takes no time and mustn't be left half done; then it comes.

    >>> with uninterrupted():
    ...     number = 1 + 1  # both, or neither
    ...     log = [number]
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.get_ident() != threading.main_thread().ident or not callable(before):
        yield  # no Python code is run for a signal here
        return
    caught: list[tuple[int, Any]] = []

    def note(number: int, frame: Any) -> None:
        caught.append((number, frame))

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught:
            before(*caught[-1])
