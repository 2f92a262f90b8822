"""What the parts of a cluster's step cost on this machine, each by itself.

In processor time, which what else runs here disturbs little. The kernels are those that owner and shards run, on one
thread; messages go to a process of their own.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from hotrow.cluster.connecting import zmq_module
from hotrow.cluster.keyed import Keyed
from hotrow.cluster.planning.costs import Cost, Costs
from hotrow.cluster.shards import Spread
from hotrow.kernels import lines, pooling, readonly
from hotrow.kernels.threads import get_threads, set_threads
from hotrow.table.batch import Distinct, Groups

Progress = Callable[[int, int, dict[str, Any]], None]

ROWS = 400_000
"""Of the tables that are measured: more than any processor's cache holds."""
DIMS, SIZES = (16, 64), (1_000, 40_000)
_ROUNDS = 9
_ECHOES = 200
_MESSAGES = (1_000, 4_000_000)
_QUANTILES = 21


@dataclass
class _Times:
    """Seconds of calls: of each, by how many items it had and how many floats each of them."""

    of: dict[str, list[tuple[int, int, float]]]

    def take(self, part: str, items: int, numbers: int, call: Callable[[], object]) -> list[float]:
        """Call it some times; their median counts. What each took, as multiples of it."""
        taken: list[float] = []
        for _ in range(1 + _ROUNDS):  # the first one compiles, and isn't counted
            begin = time.thread_time()
            call()
            taken.append(time.thread_time() - begin)
        taken = taken[1:]
        self.of.setdefault(part, []).append((items, numbers, float(np.median(taken))))
        return (np.array(taken) / np.median(taken)).tolist()

    def cost(self, part: str) -> Cost:
        """The cost whose calls would have taken about what these did; none of its numbers below 0."""
        items, numbers, seconds = map(np.array, zip(*self.of[part], strict=True))
        columns = np.stack([np.ones(len(items)), items, items * numbers], axis=1)
        used = [0, 1, 2] if len(set(numbers.tolist())) > 1 else [0, 1]
        while True:
            weighed = columns[:, used] / seconds[:, None]  # each call's error as a share of it
            found = np.linalg.lstsq(weighed, np.ones(len(seconds)), rcond=None)[0]
            if (found >= 0).all() or len(used) == 1:
                break
            used.pop(int(np.argmin(found)))
        return Cost(**{("call", "item", "number")[i]: float(value) for i, value in zip(used, found, strict=True)})


def measure(*, progress: Progress | None = None) -> Costs:
    """The costs of this machine, in about a minute; a table of some hundred MB is made for it, and a local process.

    What Python adds around the parts is measured by `overheads`, which needs Ray.

    Raises MissingExtraError without pyzmq.
    """
    before = get_threads()
    set_threads(1)
    try:
        times, spread = _Times({}), list[float]()
        for done, dim in enumerate(DIMS):
            if progress is not None:
                progress(done, len(DIMS) + 1, {"what": f"kernels, D = {dim}"})
            spread += _kernels(times, dim)
        if progress is not None:
            progress(len(DIMS), len(DIMS) + 1, {"what": "messages"})
        message, hop = _messages()
    finally:
        set_threads(before)
    costs = {part: times.cost(part) for part in times.of}
    quantiles = np.quantile(spread, np.linspace(0, 1, _QUANTILES))
    return Costs(
        _machine(),
        **costs,
        step_call=0.0,
        request=0.0,
        served=0.0,
        message=message,
        hop=hop,
        spread=tuple((quantiles / quantiles.mean()).round(4).tolist()),
    )


def _kernels(times: _Times, dim: int) -> list[float]:
    """Those of the owner and of a shard, of batches of two sizes; how they differ from call to call."""
    rng = np.random.default_rng(0)
    table = Keyed(dim, ids="int64")
    for keys in np.array_split(rng.permutation(ROWS).astype(np.uint64), 8):
        table.admit("int64", keys, None, keys.view(np.int64))
    spread: list[float] = []
    for n in SIZES:
        _of_owner(times, rng, dim, n)
        spread += _of_shard(times, rng, table, n)
    return spread


def _of_owner(times: _Times, rng: np.random.Generator, dim: int, n: int) -> None:
    ids = rng.integers(0, ROWS, n).astype(np.uint64)
    gradients, out = rng.standard_normal((n, dim), np.float32), np.empty((n, dim), np.float32)
    unique = Distinct.of(ids)
    m = len(unique.keys)
    split = Spread.of(unique.keys, "int64", 2)
    groups, vectors = Groups.of(split.order[unique.inverse], m), np.ones(m * dim, np.float32)

    def fill() -> None:
        arrays = readonly(vectors), dim, dim, readonly(split.order), readonly(unique.inverse)
        pooling.gather(*arrays, *lines(out), 0, n)

    times.take("dedupe", n, 0, lambda: Distinct.of(ids))
    times.take("split", m, 0, lambda: unique.keys[Spread.of(unique.keys, "int64", 2).items])
    times.take("group", n, 0, lambda: Groups.of(split.order[unique.inverse], m))
    times.take("fill", n, dim, fill)
    times.take("merge", n, dim, lambda: groups.merge(gradients))


def _of_shard(times: _Times, rng: np.random.Generator, table: Keyed, n: int) -> list[float]:
    """The same keys never twice, for memory is what they wait for."""
    keys = [rng.permutation(ROWS)[:n].astype(np.uint64) for _ in range(1 + _ROUNDS)]
    gradients = rng.standard_normal((n, table.dim), np.float32)
    first, then, out = iter(keys), iter(enumerate(keys, 1)), np.empty((n, table.dim), np.float32)
    rows: list[np.ndarray] = []

    def fetch() -> None:
        rows.append(table.fetched(next(first), out)[0])
        table.numbers_of(rows[-1])

    def step() -> None:
        number, some = next(then)
        table.step(some, gradients, 1e-3, number, rows[number - 1])

    spread = times.take("fetch", n, table.dim, fetch)
    return spread + times.take("step", n, 3 * table.dim, step)


# --- messages --------------------------------------------------------------------------------------------------------


def _messages() -> tuple[Cost, float]:
    """What a message costs each of both ends, and how long it is under way besides."""
    zmq = zmq_module()
    with tempfile.TemporaryDirectory(prefix="hotrow-") as folder:
        address = f"ipc://{Path(folder) / 'echo'}"
        context = zmq.Context(io_threads=1)
        socket = context.socket(zmq.PAIR)
        socket.bind(address)
        child = get_context("spawn").Process(target=_echo, args=(address,), daemon=True)
        child.start()
        try:
            socket.recv()
            small, least = _echoed(socket, _MESSAGES[0])
            large, _ = _echoed(socket, _MESSAGES[1])
            socket.send(b"")
            child.join(10)
        finally:
            child.kill()
            socket.close(0)
            context.term()
    byte = max(0.0, (large - small) / (_MESSAGES[1] - _MESSAGES[0]))
    call = max(0.0, small - byte * _MESSAGES[0])
    return Cost(call, byte), max(0.0, least / 2 - 2 * small)


def _echoed(socket: Any, nbytes: int) -> tuple[float, float]:
    """Processor seconds of one end of one message, and the least seconds there and back."""
    data, times = np.ones(nbytes, np.uint8), list[float]()
    socket.send(b"time")
    theirs, ours = float(socket.recv()), time.process_time()
    for _ in range(_ECHOES if nbytes < 100_000 else _ECHOES // 10):
        begin = time.perf_counter()
        socket.send(data, copy=False)
        socket.recv(copy=False)
        times.append(time.perf_counter() - begin)
    ours = time.process_time() - ours
    socket.send(b"time")
    theirs = float(socket.recv()) - theirs
    return (ours + theirs) / (4 * len(times)), min(times)  # two messages, each with two ends


def _echo(address: str) -> None:
    """The other process: gives back what it gets, until that is nothing."""
    context = zmq_module().Context(io_threads=1)
    socket = context.socket(zmq_module().PAIR)
    socket.connect(address)
    socket.send(b"here")
    while True:
        got = socket.recv(copy=False)
        if not len(got.buffer):
            break
        if bytes(got.buffer[:4]) == b"time":
            socket.send(str(time.process_time()).encode())
        else:
            socket.send(got, copy=False)
    socket.close()
    context.term()


def _machine() -> str:
    """What a reader needs to judge the numbers; nothing that names the machine."""
    name = platform.processor() or platform.machine()
    try:
        told = Path("/proc/cpuinfo").read_text("utf-8")
        name = next(line.split(":", 1)[1].strip() for line in told.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, Python {sys.version_info[0]}.{sys.version_info[1]}, NumPy {np.__version__}"
