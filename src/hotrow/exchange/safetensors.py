"""safetensors: the vectors as one array, and the ids as numbers, or as UTF-8 with where each begins and ends.

```
vectors      F32 (n, dim)
ids          I64 or U64 (n,)            of integers
ids.offsets  I64 (n + 1,)               of strings: id r is ids.utf8[ids.offsets[r] : ids.offsets[r + 1]], as in
ids.utf8     U8 (bytes,)                Arrow; a list of lines could hold no id that has a line break
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.exchange.leaving import Progress, ids_of, new_file, pieces
from hotrow.store.files import Output
from hotrow.store.format import header_of
from hotrow.table.utf8 import buffers

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.models.folders import Vectors


def is_one(head: bytes) -> bool:
    """Whether a file that begins like this is of safetensors: the length of a header, and then JSON."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000


def write(side: Vectors, path: str | PathLike[str], *, progress: Progress | None = None) -> dict[str, Any]:
    """Write vectors and ids, some rows at a time; what was written: {"rows", "dim", "bytes", "arrays"}.

    DataError for a path where something else is.

    >>> from hotrow.models import Vectors
    >>> from hotrow.exchange import safetensors
    >>> lamps = Vectors.of(["lantern", "cup"], [[1.0, 0.0], [0.0, 1.0]])
    >>> safetensors.write(lamps, "lamps.safetensors")["arrays"]
    ['ids.offsets', 'vectors', 'ids.utf8']
    """
    ids = ids_of(side)
    before, after = _arrays(side, ids)
    shapes = {name: (dtype, array.shape) for name, (dtype, array) in before.items()}
    shapes["vectors"] = ("F32", (len(ids), side.dim))  # in this order each array is aligned to its type
    shapes |= {name: (dtype, array.shape) for name, (dtype, array) in after.items()}
    with new_file(path, "safetensors file", is_one) as draft:
        with Output(draft) as out:
            out.write(header_of(shapes, {"side": side.name, "ids": side.kind}))
            for _, array in before.values():
                out.write(array)
            for _, vectors in pieces(side, ids, progress):
                out.write(vectors.astype("<f4", copy=False))
            for _, array in after.values():
                out.write(array)
            out.finish()
        return {"rows": len(ids), "dim": side.dim, "bytes": out.size, "arrays": list(shapes)}


_Typed = dict[str, tuple[str, np.ndarray]]


def _arrays(side: Vectors, ids: Any) -> tuple[_Typed, _Typed]:
    """The arrays of ids that come before the vectors, and those after them, with their types by safetensors' names."""
    if side.kind != "string":
        dtype, name = ("<i8", "I64") if side.kind == "int64" else ("<u8", "U64")
        return {"ids": (name, np.ascontiguousarray(ids, dtype))}, {}
    text, offsets = buffers(ids)
    first, last = int(offsets[0]), int(offsets[-1])
    return {"ids.offsets": ("I64", (offsets - first).astype("<i8"))}, {"ids.utf8": ("U8", text[first:last])}
