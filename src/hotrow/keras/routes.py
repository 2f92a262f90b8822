"""Which inputs of a model are ids: those whose every way leads to a hotrow layer, untouched.

user  ─▶ x[:, 0] ─▶ Embedding                ids
user  ─▶ Embedding, and ─▶ Dense             refused: a number for one, an id for the other
price ─▶ Dense                               numbers
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras

from hotrow.errors import ArgumentError
from hotrow.keras.embedding import Embedding

_MOVES = {
    "GetItem", "Reshape", "ExpandDims", "Squeeze", "Transpose", "Flatten", "Permute", "RepeatVector", "Take",
    "Concatenate", "Stack", "Unstack", "Split", "Swapaxes", "Moveaxis", "Flip", "Roll", "Repeat", "Tile", "Identity",
    "BroadcastTo", "Ravel",
}  # fmt: skip
"""Keras's operations and layers that cut, turn or repeat, and don't calculate."""


@dataclass
class Ends:
    """Where the ways from an input end: hotrow layers, others, and things that can't be looked into."""

    ours: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)


def embeddings(thing: Any) -> list[Embedding]:
    """All hotrow layers in a model or layer."""
    return [layer for layer in thing._flatten_layers() if isinstance(layer, Embedding)]


def kinds(functional: Any) -> list[bool | None]:
    """For each input of a functional model, whether it is ids; None where only a trial can tell.

    ArgumentError for one that a hotrow layer and another read.
    """
    return [_kind(tensor, functional) for tensor in functional.inputs]


def _kind(tensor: Any, functional: Any) -> bool | None:
    ends = Ends()
    _walk(tensor, functional, ends)
    if ends.ours and ends.others:
        name = tensor._keras_history.operation.name
        raise ArgumentError(
            f"input {name!r} is read by the hotrow layer {ends.ours[0]!r}, as ids, and by {ends.others[0]!r}, as "
            "numbers; expected one or the other: give the numbers an Input of their own"
        )
    if ends.ours:
        return True
    return None if ends.opaque else False


def _walk(tensor: Any, functional: Any, ends: Ends) -> None:
    for node in (node for nodes in functional._nodes_by_depth.values() for node in nodes):
        for place, taken in enumerate(node.arguments.keras_tensors):
            if taken is tensor:
                _visit(node, place, functional, ends)


def _visit(node: Any, place: int, functional: Any, ends: Ends) -> None:
    operation = node.operation
    inside = operation if hasattr(operation, "_nodes_by_depth") else getattr(operation, "_functional", None)
    if isinstance(operation, Embedding):
        ends.ours.append(operation.name)
    elif inside is not None and place < len(inside.inputs):
        _walk(inside.inputs[place], inside, ends)
    elif isinstance(operation, keras.layers.Layer) and embeddings(operation):
        ends.opaque.append(operation.name)
    elif _only_moves(operation):
        for output in node.outputs:
            _walk(output, functional, ends)
    else:
        ends.others.append(operation.name)


def _only_moves(operation: Any) -> bool:
    kind = type(operation)
    casts = kind.__name__ == "Cast" and "int" in str(operation.dtype)
    return casts or (kind.__name__ in _MOVES and kind.__module__.startswith("keras."))


def retype(tensor: Any) -> None:
    """Make an Input of ids int32: Keras's are float32 by default, exact only below 2**24, and codes are int32."""
    tensor._dtype = "int32"
    tensor._keras_history.operation._dtype = "int32"
