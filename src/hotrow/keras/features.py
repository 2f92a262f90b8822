"""`hotrow.keras.Features`: all features of a model in one layer, whose tables are crossed to at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.backend.common.masking import set_keras_mask

from hotrow.bridges.crossing import Crossing, Way
from hotrow.errors import ArgumentError
from hotrow.keras import feature as feature_
from hotrow.keras import forms, modes, settings
from hotrow.keras.backend import bridge
from hotrow.keras.embedding import Embedding
from hotrow.keras.feature import OF_A_TABLE, Feature, Id, Number, Sequence
from hotrow.keras.reading import Reader, encode_column, remember
from hotrow.table.table import Table

_MODES = ("dict", "concat")


@keras.saving.register_keras_serializable("hotrow")
class Features(keras.layers.Layer):
    """Columns of ids, bags, sequences and numbers to vectors, all of them in one call of the host in each direction.

    features     {"column": Id(16), Bag(16, "mean"), Sequence(16, length=50) or Number()}
    output_mode  "dict": {"column": float (batch, dim), …}; "concat": float (batch, sum of dims), of no sequences, the
                 columns of ids in their order, then those of numbers
    optimizer    as of `hotrow.keras.Embedding`, for all tables; by default, as the model was compiled
    seed         of the first values; drawn as Keras does, if not given

    It takes a dict of columns, in a hotrow.keras.Model. `tables` has the hotrow.Table of each feature, or of the name
    that features share it by. Raises ArgumentError for features that can't be right.

    >>> import hotrow, keras
    >>> from hotrow.keras import Bag, Features, Id, Number
    >>> features = Features({"user": Id(8), "tags": Bag(8, "mean"), "age": Number()}, output_mode="concat")
    >>> inputs = features.inputs()
    >>> outputs = keras.layers.Dense(1, "sigmoid")(features(inputs))
    >>> model = hotrow.keras.Model(inputs, outputs)
    >>> model.compile("adam", "binary_crossentropy")
    >>> columns = {"user": ["ann", "bob"], "tags": [["red", "small"], []], "age": [0.4, -1.2]}
    >>> _ = model.fit(columns, [1, 0], verbose=0)
    >>> model.predict(columns, verbose=0).shape, len(features.tables["tags"])
    ((2, 1), 2)
    """

    def __init__(
        self,
        features: Mapping[str, Feature],
        *,
        output_mode: str = "dict",
        optimizer: Any = None,
        seed: int | None = None,
        tables: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # tables: what `get_config` says of them, which is not for a caller to write
        super().__init__(**kwargs)
        self.features: dict[str, Feature] = _check(features)
        self.output_mode, self.optimizer, self.seed = _check_mode(output_mode, self.features), optimizer, seed
        self.autocast = False  # codes aren't to be rounded
        self.supports_jit = modes.SUPPORTS_JIT
        self.supports_masking = any(isinstance(feature, Sequence) for feature in self.features.values())
        self._of_ids = {name: feature for name, feature in self.features.items() if isinstance(feature, Id)}
        self._table_of = {name: _name_of(feature, name, self._of_ids) for name, feature in self._of_ids.items()}
        names = list(dict.fromkeys(self._table_of.values()))
        self._embeddings = {name: self._embedding(name, place, tables) for place, name in enumerate(names)}
        self.__dict__["_crossings"] = {}  # past what Keras tracks

    def _embedding(self, table: str, place: int, configs: Mapping[str, Any] | None) -> Embedding:
        """The layer that holds a table, its hook and its settings, as if it stood alone."""
        if configs is not None:
            return Embedding.from_config(configs[table])
        members = [feature for name, feature in self._of_ids.items() if self._table_of[name] == table]
        options: Any = {}
        for option in OF_A_TABLE:
            given = [value for feature in members if (value := getattr(feature, option)) is not None]
            if len(given) > 1:
                raise ArgumentError(f"features that share table {table!r} give {option}= more than once; leave one")
            options[option] = given[0] if given else None
        if len({feature.dim for feature in members}) > 1:
            dims = sorted({feature.dim for feature in members})
            raise ArgumentError(f"features that share table {table!r} have dims {dims}; expected one dim for all")
        own = next((feature.table for feature in members if isinstance(feature.table, Table)), None)
        return Embedding(
            None,
            members[0].dim,
            **options | {"embeddings_initializer": options["embeddings_initializer"] or "uniform"},
            optimizer=self.optimizer,
            seed=None if self.seed is None else self.seed + place,
            table=own,
            name=_keras_name(table).replace(".", "․"),  # torch keeps the dot for paths
        )

    @property
    def tables(self) -> dict[str, Table]:
        """The tables by name: a feature's own has its name."""
        return {name: layer.table for name, layer in self._embeddings.items()}

    def keep_in(self, make: Callable[..., Table]) -> None:
        """Let `make`, which takes the arguments of hotrow.Table, make the tables anew; they are trained as these were.

        For a layer that wasn't called yet.
        """
        for layer in self._embeddings.values():
            own = layer.table
            table = make(own.dim, optimizer=own.optimizer, initializer=own.initializer, seed=own.seed, ids=own.kind)
            layer.use(table, shared=False)

    def reader(self, name: str) -> Reader | None:
        """What reads the column of a feature as ids; None for numbers."""
        feature = self._of_ids.get(name)
        if feature is None:
            return None
        return Reader(self._embeddings[self._table_of[name]], f"{self.name}[{name!r}]", feature)

    def inputs(self) -> dict[str, Any]:
        """A `keras.Input` for each column, by its name."""
        return {
            name: keras.Input((), dtype="int32", name=_keras_name(name))
            if isinstance(feature, Id)
            else keras.Input(feature.inner, dtype="float32", name=_keras_name(name))
            for name, feature in self.features.items()
        }

    # --- forward -----------------------------------------------------------------------------------------------

    def build(self, input_shape: Any = None) -> None:
        """Make the hook of each table."""
        for layer in self._embeddings.values():
            if not layer.built:
                layer.build(None)
                layer.built = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        inside = global_state.get_global_attribute("current_call_ctx") is not None
        symbolic = (isinstance(leaf, keras.KerasTensor) or bridge.is_symbolic(leaf) for leaf in _leaves(inputs))
        if not modes.are_codes() and not inside and not any(symbolic):
            with modes.codes():
                return super().__call__(self._encode(inputs), *args, **kwargs)
        return super().__call__(inputs, *args, **kwargs)

    def _encode(self, x: Any) -> dict[str, Any]:
        """Columns as they are, called by hand: ids become codes, numbers float32."""
        columns = self._columns_of(forms.columns_of(x))
        encoded: dict[str, Any] = {}
        for name, feature in self.features.items():
            reader = self.reader(name)
            if reader is None:
                array = np.asarray(forms.to_numbers(columns[name]), np.float32).reshape(-1, *feature.inner)
            else:
                array, held = encode_column([reader], columns[name], columns)
                remember([held])
            encoded[name] = keras.ops.convert_to_tensor(array)
        return encoded

    def _columns_of(self, columns: Any) -> Mapping[Any, Any]:
        if not isinstance(columns, Mapping):
            raise ArgumentError(f"features take a dict of columns, {list(self.features)}; got {type(columns).__name__}")
        given = cast("Mapping[Any, Any]", columns)
        missing = [name for name in self.features if name not in given]
        if missing:
            raise ArgumentError(f"expected a column {missing[0]!r} for the feature of that name; got {list(given)}")
        return given

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Vectors of the columns, as `output_mode` says."""
        columns = self._columns_of(inputs)
        if modes.is_tracing() or modes.is_probing():
            vectors = {n: modes.stand_in(columns[n], f.inner, self.compute_dtype) for n, f in self._of_ids.items()}
        elif not modes.are_codes():
            raise ArgumentError(
                f"layer {self.name!r} takes ids as a hotrow model encodes them; expected hotrow.keras.Model(…) in "
                "place of Keras's, or a call by hand, features(columns)"
            )
        else:
            vectors = self._cross({n: columns[n] for n in self._of_ids}, training=bool(training) and self.trainable)
        if self.output_mode == "concat":
            numbers = (self._numbers(name, columns[name]) for name in self.features if name not in self._of_ids)
            parts = [*vectors.values(), *numbers]
            return parts[0] if len(parts) == 1 else keras.ops.concatenate(parts, -1)
        return {
            name: vectors[name] if name in vectors else self._numbers(name, columns[name]) for name in self.features
        }

    def _numbers(self, name: str, column: Any) -> Any:
        return keras.ops.reshape(keras.ops.cast(column, self.compute_dtype), (-1, *self.features[name].inner))

    def _cross(self, columns: dict[str, Any], *, training: bool) -> dict[str, Any]:
        if not columns:
            return {}
        layers = [self._embeddings[name] for name in dict.fromkeys(self._table_of[name] for name in columns)]
        rate = _rate(layers, training)
        hooks = [layer.hook_value() for layer in layers]
        *arrays, penalty = bridge.lookup(list(columns.values()), hooks, rate, self._crossing(training))
        self.add_loss(penalty)  # 0 without a regularizer, and in backward it shows by what the loss is scaled
        if self.output_mode == "concat":
            return {"": keras.ops.cast(arrays[0], self.compute_dtype)}
        masks = iter(arrays[len(columns) :])
        vectors: dict[str, Any] = {}
        for name, array in zip(columns, arrays, strict=False):
            vectors[name] = keras.ops.cast(array, self.compute_dtype)
            if isinstance(self.features[name], Sequence):
                set_keras_mask(vectors[name], keras.ops.cast(next(masks), "bool"))
        return vectors

    def _crossing(self, training: bool) -> Crossing:
        """The calls of the host; the layer holds them, for a graph doesn't."""
        tables = tuple(layer.table for layer in self._embeddings.values())  # a layer may share another's from now on
        if (training, tables) not in self._crossings:
            for key in [key for key in self._crossings if key[1] != tables]:  # they would hold tables of former days
                del self._crossings[key]
            ways = (
                self._embeddings[self._table_of[name]].way(
                    feature.finder(self._embeddings[self._table_of[name]].table), feature.inner
                )
                for name, feature in self._of_ids.items()
            )
            self._crossings[training, tables] = Crossing(tuple(ways), training, self.output_mode == "concat")
        return self._crossings[training, tables]

    def ways(self) -> dict[str, Way]:
        """The way of each column of ids into its table, for a training in which Keras doesn't call this layer."""
        return dict(zip(self._of_ids, self._crossing(True).ways, strict=True))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """None: sequences have their mask with them."""
        return

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        """As `call`, without values."""
        columns = self._columns_of(inputs)
        out = {
            name: keras.KerasTensor(
                (*(columns[name].shape if name in self._of_ids else columns[name].shape[:1]), *feature.inner),
                self.compute_dtype,
            )
            for name, feature in self.features.items()
        }
        if self.output_mode == "dict":
            return out
        parts = [*(out[name] for name in self._of_ids), *(out[name] for name in out if name not in self._of_ids)]
        return keras.KerasTensor((*parts[0].shape[:-1], sum(part.shape[-1] for part in parts)), self.compute_dtype)

    def compute_output_shape(self, input_shape: Mapping[str, Any]) -> Any:
        """{"column": (batch,)} → {"column": (batch, dim)}, or (batch, sum of dims)."""
        tensors = {name: keras.KerasTensor(shape) for name, shape in input_shape.items()}
        spec = self.compute_output_spec(tensors)
        return {name: tensor.shape for name, tensor in spec.items()} if isinstance(spec, dict) else spec.shape

    # --- files -------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """All arguments; tables are shared again where Keras shares objects, as in `load_model`."""
        config: dict[str, Any] = {
            "features": {
                name: feature.config() | self._shared(feature, name) for name, feature in self.features.items()
            },
            "output_mode": self.output_mode,
            "optimizer": settings.optimizer_config(self.optimizer),
            "seed": self.seed,
            "tables": {name: layer.get_config() for name, layer in self._embeddings.items()},
        }
        return {**super().get_config(), **config}

    def _shared(self, feature: Feature, name: str) -> dict[str, str]:
        """By which name a file knows the table that this feature was given, which others may have been given too."""
        return {"table": self._table_of[name]} if isinstance(getattr(feature, "table", None), Table) else {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Features:
        """A layer with these arguments, and empty tables."""
        config = settings.from_layer_config(config)
        features = {name: feature_.from_config(given) for name, given in config.pop("features").items()}
        return cls(features, **config)


def _check(features: Any) -> dict[str, Feature]:
    if not isinstance(features, Mapping) or not features:
        raise ArgumentError(
            f'features must be a dict, such as {{"user": hotrow.keras.Id(16), "age": hotrow.keras.Number()}}; '
            f"got {features!r:.80}"
        )
    for name, feature in cast("Mapping[Any, Any]", features).items():
        if not isinstance(name, str) or not isinstance(feature, (Id, Number)):
            raise ArgumentError(
                f"feature {name!r} must be hotrow.keras.Id(dim), Bag(dim), Sequence(dim, length=n) or Number(), by the "
                f"name of its column; got {feature!r:.80}"
            )
    return dict(cast("Mapping[str, Feature]", features))


def _check_mode(mode: str, features: Mapping[str, Feature]) -> str:
    if mode not in _MODES:
        raise ArgumentError(f"output_mode must be one of {', '.join(map(repr, _MODES))}; got {mode!r}")
    sequence = next((name for name, feature in features.items() if isinstance(feature, Sequence)), None)
    if mode == "concat" and sequence is not None:
        raise ArgumentError(
            f"output_mode='concat' has one vector for each example, and feature {sequence!r} is a sequence of them; "
            "expected output_mode='dict', or hotrow.keras.Bag for it"
        )
    return mode


def _name_of(feature: Id, own: str, features: Mapping[str, Id]) -> str:
    """By which name the table of a feature is known."""
    if feature.table is None or isinstance(feature.table, str):
        return feature.table or own
    if not isinstance(feature.table, Table):
        raise ArgumentError(f"table of feature {own!r} must be a name or a hotrow.Table; got {feature.table!r:.80}")
    return next(name for name, other in features.items() if other.table is feature.table)


def _rate(layers: list[Embedding], training: bool) -> Any:
    """The learning rate of this step, of whichever optimizer the tables follow; NaN where each knows its own."""
    rates = {id(optimizer): layer for layer in layers if (optimizer := layer.begin_call(training)) is not None}
    if len(rates) > 1:
        raise ArgumentError("the tables of one Features layer follow several optimizers; expected one for all of them")
    return next(iter(rates.values())).rate(training) if rates else float("nan")


def _leaves(inputs: Any) -> list[Any]:
    return list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]


def _keras_name(name: str) -> str:
    return name.replace("/", "∕")  # Keras keeps the slash for paths
