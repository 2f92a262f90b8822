"""`hotrow.keras.Model` and `Sequential`: Keras's own, whose `fit`, `evaluate` and `predict` take ids as they are.

Ids become codes on the host before Keras sees them: data in memory once per call, so that `validation_split`,
`shuffle`, `sample_weight` and `class_weight` stay Keras's; streams one batch ahead of the model.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from inspect import signature
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.models.functional import (
    Functional as KerasFunctional,  # the class that keras.Model(inputs, outputs) makes
)
from keras.src.models.model import functional_init_arguments
from keras.src.utils.io_utils import print_msg

from hotrow.errors import ArgumentError
from hotrow.keras import following, modes, routes, settings, sharing
from hotrow.keras.backend import bridge
from hotrow.keras.columns import Columns
from hotrow.keras.forms import is_stream
from hotrow.keras.reading import remember
from hotrow.keras.sources import Stream, encoded_stream

_SIGNATURES = {
    name: signature(getattr(keras.Model, name)) for name in ("fit", "evaluate", "train_on_batch", "test_on_batch")
}
_Base: Any = object
if hasattr(keras.Model, "compute_loss_and_updates"):  # JAX's alone

    class _Traced:
        """On JAX a step's learning rate is known inside the step only, and nothing orders its calls of the host."""

        def compute_loss_and_updates(self, *args: Any, optimizer_variables: Any = None, **kwargs: Any) -> Any:
            with following.traced(self.optimizer, optimizer_variables):  # pyright: ignore[reportAttributeAccessIssue]
                loss, rest = super().compute_loss_and_updates(*args, optimizer_variables=optimizer_variables, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]
            return bridge.after_forward(loss), rest

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
        if global_state.get_global_attribute("current_call_ctx") is not None:  # called by a model that isn't hotrow's
            self._columns.refuse_cut()
        self._follow(again=False)
        x, words, _ = self._columns.encode(x)
        remember(words)
        with modes.codes():
            return super().__call__(keras.tree.map_structure(keras.ops.convert_to_tensor, x), *args, **kwargs)

    def stateless_call(self, trainable: Any, rest: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        """As Keras's, for loops in JAX; x as in `fit`, where it has values."""
        if not modes.are_codes():
            x, words, _ = self._columns.encode(x)
            remember(words)
        with modes.codes():
            return super().stateless_call(trainable, rest, x, *args, **kwargs)

    def _data(self, x: Any, y: Any, weight: Any, **options: Any) -> tuple[Any, Any, Any, Any]:
        """x, y and sample_weight as Keras takes them, and what must be held while it does."""
        if x is None:
            return None, y, weight, None
        if is_stream(x):
            stream = encoded_stream(self._columns, x, y, weight, **options)
            return stream, None, None, stream
        x, words, single = self._columns.encode(x)
        return x, self._columns.targets(y, single), self._columns.targets(weight, single), words

    @contextmanager
    def _working(self, *held: Any) -> Generator[None]:
        """While Keras works; then streams among what was held are closed, and an error of theirs is raised as such."""
        streams = [stream for stream in held if isinstance(stream, Stream)]
        try:
            with modes.training(self):
                yield
        except Exception:
            for stream in streams:
                if stream.error is not None:
                    raise stream.error from None
            raise
        finally:
            for stream in streams:
                stream.close()

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

    def get_compile_config(self) -> dict[str, Any]:
        """As Keras's, of which each backend can make the same."""
        config = settings.portable(super().get_compile_config())
        return config if modes.SUPPORTS_JIT or not config else {**config, "jit_compile": "auto"}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as a saved model was, on whichever backend."""
        if type(self).compile is not _TakesIds.compile:
            super().compile_from_config(config)  # which warns that it can't know a compile of the model's own
            return
        if not modes.SUPPORTS_JIT:
            config = {**config, "jit_compile": "auto"}
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def _follow(self, *, again: bool = True) -> None:
        """Let tables follow the compiled optimizer. again: those that do, too, for its numbers may be others now."""
        optimizer = getattr(self, "optimizer", None)
        if optimizer is None:
            return
        self._join()
        for layer in routes.embeddings(self):
            if again or not layer.follows(optimizer):
                layer.follow(optimizer, unless_told=True)

    def _join(self) -> None:
        sharing.join(routes.embeddings(self))

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As Keras's; x may hold ids of any kind: lists, strings, 64-bit integers, Arrow and pandas columns."""
        given = _arguments("fit", x, y, *args, **kwargs)
        self._follow()
        options = {"shuffle": given.get("shuffle", True), "class_weight": given.get("class_weight")}
        held = self._encode_into(given, **options)
        if isinstance(held, Stream):
            given |= {"shuffle": False, "class_weight": None}
        validation, held_too = self._validation(given.get("validation_data"))
        with self._working(held, held_too):
            history = super().fit(**given | {"validation_data": validation})
            self._settle()
        return history

    def _encode_into(self, given: dict[str, Any], **options: Any) -> Any:
        """Replace x, y and sample_weight by what Keras takes; what must be held while it does."""
        *ready, held = self._data(given.get("x"), given.get("y"), given.get("sample_weight"), **options)
        given |= dict(zip(("x", "y", "sample_weight"), ready, strict=True))
        return held

    def _validation(self, given: Any) -> tuple[Any, Any]:
        if given is None:
            return None, None
        if is_stream(given):
            stream, *_, held = self._data(given, None, None)
            return stream, held
        *ready, held = self._data(*keras.utils.unpack_x_y_sample_weight(given))
        return tuple(ready), held

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As Keras's, x as in `fit`; ids that were never trained on get no row."""
        if kwargs.get("_use_cached_eval_dataset"):  # by fit itself, which has encoded it
            return super().evaluate(x, y, *args, **kwargs)
        given = _arguments("evaluate", x, y, *args, **kwargs)
        held = self._encode_into(given)
        with self._working(held):
            return super().evaluate(**given)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """As Keras's, x as in `fit`; ids that were never trained on get no row."""
        x, *_, held = self._data(x, None, None)
        with self._working(held):
            return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As Keras's, x as in `fit`."""
        given = _arguments("train_on_batch", x, y, *args, **kwargs)
        self._follow()
        remember(self._encode_into(given))
        with modes.training(self):
            logs = super().train_on_batch(**given)
            self._settle()  # another model may train the same table next
        return logs

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As Keras's, x as in `fit`."""
        given = _arguments("test_on_batch", x, y, *args, **kwargs)
        _held = self._encode_into(given)
        with modes.training(self):
            return super().test_on_batch(**given)

    def predict_on_batch(self, x: Any) -> Any:
        """As Keras's, x as in `fit`."""
        x, *_, _held = self._data(x, None, None)
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

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """As Keras's; ArgumentError for the old HDF5 format, in which tables have no place."""
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ArgumentError(
                f"save({str(filepath)!r}): the old HDF5 format of whole models holds matrices, and no tables; expected "
                'model.save("model.keras"), or model.save_weights("model.weights.h5")'
            )
        super().save(filepath, *args, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> None:
        """ArgumentError: rows are on the host, and no part of a graph that runs elsewhere."""
        raise ArgumentError(
            "a graph that is exported has no tables, for their rows are outside of it; expected "
            'model.save("model.keras") and model.predict(ids), or the tables by themselves: layer.table.save(path) and '
            "hotrow.view(path).lookup(ids)"
        )

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


def _arguments(method: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What was given to a method of Keras's, by name."""
    bound = _SIGNATURES[method].bind(None, *args, **kwargs).arguments
    bound.pop("self")
    return {**bound, **bound.pop("kwargs", {})}


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
            return super().__new__(Functional)  # pyright: ignore[reportArgumentType]
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if functional_init_arguments(args, kwargs):  # a subclass that hands its graph up
            kind: Any = type(self)
            self.__class__ = _of_graph(kind)
            Functional.__init__(self, *args, **kwargs)  # pyright: ignore[reportArgumentType]
        else:
            super().__init__(*args, **kwargs)


@cache
def _of_graph(kind: type) -> type:
    """The class that this one is when its graph is known."""
    return type(kind.__name__, (kind, Functional), {"__module__": kind.__module__, "__qualname__": kind.__qualname__})


@keras.saving.register_keras_serializable("hotrow")
class Functional(Model, KerasFunctional):
    """What `Model(inputs, outputs)` is, as Keras's Functional is what keras.Model(inputs, outputs) is."""

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        KerasFunctional.__init__(self, inputs, outputs, name=name, **kwargs)
        self._join()
        self._columns.learn_graph()


@keras.saving.register_keras_serializable("hotrow")
class Sequential(_TakesIds, keras.Sequential):
    """`keras.Sequential` whose fit, evaluate and predict take ids as they are; see `Model`."""

    def build(self, input_shape: Any = None) -> None:
        """As Keras's; an Input of ids is made int32."""
        with modes.codes():
            super().build(input_shape)
        if self._functional is not None:
            self._columns.learn_graph()
