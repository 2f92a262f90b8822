"""What a state_dict of torch's holds, as JSON and arrays, and back: no pickle.

A tensor is {"tensor": the name of its array, "dtype": "float32"}, a tuple {"tuple": […]}, a dict
{"dict": [[key, value], …]}, a Counter {"counter": …} of the same, and a number that JSON hasn't {"float": "inf"}.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

from hotrow.errors import ArgumentError, CorruptError

_STORED = {"bfloat16": torch.float32, "bool": torch.uint8, "int16": torch.int32}
"""Types that a file doesn't know, and what holds all their values."""
_DTYPES = {"float16", "float32", "float64", "int8", "int32", "int64", "uint8", *_STORED}


def to_array(tensor: Any, what: str) -> np.ndarray:
    """A copy of a tensor as a file has it. ArgumentError for one that no file has."""
    name = dtype_of(tensor)
    if tensor.layout != torch.strided or name not in _DTYPES:
        raise ArgumentError(
            f"{what} is {'sparse' if tensor.layout != torch.strided else name}; expected a dense tensor of "
            f"{', '.join(sorted(_DTYPES))}"
        )
    return np.array(tensor.detach().to(_STORED.get(name, tensor.dtype)).numpy(force=True))


def dtype_of(tensor: Any) -> str:
    """A tensor's type by its name: "float32"."""
    return str(tensor.dtype).removeprefix("torch.")


def to_tensor(array: np.ndarray, dtype: str) -> Any:
    """The tensor of an array, of the type that it had."""
    return torch.from_numpy(array).to(getattr(torch, dtype))


def encode(value: Any, arrays: dict[str, np.ndarray], what: str) -> Any:
    """A value as JSON; its tensors go to `arrays`, each under a name that begins with `what`.

    ArgumentError for one that can't be written without running code to read it.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, torch.Tensor):
        name = f"{what}.{len(arrays)}"
        arrays[name] = to_array(value, what)
        return {"tensor": name, "dtype": dtype_of(value)}
    if isinstance(value, (int, float, np.number)):
        return _number(value, what)
    if isinstance(value, (tuple, list)):
        items = [encode(item, arrays, what) for item in cast("list[Any]", value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict):
        pairs = cast("dict[Any, Any]", value).items()
        kind = "counter" if isinstance(value, Counter) else "dict"
        return {kind: [[encode(key, arrays, what), encode(item, arrays, what)] for key, item in pairs]}
    raise _refusal(value, what)


def _number(value: Any, what: str) -> Any:
    if isinstance(value, (int, np.integer)):
        return int(value)
    if not isinstance(value, (float, np.floating)):
        raise _refusal(value, what)
    return float(value) if math.isfinite(value) else {"float": str(float(value))}


def _refusal(value: Any, what: str) -> ArgumentError:
    return ArgumentError(
        f"the state of {what} has a {type(value).__name__}, which can't be saved without running code to load it; "
        "expected tensors, numbers, strings, lists, tuples and dicts"
    )


def decode(value: Any, arrays: Mapping[str, np.ndarray], where: str) -> Any:
    """What `encode` was given. CorruptError for what it hasn't returned."""
    if isinstance(value, list):
        return [decode(item, arrays, where) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    try:
        if set(fields) == {"tensor", "dtype"} and fields["dtype"] in _DTYPES:
            return to_tensor(arrays[fields["tensor"]], fields["dtype"])
        ((kind, inner),) = fields.items()
        if kind == "tuple":
            return tuple(decode(inner, arrays, where))
        if kind in {"dict", "counter"}:
            pairs = {decode(key, arrays, where): decode(item, arrays, where) for key, item in inner}
            return Counter(pairs) if kind == "counter" else pairs
        if kind == "float" and inner in {"inf", "-inf", "nan"}:
            return float(inner)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{where}: isn't what a save writes: {error!r:.200}") from error
    raise CorruptError(f"{where}: isn't what a save writes: {value!s:.200}")
