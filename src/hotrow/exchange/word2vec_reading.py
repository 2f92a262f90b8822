r"""word2vec's text and binary files in, and GloVe's text, which has no header; compressed or not, in a stream.

    2 3                       words and floats a vector; GloVe leaves this line out
    lantern 0.1 0.2 0.3       text: a word a line
    cup\x20<12 bytes>\n       binary: the floats as they are in memory, little-endian; gensim writes no line feed

Binary files are those of the first word2vec program and of gensim. A word may have blanks in it, as some of GloVe's do:
the numbers are the last of a line. What a header promises must be there, and nothing after it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow  # noqa: ICN001, as `pa` is the name that has no types
import pyarrow.csv

from hotrow.errors import CorruptError
from hotrow.exchange.escaping import unescape
from hotrow.exchange.incoming import Incoming, Part, check_dim, rows_at_a_time

pa: Any = pyarrow
csv: Any = pyarrow.csv

_CHUNK = 4 << 20
_WORD = 1 << 20  # bytes of a word at most
_LINE = 8 << 20  # bytes of a line at most: the widest vector, and a long word
_SAMPLE = 64 << 10
_HEADER = re.compile(rb"[ \t]*([0-9]{1,15})[ \t]+([0-9]{1,15})[ \t\r]*")
_ESCAPED = re.compile(r"%[0-9A-F]{2}")
_CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}


@dataclass(frozen=True)
class _Head:
    """What the first bytes say.

    dim, rows  of the header; rows is None without one
    binary     whether vectors are bytes
    skip       bytes of the header
    """

    dim: int
    rows: int | None
    binary: bool
    skip: int


def open_word2vec(path: Path, *, binary: bool | None = None, unescaped: bool = False) -> Incoming:
    """A file of words and vectors. binary: whether it is; else its first bytes decide.

    unescaped: blanks and control characters in ids were written as %XX, as `hotrow export` does: undo that.
    """
    with _Bytes.of(path) as source:
        head = _head(path, source, binary)
    check_dim(head.dim, f"{path}, line 1")
    size = path.stat().st_size
    if head.binary and head.rows is not None and source.codec is None and head.rows * (4 * head.dim + 1) > size:
        raise CorruptError(
            f"{path}: its header says {head.rows:,} vectors of {head.dim} floats, more than its {size:,} bytes"
        )
    compressed = f", {source.codec}" if source.codec else ""
    form = "word2vec, binary" if head.binary else "word2vec, text" if head.rows is not None else "text, as GloVe's"
    read = _binary_parts if head.binary else _text_parts

    notes = list[str]()

    def parts() -> Iterator[Part]:
        escaped = 0
        with _Bytes.of(path) as again:
            again.take(head.skip)
            for part in read(path, again, head, unescape if unescaped else str):
                escaped += 0 if unescaped else sum(1 for word in part.ids if _ESCAPED.search(word))
                yield part
        if escaped:
            notes.append(f"{escaped:,} words have %XX in them, as `hotrow export` writes blanks: --unescape undoes it")

    return Incoming(str(path), form + compressed, head.dim, head.rows, size, parts, notes)


class _Bytes:
    """A file, compressed or not, of which one asks for as many bytes as one needs."""

    def __init__(self, path: Path, file: Any, stream: Any, codec: str | None) -> None:
        self.path, self.codec = path, codec
        self._file, self._stream = file, stream
        self.held, self.at = b"", 0  # what is read, and where what isn't taken begins
        self.ended = False

    @classmethod
    @contextmanager
    def of(cls, path: Path) -> Generator[Self]:
        """Open it; CorruptError, naming the file, for one that can't be unpacked."""
        with path.open("rb") as first:
            magic = first.read(4)
        codec = next((name for start, name in _CODECS.items() if magic.startswith(start)), None)
        with pa.OSFile(str(path)) as file:
            try:
                yield cls(path, file, pa.CompressedInputStream(file, codec) if codec else file, codec)
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, CorruptError):
                    raise
                raise CorruptError(f"{path}: can't be read: {error!s:.200}") from error

    def more(self) -> bool:
        """Hold some more bytes; False at the end."""
        read = b"" if self.ended else self._stream.read(_CHUNK)
        self.ended = not read
        self.held, self.at = self.held[self.at :] + read, 0
        return bool(read)

    def left(self) -> int:
        """Bytes that are held and not taken."""
        return len(self.held) - self.at

    def take(self, count: int) -> bytes:
        """So many bytes, or all there are."""
        while self.left() < count and self.more():
            pass
        taken = self.held[self.at : self.at + count]
        self.at += len(taken)
        return taken

    def done(self) -> int:
        """Bytes of the file that are read."""
        return int(self._file.tell())


# --- what it is ------------------------------------------------------------------------------------------------------


def _head(path: Path, source: _Bytes, binary: bool | None) -> _Head:
    while source.left() < _SAMPLE and source.more():
        pass
    sample = source.held
    if not sample:
        raise CorruptError(f"{path}: is empty")
    first, feed, rest = sample.partition(b"\n")
    header = _HEADER.fullmatch(first) if feed or not rest else None
    if header is None:
        if binary:
            raise CorruptError(f"{path}, line 1: expected two numbers, as in a word2vec file; got {first[:60]!r}")
        fields = first.rstrip(b" \r").split(b" ")
        if (not source.ended and not feed) or len(fields) < 2 or not _is_number(fields[-1]):
            raise CorruptError(f"{path}, line 1: expected a word and numbers, or two numbers; got {first[:60]!r}")
        return _Head(len(fields) - 1, None, binary=False, skip=0)
    rows, dim = int(header[1]), check_dim(int(header[2]), f"{path}, line 1")
    if binary is None:
        while b"\n" not in rest and len(rest) < _WORD + 4 * dim and source.more():
            rest = source.held[len(first) + 1 :]
        line = rest.partition(b"\n")[0].rstrip(b" \r\t")
        fields = re.split(rb"[ \t]", line)[-dim:]
        binary = bool(rest) and not all(map(_is_number, fields))
    return _Head(dim, rows, binary, len(first) + 1)


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


# --- binary ----------------------------------------------------------------------------------------------------------


def _binary_parts(path: Path, source: _Bytes, head: _Head, shown: Callable[[str], str]) -> Iterator[Part]:
    assert head.rows is not None
    width, step = 4 * head.dim, rows_at_a_time(head.dim)
    for start in range(0, head.rows, step):
        count = min(step, head.rows - start)
        vectors, words = np.empty((count, head.dim), "<f4"), list[str]()
        for i in range(count):
            place = f"{path}, word {start + i + 1:,} of {head.rows:,}"
            words.append(shown(_word(source, place)))
            row = source.take(width)
            if len(row) < width:
                raise CorruptError(f"{place}: the file ends within its vector")
            vectors[i] = np.frombuffer(row, "<f4")
        yield Part(words, vectors, source.done(), lambda i, start=start: f"word {start + i + 1:,}")
    if source.take(16).strip():
        raise CorruptError(f"{path}: goes on after the {head.rows:,} words that its header says")


def _word(source: _Bytes, place: str) -> str:
    end = source.held.find(b" ", source.at)
    while end < 0:
        if source.left() > _WORD or not source.more():
            raise CorruptError(f"{place}: {'no blank ends it' if source.left() > 1 else 'the file ends before it'}")
        end = source.held.find(b" ", source.at)
    word = source.take(end + 1 - source.at)[:-1].removeprefix(b"\n")
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise CorruptError(f"{place}: isn't UTF-8: {word[:60]!r}") from error


# --- text ------------------------------------------------------------------------------------------------------------


def _text_parts(path: Path, source: _Bytes, head: _Head, shown: Callable[[str], str]) -> Iterator[Part]:
    step, first = rows_at_a_time(head.dim), 1 if head.rows is None else 2
    done, lines = 0, list[bytes]()
    for line in _lines(path, source):
        lines.append(line)
        if len(lines) == step:
            yield _text_part(path, lines, done + first, head.dim, shown, source.done())
            done, lines = done + len(lines), []
            _check_more(path, head, done)
    if lines:
        yield _text_part(path, lines, done + first, head.dim, shown, source.done())
    done += len(lines)
    _check_more(path, head, done)
    if head.rows is not None and done < head.rows:
        raise CorruptError(f"{path}: ends after {done:,} words, and its header says {head.rows:,}")


def _check_more(path: Path, head: _Head, done: int) -> None:
    if head.rows is not None and done > head.rows:
        raise CorruptError(f"{path}: goes on after the {head.rows:,} words that its header says")


def _lines(path: Path, source: _Bytes) -> Iterator[bytes]:
    number = 0
    while True:
        *whole, rest = source.held[source.at :].split(b"\n")
        source.at = len(source.held) - len(rest)
        yield from whole
        number += len(whole)
        if len(rest) > _LINE:
            raise CorruptError(f"{path}: line {number + 1:,} has more than {_LINE:,} bytes")
        if not source.more():
            if rest.strip():
                yield rest
            return


def _text_part(path: Path, lines: list[bytes], first: int, dim: int, shown: Callable[[str], str], done: int) -> Part:
    words, numbers = list[str](), list[bytes]()
    for i, line in enumerate(lines):
        word, rest = _split(line, dim, f"{path}, line {first + i:,}")
        try:
            words.append(shown(word.decode()))
        except UnicodeDecodeError as error:
            raise CorruptError(f"{path}, line {first + i:,}: isn't UTF-8: {word[:60]!r}") from error
        numbers.append(rest)
    return Part(words, numbers_of(path, numbers, first, dim), done, lambda i: f"line {first + i:,}")


def _split(line: bytes, dim: int, place: str) -> tuple[bytes, bytes]:
    """The word, and its numbers with a blank between any two."""
    line = line.rstrip(b" \r\t")
    if b"\t" in line:
        *word, rest = line.rsplit(b"\t", dim)[0], b" ".join(line.split(b"\t")[-dim:])
        if line.count(b"\t") == dim:
            return word[0], rest
    if line.count(b" ") == dim:
        word, _, rest = line.partition(b" ")
        return word, rest
    fields = line.rsplit(b" ", dim)
    # A word may have blanks, but where the last of it is a number, the line has too many numbers.
    if len(fields) <= dim or _is_number(fields[0].rpartition(b" ")[2]):
        raise CorruptError(f"{place}: expected a word and {dim} numbers; got {line.count(b' ')} blanks: {line[:60]!r}")
    if fields[0] != fields[0].strip(b" "):
        raise CorruptError(f"{place}: expected one blank after the word, and none before it: {line[:60]!r}")
    return fields[0], b" ".join(fields[1:])


def numbers_of(path: Path, numbers: list[bytes], first: int, dim: int) -> np.ndarray:
    """Lines of numbers as float32 (n, dim), each the nearest to what is written."""
    names = [str(i) for i in range(dim)]
    text = b"\n".join([*numbers, b""])
    if b"\r" in text:  # which would end a line for Arrow
        i = next(i for i, line in enumerate(numbers) if b"\r" in line)
        raise CorruptError(f"{path}, line {first + i:,}: has a carriage return in it: {numbers[i][:60]!r}")
    try:
        table = csv.read_csv(
            io.BytesIO(text),
            read_options=csv.ReadOptions(column_names=names, block_size=len(text) + 1, use_threads=False),
            parse_options=csv.ParseOptions(delimiter=" ", quote_char=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float32()), null_values=[]),
        )
    except pa.ArrowException as error:
        for i, line in enumerate(numbers):
            for field in line.split(b" "):
                if not _is_number(field):
                    raise CorruptError(f"{path}, line {first + i:,}: {field[:60]!r} isn't a number") from error
        raise CorruptError(f"{path}, lines from {first:,} on: {error!s:.200}") from error
    return np.stack([column.to_numpy() for column in table.columns], axis=1)
