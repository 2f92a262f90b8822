"""The files of TensorBoard's Embedding Projector, in a folder: vectors, labels, and the configurations that name them.

```
tensors.tsv             a line an id: its numbers, with tabs between them
metadata.tsv            a line an id: the id; with more columns the first line has their names
projector_config.pbtxt  for `tensorboard --logdir` of that folder
projector_config.json   for the projector in a browser, once the folder is on a web server
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotrow.errors import DataError
from hotrow.exchange.escaping import escape
from hotrow.exchange.leaving import Progress, check_length, ids_of, pieces, put
from hotrow.exchange.word2vec import joined
from hotrow.store.files import write_durably

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.models.folders import Vectors

TENSORS, METADATA = "tensors.tsv", "metadata.tsv"
CONFIGS = "projector_config.pbtxt", "projector_config.json"
SHOWN = 100_000
"""The projector takes no more points than that, and leaves out the others."""


def write(
    side: Vectors,
    path: str | PathLike[str],
    *,
    columns: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the four files into a folder, new or one of these; what was written: {"rows", "dim", "bytes", "escaped"}.

    columns  name → a list of a value for each id, in the order of `side.ids()`; None is written as nothing
    escaped  how many ids have line breaks or other control characters, which are written as %XX

    ArgumentError for columns of another length, DataError for a path where something else is.
    """
    folder = _check_folder(Path(path))
    ids = ids_of(side)
    for name, values in (columns or {}).items():
        check_length(name, values, len(ids))
    folder.mkdir(exist_ok=True)
    for name in CONFIGS:  # they come last: until then there is no half of the new beside half of the old
        (folder / name).unlink(missing_ok=True)
    escaped = 0
    with ExitStack() as stack:
        drafts = {name: folder / f".{name}.draft" for name in (TENSORS, METADATA)}
        for draft in drafts.values():
            stack.callback(draft.unlink, missing_ok=True)
        tensors, labels = (stack.enter_context(one.open("w", encoding="utf-8", newline="")) for one in drafts.values())
        if columns:
            labels.write("\t".join(["id", *(escape(name, blanks=False) for name in columns)]) + "\n")
        start = 0
        for part, vectors in pieces(side, ids, progress, text=True):
            stop = start + len(part)
            texts = part.to_pylist() if side.kind == "string" else [str(id) for id in part.tolist()]
            words = [escape(text, blanks=False) for text in texts]
            escaped += sum(word != text for word, text in zip(words, texts, strict=True))
            more = [_fields(values[start:stop]) for values in (columns or {}).values()]
            labels.writelines("\t".join(line) + "\n" for line in zip(words, *more, strict=True))
            tensors.writelines(line + "\n" for line in joined(vectors, "\t"))
            start = stop
        tensors.close()
        labels.close()
        for name, draft in drafts.items():
            put(draft, folder / name)
    _write_configs(folder, side, len(ids))
    size = sum((folder / name).stat().st_size for name in (TENSORS, METADATA, *CONFIGS))
    return {"rows": len(ids), "dim": side.dim, "bytes": size, "escaped": escaped}


def _check_folder(folder: Path) -> Path:
    """A folder that is new, empty or the projector's: nothing else is written into."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; the projector takes a folder")
    ours = {TENSORS, METADATA, *CONFIGS}
    strange = [one.name for one in folder.iterdir() if one.name not in ours] if folder.is_dir() else []
    strange = [name for name in strange if not name.endswith(".draft")]
    if strange:
        raise DataError(f"{folder} holds something else than a projector's files ({strange[0]}); give another folder")
    if not folder.parent.is_dir():
        raise DataError(f"{folder.parent} is no folder: make it first, or give another name than {folder}")
    return folder


def _fields(values: Any) -> list[str]:
    return ["" if value is None else escape(str(value), blanks=False) for value in values]


def _write_configs(folder: Path, side: Vectors, rows: int) -> None:
    name = json.dumps(escape(side.name, blanks=False), ensure_ascii=False)  # the quotes are those of protobuf, too
    text = f"embeddings {{\n  tensor_name: {name}\n  tensor_path: {json.dumps(TENSORS)}\n  metadata_path: "
    write_durably(folder / CONFIGS[0], f"{text}{json.dumps(METADATA)}\n}}\n".encode())
    one = {"tensorName": side.name, "tensorShape": [rows, side.dim], "tensorPath": TENSORS, "metadataPath": METADATA}
    write_durably(folder / CONFIGS[1], (json.dumps({"embeddings": [one]}, indent=1) + "\n").encode())
