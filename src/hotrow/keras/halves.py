"""A model cut in two where vectors come out of its tables, for a training in which the dense half runs elsewhere.

```
columns ──encode──▶ codes ──pull──▶ vectors ──▶ a replica of the dense half, anywhere ──▶ predictions, loss
                              rows ◀──push── gradients of vectors ◀──┘  └──▶ gradients of weights ──push──▶ optimizer
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from hotrow.bridges.crossing import Way
from hotrow.bridges.stage import to_matrix
from hotrow.errors import ArgumentError
from hotrow.keras.features import Features
from hotrow.keras.optimizers import is_scaled
from hotrow.keras.reading import encode_column
from hotrow.keras.replica import is_seed
from hotrow.kernels import threads
from hotrow.table.batch import Batch


@dataclass(frozen=True)
class Encoded:
    """Columns by the names of their features: codes of ids, int32 (rows,), and numbers, float32 (rows, width).

    held  what must be held while the codes are in use
    """

    columns: dict[str, np.ndarray]
    held: list[Any]


class Halves:
    """A compiled model of one `Features` layer and Keras's own layers; the one output is the end of its dense half.

    text  the dense half, as a `Replica` is made of it: its inputs are vectors in the order of the features, and numbers

    Raises ArgumentError for an optimizer that scales the loss.
    """

    def __init__(self, net: Any) -> None:
        if is_scaled(net.optimizer):
            raise ArgumentError(
                "the loss is scaled, as for float16, which blocks don't do; expected "
                'keras.config.set_dtype_policy("float32")'
            )
        self.net = net
        (self._features,) = (layer for layer in net.layers if isinstance(layer, Features))
        self._ways: dict[str, Way] = self._features.ways()
        self._numbers = [name for name in self._features.features if name not in self._ways]
        flat = keras.tree.flatten(self._features.output)  # as Keras keeps a dict
        vectors: Any = keras.tree.pack_sequence_as(dict.fromkeys(self._features.features), flat)
        self._dense: Any = keras.Model([vectors[name] for name in (*self._ways, *self._numbers)], net.outputs[0])
        self.text = _seeded(self._dense.to_json())
        self._rest = [variable for variable in self._dense.non_trainable_variables if not is_seed(variable)]
        if not net.optimizer.built:
            net.optimizer.build(net.trainable_variables)

    def encode(self, columns: Mapping[str, Any]) -> Encoded:
        """Columns of any make, as `fit` takes them. Raises what ids are refused with."""
        made = {name: np.asarray(columns[name], np.float32).reshape(len(columns[name]), -1) for name in self._numbers}
        held: list[Any] = []
        for name in self._ways:
            reader = self._features.reader(name)
            assert reader is not None
            made[name], words = encode_column([reader], columns[name], columns)
            held.append(words)
        return Encoded(made, held)

    def find(self, encoded: Encoded, rows: np.ndarray) -> list[Batch]:
        """The ids of these rows, feature by feature; new ones get their row."""

        def find(name: str) -> Batch:
            batch = self._ways[name].find(encoded.columns[name][rows], True)
            batch.prepare()
            return batch

        return threads.each(find, list(self._ways))

    def pull(self, batches: Sequence[Batch]) -> list[np.ndarray]:
        """Their vectors, float32 (rows, dim) each."""
        return threads.each(lambda batch: batch.table.lookup(batch), batches)

    def numbers(self, encoded: Encoded, rows: np.ndarray) -> list[np.ndarray]:
        """The numbers of these rows, float32 (rows, width) each."""
        return [encoded.columns[name][rows] for name in self._numbers]

    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Copies of the dense half's weights as they are now, and of what batch normalization keeps."""
        return [_copy(v) for v in self._dense.trainable_variables], [_copy(v) for v in self._rest]

    def push(
        self,
        batches: Sequence[Batch],
        vectors: Sequence[np.ndarray],
        weights: Sequence[np.ndarray],
        rest: Sequence[np.ndarray],
    ) -> float:
        """One step of the optimizer and of each table; the penalty of the regularizers of the vectors, for the loss.

        vectors, weights  the gradients of what `pull` and `weights` gave
        rest              what batch normalization keeps from now on
        """
        rates = [way.rate(float("nan")) for way in self._ways.values()]
        gradients = [keras.ops.convert_to_tensor(gradient) for gradient in weights]
        self.net.optimizer.apply(gradients, self._dense.trainable_variables)
        for variable, value in zip(self._rest, rest, strict=True):
            variable.assign(value)

        def step(i: int) -> float:
            return _step(list(self._ways.values())[i], batches[i], vectors[i], rates[i])

        return sum(threads.each(step, range(len(batches))))


def _step(way: Way, batch: Batch, vectors: np.ndarray, rate: float | None) -> float:
    """A step of one table, as a `Stage` commits it; the penalty of the distinct rows."""
    table, penalty = batch.table, 0.0
    gradient = batch.groups().merge(table.unpool(batch, to_matrix(vectors, table.dim)))[0]
    once = batch.unrepeated()
    if way.hook.penalty is not None:
        rows = table.lookup(once)
        penalty = way.hook.penalty.value(rows)
        gradient += way.hook.penalty.gradient(rows)
    table.update(once, way.stage.rule.apply(gradient, 1), learning_rate=rate)
    return penalty


def _seeded(text: str) -> str:
    """The net in which each random layer draws by its own state: without a seed, torch's draws from a global one."""
    described = json.loads(text)
    for layer in described["config"]["layers"]:
        if "seed" in layer["config"]:
            layer["config"]["seed"] = 0
    return json.dumps(described)


def _copy(variable: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(variable.value))
