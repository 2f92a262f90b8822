r"""What a self-contained page has inside: the data of a map, in one element of the page.

```
<script type="application/json" id="hotrow-data">{
  "format": 1,
  "info":  …,          as GET /v1/info answers; "sides" has just the side of the map, first and last
  "map":   …,          as GET /v1/map answers; "better" is null, and "columns" are those with a blob below
  "rows":  56123,      of the side: more than the map's "n" where only a spread sample of them is shown
  "metric": "cosine",  of the scores of neighbours
  "said":  ["…"],      sentences on what was left out, to be shown; mostly none
  "blobs": {"points": {"dtype": "float32", "shape": [n, 2], "data": "H4sI…"}, …}
}</script>
```
The page for the server has no such element: that is how it knows.

A blob's "data" is base64 of gzip of bytes, little-endian, row by row. dtype "float32", "int32" and "int16" are arrays
of that "shape"; "json" is UTF-8 text of JSON, a list whose length is shape[0].

| blob | dtype, shape | |
|---|---|---|
| `points` | float32 (n, 2) | x, y |
| `ids` | json (n,) | strings, in the order of the points; of integers as one writes them |
| `column 0`, … | int32 (n,) or float32 (n,) | of map.columns[0], …: codes of a category, −1 none; numbers, NaN none |
| `neighbours` | int32 (n, k) | of each point its k = 10 nearest, nearest first, as positions in the points; −1 none |
| `scores` | int16 (n, k) | 32767 · cosine |
| `weights` | float32 (n, c) | the first c = min(8, dim) floats of each vector, for the one-hot picture |
| `rows` | int32 (n,) | which row of the side each point is; only where a sample is shown, else point i is row i |

`neighbours` and `scores`, or `weights`, may be missing in a page of very many points; `said` then says so.

In the JSON every `<`, `>` and `&` is written as `\u003c`, `\u003e`, `\u0026`, so that no id can end the element.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.maps.map import Map, spread
from hotrow.maps.neighbours import Progress, nearest_of_all
from hotrow.models.folders import Folder
from hotrow.models.sides import Vectors
from hotrow.search import Metadata, Search

FORMAT = 1
K = 10
"""Neighbours of each point."""
MOST_DETAILS = 200_000
"""Points with neighbours and weights at most: of more, they alone would have a hundred megabytes."""
COLUMNS = 8
"""Floats of each vector, for the one-hot picture."""
_DTYPES = {"float32": "<f4", "int32": "<i4", "int16": "<i2"}
_ESCAPED = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def embedded(
    folder: Folder,
    map: Map,
    metadata: Metadata | None = None,
    *,
    most: int,
    column: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What a page has inside, as above: of a map of a side of the folder, at most `most` points of it.

    metadata: of that side; column: which of it gives the colours at first; None: the first. progress: told of the
    search for neighbours. ArgumentError for `most` below 1, and for a column that isn't there, with those that are.
    """
    if most < 1:
        raise ArgumentError(f"a page shows at least one point; got most={most!r}")
    n, vectors = len(map), map.vectors.vectors()
    rows = spread(n, most)
    names = column_names(metadata, column)
    blobs = {"points": _array("float32", map.points[rows]), "ids": _ids(map.ids.take(rows))}
    said: list[str] = []
    if metadata is not None:
        blobs |= {f"column {i}": _column(metadata.columns[name], rows) for i, name in enumerate(names)}
    if len(rows) < n:
        blobs["rows"] = _array("int32", rows)
        said.append(f"A spread sample of {len(rows):,} of the {n:,} points is shown.")
    if len(rows) <= MOST_DETAILS:
        seen = map.vectors if len(rows) == n else Vectors.of(map.ids.take(rows), vectors[rows])
        near, scores = nearest_of_all(Search(seen, metric="cosine"), K, progress)
        blobs["neighbours"] = _array("int32", near)
        blobs["scores"] = _array("int16", np.rint(np.clip(scores, -1, 1) * 32767))
        blobs["weights"] = _array("float32", vectors[rows, :COLUMNS])
    else:
        said.append(f"Neighbours are left out of a page of more than {MOST_DETAILS:,} points; hotrow serve has them.")
    return {
        "format": FORMAT, "info": info(folder, {map.vectors.name: names}, [map.vectors]),
        "map": told(map, metadata, column) | {"n": len(rows)}, "rows": n, "metric": "cosine", "said": said,
        "blobs": blobs,
    }  # fmt: skip


def info(folder: Folder, columns: dict[str, list[str]], sides: list[Vectors] | None = None) -> dict[str, Any]:
    """What a folder is, as GET /v1/info answers. columns: the names of metadata by side; sides: None for all."""
    report = folder.report()
    if report is not None:  # JSON as Python reads it may have NaN, and as a browser does it may not
        report = json.loads(json.dumps(report), parse_constant=lambda _: None)
    return {
        "name": folder.path.resolve().name, "kind": folder.kind, "stamp": folder.stamp,
        "sides": [
            {"name": side.name, "rows": len(side), "dim": side.dim, "kind": side.kind,
             "columns": columns.get(side.name, [])}
            for side in (folder.sides.values() if sides is None else sides)
        ],
        "report": report,
    }  # fmt: skip


def column_names(metadata: Metadata | None, first: str | None = None) -> list[str]:
    """The names of the columns of metadata, with the one that is to be first at the beginning.

    ArgumentError, with those that there are, if it isn't one of them.
    """
    names = [] if metadata is None else list(metadata.columns)
    if first is None:
        return names
    if first not in names:
        raise ArgumentError(f"there is no column {first!r:.100}; there {_are(names)}. A file of metadata may have more")
    return [first, *(name for name in names if name != first)]


def _are(names: list[str]) -> str:
    return f"are {', '.join(map(repr, names))}" if names else "is none at all"


def told(map: Map, metadata: Metadata | None = None, column: str | None = None) -> dict[str, Any]:
    """What a map is, as GET /v1/map answers, with "better" null: whoever makes a better one knows of it.

    column: which of the metadata is to be the first; None: as they are.
    """
    columns = [] if metadata is None else [metadata.columns[name] for name in column_names(metadata, column)]
    return {
        "side": map.vectors.name, "n": len(map), "stamp": map.stamp, "method": map.method, "stale": round(map.stale, 4),
        "sampled": map.sampled, "better": None,
        "columns": [
            {"name": each.name, "kind": each.kind} | ({"values": each.values} if each.kind == "category" else {})
            for each in columns
        ],
    }  # fmt: skip


def element(data: dict[str, Any]) -> str:
    """The element of the page that holds this data; nothing in it can end it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPED)
    return f'<script type="application/json" id="hotrow-data">{text}</script>'


def _column(column: Any, rows: np.ndarray) -> dict[str, Any]:
    if column.kind == "category":
        return _array("int32", column.codes[rows])
    return _array("float32", column.numbers[rows])


def _ids(ids: Any) -> dict[str, Any]:
    text = json.dumps([str(id) for id in ids.tolist()], ensure_ascii=False)
    return {"dtype": "json", "shape": [len(ids)], "data": _packed(text.encode())}


def _array(dtype: str, values: np.ndarray) -> dict[str, Any]:
    array = np.ascontiguousarray(values, _DTYPES[dtype])
    return {"dtype": dtype, "shape": list(array.shape), "data": _packed(array.tobytes())}


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()
