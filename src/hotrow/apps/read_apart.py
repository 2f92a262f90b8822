"""Sources read on a cluster: their spans by its workers, and here the same pieces that one process would make.

    here                 on the workers                              here
    files → spans        a span → pieces, text by its dictionary     pieces, in order → codes and distinct values

A worker sends a piece as a message of Arrow's. What a piece can't be, or what can't be made of it, is said by one
process that reads the files once more from their beginning: so an error is the same, with the same number of a row.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from hotrow.apps.arrow import Array, is_text, pa
from hotrow.apps.sources import Piece, Source, TextSource, one_by_one
from hotrow.apps.spans import Span
from hotrow.errors import ClusterError, DataError, HotrowError, IdError, KindError

T = TypeVar("T")
SIZE = 16 << 20
"""Bytes of a file that a worker reads as one part."""


@dataclass(frozen=True)
class _Part:
    """What a worker is to read: a span of a source, and of it the columns at these places."""

    number: int
    source: Source
    places: Sequence[int]
    span: Span | None


@dataclass(frozen=True)
class _Asked:
    """What a worker is asked of a span of text: whether a quote is open at its end."""

    source: TextSource
    span: Span
    inside: bool


@dataclass
class Counter:
    """Rows that have come."""

    rows: int = 0


def read(
    what: Callable[[Any], T], counter: Counter | None = None, *, size: int = SIZE, at_once: int | None = None
) -> T:
    """What `what(reading)` makes of sources, read by the cluster; if they can't be, what one process says of them.

    size: bytes of a part; at_once: parts that are read at a time; None: as many as there are CPUs in the cluster.
    """
    counted = counter or Counter()

    def reading(sources: Sequence[Source], places: Sequence[Sequence[int]]) -> Iterator[tuple[int, Piece]]:
        for number, piece in _by_workers(sources, places, size, at_once):
            counted.rows += len(piece[0][0])
            yield number, piece

    try:
        return what(reading)
    except (DataError, IdError, KindError):
        return what(one_by_one)


def _by_workers(
    sources: Sequence[Source], places: Sequence[Sequence[int]], size: int, at_once: int | None
) -> Iterator[tuple[int, Piece]]:
    if any(source.path is None for source in sources):  # it is in the memory of this process
        yield from one_by_one(sources, places)
        return
    from hotrow.cluster.reading import in_order

    parts = [
        _Part(number, source, wanted, span)
        for number, (source, wanted) in enumerate(zip(sources, places, strict=True))
        for span in source.spans(size, partial(_quotes, at_once))
    ]
    for table in in_order(_pieces, parts, what=sources[0].name, at_once=at_once):
        for row in range(len(table)):
            number, bad_lines, problem = (table[name][row].as_py() for name in ("number", "bad_lines", "problem"))
            if problem:
                raise ClusterError(problem) if table["absent"][row].as_py() else DataError(problem)
            sources[number].bad_lines += bad_lines
            for batch in pa.ipc.open_stream(table["piece"][row].as_buffer()):
                yield number, (batch.columns, table["share"][row].as_py())


def _quotes(at_once: int | None, source: TextSource, asked: list[Span], inside: bool) -> list[bool]:
    """Whether quotes are open at the ends of spans, by the workers."""
    from hotrow.cluster.reading import in_order

    questions = [_Asked(source, span, inside) for span in asked]
    tables = in_order(_answer, questions, what=source.name, at_once=at_once)
    return [answer for table in tables for answer in table["open"].to_pylist()]


# --- on a worker -----------------------------------------------------------------------------------------------------


def _answer(asked: _Asked) -> Iterator[Any]:
    yield pa.table({"open": [asked.source.quote_is_open(asked.span, inside=asked.inside)]})


def _pieces(part: _Part) -> Iterator[Any]:
    """A row for each piece of a part; one with a problem is the last."""
    source = part.source
    absent = _absent(source)
    if absent:
        yield _row(part.number, problem=absent, absent=True)
        return
    told = source.bad_lines = 0
    try:
        for arrays, share in source.read(part.places, part.span):
            new, told = source.bad_lines - told, source.bad_lines
            yield _row(part.number, bad_lines=new, share=share, piece=_message(arrays))
    except HotrowError as error:
        yield _row(part.number, problem=str(error))
        return
    if source.bad_lines > told:  # in what came after the last piece
        yield _row(part.number, bad_lines=source.bad_lines - told, share=1.0)


def _row(
    number: int, *, bad_lines: int = 0, share: float = 0.0, piece: bytes = b"", problem: str = "", absent: bool = False
) -> Any:
    columns = {"number": number, "bad_lines": bad_lines, "share": share, "problem": problem, "absent": absent}
    row = {name: [value] for name, value in columns.items()}
    return pa.table(row | {"piece": pa.array([piece or _message([])], pa.large_binary())})


def _message(arrays: list[Array]) -> Any:
    """Columns as a stream of Arrow's; text by its dictionary, found here and not where all pieces go."""
    coded = [
        array.dictionary_encode() if is_text(array.type) and not pa.types.is_dictionary(array.type) else array
        for array in arrays
    ]
    sink = pa.BufferOutputStream()
    if coded:
        batch = pa.RecordBatch.from_arrays(coded, [str(i) for i in range(len(coded))])
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
    else:
        with pa.ipc.new_stream(sink, pa.schema([])):
            pass
    return sink.getvalue().to_pybytes()


def _absent(source: Source) -> str:
    """What is wrong if the file isn't here, or is another one: a worker's disk isn't that of who asks."""
    assert source.path is not None
    try:
        size = source.path.stat().st_size
    except OSError as error:
        why = f"isn't there ({error.strerror})"
    else:
        if size == source.size:
            return ""
        why = f"has {size:,} bytes there, and {source.size:,} here"
    return (
        f"{source.path} {why}, on the node {os.uname().nodename}: each node of the cluster must see it under this "
        "name. Put it in a folder that all of them share"
    )
