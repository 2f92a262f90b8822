"""The small file that says what belongs to a checkpoint, and the names of the others, which follow from its numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from hotrow.errors import CorruptError, DataError
from hotrow.store.files import Part, reading
from hotrow.store.format import DTYPES, Expected
from hotrow.store.lock import NAME as LOCK
from hotrow.store.manifest import generations_from_json, generations_to_json, library, part_from_json, part_to_json
from hotrow.store.sealed import read_sealed, sealed
from hotrow.store.strict_json import MalformedError, natural, naturals
from hotrow.table.kept import Saved

FORMAT = 1
_FIELDS = {"format", "library", "deltas", "facts", "net", "arrays", "tables"}
_JSON = re.compile(r"checkpoint-(\d{6,18})\.json", re.ASCII)
_NET = re.compile(r"net-(\d{6,18})\.safetensors", re.ASCII)
_TABLE = re.compile(r"table-([1-9]\d{0,5})", re.ASCII)


@dataclass(frozen=True)
class Description:
    """What the JSON file of a checkpoint says.

    deltas  checkpoints since the last one whose tables are whole; 0 if these are
    facts   what the writer has to say: the step, the epoch; any JSON
    arrays  name → dtype by its safetensors name, and shape, of what is in the net's file
    tables  of each, its generation and the checksum of that one's manifest
    """

    number: int
    deltas: int
    facts: dict[str, Any]
    arrays: Expected
    net: Part
    tables: list[tuple[int, str]]


# --- names -----------------------------------------------------------------------------------------------------------


def json_file(root: Path, number: int) -> Path:
    """Without it the checkpoint doesn't exist."""
    return root / f"checkpoint-{number:06d}.json"


def net_file(root: Path, number: int) -> Path:
    """The arrays of a checkpoint."""
    return root / f"net-{number:06d}.safetensors"


def table_folder(root: Path, at: int) -> Path:
    """Where a table is, the first at 0. CorruptError for a link, by which a save would write and remove elsewhere."""
    path = root / f"table-{at + 1}"
    if path.is_symlink():
        raise CorruptError(f"{path}: is a symbolic link, and a checkpoint has none")
    return path


def numbers(root: Path) -> list[int]:
    """The numbers of the checkpoints in a folder, rising."""
    return _numbered(_JSON, root)


def nets(root: Path) -> list[int]:
    """The numbers of which there are arrays, rising."""
    return _numbered(_NET, root)


def tables(root: Path) -> list[int]:
    """The places of the tables that have a folder, from 0 on."""
    found = map(_TABLE.fullmatch, _names(root))
    return sorted(int(match[1]) - 1 for match in found if match and (root / match[0]).is_dir())


def strangers(root: Path) -> list[str]:
    """What is in a folder without a checkpoint that no first one, which never ended, has left."""
    names = _names(root)
    ours = (_JSON, _NET, _TABLE) if LOCK in names else ()
    return sorted(name for name in names if name != LOCK and not any(one.match(name) for one in ours))


def _numbered(pattern: re.Pattern[str], root: Path) -> list[int]:
    found = [match for match in map(pattern.fullmatch, _names(root)) if match]
    return sorted(int(match[1]) for match in found if match[1] == f"{int(match[1]):06d}")


def _names(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    with reading(root):
        return os.listdir(root)


# --- the file --------------------------------------------------------------------------------------------------------


def encode(
    net: Part, arrays: Mapping[str, np.ndarray], saved: Sequence[Saved], facts: dict[str, Any], deltas: int
) -> bytes:
    """The bytes of the file."""
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    return sealed(
        {
            "format": FORMAT,
            "library": library(),
            "deltas": deltas,
            "facts": facts,
            "net": part_to_json(net),
            "arrays": {name: [names[array.dtype], list(array.shape)] for name, array in arrays.items()},
            "tables": generations_to_json(saved),
        }
    )


def describe(root: Path, number: int) -> Description:
    """What the file of a checkpoint says, its checksum and every field checked.

    CorruptError names the file; DataError if it takes a newer hotrow to read it.
    """
    path = json_file(root, number)
    fields = read_sealed(path)
    found = fields.get("format")
    if type(found) is int and found > FORMAT:
        raise DataError(
            f"{path}: is of format {found}, and this hotrow reads format {FORMAT}: pip install --upgrade hotrow"
        )
    deltas, facts = fields.get("deltas"), fields.get("facts")
    arrays, of_tables = _arrays(fields.get("arrays")), generations_from_json(fields.get("tables"))
    if set(fields) != _FIELDS or type(found) is not int or found != FORMAT:
        raise CorruptError(f"{path}: expected an object of {', '.join(sorted(_FIELDS))}, as a save writes")
    if not isinstance(facts, dict) or not natural(deltas) or arrays is None or of_tables is None:
        raise CorruptError(f"{path}: has facts, numbers, arrays or tables that can't be")
    own = net_file(root, number).name
    try:
        _, net = part_from_json(fields["net"], lambda name: name if name == own else None)
    except MalformedError as error:
        raise CorruptError(f"{path}: {error}") from error
    return Description(number, deltas, cast("dict[str, Any]", facts), arrays, net, of_tables)


def _arrays(value: Any) -> Expected | None:
    if not isinstance(value, dict):
        return None
    found: dict[str, tuple[str, tuple[int | None, ...]]] = {}
    for name, entry in cast("dict[str, Any]", value).items():
        if not isinstance(entry, list) or len(cast("list[Any]", entry)) != 2:
            return None
        dtype, shape = cast("list[Any]", entry)
        lengths = naturals(shape)
        if type(dtype) is not str or dtype not in DTYPES or lengths is None:
            return None
        found[name] = dtype, lengths
    return found
