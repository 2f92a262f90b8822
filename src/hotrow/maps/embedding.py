"""What a self-contained page has inside: the data of a map, in one element of the page.

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

A blob's "data" is base64 of gzip of bytes, little-endian, row by row. dtype "float32", "int32" and "int16" are arrays of
that "shape"; "json" is UTF-8 text of JSON, a list whose length is shape[0].

| blob | dtype, shape | |
|---|---|---|
| `points` | float32 (n, 2) | x, y |
| `ids` | json (n,) | strings, in the order of the points; of integers as one writes them |
| `column 0`, `column 1`, … | int32 (n,) or float32 (n,) | of map.columns[0], …: codes of a category, −1 none; numbers, NaN none |
| `neighbours` | int32 (n, k) | of each point its k = 10 nearest, nearest first, as positions in the points; −1 none |
| `scores` | int16 (n, k) | 32767 · cosine |
| `weights` | float32 (n, c) | the first c = min(8, dim) floats of each vector, for the one-hot picture |
| `rows` | int32 (n,) | which row of the side each point is; only where a sample is shown, else point i is row i |

`neighbours` and `scores`, or `weights`, may be missing in a page of very many points; `said` then says so.

In the JSON every `<`, `>` and `&` is written as `\\u003c`, `\\u003e`, `\\u0026`, so that no id can end the element.
"""
