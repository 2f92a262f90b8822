"""What goes between a table and its shards: a header, and arrays as they lie in memory. Reading it executes nothing.

part 0   JSON: {"what": "step", "arrays": [["<u8", [3]], ["<f4", [3, 32]]], …}
part 1…  the bytes of each array
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from hotrow.cluster.arena import Arena, Arenas
from hotrow.errors import ClusterError
from hotrow.kernels import readonly

KINDS = {"u1": np.uint8, "i4": np.int32, "i8": np.int64, "u8": np.uint64, "f4": np.float32}
Parts = list[Any]


def encode(
    fields: dict[str, Any],
    arrays: Sequence[np.ndarray] = (),
    arena: Arena | None = None,
    room: Sequence[np.ndarray] = (),
) -> Parts:
    """A message: `fields` are JSON values; arrays of the KINDS are made contiguous, and not copied if they are.

    arena  that whoever gets it knows: what lies in it isn't sent
    room   arrays in it for the answer, which are written there
    """
    whole = [np.ascontiguousarray(array) for array in arrays]
    told: list[list[Any]] = [[array.dtype.str[1:], array.shape] for array in whole]
    places = [None if arena is None else arena.place(array) for array in whole]
    for one, place in zip(told, places, strict=True):
        if place is not None:
            one.append(place)
    if arena is not None and (room or any(place is not None for place in places)):
        fields = {**fields, "arena": arena.name[-1], "room": [_told(arena, array) for array in room]}
    return [
        json.dumps({**fields, "arrays": told}).encode(),
        *(
            array.data.cast("B") if array.size and place is None else b""
            for array, place in zip(whole, places, strict=True)
        ),
    ]


def _told(arena: Arena, array: np.ndarray) -> list[Any]:
    return [array.dtype.str[1:], array.shape, arena.place(array)]


def size(parts: Parts) -> int:
    """Its bytes."""
    return sum(len(part) for part in parts)


def decode(parts: Parts, arenas: Arenas | None = None) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The fields and arrays of a message, which are views of it, read-only. ClusterError for what isn't one.

    arenas  in which arrays may lie, and room for an answer, which then is "room" of the fields
    """
    try:
        fields = json.loads(bytes(parts[0]))
        told, token = fields.pop("arrays"), fields.pop("arena", None)
        if arenas is not None and token is not None:
            fields["room"] = [arenas.array(token, one[2], KINDS[one[0]], one[1]) for one in fields["room"]]
            arrays = [
                readonly(arenas.array(token, one[2], KINDS[one[0]], one[1])) if len(one) > 2 else _array(part, *one)
                for part, one in zip(parts[1:], told, strict=True)
            ]
        else:
            arrays = [_array(part, *one) for part, one in zip(parts[1:], told, strict=True)]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ClusterError(f"got a message that isn't one of hotrow's: {error}") from error
    return fields, arrays


def _array(part: Any, kind: str, shape: list[int]) -> np.ndarray:
    view = memoryview(getattr(part, "buffer", part))
    array = np.frombuffer(view, KINDS[kind]).reshape(shape)
    return array if array.flags.aligned else array.copy()
