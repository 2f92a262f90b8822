"""What a user gives to `fit`, as what Keras takes: ids as codes, lists and Arrow data as arrays, rank 1 as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import keras
import numpy as np

from hotrow.bridges.codes import Words, encode
from hotrow.errors import ArgumentError, KindError
from hotrow.keras import modes, routes
from hotrow.keras.backend import bridge

Path = tuple[Any, ...]
Leaf = Callable[[Path, Any], Any]


def is_stream(x: Any) -> bool:
    """Whether it is read batch by batch: a PyDataset, a generator, tf.data, a DataLoader, Keras's own adapters."""
    names = {f"{t.__module__.split('.')[0]}.{t.__name__}" for t in type(x).__mro__}
    streams = {"tensorflow.DatasetV2", "torch.DataLoader", "grain.MapDataset", "grain.IterDataset", "grain.DataLoader"}
    known = isinstance(x, (keras.utils.PyDataset, Iterator)) or "keras.DataAdapter" in names
    return known or bool(names & streams)


def columns_of(x: Any) -> Any:
    """A dict of the columns of a data frame or an Arrow table; anything else as it is."""
    if isinstance(x, Mapping):
        return dict(cast("Mapping[Any, Any]", x))
    names = getattr(x, "column_names", getattr(x, "columns", None))  # Arrow's; pandas' and polars'
    if names is None or callable(names) or isinstance(x, np.ndarray):
        return x
    return {str(name): x[name] for name in names}


def is_structure(x: Any) -> bool:
    """Whether a list or tuple is of several inputs, and not itself one of ids."""
    return isinstance(x, (list, tuple)) and len(x) > 0 and all(_is_array(item) for item in cast("list[Any]", x))


def _is_array(x: Any) -> bool:
    return getattr(x, "ndim", len(getattr(x, "shape", ()))) >= 1 or hasattr(x, "__arrow_c_stream__")


def to_numbers(x: Any) -> Any:
    """Numbers of a list, or of Arrow's, pandas' or polars' kind, as an array; tensors and arrays as they are."""
    if isinstance(x, (list, tuple, range)) or (hasattr(x, "to_numpy") and not isinstance(x, np.ndarray)):
        return np.asarray(x)
    return x


class Columns:
    """How one model's inputs are read: which are ids, and of what rank.

    Which are ids is read off a functional model's graph; of any other, a trial tells: two samples go through it, and
    the layers that are hotrow's say which codes have come to them.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._kinds: dict[Path, bool] = {}

    def encode(self, x: Any) -> tuple[Any, list[Words], bool]:
        """What Keras takes for x, what must be held while it is used, and whether some rank 1 became a column.

        Raises what ids are refused with.
        """
        held: list[Words] = []
        lifted = False

        def leaf(path: Path, value: Any) -> Any:
            nonlocal lifted
            if not self._kinds[path]:
                value = to_numbers(value)
            elif bridge.is_symbolic(value):
                value = self._encode_in_graph(value)
            else:
                value, words = encode(value)
                held.append(words)
            column = self._lift(path, value)
            lifted |= column is not value
            return column

        structured = self.arrange(x)
        self._learn(structured)
        return _map(leaf, structured), held, lifted

    # --- structure ---------------------------------------------------------------------------------------------

    def _functional(self) -> Any:
        model = self.model
        return model if hasattr(model, "_nodes_by_depth") else getattr(model, "_functional", None)

    def arrange(self, x: Any) -> Any:
        """x as the model's inputs lie: columns by name, a list for several, a single one bare."""
        x = columns_of(x)
        functional = self._functional()
        if functional is None:
            return x
        names = [tensor._keras_history.operation.name for tensor in functional.inputs]
        if isinstance(x, dict):
            return self._by_name(x, names)
        if len(names) == 1:
            return x[0] if isinstance(x, (list, tuple)) and len(x) == 1 and is_structure(x) else x
        if not isinstance(x, (list, tuple)) or len(x) != len(names):
            given = f"{len(x)} of them" if isinstance(x, (list, tuple)) else f"a {type(x).__name__}"
            raise ArgumentError(f"this model has the inputs {names}; expected a list or a dict of them, got {given}")
        return list(cast("list[Any]", x))

    def _by_name(self, x: dict[str, Any], names: list[str]) -> Any:
        struct = self._functional()._inputs_struct
        wanted = list(struct) if isinstance(struct, dict) else names
        missing = [name for name in wanted if name not in x]
        if missing and len(x) == len(wanted) == 1:  # one column, one input: no doubt
            return next(iter(x.values()))
        if missing:
            raise ArgumentError(f"this model has an input {missing[0]!r}; expected that column, got {list(x)}")
        if len(wanted) == 1 and not isinstance(struct, dict):
            return x[wanted[0]]
        return {name: x[name] for name in wanted} if isinstance(struct, dict) else [x[name] for name in wanted]

    def _tensor(self, path: Path) -> Any:
        """The Input that a leaf goes to, of a functional model."""
        functional = self._functional()
        if functional is None:
            return None
        struct = functional._inputs_struct
        if isinstance(struct, dict) and path:
            return struct[path[0]]
        return functional.inputs[path[0] if path else 0]

    def _rank(self, path: Path) -> int | None:
        tensor = self._tensor(path)
        return None if tensor is None else len(tensor.shape)

    def _lift(self, path: Path, value: Any) -> Any:
        return value[:, None] if len(value.shape) == 1 and self._rank(path) == 2 else value

    # --- which are ids -----------------------------------------------------------------------------------------

    def learn_graph(self) -> None:
        """Read off a functional model which inputs are ids, and make those int32."""
        functional = self._functional()
        struct = functional._inputs_struct
        kinds = routes.kinds(functional)
        for place, (tensor, kind) in enumerate(zip(functional.inputs, kinds, strict=True)):
            if kind is None:
                continue
            if kind:
                routes.retype(tensor)
            name = tensor._keras_history.operation.name
            path: Path = (place,) if isinstance(struct, (list, tuple)) and len(struct) > 1 else ()
            path = (next((key for key in struct if struct[key] is tensor), name),) if isinstance(struct, dict) else path
            self._kinds[path] = kind

    def _learn(self, x: Any) -> None:
        """Find out which of the leaves of x are ids, if that isn't known."""
        leaves = dict(_leaves(x))
        unknown = [path for path in leaves if path not in self._kinds]
        if not unknown:
            return
        layers = routes.embeddings(self.model)
        if not layers and self._functional() is not None:
            self._kinds |= dict.fromkeys(unknown, False)
            return
        if any(bridge.is_symbolic(leaf) for leaf in leaves.values()):
            self._kinds |= {path: self._guess(leaves[path], len(leaves)) for path in unknown}
            return
        candidates = [path for path in unknown if not _is_float(leaves[path])]
        kinds = dict.fromkeys(unknown, False)
        for path in candidates:
            others = {p for p in candidates if p != path and _must_be_id(leaves[p])}
            kinds[path] = self._try(x, path, others) or _must_be_id(leaves[path])
        self._kinds |= kinds
        if self._functional() is not None:
            for path, kind in kinds.items():
                if kind:
                    routes.retype(self._tensor(path))

    @staticmethod
    def _guess(leaf: Any, leaves: int) -> bool:
        """Of a tensor that can't be tried out."""
        if leaves > 1 and "int" in str(leaf.dtype):
            raise ArgumentError(
                "in a graph it can't be tried out which inputs of this model are ids; expected one call outside of it "
                "before, e.g. model(batch)"
            )
        return not _is_float(leaf)

    def _try(self, x: Any, path: Path, others: set[Path]) -> bool:
        """Whether the codes of a leaf come to a hotrow layer; ArgumentError if they are calculated with as well."""
        outputs: list[Any] = []
        came = False
        held: list[Words] = []
        for _ in range(2):  # with two sets of codes: what comes out may not depend on them

            def leaf(here: Path, value: Any) -> Any:
                value = value[:2]
                if here != path and here not in others:
                    return keras.ops.convert_to_tensor(self._lift(here, to_numbers(value)))
                codes, words = encode(value)
                held.append(words)
                return keras.ops.convert_to_tensor(self._lift(here, codes))

            start = len(held)
            tried = _map(leaf, x)
            order = [p for p, _ in _leaves(x) if p == path or p in others]
            words = held[start + order.index(path)]
            with modes.probe() as seen:
                try:
                    out = self.model(tried, **({"training": False} if self.model._call_has_training_arg else {}))
                except Exception:
                    if not others and not came:
                        return False  # numbers that must be small, say; as ids they would have come to a layer
                    raise
            came = any(((codes >= words.base) & (codes < words.base + len(words))).any() for codes in seen)
            if not came:
                return False
            outputs.append([np.asarray(keras.ops.convert_to_numpy(o)) for o in keras.tree.flatten(out)])
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*outputs, strict=True)):
            where = f"input {path[0]!r}" if path else "the input"
            raise ArgumentError(
                f"{where} comes to a hotrow layer, as ids, and is calculated with elsewhere in the model, as numbers; "
                "expected one or the other: give the numbers an input of their own"
            )
        return True

    def _encode_in_graph(self, value: Any) -> Any:
        """Codes of a tensor that has no value yet, as in a `tf.function` of the user's own."""
        if bridge.refusal() and any(layer.input_dim is None for layer in routes.embeddings(self.model)):
            raise KindError(f"{bridge.refusal()}; expected fit or train_on_batch, which take ids on the host")

        def function(ids: np.ndarray) -> np.ndarray:
            codes, words = encode(ids)
            remember([words])
            return codes

        return bridge.on_host(function, value, "int32")


_recent: list[list[Words]] = []
_MOST = 128  # calls of models whose codes are still good


def remember(words: list[Words]) -> None:
    """Hold what a call has encoded until many others have come."""
    _recent.append(words)
    del _recent[:-_MOST]


def _leaves(x: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(x, dict):
        for key, value in cast("dict[Any, Any]", x).items():
            yield (key,), value
    elif is_structure(x):
        for place, value in enumerate(cast("list[Any]", x)):
            yield (place,), value
    else:
        yield (), x


def _map(function: Leaf, x: Any) -> Any:
    """The same structure, of what `function` makes of each leaf."""
    if isinstance(x, dict):
        return {key: function((key,), value) for key, value in cast("dict[Any, Any]", x).items()}
    if is_structure(x):
        return type(x)(function((place,), value) for place, value in enumerate(cast("list[Any]", x)))
    return function((), x)


def _is_float(x: Any) -> bool:
    dtype = getattr(x, "dtype", None)
    if dtype is not None:
        return "float" in str(dtype)
    flat = np.asarray(x[:2], dtype=object).reshape(-1).tolist() if isinstance(x, (list, tuple)) else []
    return bool(flat) and all(isinstance(item, float) for item in flat)


def _must_be_id(x: Any) -> bool:
    """Whether Keras couldn't take it for numbers: strings, or beyond int32."""
    try:
        codes, words = encode(x[:2])
    except Exception:  # noqa: BLE001 — it isn't ids, then
        return False
    del codes
    return words.kind == "string"
