"""`hotrow.keras.Embedding`: the signature of `keras.layers.Embedding`, rows in a table outside the model."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from hotrow.bridges.codes import Words, decode
from hotrow.bridges.crossing import Crossing, Way
from hotrow.bridges.id_range import IdRange
from hotrow.bridges.rounds import Hook
from hotrow.bridges.stage import Stage
from hotrow.errors import ArgumentError, IdError, KindError
from hotrow.keras import following, modes, settings, sharing, tokens
from hotrow.keras.backend import bridge
from hotrow.table.batch import Batch
from hotrow.table.ids import to_keys
from hotrow.table.table import Table

_REFUSED = {
    "lora_rank": "rows of a table are trained as they are",
    "lora_alpha": "rows of a table are trained as they are",
    "quantization_config": "rows of a table are float32",
}


@keras.saving.register_keras_serializable("hotrow")
class Embedding(keras.layers.Layer):
    """Ids to vectors, (…) → float (…, output_dim), as `keras.layers.Embedding`; the rows are in `layer.table`.

    input_dim               ids are 0 to input_dim − 1, and others refused; None: any int64, uint64 or string
    output_dim              floats a vector
    embeddings_initializer  "uniform", "normal", … of Keras's, or one of hotrow's
    embeddings_regularizer  L1, L2 or L1L2, of the distinct rows of each batch
    embeddings_constraint   MaxNorm, UnitNorm, MinMaxNorm with axis=1, NonNeg: of the rows that a step has moved
    mask_zero               id 0 is padding: zeros, masked, never trained; mask_id= is the same for another id
    weights                 a matrix (input_dim, output_dim) to begin with

    optimizer  how rows are trained: hotrow's, or one of Keras's. In hotrow.keras.Model and Sequential, by default, as
               the model was compiled; in any other model it must be given
    seed       of the first values; drawn as Keras does, if not given
    ids        "int64", "uint64" or "string"; else the first ids decide
    table      a hotrow.Table of its own, or another layer's `table`, to share it; it brings its optimizer

    A step of the model is a step of the table, on the rows of the batch alone. Training gives new ids their row;
    `evaluate` and `predict` don't. Raises ArgumentError, by name, for options that can't be kept.

    >>> import hotrow
    >>> layer = hotrow.keras.Embedding(None, 4, optimizer=hotrow.SGD(0.1))
    >>> layer.table.lookup(["lantern", "cup"]).shape
    (2, 4)
    """

    def __init__(
        self,
        input_dim: int | None,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        *,
        mask_id: Any = None,
        optimizer: Any = None,
        seed: int | None = None,
        ids: str | None = None,
        table: Table | None = None,
        **kwargs: Any,
    ) -> None:
        for name in _REFUSED.keys() & kwargs.keys():
            if kwargs.pop(name) is not None:
                raise ArgumentError(f"hotrow.keras.Embedding has no {name}=: {_REFUSED[name]}; leave it out")
        kwargs.pop("input_length", None)  # deprecated in Keras, where it is ignored too
        super().__init__(**kwargs)
        self.input_dim, self.output_dim = _check_dim("input_dim", input_dim), _check_dim("output_dim", output_dim)
        self.embeddings_initializer = settings.get_initializer(embeddings_initializer)
        self.embeddings_regularizer = keras.regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = keras.constraints.get(embeddings_constraint)
        self.mask_zero, self.mask_id = mask_zero, 0 if mask_zero else mask_id
        self.optimizer, self.seed, self.ids = optimizer, seed, ids
        self.supports_masking = self.mask_id is not None
        self.autocast = False  # ids aren't to be rounded, nor the hook
        self.supports_jit = modes.SUPPORTS_JIT
        self._given_table = table is not None
        self.mark: str | None = None
        self.table: Table = self._own_table() if table is None else self._check_table(table)
        self._stage = Stage.of(self.table)
        self._hook = Hook(self._read_hook, modes.CAN_PEEK, settings.to_penalty(self.embeddings_regularizer))
        self._hook.constraint = settings.to_constraint(self.embeddings_constraint)
        self._stage.add(self._hook)
        self.__dict__["_crossings"] = {}  # past what Keras tracks
        following.begin(self._stage, self.table, optimizer, brought=self._given_table)
        if weights is not None:
            self._set_matrix(weights)

    # --- the table ---------------------------------------------------------------------------------------------

    def _own_table(self) -> Table:
        initializer = settings.to_initializer(self.embeddings_initializer, self.input_dim, self.output_dim)
        seed = settings.seed_of(self.embeddings_initializer) if self.seed is None else self.seed
        kind = self.ids or (None if self.input_dim is None else "int64")
        return Table(self.output_dim, initializer=initializer, seed=seed, ids=kind)

    def _check_table(self, table: Any) -> Table:
        if not isinstance(table, Table) or table.dim != self.output_dim:
            raise ArgumentError(
                f"table must be a hotrow.Table of vectors of {self.output_dim} floats, the output_dim; got {table!r}"
            )
        return table

    @property
    def embeddings(self) -> np.ndarray:
        """The matrix, float32 (input_dim, output_dim), a copy; where ids have no bound, see `table.vectors()`."""
        if self.input_dim is None:
            raise ArgumentError(
                "there is no matrix of all ids, for they have no bound; use layer.table.lookup(ids), or "
                "layer.table.ids() with layer.table.vectors()"
            )
        return self.table.lookup(np.arange(self.input_dim))

    def _set_matrix(self, matrix: Any) -> None:
        if isinstance(matrix, (list, tuple)) and len(matrix) == 1:
            matrix = matrix[0]
        matrix = np.asarray(matrix, np.float32)
        if self.input_dim is None or matrix.shape != (self.input_dim, self.output_dim):
            raise ArgumentError(
                f"weights must be a matrix of shape ({self.input_dim}, {self.output_dim}), a row for each id from 0; "
                f"got shape {matrix.shape}. Vectors of any ids go in by layer.table.set(ids, vectors)"
            )
        known = np.arange(self.input_dim)
        known = known if self.mask_id is None else known[known != self.mask_id]
        self.table.set(known, matrix[known])

    # --- forward -----------------------------------------------------------------------------------------------

    def build(self, input_shape: Any = None) -> None:
        """Make the hook, the layer's one weight."""
        modes.refuse_unsupported(self)
        # Its name is the matrix's in Keras, by which `exclude_from_weight_decay` knows it.
        self.hook = self.add_weight(shape=(), initializer="zeros", dtype="float32", autocast=False, name="embeddings")
        self.hook.overwrite_with_gradient = True  # by any optimizer it becomes what `push` returns
        self._carry_the_table(self.hook)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Vectors of ids, or of codes inside a hotrow model: (…) → (…, output_dim)."""
        training = bool(training) and self.trainable
        codes = modes.are_codes()
        if modes.probing(self, inputs):
            return modes.stand_in(inputs, (self.output_dim,), self.compute_dtype)
        if not codes and self.input_dim is None and bridge.refusal():
            raise KindError(f"{bridge.refusal()}; expected ids without a bound in hotrow.keras.Model, or an input_dim")
        if keras.backend.standardize_dtype(inputs.dtype) == "bfloat16":
            raise KindError(
                f"layer {self.name!r} got ids as bfloat16, to which Keras rounds floats under this dtype policy: 257 "
                "arrives as 256. Expected integers, e.g. ids.astype('int32'); hotrow.keras.Model takes ids as they are"
            )
        rate = float("nan") if self.begin_call(training) is None else self.rate(training)
        vectors, penalty = bridge.lookup([inputs], [self.hook_value()], rate, self._crossing(training, codes))
        self.add_loss(penalty)  # 0 without a regularizer, and in backward it shows by what the loss is scaled
        return keras.ops.cast(vectors, self.compute_dtype)

    def begin_call(self, training: bool) -> Any:
        """The optimizer that the table follows, if any. Raises ArgumentError, in training, if nobody trains it."""
        if training:
            sharing.refuse_apart(self)
        following.called(self._stage, self.table, self.hook)
        return following.followed(self._stage, self.name, training)

    def hook_value(self) -> Any:
        """The hook for a lookup: a constant where nothing is to be trained, or TensorFlow would ask for gradients."""
        return self.hook.value if self.trainable else keras.ops.stop_gradient(self.hook.value)

    def rate(self, training: bool) -> Any:
        """The learning rate of this step, float32 (); NaN where the host knows it."""
        return following.rate(self._stage, training)

    def _crossing(self, training: bool, codes: bool) -> Crossing:
        """The calls of the host; the layer holds them, for a graph doesn't."""
        crossing = self._crossings.get((training, codes))
        if crossing is None:
            way = self.way(self._decoder if codes else self._finder, (self.output_dim,))
            crossing = self._crossings[training, codes] = Crossing((way,), training)
        return crossing

    def way(self, find: Callable[[np.ndarray, bool], Batch], inner: tuple[int, ...]) -> Way:
        """A way into this layer's table; see `hotrow.bridges.crossing`."""
        rate = partial(following.host_rate, self._stage, self.name)
        return Way(self._stage, self._hook, find, rate, inner)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Which of the ids aren't padding: bool (…)."""
        if self.mask_id is None:
            return None
        if isinstance(inputs, keras.KerasTensor):  # no part of the graph: it goes with the vectors, once there are any
            return None
        if modes.is_probing():
            return keras.ops.ones_like(inputs, "bool")
        isnt_padding = weakref.WeakMethod(self._isnt_padding)
        codes = modes.are_codes()

        def known(ids: np.ndarray) -> np.ndarray:
            function = isnt_padding()
            assert function is not None
            return function(np.array(ids), codes)

        return bridge.on_host(known, inputs, "bool")

    def _isnt_padding(self, ids: np.ndarray, codes: bool) -> np.ndarray:
        with self._stage.working():
            batch = self._decoder(ids, False) if codes else self._finder(ids, False)
        padding = batch.places_of_padding()
        assert padding is not None
        return ~padding.reshape(batch.shape)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """(…) → (…, output_dim)."""
        return (*input_shape, self.output_dim)

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        """As the shape, of the compute dtype."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)

    def _decoder(self, codes: np.ndarray, grow: bool) -> Batch:
        if self.input_dim is not None and codes.dtype.kind in "iu" and codes.size and codes.min() >= 0:
            return self._finder(codes, grow)  # no codes: the model itself has made ids, as ops.arange for positions
        if codes.dtype not in {np.dtype(np.int32), np.dtype(np.int64)}:
            raise ArgumentError(
                f"layer {self.name!r} got {codes.dtype} where ids were expected; hotrow.keras.Model takes ids as "
                "integers or strings, and passes floats on as numbers: give np.asarray(ids, 'int64')"
            )
        return decode(codes, self.table, mask=self.mask_id, grow=grow, check=self._check_range)

    def _finder(self, ids: np.ndarray, grow: bool) -> Batch:
        try:
            self._check_range(ids)
            return self.table.find(ids, grow=grow, mask=self.mask_id)
        except IdError as error:
            if ids.dtype.kind != "f":
                raise
            raise IdError(
                f"{error}; hotrow.keras.Model takes ids as they are, whatever the dtype of its Input"
            ) from None

    def check(self, words: Words) -> None:
        """Raise what these ids will be refused with, for they all come to this layer."""
        if self.table.kind not in {None, words.kind}:
            to_keys(words.ids, self.table.kind)
        if self.mask_id is not None:
            words.place(self.mask_id)
        self._check_range(words.ids)

    def _check_range(self, ids: Any) -> None:
        """Refuse ids beyond input_dim."""
        if self.input_dim is None or not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iuf":
            return
        numbers = ids.astype(np.float64) if ids.dtype.kind == "f" else ids  # float16 has no number for every input_dim
        out = (numbers < 0) | (numbers >= self.input_dim)
        if self.mask_id is not None:
            out &= ids != self.mask_id
        if out.any():
            first = ids.reshape(-1)[int(np.argmax(out.reshape(-1)))].item()
            item = f"{first:.17g}" if isinstance(first, float) else str(first)
            what = IdRange(self.input_dim, f"the input_dim of layer {self.name!r}", self.output_dim)
            raise IdError(f"{what.text(item, '')}, or in hotrow.keras.Embedding(None, {self.output_dim})")

    # --- training ----------------------------------------------------------------------------------------------

    def follow(self, optimizer: Any, *, unless_told: bool = False) -> None:
        """Train the table as this Keras optimizer trains the model's weights, in a loop of your own.

        unless_told: leave a table alone that has an optimizer of its own; else that is an ArgumentError, too.
        Raises ArgumentError for an optimizer that a table can't follow.
        """
        hook = self.hook if self.built else None
        following.follow(self._stage, self.table, optimizer, hook, unless_told=unless_told)

    def follows(self, optimizer: Any) -> bool:
        """Whether the table is trained as by this Keras optimizer, or has an optimizer of its own."""
        return following.is_following(self._stage, optimizer)

    def _read_hook(self) -> float | None:
        return modes.read(self.hook)

    # --- weights, files ----------------------------------------------------------------------------------------

    def _carry_the_table(self, hook: Any) -> None:
        """Let the hook, asked for its value, bring the table along, and restore the table when it is given back."""
        number, assign = hook.numpy, hook.assign

        def to_token() -> tokens.Token:
            return tokens.Token.of(self.table, number())

        def from_token(value: Any) -> Any:
            if isinstance(value, (np.ndarray, np.generic)):  # an optimizer assigns tensors
                self._wait()
                tokens.restore(self, value)
            return assign(np.asarray(value) if isinstance(value, tokens.Token) else value)

        hook.numpy, hook.assign = to_token, from_token

    def _wait(self) -> None:
        """Until a step that JAX is still at has brought its gradients."""
        if self.built:
            self._read_hook()

    def get_weights(self) -> list[np.ndarray]:
        """With input_dim, the matrix as in Keras, else the hook; either brings the whole table to `set_weights`."""
        if not self.built:
            return []
        self._wait()
        return [tokens.Token.of(self.table, 0.0 if self.input_dim is None else self.embeddings)]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """What `get_weights` gave, of this or another layer; with input_dim, also any matrix of that shape."""
        if len(weights) != 1:
            raise ArgumentError(f"layer {self.name!r} has one weight to set; got {len(weights)}")
        if getattr(weights[0], "state", None) is None and np.ndim(weights[0]) == 2:
            self._set_matrix(weights)
        else:
            self._wait()
            tokens.restore(self, weights[0])

    def count_params(self) -> int:
        """Rows × output_dim."""
        return len(self.table) * self.output_dim

    def save_own_variables(self, store: Any) -> None:
        """The whole table: rows, slots, ids, steps."""
        self._wait()
        tokens.store(self.table, store)

    def load_own_variables(self, store: Any) -> None:
        """The table that was saved; CorruptError for what isn't one."""
        self._wait()
        tokens.load(self, store)

    def get_config(self) -> dict[str, Any]:
        """All arguments but weights; a table is shared again where Keras shares objects, as in `load_model`."""
        config: dict[str, Any] = {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": settings.initializer_config(self.embeddings_initializer),
            "embeddings_regularizer": keras.regularizers.serialize(self.embeddings_regularizer),
            "embeddings_constraint": keras.constraints.serialize(self.embeddings_constraint),
            "mask_zero": self.mask_zero,
            "mask_id": None if self.mask_zero else _plain(self.mask_id),
            "optimizer": settings.optimizer_config(self.optimizer),
            "seed": _plain(self.seed),
            "ids": self.ids,
            "table": sharing.config_of(self._stage, self.table, self._given_table),
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Embedding:
        """A layer with these arguments, and an empty table."""
        config, mark = settings.from_layer_config(config), None
        if config.get("table") is not None:
            config["table"], mark = sharing.from_config(config["table"])
        layer = cls(**config)
        layer.mark = mark
        return layer

    def use(self, table: Table, *, shared: bool = True) -> None:
        """Share another layer's table from now on; or have this one in place of its own, trained as that was."""
        self._stage.remove(self._hook)
        self.table, self._given_table = table, shared
        self._stage = Stage.of(table)
        self._stage.add(self._hook)
        if not shared:
            following.begin(self._stage, table, self.optimizer, brought=False)
        self.__dict__["_crossings"] = {}  # past what Keras tracks

    def __dir__(self) -> list[str]:
        """Without the matrix: Keras, when it saves, takes all that is here, and it would be made for nothing."""
        return [name for name in super().__dir__() if name != "embeddings"]


def _plain(value: Any) -> Any:
    """A number or string as JSON has it."""
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode() if isinstance(value, bytes) else value


def _check_dim(name: str, given: Any) -> Any:
    if given is None and name == "input_dim":
        return None
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < 1:
        more = ", or None for ids without a bound" if name == "input_dim" else ""
        raise ArgumentError(f"{name} must be a whole number from 1 on{more}; got {given!r}")
    return int(given)
