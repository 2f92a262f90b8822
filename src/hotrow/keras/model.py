"""`hotrow.keras.Model` and `Sequential`: Keras's own, whose `fit`, `evaluate` and `predict` take ids as they are.

Ids become codes on the host before Keras sees them: data in memory once per call, so that `validation_split`,
`shuffle`, `sample_weight` and `class_weight` stay Keras's; streams one batch ahead of the model.
"""

from __future__ import annotations

from typing import Any

import keras
from keras.src.models.functional import (
    Functional as KerasFunctional,  # the class that keras.Model(inputs, outputs) makes
)
from keras.src.models.model import functional_init_arguments
from keras.src.utils.io_utils import print_msg

from hotrow.errors import ArgumentError
from hotrow.keras import columns as columns_
from hotrow.keras import following, modes, routes
from hotrow.keras.columns import Columns
from hotrow.keras.sources import encoded_stream

_Base: Any = object
if hasattr(keras.Model, "compute_loss_and_updates"):  # JAX's alone

    class _Traced:
        """On JAX the learning rate of a step is known inside the step only."""

        def compute_loss_and_updates(self, *args: Any, optimizer_variables: Any = None, **kwargs: Any) -> Any:
            with following.traced(self.optimizer, optimizer_variables):  # pyright: ignore[reportAttributeAccessIssue]
                return super().compute_loss_and_updates(*args, optimizer_variables=optimizer_variables, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]

    _Base = _Traced


class _TakesIds(_Base):
    """What the three kinds of models share."""

    # --- ids to codes ------------------------------------------------------------------------------------------

    @property
    def _columns(self) -> Columns:
        columns = self.__dict__.get("_columns_of_ids")
        if columns is None:
            columns = self.__dict__["_columns_of_ids"] = Columns(self)
        return columns

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        leaves = keras.tree.flatten(x)
        if modes.are_codes() or any(isinstance(leaf, keras.KerasTensor) for leaf in leaves):
            return super().__call__(x, *args, **kwargs)
        self._follow()
        x, words, _ = self._columns.encode(x)
        columns_.remember(words)
        with modes.codes():
            return super().__call__(keras.tree.map_structure(keras.ops.convert_to_tensor, x), *args, **kwargs)

    def _data(self, x: Any, y: Any, weight: Any, **options: Any) -> tuple[Any, Any, Any, Any]:
        """x, y and sample_weight as Keras takes them, and what must be held while it does."""
        if x is None or columns_.is_stream(x):
            return (None if x is None else encoded_stream(self._columns, x, y, weight, **options)), None, None, None
        x, words, lifted = self._columns.encode(x)
        return x, self._targets(y, lifted), self._targets(weight, lifted), words

    def _targets(self, y: Any, lifted: bool) -> Any:
        """Rank 1 becomes a column where the ids did and the model's output has the rank for it."""
        outputs = getattr(self, "outputs", None)

        def one(leaf: Any) -> Any:
            leaf = columns_.to_numbers(leaf)
            deep = outputs is None or any(len(output.shape) > 2 for output in outputs)
            return leaf[:, None] if lifted and deep and len(leaf.shape) == 1 else leaf

        if isinstance(y, dict) or columns_.is_structure(y):
            return keras.tree.map_structure(one, columns_.columns_of(y))
        return None if y is None else one(y)

    # --- training ----------------------------------------------------------------------------------------------

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As Keras's; the tables follow this optimizer, unless a layer has its own."""
        if kwargs.get("jit_compile") is True and not modes.SUPPORTS_JIT:
            raise ArgumentError(
                "jit_compile=True: code compiled by XLA or torch.compile can't call the table, which is on the host; "
                'leave it out, or jit_compile="auto", which is off for models with hotrow layers'
            )
        super().compile(*args, **kwargs)
        self._follow()

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as a saved model was."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def _follow(self) -> None:
        optimizer = getattr(self, "optimizer", None)
        if optimizer is None:
            return
        for layer in routes.embeddings(self):
            layer.follow(optimizer, unless_told=True)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As Keras's; x may hold ids of any kind: lists, strings, 64-bit integers, Arrow and pandas columns."""
        self._follow()
        options = {name: kwargs.get(name) for name in ("class_weight", "steps_per_epoch")}
        options["shuffle"] = kwargs.get("shuffle", True)
        x, y, weight, _held = self._data(x, y, kwargs.pop("sample_weight", None), **options)
        if _held is None and x is not None:
            kwargs |= {"class_weight": None, "shuffle": False}
        validation = kwargs.pop("validation_data", None)
        if validation is not None:
            *validation, _held_too = self._validation(validation)
            kwargs["validation_data"] = validation[0] if validation[1] is None else tuple(validation)
        with modes.training(self):
            history = super().fit(x, y, *args, sample_weight=weight, **kwargs)
            self._settle()
        return history

    def _validation(self, given: Any) -> tuple[Any, Any, Any, Any]:
        if columns_.is_stream(given):
            return self._data(given, None, None)
        return self._data(*keras.utils.unpack_x_y_sample_weight(given))

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As Keras's, x as in `fit`; ids that were never trained on get no row."""
        if kwargs.get("_use_cached_eval_dataset"):  # by fit itself, which has encoded it
            return super().evaluate(x, y, *args, **kwargs)
        x, y, weight, _held = self._data(x, y, kwargs.pop("sample_weight", None))
        with modes.training(self):
            return super().evaluate(x, y, *args, sample_weight=weight, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """As Keras's, x as in `fit`; ids that were never trained on get no row."""
        x, _, _, _held = self._data(x, None, None)
        with modes.training(self):
            return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any) -> Any:
        """As Keras's, x as in `fit`."""
        self._follow()
        x, y, weight, words = self._data(x, y, sample_weight)
        columns_.remember(words)
        with modes.training(self):
            return super().train_on_batch(x, y, weight, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any) -> Any:
        """As Keras's, x as in `fit`."""
        x, y, weight, _held = self._data(x, y, sample_weight)
        with modes.training(self):
            return super().test_on_batch(x, y, weight, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """As Keras's, x as in `fit`."""
        x, _, _, _held = self._data(x, None, None)
        with modes.training(self):
            return super().predict_on_batch(x)

    def _settle(self) -> None:
        for layer in routes.embeddings(self):
            layer.table.settle()

    def _symbolic_build(self, *args: Any, **kwargs: Any) -> Any:
        with modes.codes():
            return super()._symbolic_build(*args, **kwargs)

    def make_train_function(self, force: bool = False) -> Any:
        """As Keras's; inside, layers get codes."""
        return self._make(super().make_train_function, "train_function", force)

    def make_test_function(self, force: bool = False) -> Any:
        """As Keras's; inside, layers get codes."""
        return self._make(super().make_test_function, "test_function", force)

    def make_predict_function(self, force: bool = False) -> Any:
        """As Keras's; inside, layers get codes."""
        return self._make(super().make_predict_function, "predict_function", force)

    def _make(self, make: Any, name: str, force: bool) -> Any:
        if getattr(self, name) is None or force:
            make(force)
            inner = getattr(self, name)

            def function(*args: Any) -> Any:
                with modes.codes():
                    return inner(*args)

            setattr(self, name, function)
        return getattr(self, name)

    # --- what it is --------------------------------------------------------------------------------------------

    def summary(self, *args: Any, print_fn: Any = None, **kwargs: Any) -> None:
        """As Keras's, and the rows and memory of each table."""
        super().summary(*args, print_fn=print_fn, **kwargs)
        lines = [" Tables of ids (rows are outside of the model's weights):"]
        for table, names in _tables(self).items():
            facts = table.stats()
            lines.append(
                f"   {', '.join(names)}: {facts['rows']:,} rows × {table.dim}, {_size(facts['bytes'])} with "
                f"{type(table.optimizer).__name__}'s slots and index, {facts['steps']:,} steps"
            )
        if len(lines) > 1:
            (print_fn or print_msg)("\n".join(lines))


def _tables(model: Any) -> dict[Any, list[str]]:
    tables: dict[Any, list[str]] = {}
    for layer in routes.embeddings(model):
        tables.setdefault(layer.table, []).append(layer.name)
    return tables


def _size(number: float) -> str:
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


@keras.saving.register_keras_serializable("hotrow")
class Functional(_TakesIds, KerasFunctional):
    """What `Model(inputs, outputs)` is, as Keras's Functional is what keras.Model(inputs, outputs) is."""

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(inputs, outputs, name=name, **kwargs)
        self._columns.learn_graph()


@keras.saving.register_keras_serializable("hotrow")
class Model(_TakesIds, keras.Model):
    """`keras.Model` whose fit, evaluate and predict take ids as they are: lists, strings, any 64-bit integers.

    Model(inputs, outputs) is functional, a subclass defines `call`, as in Keras. `keras.Input(shape=(None,))` stays as
    it is, for strings too. Its tables train as the model was compiled.

    >>> import hotrow, keras
    >>> i = keras.Input(shape=(None,))
    >>> o = keras.layers.Dense(2, "softmax")(hotrow.keras.Embedding(None, 8)(i))
    >>> model = hotrow.keras.Model(i, o)
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> _ = model.fit(["lantern", "cup", "lantern", "mug"], [0, 1, 0, 1], epochs=2, verbose=0)
    >>> model.predict(["cup"], verbose=0).shape
    (1, 1, 2)
    """

    # One class that is both would have its bases rewritten by Keras for ever, when it is first used functionally.

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is Model and functional_init_arguments(args, kwargs):
            return Functional(*args, **kwargs)  # no Model: __init__ isn't run again
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if functional_init_arguments(args, kwargs):  # a subclass that hands its graph up
            kind = type(self)
            self.__class__ = type(kind.__name__, (kind, Functional), {"__module__": kind.__module__})
            Functional.__init__(self, *args, **kwargs)  # pyright: ignore[reportArgumentType]
        else:
            super().__init__(*args, **kwargs)


@keras.saving.register_keras_serializable("hotrow")
class Sequential(_TakesIds, keras.Sequential):
    """`keras.Sequential` whose fit, evaluate and predict take ids as they are; see `Model`."""

    def build(self, input_shape: Any = None) -> None:
        """As Keras's; an Input of ids is made int32."""
        with modes.codes():
            super().build(input_shape)
        if self._functional is not None:
            self._columns.learn_graph()
