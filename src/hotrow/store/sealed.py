"""JSON files whose last field is the SHA-256 of every byte before it: no bit of them changes unnoticed.

{
"format": 1,                      all that is said …
"sha256": "d3266b…"               … and 64 digits; then come ", a line feed, } and a line feed
}
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hotrow.errors import ArgumentError, CorruptError
from hotrow.store.files import open_part, reading, size_of
from hotrow.store.strict_json import MalformedError, parse_object

FIELD = "sha256"
LIMIT = 16 << 20
"""Bytes in the description of a model at most: a thousand times what there is, and no danger to read."""
DIGITS = 64
END = b'"\n}\n'


def seal(start: bytes) -> bytes:
    r"""The bytes of a file that begins with `start`, which ends where the digits are to stand.

    >>> seal(b'{\n"rows": 2,\n"sha256": "')[-12:]
    b'12c99151"\n}\n'
    """
    return start + hashlib.sha256(start).hexdigest().encode() + END


def sealed(fields: dict[str, Any]) -> bytes:
    """These fields as JSON, sealed. ArgumentError if a reader would refuse it for its length."""
    text = json.dumps({**fields, FIELD: ""}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    whole = seal(text.encode().removesuffix(END))
    if len(whole) > LIMIT:
        raise ArgumentError(f"a description of {len(whole):,} bytes couldn't be read back; at most {LIMIT:,}")
    return whole


def check_seal(text: bytes) -> str:
    """The digits at the end, if they are the checksum of what comes before; MalformedError otherwise."""
    start, digits = text[: -DIGITS - len(END)], text[-DIGITS - len(END) : -len(END)]
    if not text.endswith(END) or hashlib.sha256(start).hexdigest().encode() != digits:
        raise MalformedError("isn't what was written (its checksum differs)")
    return digits.decode()


def read_whole(path: Path, limit: int) -> bytes:
    """All bytes of a plain file of at most `limit` bytes. CorruptError for anything else: see `files.open_part`."""
    with open_part(path) as file, reading(path):
        if (size := size_of(file)) > limit:
            raise CorruptError(f"{path}: has {size:,} bytes, more than any {path.name}; at most {limit:,}")
        return file.readall()


def read_sealed(path: Path) -> dict[str, Any]:
    """What `sealed` wrote to this file, without the checksum. CorruptError, naming the file, for anything else."""
    text = read_whole(path, LIMIT)
    try:
        digits = check_seal(text)
        fields = parse_object(text)
        if fields.pop(FIELD, None) != digits:
            raise MalformedError(f"{FIELD} isn't its last field")
    except MalformedError as error:
        raise CorruptError(f"{path}: {error}") from error
    return fields
