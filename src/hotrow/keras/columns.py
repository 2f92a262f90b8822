"""What a user gives to `fit`, as what Keras takes: ids as codes, lists and Arrow data as arrays, rank 1 as columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import keras
import numpy as np

from hotrow.bridges.codes import encode
from hotrow.errors import ArgumentError, KindError
from hotrow.keras import backend, forms, routes, trial
from hotrow.keras.backend import bridge
from hotrow.keras.forms import Leaves, Path, to_numbers
from hotrow.keras.reading import Reader, encode_column, remember
from hotrow.keras.slicing import Codes


class Columns:
    """How one model's inputs are read: which are ids, and of what rank.

    Which are ids is read off a functional model's graph, and found out by trial where that doesn't tell.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._kinds: dict[Path, bool] = {}
        self._readers: dict[Path, list[Reader]] = {}  # who gets all of a leaf

    def encode(self, x: Any) -> tuple[Any, list[Any], bool]:
        """What Keras takes for x, what must be held while it is used, and whether each sample has a single id.

        Raises what ids are refused with.
        """
        held: list[Any] = []
        single = False
        columns = forms.columns_of(x)

        def leaf(path: Path, value: Any) -> Any:
            nonlocal single
            if not self._kinds[path]:
                return self._lift(path, to_numbers(value))
            readers = self._readers.get(path, [])
            if bridge.is_symbolic(value):
                value = self._encode_in_graph(value, readers)
            else:
                value, words = encode_column(readers, value, columns)
                value = value.view(Codes) if backend.NAME == "torch" else value
                held.append(words)
            value = self._lift(path, value)
            single |= tuple(value.shape[1:]) == (1,)
            return value

        leaves = self._arrange(x)
        self._learn(leaves)
        return leaves.map(leaf), held, single

    def targets(self, y: Any, single: bool) -> Any:
        """y, or sample weights, as Keras takes them.

        single: each sample of x has one id. Then rank 1 becomes a column where the model's output has the rank for it.
        """
        if y is None:
            return None
        outputs = getattr(self.model, "outputs", None) or []  # unknown, of a model that is no graph
        deep = [single and len(output.shape) > 2 for output in outputs]
        names = self._names_of_outputs(outputs)

        def leaf(path: Path, value: Any) -> Any:
            value = to_numbers(value)
            place = path[0] if path else None
            place = names.index(place) if place in names else place
            column = deep[place] if isinstance(place, int) and place < len(deep) else any(deep)
            return value[:, None] if column and len(value.shape) == 1 else value

        columns = forms.columns_of(y)
        if columns is not None and not isinstance(y, Mapping) and len(outputs) < 2:
            y = forms.to_matrix(columns)  # one output: a frame is a matrix, as in Keras
        elif len(outputs) > 1 and isinstance(y, (list, tuple)) and len(y) == len(outputs):
            return Leaves.by_place(y).map(leaf)
        return Leaves.spread(y).map(leaf)

    def _names_of_outputs(self, outputs: Any) -> list[Any]:
        functional = self._functional()
        struct = getattr(functional, "_outputs_struct", None)
        if isinstance(struct, dict):
            keys = {id(tensor): key for key, tensor in struct.items()}
            return [keys.get(id(output)) for output in outputs]
        return list(getattr(functional, "output_names", []))

    def loosen(self, spec: Any) -> Any:
        """The spec of a batch, with no length for what has none in this model: an axis that is None in its Input."""
        x, *others = keras.utils.unpack_x_y_sample_weight(spec)
        lengths: set[int] = set()

        def leaf(path: Path, tensor: Any) -> Any:
            known = self._tensor(path)
            if known is None or len(known.shape) != len(tensor.shape):
                return tensor
            free = [given is None for given in known.shape]
            lengths.update(n for n, is_free in list(zip(tensor.shape, free, strict=True))[1:] if is_free and n != 1)
            return _without(tensor, free)

        def along(tensor: Any) -> Any:
            """Labels of each step of a sequence are as long as it."""
            return _without(tensor, [axis == 1 and n in lengths for axis, n in enumerate(tensor.shape)])

        several = isinstance(x, (list, tuple)) and self._functional() is not None
        x = (Leaves.by_place(x) if several else Leaves.spread(x)).map(leaf)
        others = [None if other is None else keras.tree.map_structure(along, other) for other in others]
        return keras.utils.pack_x_y_sample_weight(tuple(x) if isinstance(x, list) else x, *others)

    # --- structure ---------------------------------------------------------------------------------------------

    def _functional(self) -> Any:
        model = self.model
        return model if hasattr(model, "_nodes_by_depth") else getattr(model, "_functional", None)

    def _arrange(self, x: Any) -> Leaves:
        """x as the model's inputs lie: columns by name, a list for several, a single one bare."""
        functional = self._functional()
        if functional is None:
            return self._arrange_named(x)
        names = [tensor.name for tensor in functional.inputs]
        struct, columns = functional._inputs_struct, forms.columns_of(x)
        if columns is not None:
            return self._by_name(columns, names, framed=not isinstance(x, Mapping))
        if len(names) == 1:
            x = x[0] if isinstance(x, (list, tuple)) and len(x) == 1 and forms.is_several(x) else x
            return Leaves.by_name({next(iter(struct)): x}) if isinstance(struct, dict) else Leaves.single(x)
        if not isinstance(x, (list, tuple)) or len(x) != len(names):
            given = f"{len(x)} of them" if isinstance(x, (list, tuple)) else f"a {type(x).__name__}"
            raise ArgumentError(f"this model has the inputs {names}; expected a list or a dict of them, got {given}")
        items = cast("list[Any]", x)
        return Leaves.by_name(dict(zip(struct, items, strict=True))) if isinstance(struct, dict) else Leaves.by_place(x)

    def _arrange_named(self, x: Any) -> Leaves:
        """x of a model that is no graph; columns that only weigh bags are none of its inputs."""
        named, columns, framed = routes.by_name(self.model), forms.columns_of(x), not isinstance(x, Mapping)
        if named and columns is not None:
            weights = {reader.form[1] for readers in named.values() for reader in readers if reader}
            x = {name: column for name, column in columns.items() if name in named or name not in weights}
            if framed:  # a frame may have more than the model reads
                x = {name: column for name, column in x.items() if name in named or not _is_time(column)}
        leaves = Leaves.spread(x, whole=named)
        for path in leaves.of.keys() - self._kinds.keys():
            if path and path[-1] in named:
                readers = [reader for reader in named[path[-1]] if reader is not None]
                self._kinds[path], self._readers[path] = bool(readers), readers
        return leaves

    def _by_name(self, x: dict[Any, Any], names: list[str], *, framed: bool) -> Leaves:
        struct = self._functional()._inputs_struct
        wanted = list(struct) if isinstance(struct, dict) else names
        missing = [name for name in wanted if name not in x]
        if missing and len(wanted) == 1 and (framed or len(x) == 1):  # no doubt: one input, all that there is
            whole = next(iter(x.values())) if len(x) == 1 else forms.to_matrix(x)
            return Leaves.by_name({wanted[0]: whole}) if isinstance(struct, dict) else Leaves.single(whole)
        if missing:
            raise ArgumentError(f"this model has an input {missing[0]!r}; expected that column, got {list(x)}")
        if isinstance(struct, dict):
            return Leaves.by_name({name: x[name] for name in wanted})
        return Leaves.single(x[wanted[0]]) if len(wanted) == 1 else Leaves.by_place([x[name] for name in wanted])

    def _path(self, place: int) -> Path:
        """Where the leaf lies that goes to an Input of a functional model."""
        functional = self._functional()
        struct, tensor = functional._inputs_struct, functional.inputs[place]
        if isinstance(struct, dict):
            return (next(key for key in struct if struct[key] is tensor),)
        return (place,) if len(functional.inputs) > 1 else ()

    def _tensor(self, path: Path) -> Any:
        """The Input that a leaf goes to, of a functional model."""
        functional = self._functional()
        if functional is None:
            return None
        struct = functional._inputs_struct
        return struct[path[0]] if isinstance(struct, dict) else functional.inputs[path[0] if path else 0]

    def _lift(self, path: Path, value: Any) -> Any:
        tensor = self._tensor(path)
        return value[:, None] if tensor is not None and len(tensor.shape) == 2 and len(value.shape) == 1 else value

    # --- which are ids -----------------------------------------------------------------------------------------

    def learn_graph(self) -> None:
        """Read off a functional model which inputs are ids, and make those int32."""
        functional = self._functional()
        for place, (kind, readers) in enumerate(routes.kinds(functional)):
            if kind:
                routes.retype(functional.inputs[place])
            if kind is not None:
                self._kinds[self._path(place)] = kind
            self._readers[self._path(place)] = readers

    def _learn(self, leaves: Leaves) -> None:
        """Find out which of the leaves are ids, if that isn't known."""
        unknown = [path for path in leaves.of if path not in self._kinds]
        if not unknown:
            return
        if not routes.embeddings(self.model) and self._functional() is not None:
            self._kinds |= dict.fromkeys(unknown, False)
        elif any(bridge.is_symbolic(leaf) for leaf in leaves.of.values()):
            self._kinds |= {path: self._guess(leaves.of[path], len(leaves.of)) for path in unknown}
        else:
            self._kinds |= self._try(leaves, unknown)

    def _try(self, leaves: Leaves, unknown: list[Path]) -> dict[Path, bool]:
        inputs = {path: self._tensor(path) for path in unknown} if self._functional() is not None else {}
        dtypes = {path: tensor.dtype for path, tensor in inputs.items()}
        kinds = dict.fromkeys(unknown, False)
        for tensor in inputs.values():
            routes.retype(tensor)  # or codes would be rounded
        try:
            found = trial.kinds(self.model, leaves, self._kinds, self._lift, self._encode_known)
            kinds = {path: kind for path, (kind, _) in found.items()}
            self._readers |= {path: [Reader(r, r.name) for r in own] for path, (_, own) in found.items()}
        finally:
            for path, tensor in inputs.items():
                if not kinds[path]:
                    routes.retype(tensor, dtypes[path])
        self.model._follow()  # layers that were made only now
        return kinds

    def _encode_known(self, path: Path, head: Any) -> Any:
        return encode_column(self._readers.get(path, []), head, None) if self._kinds.get(path) else encode(head)

    @staticmethod
    def _guess(leaf: Any, leaves: int) -> bool:
        """Of a tensor that can't be tried out."""
        is_float = "float" in str(leaf.dtype)
        if leaves > 1 and not is_float:
            raise ArgumentError(
                "in a graph it can't be tried out which inputs of this model are ids; expected one call outside of it "
                "before, e.g. model(batch)"
            )
        return not is_float

    def _encode_in_graph(self, value: Any, readers: list[Reader]) -> Any:
        """Codes of a tensor that has no value yet, as in a `tf.function` of the user's own."""
        self.refuse_cut()
        if any(reader.takes_bags for reader in readers):
            raise ArgumentError(
                "bags are encoded on the host; expected fit or train_on_batch, or a call outside a graph"
            )

        def function(ids: np.ndarray) -> np.ndarray:
            codes, words = encode(ids)
            remember([words])
            return codes

        return bridge.on_host(function, value, "int32")

    def refuse_cut(self) -> None:
        """KindError where ids come as tensors that the backend has cut."""
        if bridge.refusal() and any(layer.input_dim is None for layer in routes.embeddings(self.model)):
            raise KindError(f"{bridge.refusal()}; expected fit or train_on_batch, which take ids on the host")


def _is_time(column: Any) -> bool:
    """Whether it is of dates or times, which no model reads."""
    return np.asarray(column).dtype.kind in "mM"


def _without(tensor: Any, free: list[bool]) -> Any:
    """The spec of a tensor, with None for the lengths that are free."""
    shape = [None if is_free else n for n, is_free in zip(tensor.shape, free, strict=True)]
    return keras.KerasTensor(shape, tensor.dtype)
