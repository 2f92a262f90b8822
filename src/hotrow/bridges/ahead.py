"""The next item is made while this one is used: ids are found while a model computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")

_WAIT, _PATIENCE = 0.1, 5.0  # seconds: until a thread looks whether it is still wanted; until it is left to itself


def ahead(items: Iterable[S], function: Callable[[S], T]) -> Generator[T]:
    """function(item) of each item, made on another thread while the one before it is used.

    items     whatever gives batches: a list, a generator, a DataLoader
    function  what finds their ids: `table.find`, which changes nothing, so that results are as without it

    What `items` or `function` raises comes out where its item would. A loop that is left early ends the thread.

    >>> import hotrow
    >>> table = hotrow.Table(2, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    >>> batches = [(["lantern", "cup"], 1.0), (["cup", "mug"], 2.0)]
    >>> for batch, gradient in hotrow.ahead(batches, lambda one: (table.find(one[0]), one[1])):
    ...     batch = table.find(batch, grow=True)  # what is new among them gets its row now
    ...     table.update(batch, 0 * table.lookup(batch) + gradient)
    >>> table.lookup("cup").tolist()
    [-3.0, -3.0]
    """
    made = Ahead(map(function, items))
    try:
        yield from made
    finally:
        made.close()


class Ahead(Iterator[T]):
    """Makes the next item of an iterator while this one is used; an error comes out where its item would.

    The first item is made by whoever asks for it, for a model may have to be built for it. The thread begins when the
    second is asked for.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._source = items
        self._begun = False
        self._items: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(1)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __next__(self) -> T:
        if not self._begun:
            self._begun = True
            return next(self._source)
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="hotrow-ahead", daemon=True)
            thread.start()
            self._thread = thread
        while not self._stopped.is_set():
            with suppress(queue.Empty):
                item, error = self._items.get(timeout=_WAIT)
                if error is None:
                    return item
                self._stopped.set()
                raise error
        raise StopIteration

    def close(self) -> None:
        """End the thread, when the data has given what it was last asked for."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def _work(self) -> None:
        try:
            for item in self._source:
                if not self._put(item, None):
                    return
            self._put(None, StopIteration())
        except BaseException as error:  # noqa: BLE001 — raised again, where it is waited for
            self._put(None, error)

    def _put(self, item: Any, error: BaseException | None) -> bool:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._items.put((item, error), timeout=_WAIT)
                return True
        return False
