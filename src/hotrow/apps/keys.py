"""Keys that are pressed while a program shows something: each at once, without Enter."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Protocol


class Pressed(Protocol):
    """pressed(until=…): the next key that is pressed, or "" if none was up to that time, by time.monotonic()."""

    def __call__(self, *, until: float) -> str:
        """The key."""
        ...


@contextmanager
def keys() -> Generator[Pressed]:
    """Within, the terminal gives out keys as they are pressed, and doesn't show them; without one there are none."""
    termios: Any = _termios()
    if termios is None or sys.stdin is None or not sys.stdin.isatty():
        yield _none
        return
    import tty

    place = sys.stdin.fileno()
    before = termios.tcgetattr(place)
    try:
        tty.setcbreak(place)
        yield _reader(place)
    finally:
        termios.tcsetattr(place, termios.TCSADRAIN, before)


def _termios() -> Any:
    """Python's module of terminals; None on Windows, which hasn't got it."""
    try:
        import termios
    except ImportError:
        return None
    return termios


def _none(*, until: float) -> str:
    time.sleep(max(0.0, until - time.monotonic()))
    return ""


def _reader(place: int) -> Callable[..., str]:
    def pressed(*, until: float) -> str:
        ready, _, _ = select.select([place], [], [], max(0.0, until - time.monotonic()))
        key = os.read(place, 1).decode("ascii", "replace") if ready else ""
        return key or _none(until=until)  # nothing more will come if nothing came at once

    return pressed
