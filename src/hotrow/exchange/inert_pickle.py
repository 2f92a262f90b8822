"""What a pickle of gensim's KeyedVectors says, as plain values, without unpickling: nothing in it is run or imported.

A pickle is a program for a small machine with a stack. This is such a machine that can only make lists, dicts, strings,
numbers and a few inert objects of its own; `pickletools` reads opcodes and their arguments. Names of classes and
functions are compared with those that a KeyedVectors has, and stay names. Everything else is refused where it stands.

    GLOBAL gensim.models.keyedvectors KeyedVectors   →  Name("gensim.models.keyedvectors", "KeyedVectors")
    NEWOBJ, BUILD {"vectors": …}                     →  Thing("KeyedVectors", {"vectors": …})
    GLOBAL os system                                 →  CorruptError, at this byte
"""

from __future__ import annotations

import math
import mmap
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from hotrow.errors import CorruptError
from hotrow.store.strict_json import MalformedError

_OPCODES = 1 << 18  # between two calls of `progress`
_MARKS = 1000  # of lists and tuples that are begun and not ended

_KNOWN = {
    "gensim.models.keyedvectors": {
        "KeyedVectors", "Word2VecKeyedVectors", "EuclideanKeyedVectors", "Vocab", "CompatVocab",
    },
    "gensim.models.word2vec": {"Vocab"},
    "numpy": {"ndarray", "dtype"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
    "_codecs": {"encode"},
    "builtins": {"frozenset", "set"},
    "__builtin__": {"frozenset", "set"},
}  # fmt: skip
"""module → all that may be named of it."""
_DTYPES = {
    f"{kind}{size}" for kind, sizes in {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8)}.items() for size in sizes
}
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
"""Opcodes whose argument is the value."""


_OPCODE = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a class or a function; never what it names."""

    module: str
    name: str


@dataclass(slots=True, eq=False)
class Thing:
    """An object of this class's name with this state; for "dtype", the state is a NumPy type's name."""

    kind: str
    state: Any = None


def read_inert(path: Path, progress: Callable[[int, int], object] | None = None) -> Any:
    """The object of a pickle of protocol 2 to 5, of `Thing`, arrays and plain values; CorruptError for anything else.

    progress: called with bytes done and bytes in all. Memory is bounded by some fifty times the file's bytes.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if not size:
            raise CorruptError(f"{path}: is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _run(path, data, size, progress)


def _run(path: Path, data: Any, size: int, progress: Callable[[int, int], object] | None) -> Any:
    machine, at = _Machine(size), 0
    try:
        for count in range(size):
            at = data.tell()
            name, argument = _opcode(data)
            machine.do(name, argument)
            if name == "STOP":
                break
            if progress and count % _OPCODES == 0:
                progress(at, size)
        if data.tell() != size:
            raise MalformedError("goes on after its end")
        return machine.result()
    except MalformedError as error:
        raise CorruptError(f"{path}, byte {at:,}: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise CorruptError(f"{path}, byte {at:,}: is too deep, or too large for the memory") from error
    except (IndexError, KeyError, OverflowError, TypeError, ValueError, struct.error) as error:
        raise CorruptError(f"{path}, byte {at:,}: isn't a whole pickle ({error!s:.100})") from error


def _opcode(data: Any) -> tuple[str, Any]:
    """The next opcode and its argument, which isn't read unless it is one of ours."""
    code = data.read(1)
    known = _OPCODE.get(code)
    if not code:
        raise MalformedError("isn't a whole pickle: it ends before it is done")
    if known is None or not (known.name in _VALUES or known.name in _Machine.ACTS):
        what = code if known is None else known.name
        raise MalformedError(f"has the opcode {what}, which no KeyedVectors is saved with")
    return known.name, None if known.arg is None else known.arg.reader(data)


class _Machine:
    """The stack, the memo, and what each opcode does to them.

    What was remembered comes again for two bytes, however large and deep it is. So nothing is hashed, compared or shown
    before its type is known, and what takes time or memory for its length has a budget of the file's bytes.
    """

    def __init__(self, size: int) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each mark
        self._memo: dict[int, Any] = {}
        # A file of vectors has few containers beside its strings, or one for each word in gensim 3: what has more is a
        # bomb. A string, and what remembers it, takes 4 bytes at least.
        self._containers, self._memos = 1000 + size // 16, 1000 + size // 4
        self._encoded, self._keys = size, 1000 + 16 * size  # bytes that may be made of text, characters of keys

    def do(self, name: str, argument: Any) -> None:
        """Take one opcode."""
        if name in _VALUES:
            if type(argument) is int and argument.bit_length() > 64:
                raise MalformedError("has a number of more than 64 bits")
            self._stack.append(argument)
            return
        self.ACTS[name](self, argument)

    def result(self) -> Any:
        """What is left on the stack."""
        if len(self._stack) != 1 or self._below:
            raise MalformedError("doesn't end with one object")
        return self._stack[0]

    # --- the stack ---------------------------------------------------------------------------------------------------

    def _pop(self) -> Any:
        if not self._stack:
            raise MalformedError("takes what isn't there")
        return self._stack.pop()

    def _top(self, kind: type) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise MalformedError(f"adds to what isn't a {kind.__name__}")
        return self._stack[-1]

    def _to_mark(self) -> list[Any]:
        if not self._below:
            raise MalformedError("takes what isn't there")
        items, self._stack = self._stack, self._below.pop()
        return items

    def _made(self, container: Any) -> None:
        self._containers -= 1
        if self._containers < 0:
            raise MalformedError("has more lists and dicts in it than vectors need")
        self._stack.append(container)

    def _remember(self, place: int) -> None:
        if len(self._memo) >= self._memos or not self._stack:
            raise MalformedError("remembers more than there is")
        self._memo[place] = self._stack[-1]

    # --- opcodes -----------------------------------------------------------------------------------------------------

    def _nothing(self, _: Any) -> None:
        """PROTO, FRAME, STOP."""

    def _mark(self, _: Any) -> None:
        if len(self._below) == _MARKS:
            raise MalformedError("is deeper than vectors need")
        self._below.append(self._stack)
        self._stack = []

    def _tuple(self, count: int | None) -> None:
        items = self._to_mark() if count is None else [self._pop() for _ in range(count)][::-1]
        self._made(tuple(items))

    def _append(self, _: Any) -> None:
        item = self._pop()
        self._top(list).append(item)

    def _appends(self, _: Any) -> None:
        items = self._to_mark()
        self._top(list).extend(items)

    def _put_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise MalformedError("has a key without a value")
        if not all(type(key) in {str, int} for key in items[::2]):  # hashing a deep tuple could overflow the C stack
            raise MalformedError("has a key that is neither text nor a number")
        self._keys -= sum(len(key) for key in items[::2] if type(key) is str)  # two that are equal are compared in full
        if self._keys < 0:
            raise MalformedError("has more text in its keys than vectors need")
        self._top(dict).update(zip(items[::2], items[1::2], strict=True))

    def _setitem(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._put_items([key, value])

    def _setitems(self, _: Any) -> None:
        self._put_items(self._to_mark())

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._name(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        self._name(module, name)

    def _name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise MalformedError("names what isn't text; nothing of it was run")
        if name not in _KNOWN.get(module, ()):
            advice = ". model.wv.save_word2vec_format(path) writes what can be read" if "gensim." in module else ""
            raise MalformedError(
                f"names {module:.60}.{name:.60}, which no KeyedVectors has; nothing of it was run{advice}"
            )
        self._stack.append(Name(module, name))

    def _newobj(self, _: Any) -> None:
        arguments, kind = self._pop(), self._pop()
        if (
            not isinstance(kind, Name)
            or type(arguments) is not tuple
            or arguments
            or not kind.module.startswith("gensim.")
        ):
            raise MalformedError("makes an object that no KeyedVectors has")
        self._made(Thing(kind.name))

    def _reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise MalformedError("calls what isn't a function")
        made = _called(function.name, cast("tuple[Any, ...]", arguments))
        if isinstance(made, bytes):
            self._encoded -= len(made)
            if self._encoded < 0:
                raise MalformedError("makes more bytes of its texts than it has")
        self._made(made)

    def _build(self, _: Any) -> None:
        state = self._pop()
        thing: Thing = self._top(Thing)
        if thing.kind == "ndarray":
            self._stack[-1].state = _array_of(state)
        elif thing.kind == "dtype":
            thing.state = _byte_order(thing.state, state)
        elif isinstance(state, dict) and thing.state is None:
            thing.state = state
        else:
            raise MalformedError("gives an object what can't be its state")

    def _frozenset(self, _: Any) -> None:
        self._to_mark()
        self._made(Thing("set"))

    ACTS: ClassVar[dict[str, Callable[[_Machine, Any], None]]] = {
        "PROTO": _nothing,
        "FRAME": _nothing,
        "STOP": _nothing,
        "NONE": lambda self, _: self._stack.append(None),
        "NEWTRUE": lambda self, _: self._stack.append(True),
        "NEWFALSE": lambda self, _: self._stack.append(False),
        "MARK": _mark,
        "EMPTY_TUPLE": lambda self, _: self._stack.append(()),
        "EMPTY_LIST": lambda self, _: self._made([]),
        "EMPTY_DICT": lambda self, _: self._made({}),
        "EMPTY_SET": lambda self, _: self._made(Thing("set")),
        "FROZENSET": _frozenset,
        "TUPLE": lambda self, _: self._tuple(None),
        "TUPLE1": lambda self, _: self._tuple(1),
        "TUPLE2": lambda self, _: self._tuple(2),
        "TUPLE3": lambda self, _: self._tuple(3),
        "APPEND": _append,
        "APPENDS": _appends,
        "SETITEM": _setitem,
        "SETITEMS": _setitems,
        "GLOBAL": _global,
        "STACK_GLOBAL": _stack_global,
        "NEWOBJ": _newobj,
        "REDUCE": _reduce,
        "BUILD": _build,
        "BINPUT": lambda self, place: self._remember(place),
        "LONG_BINPUT": lambda self, place: self._remember(place),
        "MEMOIZE": lambda self, _: self._remember(len(self._memo)),
        "BINGET": lambda self, place: self._stack.append(self._memo[place]),
        "LONG_BINGET": lambda self, place: self._stack.append(self._memo[place]),
    }


def _called(function: str, arguments: tuple[Any, ...]) -> Any:
    """What stands in for the result of a call: of an array an empty one, which is given its bytes later."""
    match function, arguments:
        case "_reconstruct", (Name(name="ndarray"), _, _):
            return Thing("ndarray")
        case "_frombuffer", (
            bytes() | bytearray() as data,
            Thing(kind="dtype", state=str() as dtype),
            tuple() as shape,
            "C" | "F" as order,
        ):
            return Thing("ndarray", _array(cast("tuple[Any, ...]", shape), dtype, data, order))
        case "dtype", (str() as name, *_) if name in _DTYPES:
            return Thing("dtype", name)
        case "encode", (str() as text, "latin1"):
            return text.encode("latin-1")
        case "scalar", (Thing(kind="dtype", state=str() as dtype), bytes() as data) if np.dtype(dtype).kind in "iu":
            return int(np.frombuffer(data, dtype)[0])  # a key may be one
        case (("scalar" | "frozenset" | "set"), _):
            return Thing("set")  # a count of words, a set of names: none of it is looked at
        case _:
            raise MalformedError(f"calls {function} as no KeyedVectors does")


def _byte_order(name: str, state: Any) -> str:
    match state:
        case (_, str() as order, *_) if order in {"<", ">", "|", "="} and name in _DTYPES:
            return f"{order}{name}".replace("|", "")
        case _:
            raise MalformedError("has a type of numbers that can't be")


def _array_of(state: Any) -> np.ndarray:
    """An array of what `ndarray.__setstate__` takes: version, shape, dtype, whether columns come first, bytes."""
    match state:
        case (int(), tuple() as shape, Thing(kind="dtype", state=str() as dtype), bool() as columns, bytes() as data):
            return _array(cast("tuple[Any, ...]", shape), dtype, data, "F" if columns else "C")
        case _:
            raise MalformedError("has an array that isn't one of numbers")


def _array(shape: tuple[Any, ...], dtype: str, data: bytes | bytearray, order: Any) -> np.ndarray:
    kind = np.dtype(dtype)
    if len(shape) > 2 or not all(type(length) is int and length >= 0 for length in shape):
        raise MalformedError("has an array of a shape that can't be")
    if math.prod(shape) * kind.itemsize != len(data):
        raise MalformedError(f"has an array of shape {shape!s:.60} in {len(data):,} bytes")
    return np.frombuffer(data, kind).reshape(shape, order=order)
