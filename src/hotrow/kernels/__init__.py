"""Bare loops over arrays, compiled by Numba. Nothing in here knows of ids, tables or files.

The contract of a kernel:

- serial over a slice (`…, start, stop`); threads are Python's, see `threads.py`, for the GIL is released;
- arrays in, arrays out, `out` last; no Python objects, no globals that change, no printing;
- inputs are contiguous and read-only (`readonly`), for lazy typing would compile a version of each kernel
  for every mix of writable, read-only and strided arrays;
- a file is closed under calls, but for this one and `simd.py`: Numba's cache doesn't notice a change in another file;
- hash arithmetic is in explicit `np.uint64`, for uint64 with int64 becomes float64.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils, event
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])
log = logging.getLogger("hotrow")

INTERPRETED = bool(getattr(config, "DISABLE_JIT", False))
"""True under NUMBA_DISABLE_JIT=1, where kernels run as plain Python."""

ORDERED = frozenset({"contract", "nsz"})
"""Fast-math flags that keep every sum in its order: a multiply and an add may become one instruction."""


def jit(
    function: F | None = None,
    /,
    *,
    fastmath: frozenset[str] = frozenset(),
    inline: bool = False,
    borrows: bool = False,
) -> F:
    """Compile `function` on its first call, release the GIL in it, and keep the machine code on disk if we can.

    inline: it becomes part of whoever calls it, so that what is known there, such as a literal length, is known in it.
    borrows: it and all that it calls make no arrays, so nobody need count who uses one. Else a function that is no
    straight line may count up and down, at each call of another, in memory that all threads share: up to 10 ns.
    """
    if function is None:
        return cast("F", functools.partial(jit, fastmath=fastmath, inline=inline, borrows=borrows))
    if INTERPRETED:  # what is part of a kernel is quiet by it
        return function if inline else cast("F", _wrapping(function))
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath) or False}
    if inline:
        options["forceinline"] = True
    if borrows:
        options["_nrt"] = False
    try:
        return cast("F", njit(cache=True, **options)(function))
    except RuntimeError:  # numba#4032: no folder where a cache could be written
        return cast("F", njit(cache=False, **options)(function))


def _wrapping(function: Callable[..., Any]) -> Callable[..., Any]:
    """Interpreted, unsigned arithmetic must wrap in silence as machine code does."""

    @functools.wraps(function)
    def quiet(*args: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return function(*args)

    return quiet


def readonly(array: np.ndarray) -> np.ndarray:
    """A read-only view of `array`, so that a kernel is compiled once and not once per kind of caller."""
    view = array.view()
    view.setflags(write=False)
    return view


def _nothing_ahead(array: np.ndarray, i: int) -> None:
    """An interpreter has nothing to fetch ahead."""


@intrinsic
def _prefetch(typing_context: Any, array: Any, i: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        int32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, int32, int32, int32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, int32(0), int32(3), int32(1)])  # for reading, in every cache, data
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


prefetch: Any = _nothing_ahead if INTERPRETED else _prefetch
"""prefetch(array, i): ask the cache for `array[i]` and go on. i may lie past the end, for nothing is read."""

LINE = 16
"""Floats in a cache line."""


@jit
def approach(data, at, n):
    """Ask the cache for every line of data[at : at + n], flat float32."""
    if INTERPRETED:
        return
    for line in range(at // LINE, (at + n + LINE - 1) // LINE):
        prefetch(data, line * LINE)


@jit(borrows=True)
def load32(data, at):
    """Four bytes of uint8 `data` from uint64 `at` on as a little-endian number; LLVM makes one load of it."""
    low = np.uint64(data[at]) | np.uint64(data[at + np.uint64(1)]) << np.uint64(8)
    high = np.uint64(data[at + np.uint64(2)]) | np.uint64(data[at + np.uint64(3)]) << np.uint64(8)
    return low | high << np.uint64(16)


@jit(borrows=True)
def load64(data, at):
    """Eight bytes as a little-endian number."""
    return load32(data, at) | load32(data, at + np.uint64(4)) << np.uint64(32)


@jit(borrows=True)
def store32(data, at, word):
    """Write a number below 2³² as four bytes of uint8 `data` from uint64 `at` on; LLVM makes one store of it."""
    for j in range(4):
        data[at + np.uint64(j)] = np.uint8(word >> np.uint64(8 * j) & np.uint64(255))


@jit(borrows=True)
def store64(data, at, word):
    """Eight bytes."""
    for j in range(8):
        data[at + np.uint64(j)] = np.uint8(word >> np.uint64(8 * j) & np.uint64(255))


def lines(matrix: np.ndarray) -> tuple[np.ndarray, int]:
    """A float32 matrix (n, dim) whose rows are contiguous, such as columns of a wider one, as a flat array.

    Also returns how far apart its rows are: row i is at flat[i · apart : i · apart + dim]. Nothing is copied.
    """
    n, dim = matrix.shape
    apart = matrix.strides[0] // 4
    if n == 0 or matrix.flags.c_contiguous:
        return matrix.reshape(-1), dim
    return np.lib.stride_tricks.as_strided(matrix, ((n - 1) * apart + dim,), (4,)), apart


class _Announcer(event.Listener):
    """Says once that kernels are being compiled: the first call is slow, and the user should know why."""

    def __init__(self) -> None:
        self.said = False

    def on_start(self, event: Any) -> None:
        module = event.data["dispatcher"].py_func.__module__
        if not self.said and module.startswith("hotrow."):
            self.said = True
            log.info("compiling hotrow's kernels for this processor: once, some seconds each part")

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Announcer())
