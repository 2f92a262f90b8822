"""The forms in which data comes: lists, columns, frames, tensors, streams."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np

Path = tuple[Any, ...]

_STREAMS = {"tensorflow.DatasetV2", "torch.DataLoader", "grain.MapDataset", "grain.IterDataset", "grain.DataLoader"}


def is_stream(x: Any) -> bool:
    """Whether it is read batch by batch: a PyDataset, a generator, tf.data, a DataLoader, Keras's own adapters."""
    names = {f"{t.__module__.split('.')[0]}.{t.__name__}" for t in type(x).__mro__}
    return isinstance(x, (keras.utils.PyDataset, Iterator)) or "keras.DataAdapter" in names or bool(names & _STREAMS)


def columns_of(x: Any) -> dict[Any, Any] | None:
    """The columns of a dict, a data frame or an Arrow table by name; None for anything else."""
    if isinstance(x, Mapping):
        return dict(cast("Mapping[Any, Any]", x))
    names = getattr(x, "column_names", getattr(x, "columns", None))  # Arrow's; pandas' and polars'
    if names is None or callable(names) or isinstance(x, np.ndarray):
        return None
    return {str(name): x[name] for name in names}


def to_matrix(columns: dict[Any, Any]) -> np.ndarray:
    """The columns side by side, (n, columns), of the dtype that all of them have, or objects."""
    arrays = [np.asarray(column) for column in columns.values()]
    alike = len({array.dtype for array in arrays}) == 1
    return np.stack([array if alike else array.astype(object) for array in arrays], axis=1)


def is_several(x: Any) -> bool:
    """Whether a list or tuple is of several inputs, and not itself one of ids."""
    return isinstance(x, (list, tuple)) and len(x) > 0 and all(_is_array(item) for item in cast("list[Any]", x))


def _is_array(x: Any) -> bool:
    return getattr(x, "ndim", len(getattr(x, "shape", ()))) >= 1 or hasattr(x, "__arrow_c_stream__")


def to_numbers(x: Any) -> Any:
    """Numbers of a list, or of Arrow's, pandas' or polars' kind, as an array; tensors and arrays as they are."""
    if isinstance(x, (list, tuple, range)) or (hasattr(x, "to_numpy") and not isinstance(x, np.ndarray)):
        return np.asarray(x)
    return x


@dataclass(frozen=True)
class Leaves:
    """What a model takes, as leaves and the structure that they lie in.

    {"user": u, "item": i}  →  leaves {("user",): u, ("item",): i}
    """

    of: dict[Path, Any]
    struct: Any

    @classmethod
    def spread(cls, x: Any, whole: Container[Any] = ()) -> Leaves:
        """Dicts, and lists of several arrays, are structure, but for columns of these names."""
        of: dict[Path, Any] = {}

        def visit(path: Path, x: Any) -> Any:
            columns = columns_of(x) if not path or isinstance(x, Mapping) else None
            if columns is not None:
                return {key: visit((*path, key), value) for key, value in columns.items()}
            if is_several(x) and not (path and path[-1] in whole):
                parts = [visit((*path, place), value) for place, value in enumerate(cast("list[Any]", x))]
                return parts if isinstance(x, list) else tuple(parts)
            of[path] = x
            return path

        return cls(of, visit((), x))

    @classmethod
    def single(cls, x: Any) -> Leaves:
        """One input, whatever it is."""
        return cls({(): x}, ())

    @classmethod
    def by_place(cls, items: Any) -> Leaves:
        """Several inputs, whatever each is."""
        return cls({(place,): item for place, item in enumerate(items)}, [(place,) for place in range(len(items))])

    @classmethod
    def by_name(cls, items: dict[Any, Any]) -> Leaves:
        """Several inputs by name, whatever each is."""
        return cls({(name,): item for name, item in items.items()}, {name: (name,) for name in items})

    def map(self, function: Callable[[Path, Any], Any]) -> Any:
        """The same structure, of what `function` makes of each leaf."""
        return self.fill({path: function(path, leaf) for path, leaf in self.of.items()})

    def fill(self, values: dict[Path, Any]) -> Any:
        """The same structure, of these values."""

        def visit(path: Path, struct: Any) -> Any:
            if path in self.of:
                return values[path]
            if isinstance(struct, dict):
                return {key: visit((*path, key), value) for key, value in cast("dict[Any, Any]", struct).items()}
            parts = [visit((*path, place), value) for place, value in enumerate(struct)]
            return parts if isinstance(struct, list) else tuple(parts)

        return visit((), self.struct)
