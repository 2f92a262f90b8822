"""Eight float32 at once: a kernel says what it does to a block of a row, and each line of it is one instruction.

A compiler left to itself turns a loop over a row into vectors only where the row is long, asks at each row whether its
weights and slots overlap, and does short rows one number at a time. So blocks are written out:

    for j in range(0, dim & WHOLE, WIDTH):          the whole blocks of a row
        store(out, j, WIDTH, load(row, j, WIDTH) * splat(rate))
    if dim & REST:                                  and what is left of it, the same formula on fewer lanes
        store(out, dim & WHOLE, dim & REST, load(row, dim & WHOLE, dim & REST) * splat(rate))

Lanes are added, subtracted, multiplied and divided; a product and a sum may become one instruction (ORDERED, see
`hotrow.kernels`). Interpreted, lanes are arrays of eight. Arrays are flat and contiguous.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from hotrow.kernels import INTERPRETED, ORDERED, approach, jit

WIDTH = 8
WHOLE, REST = -WIDTH, WIDTH - 1
"""`dim & WHOLE` is how much of a row are whole blocks, `dim & REST` what is left."""

AHEAD = 12  # vectors between asking for one and adding it

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_FLAGS = tuple(sorted(ORDERED))


class _Lanes(types.Type):
    """Numba's name for eight float32."""

    def __init__(self) -> None:
        super().__init__("Lanes")


LANES = _Lanes()


def _vector(n: int) -> Any:
    return ir.VectorType(ir.FloatType(), n)


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _vector(WIDTH))


def _pick(builder: Any, lanes: Any, which: list[int]) -> Any:
    """Some of the lanes, in this order."""
    return builder.shuffle_vector(lanes, lanes, ir.Constant(ir.VectorType(_I32, len(which)), which))


def _pointer(context: Any, builder: Any, kind: Any, array: Any, i: Any, n: int = WIDTH) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [i]), _vector(n).as_pointer())


def _check(context: Any, builder: Any, kind: Any, array: Any, i: Any, n: Any) -> None:
    """IndexError beyond the array, where Numba checks the bounds of all others, too."""
    if getattr(config, "BOUNDSCHECK", None):
        items = context.make_array(kind)(context, builder, array).nitems
        for at in (i, builder.sub(builder.add(i, n), _I64(1))):
            cgutils.do_boundscheck(context, builder, at, items)


def _is_whole(builder: Any, n: Any) -> Any:
    return builder.icmp_signed(">=", n, _I64(WIDTH))


def _spread(builder: Any, scalar: Any, kind: Any) -> Any:
    one = builder.insert_element(ir.Constant(ir.VectorType(kind, WIDTH), ir.Undefined), scalar, _I32(0))
    return _pick(builder, one, [0] * WIDTH)


@intrinsic
def _load(typing_context: Any, array: Any, i: Any, n: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _check(context, builder, signature.args[0], *args)
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        found = cgutils.alloca_once(builder, _vector(WIDTH))
        with builder.if_else(_is_whole(builder, args[2])) as (whole, part):
            with whole:
                builder.store(builder.load(pointer, align=4), found)
            with part:
                numbers = ir.Constant(ir.VectorType(_I64, WIDTH), list(range(WIDTH)))
                mask = builder.icmp_signed("<", numbers, _spread(builder, args[2], _I64))
                kind = ir.FunctionType(_vector(WIDTH), [pointer.type, _I32, mask.type, _vector(WIDTH)])
                function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.load.v8f32.p0")
                zeros = ir.Constant(_vector(WIDTH), [0.0] * WIDTH)
                builder.store(builder.call(function, [pointer, _I32(4), mask, zeros]), found)
        return builder.load(found)

    return LANES(array, types.int64, types.int64), codegen


@intrinsic
def _store(typing_context: Any, array: Any, i: Any, n: Any, lanes: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, (array, i, n, lanes) = signature.args[0], args
        _check(context, builder, kind, array, i, n)
        with builder.if_else(_is_whole(builder, n)) as (whole, part):
            with whole:
                builder.store(lanes, _pointer(context, builder, kind, array, i), align=4)
            with part:  # not by a mask, which some processors do many times slower: four, two and one
                _store_part(context, builder, kind, array, i, n, lanes)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, LANES), codegen


def _store_part(context: Any, builder: Any, kind: Any, array: Any, i: Any, n: Any, lanes: Any) -> None:
    done = cgutils.alloca_once_value(builder, i)
    rest = cgutils.alloca_once_value(builder, lanes)
    for size in (4, 2, 1):
        with builder.if_then(builder.icmp_signed("!=", builder.and_(n, _I64(size)), _I64(0))):
            at, left = builder.load(done), builder.load(rest)
            pointer = _pointer(context, builder, kind, array, at, size)
            builder.store(_pick(builder, left, list(range(size))), pointer, align=4)
            builder.store(builder.add(at, _I64(size)), done)
            builder.store(_pick(builder, left, [(lane + size) % WIDTH for lane in range(WIDTH)]), rest)


@intrinsic
def _splat(typing_context: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _spread(builder, args[0], ir.FloatType())

    return LANES(types.float32), codegen


@intrinsic
def _root(typing_context: Any, lanes: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_vector(WIDTH), [_vector(WIDTH)])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.sqrt.v8f32"), args)

    return LANES(LANES), codegen


@intrinsic
def _sum_of(typing_context: Any, lanes: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes, n = args[0], WIDTH
        while n > 1:
            n //= 2
            low, high = (_pick(builder, lanes, list(range(at, at + n))) for at in (0, n))
            lanes = builder.fadd(low, high)
        return builder.extract_element(lanes, _I32(0))

    return types.float32(LANES), codegen


@intrinsic
def _where_more(typing_context: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return LANES(LANES, LANES, LANES, LANES), codegen


@intrinsic
def _matches(typing_context: Any, array: Any, i: Any, word: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(_I64, WIDTH)
        _check(context, builder, signature.args[0], args[0], args[1], _I64(WIDTH))
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        words = builder.load(builder.bitcast(builder.gep(data, [args[1]]), kind.as_pointer()), align=8)
        equal = builder.icmp_unsigned("==", words, _spread(builder, args[2], _I64))
        return builder.zext(builder.bitcast(equal, ir.IntType(WIDTH)), _I64)

    return types.int64(array, types.int64, types.uint64), codegen


@intrinsic
def _lowest(typing_context: Any, bits: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


def _let(operation: Any, instruction: str) -> None:
    """Lanes know this operator."""

    @intrinsic
    def apply(typing_context: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args, flags=_FLAGS)

        return LANES(LANES, LANES), codegen

    def call(a, b):
        return apply(a, b)  # pyright: ignore[reportCallIssue] — Numba gives the context

    def on_lanes(a, b):
        return call if isinstance(a, _Lanes) and isinstance(b, _Lanes) else None

    overload(operation)(on_lanes)


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _let(_operation, _instruction)


# --- the same, interpreted --------------------------------------------------------------------------------------------


def _load_plain(array: np.ndarray, i: int, n: int) -> np.ndarray:
    lanes = np.zeros(WIDTH, np.float32)
    lanes[:n] = array[i : i + n]
    return lanes


def _store_plain(array: np.ndarray, i: int, n: int, lanes: np.ndarray) -> None:
    array[i : i + n] = lanes[:n]


def _where_more_plain(a: Any, b: Any, yes: Any, no: Any) -> Any:
    return np.where(a > b, yes, no)


def _splat_plain(x: Any) -> np.ndarray:
    return np.full(WIDTH, x, np.float32)


def _matches_plain(array: np.ndarray, i: int, word: Any) -> int:
    return sum(1 << c for c in range(WIDTH) if array[i + c] == word)


def _lowest_plain(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


load: Any = _load_plain if INTERPRETED else _load
"""load(array, i, n): array[i : i + n], n at most WIDTH, and zeros in the other lanes."""
store: Any = _store_plain if INTERPRETED else _store
"""store(array, i, n, lanes): array[i : i + n] = the first n lanes."""
splat: Any = _splat_plain if INTERPRETED else _splat
"""splat(x): a float32 in each lane."""
root: Any = np.sqrt if INTERPRETED else _root
"""root(lanes): the square root of each."""
sum_of: Any = np.sum if INTERPRETED else _sum_of
"""sum_of(lanes): their sum, by halves."""
where_more: Any = _where_more_plain if INTERPRETED else _where_more
"""where_more(a, b, yes, no): yes where a > b, else no; so also where either is NaN."""
matches: Any = _matches_plain if INTERPRETED else _matches
"""matches(array, i, word): bit c is set where array[i + c] == word; of eight uint64."""
lowest: Any = _lowest_plain if INTERPRETED else _lowest
"""lowest(bits): the number of the lowest bit that is set; there must be one."""


@jit(inline=True)
def copy(source, i, out, o, n):
    """out[o : o + n] = source[i : i + n]."""
    for j in range(0, n & WHOLE, WIDTH):
        store(out, o + j, WIDTH, load(source, i + j, WIDTH))
    if n & REST:
        j = n & WHOLE
        store(out, o + j, n & REST, load(source, i + j, n & REST))


@jit(inline=True)
def add(source, i, out, o, n):
    """out[o : o + n] += source[i : i + n]."""
    for j in range(0, n & WHOLE, WIDTH):
        store(out, o + j, WIDTH, load(out, o + j, WIDTH) + load(source, i + j, WIDTH))
    if n & REST:
        j = n & WHOLE
        store(out, o + j, n & REST, load(out, o + j, n & REST) + load(source, i + j, n & REST))


@jit(inline=True)
def add_scaled(source, i, scale, out, o, n):
    """out[o : o + n] += scale · source[i : i + n]."""
    s = splat(scale)
    for j in range(0, n & WHOLE, WIDTH):
        store(out, o + j, WIDTH, load(out, o + j, WIDTH) + s * load(source, i + j, WIDTH))
    if n & REST:
        j = n & WHOLE
        store(out, o + j, n & REST, load(out, o + j, n & REST) + s * load(source, i + j, n & REST))


@jit(inline=True)
def nothing_of(array, i, n):
    """Lanes whose sum is 0, or NaN where array[i : i + n] isn't finite."""
    total = splat(np.float32(0))
    for j in range(0, n & WHOLE, WIDTH):
        total = total + (load(array, i + j, WIDTH) - load(array, i + j, WIDTH))
    if n & REST:
        total = total + (load(array, i + (n & WHOLE), n & REST) - load(array, i + (n & WHOLE), n & REST))
    return total


@jit(inline=True)
def add_up(source, apart, dim, items, begin, end, last, out, o):
    """out[o : o + dim] = the sum of the vectors items[begin:end], in that order; vector i is at source[i · apart].

    items[end:last] are those that will be added up next: the cache is asked for them.
    """
    for s in range(begin, end):
        if s + AHEAD < last:
            approach(source, np.int64(items[s + AHEAD]) * apart, dim)
        if s == begin:
            copy(source, np.int64(items[s]) * apart, out, o, dim)
        else:
            add(source, np.int64(items[s]) * apart, out, o, dim)
