"""Data that comes batch by batch, with its ids encoded one batch ahead of the model."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters import data_adapter_utils, get_data_adapter
from keras.src.trainers.data_adapters.data_adapter import DataAdapter
from keras.src.trainers.data_adapters.generator_data_adapter import GeneratorDataAdapter

from hotrow.bridges.ahead import Ahead
from hotrow.bridges.codes import look_ahead
from hotrow.errors import ArgumentError
from hotrow.keras.columns import Columns

_HELD = 64  # batches that are on their way through Keras and the backend
_PEEKED = data_adapter_utils.NUM_BATCHES_FOR_TENSOR_SPEC


def encoded_stream(columns: Columns, x: Any, y: Any, weight: Any, **options: Any) -> Stream:
    """An adapter of Keras's whose batches have codes for ids.

    options: class_weight, shuffle, as for `fit`. Raises what Keras raises for y or weights beside a stream.
    """
    inner = x
    if not isinstance(x, DataAdapter):
        inner = get_data_adapter(
            x, y, weight, shuffle=bool(options.get("shuffle")) and isinstance(x, keras.utils.PyDataset),
            class_weight=options.get("class_weight"),
        )  # fmt: skip
    return Stream(inner, columns)


class Stream(DataAdapter):
    """Wraps the adapter that Keras has for this kind of data.

    error  what the data itself has raised, or the encoding of it
    """

    def __init__(self, inner: Any, columns: Columns) -> None:
        self.error: BaseException | None = None
        self._inner, self._columns = inner, columns
        steps = getattr(columns.model, "steps_per_execution", 1)
        self._held: deque[Any] = deque(maxlen=_HELD + 2 * steps)
        self._pass: _Pass | None = None

    def close(self) -> None:
        """Stop the threads that work ahead."""
        if self._pass is not None:
            self._pass.close()
        enqueuer = getattr(self._inner, "enqueuer", None)
        if enqueuer is not None:
            enqueuer.stop()

    def get_numpy_iterator(self) -> Iterator[Any]:
        """Batches (x, y, sample_weight) of NumPy arrays."""
        if self._pass is None or self._pass.is_under_way():
            self._renew()
        assert self._pass is not None
        return iter(self._pass)

    def _renew(self) -> None:
        if self._pass is not None:
            self._pass.close()
        workers = getattr(self._inner, "enqueuer", None)
        if workers is not None and self._inner.num_batches is not None:
            workers.stop()  # they begin with the first batch again: what they had ready for the last pass is none of it
            workers.ready_queue = queue.Queue()
        self._pass = _Pass(self._encoded(), ahead=workers is None)  # they mustn't be asked between epochs

    def _encoded(self) -> Iterator[Any]:
        try:
            for batch in _batches(self._inner):
                yield self._encode(batch)
        except Exception as error:
            self.error = error
            raise

    def _encode(self, batch: Any) -> Any:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        x, words, single = self._columns.encode(x)
        if self._held:
            look_ahead(self._held[-1], words)
        self._held.append(words)
        y, weight = self._columns.targets(y, single), self._columns.targets(weight, single)
        x = tuple(x) if isinstance(x, list) else x  # a tf.data.Dataset would stack a list
        return keras.tree.map_structure(_to_array, keras.utils.pack_x_y_sample_weight(x, y, weight))

    def get_jax_iterator(self) -> Iterator[Any]:
        """The same, as JAX takes them."""
        return self.get_numpy_iterator()

    def get_tf_dataset(self) -> Any:
        """The same, as a tf.data.Dataset."""
        import tensorflow as tf

        peeked = list(islice(self.get_numpy_iterator(), _PEEKED))
        if not peeked:
            raise ArgumentError("the data to read batch by batch has no batch at all; expected at least one")
        spec = self._columns.loosen(data_adapter_utils.get_keras_tensor_spec(peeked))
        spec = keras.tree.map_structure(data_adapter_utils.convert_to_tf_tensor_spec, spec)
        options = tf.data.Options()
        options.autotune.enabled = False  # or it reads ahead, too, and asks a PyDataset's workers when they rest
        return tf.data.Dataset.from_generator(self.get_numpy_iterator, output_signature=spec).with_options(options)

    def get_torch_dataloader(self) -> Any:
        """The same, as a torch DataLoader."""
        return data_adapter_utils.get_torch_dataloader(_Again(self))

    def on_epoch_begin(self) -> None:
        """Told on."""
        self._inner.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Told on; what can be read again is then read from its beginning."""
        if self._pass is not None and not isinstance(self._inner, GeneratorDataAdapter):
            self._pass.restart = True
        self._inner.on_epoch_end()

    @property
    def num_batches(self) -> Any:
        """As the data's own adapter says."""
        return self._inner.num_batches

    @property
    def batch_size(self) -> Any:
        """As the data's own adapter says."""
        return self._inner.batch_size

    @property
    def has_partial_batch(self) -> Any:
        """As the data's own adapter says."""
        return self._inner.has_partial_batch

    @property
    def partial_batch_size(self) -> Any:
        """As the data's own adapter says."""
        return self._inner.partial_batch_size


class _Again:
    """What can be iterated over for each epoch anew."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[Any]:
        return self._stream.get_numpy_iterator()


def _batches(inner: Any) -> Iterator[Any]:
    loader = getattr(inner, "_dataloader", None)
    return iter(loader) if loader is not None else inner.get_numpy_iterator()  # torch's may hold lists of strings


def _to_array(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        return leaf
    return np.asarray(leaf.cpu() if hasattr(leaf, "cpu") else leaf)


class _Pass:
    """One time through the data: the next item is made while this one is used.

    Keras looks at the first batches before it begins. They are kept, so that whoever begins again after these goes on
    with the same pass, and nothing is lost of what can be read only once.
    """

    def __init__(self, items: Iterator[Any], *, ahead: bool) -> None:
        self.restart = False
        self._first: list[Any] = []
        self._given = 0
        self._ahead = Ahead(items) if ahead else items

    def is_under_way(self) -> bool:
        """Whether more has been taken of it than is kept."""
        return self.restart or self._given > len(self._first)

    def close(self) -> None:
        """Stop working ahead."""
        if isinstance(self._ahead, Ahead):
            self._ahead.close()

    def __iter__(self) -> Iterator[Any]:
        return chain(list(self._first), self._rest())

    def _rest(self) -> Iterator[Any]:
        for item in self._ahead:
            self._given += 1
            if self._given <= _PEEKED:
                self._first.append(item)
            yield item
        self._given = _PEEKED + 1  # all has been taken
