"""The list of what a generation is made of, with the checksum of everything. Written last: no manifest, no snapshot."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np

from hotrow.errors import ArgumentError, CorruptError, DataError
from hotrow.store.files import Part
from hotrow.store.sealed import DIGITS, END, check_seal, read_whole, seal
from hotrow.store.strict_json import MalformedError, natural, naturals, object_of, parse_object
from hotrow.table.kept import Saved

NAME = "manifest.json"
FORMAT = 1
LIMIT = 64 << 20
"""Bytes in a manifest at most: enough to list terabytes, and no danger to read."""

KEYS, WEIGHTS, INDEX, STRINGS = "keys.safetensors", "weights.safetensors", "index.safetensors", "strings.arrow"
GONE = "gone.safetensors"
SLOT = re.compile(r"slot-([A-Za-z0-9_]{1,64})\.safetensors", re.ASCII)
_NAME = re.compile(r"(?:rewritten-(?!0)\d{1,9}-)?([A-Za-z0-9_.-]{1,100})", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FIELDS = {"format", "library", "parent", "stands_for", "rows", "config", "files", "sha256"}


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    rows        n, the length of every array
    config      the table's, see `State`
    parts       what it is ("weights.safetensors") → Part, in the order they were written
    parent      checksum of the manifest that it is a change to; None for a whole table
    stands_for  checksums of manifests in whose place this one is taken as a parent: those it had itself before ids were
                taken out of this generation, and that of the delta that it is a snapshot of
    library     what wrote it
    sha256      the checksum of this manifest, and so the name of this generation's content
    """

    rows: int
    config: dict[str, Any]
    parts: dict[str, Part]
    parent: str | None = None
    stands_for: tuple[str, ...] = ()
    library: str = ""
    sha256: str = ""

    def slots(self) -> list[str]:
        """Names of the optimizer's arrays."""
        return [found[1] for found in map(SLOT.fullmatch, self.parts) if found]

    def names(self) -> set[str]:
        """The checksums by which a change may know this generation."""
        return {self.sha256, *self.stands_for}


def slot_file(name: str) -> str:
    """The file of one optimizer array: `slot-momentum.safetensors`."""
    return f"slot-{name}.safetensors"


def role_of(name: str) -> str | None:
    """What a file of this name holds, "weights.safetensors" for one; None if no snapshot has such a file.

    No other file is ever opened. One that was rewritten is called, for example, rewritten-1-weights.safetensors.
    """
    found = _NAME.fullmatch(name)
    if found is None or not (found[1] in {KEYS, WEIGHTS, INDEX, STRINGS, GONE} or SLOT.fullmatch(found[1])):
        return None
    return found[1]


# --- write -----------------------------------------------------------------------------------------------------


def encode(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`, one field and one file a line. ArgumentError if a reader would refuse it."""
    fields = {
        "format": FORMAT,
        "library": manifest.library or library(),
        "parent": manifest.parent,
        "stands_for": list(manifest.stands_for),
        "rows": manifest.rows,
        "config": manifest.config,
    }
    lines = [f'"{name}": {json.dumps(value, allow_nan=False)}' for name, value in fields.items()]
    files = ",\n".join(json.dumps(part_to_json(part)) for part in manifest.parts.values())
    start = ("{\n" + ",\n".join(lines) + f',\n"files": [\n{files}\n],\n"sha256": "').encode()
    if len(start) > LIMIT - DIGITS - len(END):
        raise ArgumentError(f"a manifest of {len(start):,} bytes couldn't be read back; at most {LIMIT:,}")
    return seal(start)


def sha256_of(text: bytes) -> str:
    """The checksum at the end of the bytes of a manifest."""
    return text[-DIGITS - len(END) : -len(END)].decode()


def library() -> str:
    """Name and version of what writes, for the reader of a manifest: no code depends on it."""
    try:
        return f"hotrow {metadata.version('hotrow')}"
    except metadata.PackageNotFoundError:  # a source tree that isn't installed
        return "hotrow"


def part_to_json(part: Part) -> dict[str, Any]:
    """A file's entry in the list of what belongs together."""
    sums = np.array(part.crc32, ">u4").tobytes().hex()
    fields = {"name": part.name, "bytes": part.size, "chunk": part.chunk, "crc32": sums}
    return fields | ({"at": {name: list(span) for name, span in part.at.items()}} if part.at else {})


# --- read ------------------------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a generation's folder, its checksum and every field checked.

    CorruptError names the file and what is wrong; DataError if it takes a newer hotrow to read it.
    """
    path = folder / NAME
    if folder.is_symlink():
        raise CorruptError(f"{folder}: is a symbolic link, and a snapshot has none")
    text = read_whole(path, LIMIT)
    try:
        return decode(text)
    except MalformedError as error:
        raise CorruptError(f"{path}: {error}") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def decode(text: bytes) -> Manifest:
    """The manifest in `text`. MalformedError, or DataError for a later format."""
    digits = check_seal(text)
    fields = parse_object(text)
    found = fields.get("format")
    if type(found) is int and found > FORMAT:
        raise DataError(f"is of format {found}, and this hotrow reads format {FORMAT}: pip install --upgrade hotrow")
    if type(found) is not int or found != FORMAT or set(fields) != _FIELDS:
        raise MalformedError(f"has the fields {sorted(fields)}, expected {sorted(_FIELDS)} with format {FORMAT}")
    config, rows, files = fields["config"], fields["rows"], fields["files"]
    if not isinstance(config, dict) or not natural(rows) or not isinstance(files, list):
        raise MalformedError("config isn't an object, rows not a number, or files not a list")
    if type(fields["library"]) is not str or fields["sha256"] != digits:
        raise MalformedError("library isn't text, or sha256 isn't the last field")
    parent, stands_for = fields["parent"], fields["stands_for"]
    if not (parent is None or is_sha256(parent)) or not isinstance(stands_for, list):
        raise MalformedError("parent or stands_for aren't checksums")
    before = tuple(cast("list[str]", stands_for))
    if not all(map(is_sha256, before)):
        raise MalformedError("stands_for has something else than checksums")
    parts = _parts(cast("list[Any]", files), KEYS, WEIGHTS, INDEX if parent is None else GONE)
    return Manifest(rows, cast("dict[str, Any]", config), parts, parent, before, fields["library"], digits)


def is_sha256(value: Any) -> bool:
    """Whether it is the checksum of a manifest."""
    return type(value) is str and _SHA256.fullmatch(value) is not None


def generations_to_json(saved: Sequence[Saved]) -> list[dict[str, Any]]:
    """Generations of tables, as they were saved, each with the checksum of its manifest."""
    return [{"generation": one.generation, "manifest": one.sha256} for one in saved]


def generations_from_json(value: Any) -> list[tuple[int, str]] | None:
    """The numbers and checksums that `generations_to_json` has told; None for what it can't have."""
    if not isinstance(value, list):
        return None
    found: list[tuple[int, str]] = []
    for entry in cast("list[Any]", value):
        fields = object_of(entry, {"generation", "manifest"})
        if fields is None or not natural(fields["generation"]) or not is_sha256(fields["manifest"]):
            return None
        found.append((fields["generation"], fields["manifest"]))
    return found


def _parts(files: list[Any], *needed: str) -> dict[str, Part]:
    parts = [part_from_json(entry, role_of) for entry in files]
    found = dict(parts)
    if len(found) < len(parts) or not set(needed) <= set(found) or {INDEX, GONE} <= set(found):
        raise MalformedError(f"lists the files {[part.name for _, part in parts]!s:.500}: one twice, or one missing")
    return found


def part_from_json(entry: Any, role_of: Callable[[str], str | None]) -> tuple[str, Part]:
    """What the file of an entry is, by its name, and the file; MalformedError if it can't be one.

    role_of  what a file of that name is, None for a name that no file here has
    """
    required = {"name", "bytes", "chunk", "crc32"}
    fields = object_of(entry, required) or object_of(entry, required | {"at"})
    role = role_of(fields["name"]) if fields is not None and type(fields["name"]) is str else None
    if fields is None or role is None:
        raise MalformedError(f"lists a file that no snapshot has, nor a model: {entry!s:.200}")
    size, chunk, sums = fields["bytes"], fields["chunk"], _sums(fields["crc32"])
    if not (natural(size) and natural(chunk) and 1 << 12 <= chunk <= 1 << 26) or sums is None:
        raise MalformedError(f"lists {fields['name']} with sizes or checksums that can't be")
    if len(sums) != -(-size // chunk):
        raise MalformedError(f"lists {len(sums)} checksums for {fields['name']}, which has {-(-size // chunk)} chunks")
    return role, Part(fields["name"], size, chunk, sums, _places(fields.get("at", {}), size))


def _sums(value: Any) -> tuple[int, ...] | None:
    """The numbers of 32 bits in hexadecimal digits, eight each; None for anything else."""
    try:
        data = bytes.fromhex(value)
    except (TypeError, ValueError):
        return None
    if len(value) != 2 * len(data) or len(data) % 4:  # blanks between, or half a number
        return None
    return tuple(np.frombuffer(data, ">u4").tolist())


def _places(value: Any, size: int) -> dict[str, tuple[int, int]]:
    """The `at` of a file: spans within it."""
    if not isinstance(value, dict):
        raise MalformedError("lists places that aren't an object")
    places: dict[str, tuple[int, int]] = {}
    for name, span in cast("dict[str, Any]", value).items():
        numbers = naturals(span)
        if numbers is None or len(numbers) != 2 or not numbers[0] <= numbers[1] <= size:
            raise MalformedError(f"lists a place outside its file: {name!r}, {span!s:.100}")
        places[name] = (numbers[0], numbers[1])
    return places
