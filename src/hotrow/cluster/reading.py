"""Ray Data reads: parts on the workers, many at a time, and here what comes of them, in their order.

    parts      1      2      3      4          tasks of Ray Data, as many at once as there are CPUs
    blocks    a b     c     d e f   g          Arrow tables, in Ray's object store
    here      a, b, c, d, e, f, g              some of them ahead, never all

What reads a part is given: hotrow's own reader, for Ray Data's own tells the types of a CSV file from its first block,
gives a file to one task, and knows no bad lines. So rows, ids and their order are those of one process.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from hotrow.cluster.connecting import ray_module
from hotrow.errors import ClusterError

_FREE = 30.0  # seconds in which a CPU must get free


def in_order(
    function: Callable[[Any], Iterator[Any]],
    parts: Sequence[Any],
    *,
    what: str = "the data",
    at_once: int | None = None,
) -> Iterator[Any]:
    """The tables that `function(part)` yields for each part, on a worker of Ray Data, in the order of the parts.

    function: of a module that the workers have; its tables are pyarrow.Tables of one schema, which may arrive joined,
    some of one part in one. Ray must be there: `hotrow.cluster.connect`. ClusterError for what it raises, or if no CPU
    of the cluster gets free within half a minute. at_once: parts that are read at a time; None: as there are CPUs.
    """
    if not parts:
        return
    ray, data = ray_module(), import_module("ray.data")
    _await_cpu(ray)
    with _quiet():
        most = None if at_once is None else min(at_once, len(parts))
        dataset = data.read_datasource(_parts(data, function, parts), override_num_blocks=len(parts), concurrency=most)
        dataset.context.execution_options.preserve_order = True
        dataset.context.enable_progress_bars = False
        dataset.context.print_on_execution_start = False
        try:
            yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
        except ray.exceptions.RayError as error:
            raise ClusterError(f"{what} can't be read on the cluster: {_why(error)}") from error


def _await_cpu(ray: Any) -> None:
    """A read task takes a CPU; if actors have them all it would wait for ever."""
    until = time.monotonic() + _FREE
    while ray.available_resources().get("CPU", 0) < 1:
        if time.monotonic() > until:
            there = int(ray.cluster_resources().get("CPU", 0))
            raise ClusterError(
                f"all {there} CPUs of the cluster are taken, and reading needs one: end what runs there (`ray status` "
                "tells), or add a node with `ray start --address=…`"
            )
        time.sleep(0.2)


def _parts(data: Any, function: Callable[[Any], Iterator[Any]], parts: Sequence[Any]) -> Any:
    """A source of Ray Data with a task for each part."""
    unknown = import_module("ray.data.block").BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None)

    class Parts(data.Datasource):
        def get_read_tasks(self, *_: Any, **__: Any) -> list[Any]:
            return [data.ReadTask(partial(function, part), unknown) for part in parts]

        def estimate_inmemory_data_size(self) -> None:
            return None

    return Parts()


@contextmanager
def _quiet() -> Generator[None]:
    """Ray Data tells the terminal of each of its runs; what matters of it is raised."""
    log = logging.getLogger("ray.data")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_RAISED = re.compile(r"^\s*([A-Za-z_.]*(?:Error|Exception|Interrupt)\b.*|No module named .*)$", re.MULTILINE)


def _why(error: BaseException) -> str:
    """What was raised on the worker, of all that Ray says of it; and what to do if hotrow isn't there."""
    text = _COLOURS.sub("", str(error))
    found = _RAISED.findall(text)
    why = (found[-1] if found else text.strip().splitlines()[0] if text.strip() else type(error).__name__)[:300]
    if "No module named" in text or "ModuleNotFound" in text:
        return f'{why}. Each node needs this hotrow, the same version: pip install "hotrow[ray]"'
    return why
