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
from hotrow.keras import modes
from hotrow.keras.embedding import Embedding
from hotrow.keras.features import Features
from hotrow.keras.reading import Reader

_CUTS = {"GetItem", "Take", "Unstack", "Split"}
_MOVES = {
    *_CUTS, "Reshape", "ExpandDims", "Squeeze", "Transpose", "Flatten", "Permute", "RepeatVector", "Concatenate",
    "Stack", "Swapaxes", "Moveaxis", "Flip", "Roll", "Repeat", "Tile", "Identity", "BroadcastTo", "Ravel",
}  # fmt: skip
"""Keras's operations and layers that cut, turn or repeat, and don't calculate."""


@dataclass
class Ends:
    """Where the ways from an input end: hotrow layers, others, and things that can't be looked into.

    ours   the names of the hotrow layers
    whole  those of them that get all of the input
    inner  the inputs of nested models that are passed: (model, which of its inputs)
    """

    ours: list[str] = field(default_factory=list)
    whole: list[Reader] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)
    inner: list[tuple[Any, int]] = field(default_factory=list)


def embeddings(thing: Any) -> list[Embedding]:
    """All hotrow layers in a model or layer."""
    return [layer for layer in thing._flatten_layers() if isinstance(layer, Embedding)]


def by_name(model: Any) -> dict[str, list[Reader | None]]:
    """What reads a column of this name, in the Features layers of a model: None for numbers."""
    readers: dict[str, list[Reader | None]] = {}
    for layer in model._flatten_layers():
        if isinstance(layer, Features):
            for name in layer.features:
                readers.setdefault(name, []).append(layer.reader(name))
    return readers


def kinds(functional: Any) -> list[tuple[bool | None, list[Reader]]]:
    """For each input of a functional model, whether it is ids, and who gets all of it.

    None where only a trial can tell. ArgumentError for one that a hotrow layer and another read.
    """
    return [_kind(tensor, functional) for tensor in functional.inputs]


def _kind(tensor: Any, functional: Any) -> tuple[bool | None, list[Reader]]:
    ends = Ends()
    _walk(tensor, functional, ends, whole=True)
    if ends.ours and ends.others:
        name = tensor._keras_history.operation.name
        raise ArgumentError(
            f"input {name!r} is read by the hotrow layer {ends.ours[0]!r}, as ids, and by {ends.others[0]!r}, as "
            "numbers; expected one or the other: give the numbers an Input of their own"
        )
    for inner, place in ends.inner if ends.ours or ends.opaque else []:
        _let_codes_through(inner, place)
    return (None if ends.opaque else bool(ends.ours)), ends.whole


def _walk(tensor: Any, functional: Any, ends: Ends, *, whole: bool) -> None:
    for node in (node for nodes in functional._nodes_by_depth.values() for node in nodes):
        for place, taken in enumerate(node.arguments.keras_tensors):
            if taken is tensor:
                _visit(node, place, tensor, functional, ends, whole=whole)


def _visit(node: Any, place: int, tensor: Any, functional: Any, ends: Ends, *, whole: bool) -> None:
    operation = node.operation
    inside = operation if hasattr(operation, "_nodes_by_depth") else getattr(operation, "_functional", None)
    if isinstance(operation, Embedding):
        ends.ours.append(operation.name)
        ends.whole += [Reader(operation, operation.name)] if whole else []
    elif isinstance(operation, Features):
        _visit_features(operation, node, tensor, ends, {n: [operation.reader(n)] for n in operation.features}, whole)
    elif inside is not None and place < len(inside.inputs):
        ends.inner.append((inside, place))
        _walk(inside.inputs[place], inside, ends, whole=whole)
    elif isinstance(operation, keras.layers.Layer) and embeddings(operation):
        named = by_name(operation)
        if not named or not _visit_features(operation, node, tensor, ends, named, whole):
            ends.opaque.append(operation.name)
    elif _only_moves(operation) and _is_moved(tensor, node.arguments):
        for output in node.outputs:
            _walk(output, functional, ends, whole=whole and type(operation).__name__ not in _CUTS)
    else:
        ends.others.append(operation.name)


def _visit_features(
    layer: Any, node: Any, tensor: Any, ends: Ends, named: dict[str, list[Reader | None]], whole: bool
) -> bool:
    """Whether a layer gets the tensor by the name of a feature, of its own or of one within it."""
    first = next(iter((*node.arguments.args, *node.arguments.kwargs.values())), None)
    names = [name for name, taken in first.items() if taken is tensor] if isinstance(first, dict) else []
    for reader in (reader for name in names for reader in named.get(name, ())):
        if reader is None:
            ends.others.append(f"{layer.name}{names}")
            continue
        if reader.takes_bags and not whole:
            raise ArgumentError(
                f"{reader.name} takes a bag for each example, and what it is given was cut or moved; expected an "
                "Input as it is, as of features.inputs()"
            )
        ends.ours.append(reader.name)
        ends.whole += [reader] if whole and reader not in ends.whole else []
    return any(name in named for name in names)


def _is_moved(tensor: Any, arguments: Any) -> bool:
    """Whether it is what an operation moves, its first argument, and doesn't tell where to."""
    first = next(iter((*arguments.args, *arguments.kwargs.values())))
    return any(taken is tensor for taken in keras.tree.flatten(first))


def _only_moves(operation: Any) -> bool:
    kind = type(operation)
    casts = kind.__name__ == "Cast" and str(operation.dtype) in {"int32", "int64"}
    return casts or (kind.__name__ in _MOVES and kind.__module__.startswith("keras."))


def retype(tensor: Any, dtype: str = "int32") -> None:
    """Make an Input of ids int32: Keras's are float32 by default, exact only below 2**24, and codes are int32."""
    tensor._dtype = dtype
    tensor._keras_history.operation._dtype = dtype


def _let_codes_through(model: Any, place: int) -> None:
    """Within a hotrow model, an input of a model nested in it gets codes as they are, whatever dtype its Input has."""
    known: set[int] | None = model.__dict__.get("_places_of_codes")
    places: set[int] = {place} if known is None else known
    places.add(place)
    if known is not None:
        return
    convert = model._convert_inputs_to_tensors

    def convert_all_but_codes(inputs: list[Any]) -> list[Any]:
        converted = convert(inputs)
        if modes.are_codes():
            for i in places:
                converted[i] = keras.ops.convert_to_tensor(inputs[i])
        return converted

    object.__setattr__(model, "_convert_inputs_to_tensors", convert_all_but_codes)
    object.__setattr__(model, "_places_of_codes", places)
