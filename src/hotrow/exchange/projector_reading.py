"""TensorBoard's Embedding Projector in: a file of numbers between tabs, and one of labels, a line for a line.

tensors.tsv     0.1⇥0.2⇥0.3          metadata.tsv   id⇥section      a header, if there are several columns
                0.4⇥0.5⇥0.6                         lantern⇥lamps
"""

from __future__ import annotations

from pathlib import Path

from hotrow.errors import DataError
from hotrow.exchange.escaping import unescape
from hotrow.exchange.incoming import Incoming, check_dim, listed, of_arrays
from hotrow.exchange.word2vec_reading import numbers_of


def open_projector(path: Path, labels: Path | None, id: str | None = None, *, unescaped: bool = False) -> Incoming:
    """tensors.tsv with its metadata.tsv, whose first column, or that of the name `id`, has the ids."""
    if labels is None:
        raise DataError(f"{path} has vectors and no ids: give --ids metadata.tsv")
    lines = _lines(path)
    if not lines:
        raise DataError(f"{path} has no vectors")
    dim = check_dim(lines[0].count("\t") + 1, f"{path}, line 1")
    for number, line in enumerate(lines, 1):
        if line.count("\t") != dim - 1:
            raise DataError(f"{path}, line {number:,}: {line.count(chr(9)) + 1} numbers, and line 1 has {dim}")
    ids = _labels(labels, id)
    if len(ids) != len(lines):
        raise DataError(f"{labels} has {len(ids):,} labels, and {path} {len(lines):,} vectors: they must be as many")
    vectors = numbers_of(path, [line.replace("\t", " ").encode() for line in lines], 1, dim)
    return of_arrays(str(path), "TensorBoard's projector", list(map(unescape, ids)) if unescaped else ids, vectors)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: isn't UTF-8 at byte {error.start:,}") from error
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _labels(path: Path, id: str | None) -> list[str]:
    lines = _lines(path)
    if not lines or "\t" not in lines[0]:
        return lines
    header, *rows = [line.split("\t") for line in lines]
    if id is not None and id not in header:
        raise DataError(f"{path} has no column {id!r}. It has {listed(header)}")
    place = 0 if id is None else header.index(id)
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise DataError(f"{path}, line {number:,}: {len(row)} fields, and its header has {len(header)}")
    return [row[place] for row in rows]
