"""Where a file can be cut, so that its spans, read one after the other or at once, are what the whole file is.

    blocks   |        1        |        2        |        3        |      what is parsed at a time
    lines     user,item⏎17850,"WHITE⏎LANTERN"⏎13047,MUG⏎…
    spans    [                 ][                         ][        ]     from a line to a line, never within quotes

Whether a line's end is within quotes, only the text from its beginning on can tell. But a span can say it of its end,
once if no quote is open where it begins, and once if one is; put together, these are the answer, and each can be found
by another process. A span begins after the last line of a block, and its first block ends where that of the whole file
does: so Arrow forms the same batches of it, and refuses the same lines as too long.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from itertools import pairwise
from typing import BinaryIO

import numpy as np

Span = tuple[int, int]
"""Where a part of a file begins and ends: in bytes of text, or in runs of row groups."""

BLOCK = 1 << 20
"""Bytes of text that are parsed at a time; a line can't be longer."""

_QUOTE = ord('"')


def of_runs(runs: int, bytes_: int, size: int) -> list[Span]:
    """Spans of a file of so many runs and bytes, of about `size` bytes each.

    >>> of_runs(5, 5000, 2000)
    [(0, 2), (2, 4), (4, 5)]
    """
    each = max(1, round(size * runs / max(1, bytes_)))
    return [(begin, min(runs, begin + each)) for begin in range(0, runs, each)]


def of_lines(file: BinaryIO, bytes_: int, size: int) -> list[Span]:
    """Spans of a text of so many bytes, of about `size` bytes each, that end with a line's end, in quotes or not."""
    ends = [0]
    for at in range(-(-size // BLOCK) * BLOCK, bytes_, -(-size // BLOCK) * BLOCK):
        file.seek(at - BLOCK)
        _, line, rest = file.read(BLOCK).rpartition(b"\n")
        if line and b"\r" not in rest:  # which ends a line as well: Arrow's batch would be longer
            ends.append(at - len(rest))
    return list(pairwise([*ends, bytes_]))


def outside_of_quotes(asked: list[Span], open_at_end: Callable[[bool], list[bool]]) -> list[Span]:
    """The spans joined where a cut would be within quotes.

    open_at_end: for each of them, whether a quoted field is open at its end, if none is where it begins; or, given
    True, if one is.

    >>> outside_of_quotes([(0, 9), (9, 20), (20, 31)], lambda inside: [not inside, not inside, False])
    [(0, 20), (20, 31)]
    """
    outside = open_at_end(False) if len(asked) > 1 else [False]
    inside = open_at_end(True) if any(outside[:-1]) else outside
    cuts = [0]
    is_open = False
    for (_, end), closed_before, open_before in zip(asked, outside, inside, strict=True):
        is_open = open_before if is_open else closed_before
        if not is_open:
            cuts.append(end)
    if cuts[-1] != asked[-1][1]:  # a quote that is never closed, which its reader will say
        cuts.append(asked[-1][1])
    return list(pairwise(cuts))


def quote_is_open(text: bytes, delimiter: str, *, inside: bool) -> bool:
    r"""Whether a quoted field is open at the end of whole lines of text; inside: one is open at its beginning.

    A quote counts where a field begins, as Arrow has it; elsewhere it is a character. Within quotes two are one.

    >>> quote_is_open(b'17850,"WHITE\n', ",", inside=False), quote_is_open(b'5" pipe,7\n', ",", inside=False)
    (True, False)
    """
    if b'"' not in text:
        return inside
    text = (b'\n"' if inside else b"\n") + text.removeprefix(b"\xef\xbb\xbf")
    bytes_ = np.frombuffer(text, np.uint8)
    quotes = np.flatnonzero(bytes_ == _QUOTE)
    before = bytes_[quotes[::2] - 1]
    # Nearly always each second quote closes what the one before has opened, or is the first of two that are one.
    if np.isin(before, np.frombuffer(delimiter.encode() + b'\r\n"', np.uint8)).all():
        return bool(len(quotes) % 2)
    return len(text) != _closed(delimiter).match(text).end()  # pyright: ignore[reportOptionalMemberAccess]


def _closed(delimiter: str) -> re.Pattern[bytes]:
    """As much of a text as ends outside of quotes: what is no quote, one within a field, or a field in quotes."""
    begins = re.escape(delimiter.encode())
    return re.compile(rb'(?:[^"]++|(?<![%b\r\n])"|"[^"]*+(?:""[^"]*+)*+")*+' % begins)


class Stretch(io.RawIOBase):
    """The bytes of a file from `begin` to `end`, given out in the blocks of the whole file."""

    def __init__(self, file: BinaryIO, begin: int, end: int) -> None:
        super().__init__()
        self._file, self._end = file, end
        file.seek(begin)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most up to the end of a block."""
        at = self._file.tell()
        stop = self._end if size < 0 else min(self._end, at - at % BLOCK + BLOCK, at + size)
        return self._file.read(max(0, stop - at))
