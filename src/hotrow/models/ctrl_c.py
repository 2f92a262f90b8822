"""Ctrl-C at a moment that suits."""

from __future__ import annotations

import signal
import threading
from typing import Any, Self


class CtrlC:
    """Within, Ctrl-C waits until `check` is called, so that it never comes between things that belong together.

    Nor is it lost, as where a signal's exception is raised in a finalizer, which Python only prints. A second one is
    not put off.
    """

    def __init__(self) -> None:
        self._pressed: list[tuple[int, Any]] = []
        self._handler: Any = None

    def __enter__(self) -> Self:
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(handler):
            self._handler = handler
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        if self._pressed:
            self._handler(number, frame)
        self._pressed.append((number, frame))

    @property
    def pressed(self) -> bool:
        """Whether Ctrl-C was pressed, and is yet to be done."""
        return bool(self._pressed)

    def check(self) -> None:
        """Do what Ctrl-C does, if it was pressed."""
        if self._pressed:
            pressed, self._pressed = self._pressed[-1], []
            self._handler(*pressed)

    def __exit__(self, kind: object, *_: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        if kind is None:
            self.check()
