"""Maps on disk, among what is made from the tables: a sealed description, and arrays that it has the checksums of.

derived/maps/item-umap.json                  written last; whatever else there is of a map, it names
derived/maps/item-umap-1f0a….safetensors     points, sketches, the plane, which came late, and ids that are integers
derived/maps/item-umap-1f0a….arrow           ids that are strings
"""

from __future__ import annotations

import hashlib
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hotrow.errors import CorruptError
from hotrow.store.derived import check_no_link
from hotrow.store.files import make_folders, sync_folder, write_durably
from hotrow.store.format import read_arrays, write_arrays
from hotrow.store.manifest import part_from_json, part_to_json
from hotrow.store.sealed import read_sealed, sealed
from hotrow.store.strict_json import MalformedError, natural
from hotrow.store.strings import read_strings, write_strings

FORMAT = 1
SKETCH = 16
"""Floats of each vector that are kept, by which a change of it is noticed."""
_PLAIN = re.compile(r"[a-z0-9_]{1,40}", re.ASCII)
_FIELDS = {"format", "side", "method", "kind", "dim", "rows", "sampled", "arrays", "strings"}


@dataclass(frozen=True)
class Kept:
    """What is on disk of a map.

    arrays   "points" float32 (n, 2), "sketch" float16 (n, SKETCH), "late" uint8 (n,), "centre" float32 (dim,), "axes"
             float32 (dim, 2)
    ids      int64 or uint64 (n,), or an Arrow array of strings
    sampled  how many vectors UMAP has seen; 0 if all
    """

    side: str
    method: str
    kind: str
    dim: int
    sampled: int
    arrays: dict[str, np.ndarray]
    ids: Any


def name_of(side: str, method: str) -> str:
    """How the files of a side's map begin; a column of a classifier may be called anything."""
    plain = side if _PLAIN.fullmatch(side) else hashlib.sha256(side.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{plain}-{method}"


def keep(folder: Path, kept: Kept) -> None:
    """Write a map in place of the one that is there, if one is. OSError with the path, on a full disk for example."""
    name = name_of(kept.side, kept.method)
    check_no_link(folder)
    make_folders(folder)
    own = f"{name}-{secrets.token_hex(8)}"
    written = [folder / f"{own}.safetensors"]
    try:
        strings = None
        arrays = dict(kept.arrays)
        if kept.kind == "string":
            written.append(folder / f"{own}.arrow")
            strings = part_to_json(write_strings(written[1], kept.ids))
        else:
            arrays["ids"] = kept.ids
        fields = {
            "format": FORMAT, "side": kept.side, "method": kept.method, "kind": kept.kind, "dim": kept.dim,
            "rows": len(kept.arrays["points"]), "sampled": kept.sampled,
            "arrays": part_to_json(write_arrays(written[0], arrays)), "strings": strings,
        }  # fmt: skip
        sync_folder(folder)
        write_durably(folder / f"{name}.json", sealed(fields))
    except BaseException:
        _remove(written)
        raise
    _remove([old for old in folder.glob(f"{name}-*") if old not in written])


def remove(folder: Path, side: str, method: str) -> None:
    """Remove the map that is kept of a side, if one is. CorruptError for a link on the way, OSError with the path."""
    name = name_of(side, method)
    check_no_link(folder)
    if folder.is_dir():
        (folder / f"{name}.json").unlink(missing_ok=True)
        _remove(list(folder.glob(f"{name}-*")))
        sync_folder(folder)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()


def read(folder: Path, side: str, method: str) -> Kept | None:
    """The map that is kept of a side; None if none is. CorruptError, naming the file, for what isn't one."""
    name = name_of(side, method)
    check_no_link(folder)
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    fields = read_sealed(path)
    number = fields.get("format")
    if number != FORMAT:
        raise CorruptError(f"{path}: is of format {number!r:.20}, and this hotrow reads {FORMAT}")
    if set(fields) != _FIELDS or not (
        natural(fields["rows"]) and natural(fields["dim"]) and natural(fields["sampled"])
    ):
        raise CorruptError(f"{path}: expected an object of {', '.join(sorted(_FIELDS))}")
    kind = fields["kind"]
    if (fields["side"], fields["method"]) != (side, method) or kind not in {"int64", "uint64", "string"}:
        raise CorruptError(f"{path}: is of another side, or of ids that are no kind")
    return _read(folder, path, name, fields)


def _read(folder: Path, path: Path, name: str, fields: dict[str, Any]) -> Kept:
    kind, rows, dim = fields["kind"], fields["rows"], fields["dim"]
    is_own = re.compile(re.escape(name) + r"-[0-9a-f]{16}\.(safetensors|arrow)")
    expected = {
        "points": ("F32", (rows, 2)), "sketch": ("F16", (rows, SKETCH)), "late": ("U8", (rows,)),
        "centre": ("F32", (dim,)), "axes": ("F32", (dim, 2)),
    }  # fmt: skip
    if kind != "string":
        expected["ids"] = "I64" if kind == "int64" else "U64", (rows,)

    def part_of(told: Any, suffix: str) -> Any:
        def role(file: str) -> str | None:
            return suffix if is_own.fullmatch(file) and file.endswith(suffix) else None

        return part_from_json(told, role)[1]

    try:
        part = part_of(fields["arrays"], ".safetensors")
        texts = part_of(fields["strings"], ".arrow") if kind == "string" else None
    except MalformedError as error:
        raise CorruptError(f"{path}: {error}") from error
    arrays = read_arrays(folder / part.name, expected, part)
    ids = read_strings(folder / texts.name, texts, rows) if texts is not None else arrays.pop("ids")
    return Kept(fields["side"], fields["method"], kind, dim, fields["sampled"], arrays, ids)
