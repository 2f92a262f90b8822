"""A classifier of columns: ids, bags and numbers in, a probability for each class out. Tables under a small Keras net.

columns ──inputs──▶ features ──tables──▶ vectors ─┬─ two by two ─▶ products ─┐
                                                  ├──────────────────────────┴─▶ dense layers ─▶ probabilities
                               numbers ───────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.models import classes, classifier_steps, metrics
from hotrow.models.classifier_steps import Alone
from hotrow.models.crews import Crew
from hotrow.models.ctrl_c import CtrlC
from hotrow.models.inputs import KINDS, Inputs, take, tidy

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.table.table import Table

Progress = Callable[[int, int, dict[str, Any]], None]
_BATCH = 8192  # rows that are predicted at a time
_MANY = 100_000  # rows to train on, from which on the second of each pair below is taken
_SETTINGS = {"learning_rate": (2e-3, 4e-3), "dropout": (0.3, 0.2)}
_ROWS_A_STEP = (1024, 4096)  # at most
_PRODUCTS = 32  # features with vectors at most whose products a net gets: they grow with the square
_PATIENCE = 3  # epochs without a smaller loss of the validation rows


class Classifier:
    """Probabilities of classes from columns of ids, bags and numbers, as they are; on Keras 3, whichever its backend.

    kinds          {"column": "id", "bag" or "number"}; else floats are numbers, lists are bags, and all else is ids
    dim            floats a vector
    hidden         units of each dense layer; (): logistic regression, with a weight for each id and number
    epochs         times over the rows at most: training stops when the validation rows' loss no longer falls
    batch_size     rows a step; None: a 32nd of all, from 32 to 1024, and to 4096 from 100,000 rows on
    learning_rate  Adam's; it falls each time that the validation rows' loss doesn't; None: 0.002, and then 0.004
    l2             of the vectors of a step, so that those of rare ids stay small
    dropout        share of vectors and units that is left out in a step; None: 0.3, and then 0.2
    seed           of first values, order and validation rows

    The dense layers get the vectors, and of up to 32 columns the product of each two, which tells what goes together.

    A null is an id of its own; of a number it is the mean, and a range of its own (see `hotrow.models.inputs`). An id
    that was in no training row has its first value. `classes` are the labels, ascending, once fitted: text, bool or
    integers; with two of them the second is the positive one. `notes`, JSON values, are saved with the model.

    >>> from hotrow.models import Classifier
    >>> columns = {"what": ["cup", "mug", "lamp", "bulb"] * 50, "price": [4.0, 5.0, 40.0, None] * 50}
    >>> labels = ["kitchen", "kitchen", "light", "light"] * 50
    >>> model = Classifier(dim=4, hidden=(8,), batch_size=16).fit(columns, labels)
    >>> model.predict({"what": ["mug"], "price": [5.0]})
    ['kitchen']
    """

    def __init__(
        self,
        kinds: Mapping[str, str] | None = None,
        *,
        dim: int = 16,
        hidden: tuple[int, ...] = (128, 64),
        epochs: int = 60,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        l2: float = 1e-2,
        dropout: float | None = None,
        seed: int = 0,
    ) -> None:
        self.config: dict[str, Any] = {
            "kinds": dict(kinds or {}), "dim": dim, "hidden": list(hidden), "epochs": epochs, "batch_size": batch_size,
            "learning_rate": learning_rate, "l2": l2, "dropout": dropout, "seed": seed,
        }  # fmt: skip
        _check(self.config)
        self.classes: list[Any] = []
        self.notes: dict[str, Any] = {}
        self._inputs: Inputs | None = None
        self._net: Any = None

    # --- train ---------------------------------------------------------------------------------------------------

    def fit(
        self,
        columns: Any,
        labels: Any,
        *,
        validation: Any = 0.1,
        progress: Progress | None = None,
        crew: Crew | None = None,
        block: int | None = None,
        tables: Callable[..., Table] | None = None,
    ) -> Classifier:
        """Train from the beginning on columns by name, with a label for each row; the best epoch's weights stay.

        columns     a dict of lists, NumPy, Arrow or pandas columns of one length, or a table of them
        labels      (n,): text, bool or integers, of two or more classes
        validation  the share of rows, drawn by the seed, that training is stopped by and learns nothing from, or
                    (columns, labels)
        progress    callable(steps done, steps at most, {"epoch", "loss", "validation_loss"})
        crew        workers that compute the dense part's gradients, as a hotrow.cluster.Crew(2)
        block       rows that are computed together, from 2 on: a step's gradients are a sum over blocks, in their
                    order, and so the same to the bit with any crew and with none; None: 256 with a crew, else no blocks
        tables      what makes the tables of ids, with the arguments of hotrow.Table, which it is if not given

        With blocks, batch normalization goes by the statistics of a block, and dropout is drawn for each (see
        `hotrow.models.classifier_steps`), so a fit with blocks isn't one without. With a crew whose `staleness` is s,
        a step's gradients are of vectors and weights that may lack the s steps before it.

        Ctrl-C raises KeyboardInterrupt between two steps, and the model is the best so far. Raises ArgumentError, and
        what hotrow raises for values that can't be ids; MissingExtraError without Keras or its backend.
        """
        given, rows = tidy(columns)
        found, codes = classes.learn(labels, rows)
        if isinstance(validation, tuple):
            held, count = tidy(validation[0])
            held_codes = classes.encode(validation[1], found, count)
        else:
            kept, out = _cut(rows, validation, self.config["seed"])
            held, held_codes = {name: take(column, out) for name, column in given.items()}, codes[out]
            given, codes = {name: take(column, kept) for name, column in given.items()}, codes[kept]
        inputs = Inputs.learn(given, self.config["kinds"])
        targets, held_targets = (_targets(one, len(found)) for one in (codes, held_codes))
        data, validating = (inputs.apply(given), targets), (inputs.apply(held), held_targets)
        if block is None:
            block = None if crew is None else classifier_steps.BLOCK
        elif isinstance(block, bool) or not isinstance(block, int) or block < 2:
            raise ArgumentError(f"block must be a whole number of rows, from 2 on; got {block!r}")
        net = self._make(inputs, len(found), len(codes), tables)
        self._inputs, self.classes, self._net = inputs, found, net
        with CtrlC() as ctrl_c:
            self._run(data, validating, ctrl_c, progress, block, crew or Alone())
        return self

    def _make(self, inputs: Inputs, count: int, rows: int, tables: Callable[..., Table] | None) -> Any:
        keras, ours = _keras()
        config = self.config
        keras.utils.set_random_seed(config["seed"] % 2**32)
        outputs = 1 if count == 2 else count
        features = ours.Features(
            {name: self._feature(kind, width, outputs) for name, kind, width in inputs.features()},
            seed=config["seed"] % 2**32,
        )
        if tables is not None:
            features.keep_in(tables)
        given = features.inputs()
        vectors = features(given)
        x = self._deep(vectors, inputs, outputs, rows) if config["hidden"] else _weighed(vectors, inputs, outputs)
        net = ours.Model(given, keras.layers.Activation("sigmoid" if count == 2 else "softmax")(x))
        loss = "binary_crossentropy" if count == 2 else "sparse_categorical_crossentropy"
        net.compile(keras.optimizers.Adam(self._setting("learning_rate", rows)), loss, metrics=[loss])
        return net

    def _setting(self, name: str, rows: int) -> float:
        """What was asked for, else what suits so many rows to train on."""
        value = self.config[name]
        return _SETTINGS[name][rows >= _MANY] if value is None else value

    def _feature(self, kind: str, width: int, outputs: int) -> Any:
        keras, ours = _keras()
        if kind == "number":
            return ours.Number(width)
        deep, l2 = bool(self.config["hidden"]), self.config["l2"]
        options = {
            "embeddings_initializer": keras.initializers.RandomNormal(stddev=0.05) if deep else "zeros",
            "embeddings_regularizer": keras.regularizers.L2(l2) if l2 else None,
        }
        dim = self.config["dim"] if deep else outputs
        return ours.Id(dim, **options) if kind == "id" else ours.Bag(dim, "mean", **options)

    def _deep(self, vectors: dict[str, Any], inputs: Inputs, outputs: int, rows: int) -> Any:
        """Dense layers, and beside them one that goes straight through, as in Cheng et al. 2016, "wide and deep"."""
        layers = _keras()[0].layers
        dropout = self._setting("dropout", rows)
        x = layers.Concatenate()(list(vectors.values())) if len(vectors) > 1 else next(iter(vectors.values()))
        products = self._products([vectors[name] for name, kind, _ in inputs.features() if kind != "number"])
        x = layers.BatchNormalization()(x if products is None else layers.Concatenate()([x, products]))
        deep = layers.Dropout(dropout)(x)
        for units in self.config["hidden"]:
            deep = layers.Dropout(dropout)(layers.Dense(units, "relu")(deep))
        return layers.Add()([layers.Dense(outputs)(deep), layers.Dense(outputs)(x)])

    def _products(self, vectors: list[Any]) -> Any:
        """The inner product of each two vectors, as in Qu et al. 2016, "product-based"; None where there are too many.

        Dense layers learn slowly from vectors side by side that a user and an item go together, and this says it.
        """
        layers = _keras()[0].layers
        if not 2 <= len(vectors) <= _PRODUCTS:
            return None
        rows = layers.Concatenate(axis=1)([layers.Reshape((1, self.config["dim"]))(vector) for vector in vectors])
        return layers.Flatten()(layers.Dot(axes=(2, 2))([rows, rows]))

    def _run(
        self, data: Any, validating: Any, ctrl_c: CtrlC, progress: Progress | None, block: int | None, crew: Crew
    ) -> None:
        keras, _ = _keras()
        epochs = self.config["epochs"]
        rows = len(data[1])
        size = self.config["batch_size"] or min(_ROWS_A_STEP[rows >= _MANY], max(32, rows // 32))
        steps = -(-rows // size)
        # the loss that is watched is without what l2 adds to it
        watched = "val_binary_crossentropy" if len(self.classes) == 2 else "val_sparse_categorical_crossentropy"
        following = keras.callbacks.LambdaCallback()
        facts: dict[str, Any] = {"epoch": 1, "loss": float("nan"), "validation_loss": float("nan")}
        done = 0

        def begin(epoch: int, *_: Any, **__: Any) -> None:
            facts["epoch"] = epoch + 1

        def step(_: int, logs: Any = None) -> None:
            nonlocal done
            done += 1
            if ctrl_c.pressed:  # the epoch ends here, is measured, and the best so far is put back
                self._net.stop_training = True
            if progress is not None:
                facts["loss"] = float((logs or {}).get("loss", np.nan))
                progress(done, steps * epochs, dict(facts))

        def end(_: int, logs: Any = None) -> None:
            facts["validation_loss"] = float((logs or {}).get(watched, np.nan))

        following.on_epoch_begin, following.on_train_batch_end, following.on_epoch_end = begin, step, end
        slower = keras.callbacks.ReduceLROnPlateau(watched, factor=0.3, patience=0, min_delta=1e-4, mode="min")
        best = keras.callbacks.EarlyStopping(watched, patience=_PATIENCE, restore_best_weights=True, mode="min")
        told = [following, slower, best]
        if block is not None:
            columns, targets = data
            course = classifier_steps.Course(self._net, columns, targets, crew, block=block, seed=self.config["seed"])
            classifier_steps.fit(course, self._net, validating, size, epochs, told, _BATCH)
            return
        options = {"batch_size": size, "epochs": epochs, "verbose": 0, "callbacks": told}
        self._net.fit(*data, validation_data=validating, validation_batch_size=_BATCH, **options)

    # --- ask -----------------------------------------------------------------------------------------------------

    def predict_proba(self, columns: Any) -> np.ndarray:
        """The probability of each class for each row, float32 (n, classes); columns as in `fit`, others are ignored."""
        inputs, net = self._fitted()
        given, rows = tidy(columns)
        if not rows:
            return np.zeros((0, len(self.classes)), np.float32)
        made = np.asarray(net.predict(inputs.apply(given), batch_size=_BATCH, verbose=0), np.float32)
        return np.concatenate([1 - made, made], axis=1) if len(self.classes) == 2 else made

    def predict(self, columns: Any) -> list[Any]:
        """The likeliest class of each row."""
        return [self.classes[best] for best in self.predict_proba(columns).argmax(1)]

    def evaluate(self, columns: Any, labels: Any) -> dict[str, float]:
        """{"auc", "log_loss", "accuracy"} on other rows than those of `fit`.

        With more than two classes the AUC is the mean over classes, each against all others, of those that rows have.
        """
        self._fitted()
        given, rows = tidy(columns)
        codes = classes.encode(labels, self.classes, rows)
        return metrics.of_classes(codes, self.predict_proba(given))

    def table(self, column: str) -> Table:
        """The table of a column of ids or bags. ArgumentError for a column that hasn't one."""
        inputs, net = self._fitted()
        (features,) = (layer for layer in net.layers if hasattr(layer, "tables"))
        return features.tables[inputs.feature_of(column)]

    @property
    def inputs(self) -> Inputs:
        """What was learned of the columns."""
        return self._fitted()[0]

    def _fitted(self) -> tuple[Inputs, Any]:
        if self._inputs is None or self._net is None:
            raise ArgumentError(
                "this classifier isn't trained yet: call fit(columns, labels), or Classifier.load(path)"
            )
        return self._inputs, self._net

    # --- keep ----------------------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a folder: the net with its tables, and classifier.json, which names it, last."""
        from hotrow.models import classifier_files

        inputs, net = self._fitted()
        described = {"config": self.config, "columns": inputs.columns, "classes": self.classes, "notes": self.notes}
        classifier_files.save(Path(path), described, net.save)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Classifier:
        """The model saved at `path`, on whichever backend. CorruptError for what isn't one."""
        from hotrow.models import classifier_files

        described, net = classifier_files.read(Path(path))
        keras, _ = _keras()
        text = Path(path) / classifier_files.NAME
        model = classifier_files.checked(text, lambda: cls(**_arguments(described["config"])))
        model._inputs = classifier_files.checked(text, lambda: Inputs.from_config(described["columns"]))
        classifier_files.checked(net, lambda: classifier_files.check_net(net))
        model._net = classifier_files.checked(net, lambda: keras.saving.load_model(net))
        model.classes, model.notes = described["classes"], described["notes"]
        return model


def backend() -> str:
    """The backend that Keras runs on."""
    return str(_keras()[0].backend.backend())


def _keras() -> tuple[Any, Any]:
    """Keras, and hotrow in it; MissingExtraError where they can't be."""
    ours = import_module("hotrow.keras")
    return import_module("keras"), ours


def _weighed(vectors: dict[str, Any], inputs: Inputs, outputs: int) -> Any:
    """Logistic regression: the sum of the ids' weights and of the numbers times theirs."""
    layers = _keras()[0].layers
    parts = [vectors[name] for name, kind, _ in inputs.features() if kind != "number"]
    parts += [layers.Dense(outputs)(vectors[name]) for name, kind, _ in inputs.features() if kind == "number"]
    return layers.Add()(parts) if len(parts) > 1 else parts[0]


def _targets(codes: np.ndarray, count: int) -> np.ndarray:
    """What the net is to give: 0 or 1 (n, 1), or the numbers of classes (n,)."""
    return codes[:, None].astype(np.float32) if count == 2 else codes.astype(np.int32)


def _arguments(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "hidden": tuple(config["hidden"])}


def _cut(rows: int, share: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to validate with, each ascending."""
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise ArgumentError(
            f"validation must be a share of the rows between 0 and 1, or (columns, labels); got {share!r}"
        )
    drawn = np.random.default_rng([seed % 2**64, 1]).permutation(rows)
    count = max(1, round(rows * share))
    if count >= rows:
        raise ArgumentError(f"there are {rows:,} rows, too few to keep some of them for validation")
    return np.sort(drawn[count:]), np.sort(drawn[:count])


def _check(config: dict[str, Any]) -> None:
    for name, kind in config["kinds"].items():
        if kind not in KINDS:
            raise ArgumentError(f"kind of column {name!r} must be one of {', '.join(map(repr, KINDS))}; got {kind!r}")
    counts = [(name, config[name]) for name in ("dim", "epochs", "batch_size")]
    counts = [(name, value) for name, value in counts if (name, value) != ("batch_size", None)]
    for name, value in [*counts, *(("hidden", units) for units in config["hidden"])]:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name} must be of whole numbers from 1 on; got {value!r}")
    for name in ("learning_rate", "l2", "dropout"):
        value = config[name]
        if value is None and name != "l2":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
            raise ArgumentError(f"{name} must be a number from 0 to 1; got {value!r}")
    if isinstance(config["seed"], bool) or not isinstance(config["seed"], int):
        raise ArgumentError(f"seed must be a whole number; got {config['seed']!r}")
