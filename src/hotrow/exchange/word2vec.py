r"""word2vec's format, text and binary, as gensim and most programs for word vectors read it.

```
text    "n dim\n", then a line an id: the word, and its numbers with a blank before each
binary  the same first line, then for each id the word, a blank, dim float32, and a line break
```

A word can't have a blank, so ids are written as `hotrow.exchange.escaping` says. Numbers in text have as few digits as
give the same float32 again, also to a program that reads float64 and then rounds.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.exchange.escaping import escape
from hotrow.exchange.leaving import Progress, ids_of, new_file, pieces

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.models.folders import Vectors

_FIRST_LINE = re.compile(rb"[0-9]+ [0-9]+\r?\n")


def is_one(head: bytes) -> bool:
    """Whether a file that begins like this is of word2vec."""
    return _FIRST_LINE.match(head) is not None


def write(
    side: Vectors, path: str | PathLike[str], *, binary: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Write words and vectors, some rows at a time; what was written: {"rows", "dim", "bytes", "escaped"}.

    escaped: how many ids aren't written as they are. DataError for a path where something else is.

    >>> from hotrow.models import Vectors
    >>> from hotrow.exchange import word2vec
    >>> lamps = Vectors.of(["RED MUG", "cup"], [[1.0, 0.5], [0.0, 1.0]])
    >>> word2vec.write(lamps, "lamps.txt")["escaped"]
    1
    >>> print(Path("lamps.txt").read_text(), end="")
    2 2
    RED%20MUG 1 0.5
    cup 0 1
    """
    ids = ids_of(side)
    lines = _binary if binary else _text
    escaped = 0
    with new_file(path, "word2vec file", is_one) as draft:
        with Path(draft).open("wb") as file:
            file.write(f"{len(ids)} {side.dim}\n".encode())
            for part, vectors in pieces(side, ids, progress, text=not binary):
                texts = part.to_pylist() if side.kind == "string" else [str(id) for id in part.tolist()]
                words = [escape(text) for text in texts]
                escaped += sum(word != text for word, text in zip(words, texts, strict=True))
                file.write(lines(words, vectors))
        size = draft.stat().st_size
    return {"rows": len(ids), "dim": side.dim, "bytes": size, "escaped": escaped}


def _binary(words: list[str], vectors: np.ndarray) -> bytes:
    width = 4 * vectors.shape[1]
    flat = vectors.astype("<f4", copy=False).tobytes()
    rows = (flat[start : start + width] for start in range(0, len(flat), width))
    return b"".join([part for word, row in zip(words, rows, strict=True) for part in (word.encode(), b" ", row, b"\n")])


def _text(words: list[str], vectors: np.ndarray) -> bytes:
    lines = [f"{word} {row}\n" for word, row in zip(words, joined(vectors, " "), strict=True)]
    return "".join(lines).encode()


def joined(vectors: np.ndarray, separator: str) -> list[str]:
    """Each row of float32 as text, from which the same numbers are read again.

    >>> joined(np.float32([[0.1, 2.0], [1e-30, float("nan")]]), " ")
    ['0.1 2', '1e-30 nan']
    """
    import pyarrow as pa

    compute: Any = import_module("pyarrow.compute")  # whose functions are made when it is loaded
    flat = vectors.reshape(-1)
    texts = _shortest(flat)
    read = texts.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float32)
    wrong = np.flatnonzero((read != flat) & ~np.isnan(flat))
    if len(wrong):  # rounded twice, a number between two float32 may come out as the other one
        exact = texts.to_pylist()
        for i in wrong.tolist():
            exact[i] = f"{flat[i]:.9g}"
        texts = pa.array(exact, pa.string())
    offsets = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1])
    return compute.binary_join(pa.ListArray.from_arrays(offsets, texts), separator).to_pylist()


def _shortest(flat: np.ndarray) -> Any:
    """The fewest digits from which each float32 is read again."""
    import pyarrow as pa

    return pa.array(flat).cast(pa.string())
