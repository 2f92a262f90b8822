"""Data that comes batch by batch, with its ids encoded one batch ahead of the model."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import keras
from keras.src.trainers.data_adapters import data_adapter_utils, get_data_adapter
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from hotrow.keras.columns import Columns, to_numbers

_AHEAD = 1
_HELD = 64  # batches that are on their way through Keras and the backend


def encoded_stream(columns: Columns, x: Any, y: Any, weight: Any, **options: Any) -> DataAdapter:
    """An adapter of Keras's whose batches have codes for ids.

    options: class_weight, shuffle, as for `fit`. Raises what Keras raises for y or weights beside a stream.
    """
    inner = get_data_adapter(
        x, y, weight, shuffle=bool(options.get("shuffle")) and isinstance(x, keras.utils.PyDataset),
        class_weight=options.get("class_weight"),
    )  # fmt: skip
    return _Encoded(inner, columns)


class _Encoded(DataAdapter):
    """Wraps the adapter that Keras has for this kind of data."""

    def __init__(self, inner: Any, columns: Columns) -> None:
        self._inner, self._columns = inner, columns
        self._held: deque[Any] = deque(maxlen=_HELD)

    def get_numpy_iterator(self) -> Iterator[Any]:
        """Batches (x, y, sample_weight) of NumPy arrays."""
        return iter(_Ahead(lambda: map(self._encode, self._inner.get_numpy_iterator())))

    def _encode(self, batch: Any) -> Any:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        x, words, lifted = self._columns.encode(x)
        self._held.append(words)
        target = self._columns.model._targets
        y, weight = target(y, lifted), target(weight, lifted)
        return keras.tree.map_structure(to_numbers, keras.utils.pack_x_y_sample_weight(x, y, weight))

    def get_jax_iterator(self) -> Iterator[Any]:
        """The same, as JAX takes them."""
        return self.get_numpy_iterator()

    def get_tf_dataset(self) -> Any:
        """The same, as a tf.data.Dataset."""
        import tensorflow as tf

        begun = self.get_numpy_iterator()
        peeked = [next(begun)]
        spec = data_adapter_utils.get_tensor_spec(peeked)

        def batches() -> Iterator[Any]:
            nonlocal begun
            passed, begun = begun, iter(())
            yield from peeked or self.get_numpy_iterator()
            peeked.clear()
            yield from passed

        return tf.data.Dataset.from_generator(batches, output_signature=spec).prefetch(2)

    def get_torch_dataloader(self) -> Any:
        """The same, as a torch DataLoader."""
        import torch

        adapter = self

        class Batches(torch.utils.data.IterableDataset[Any]):
            def __iter__(self) -> Iterator[Any]:
                return adapter.get_numpy_iterator()

        def to_tensor(array: Any) -> Any:
            return None if array is None else torch.as_tensor(array)

        def to_tensors(batch: Any) -> Any:
            return keras.tree.map_structure(to_tensor, batch)

        return torch.utils.data.DataLoader(Batches(), batch_size=None, collate_fn=to_tensors)

    def on_epoch_begin(self) -> None:
        """Told on."""
        self._inner.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Told on."""
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


class _Ahead:
    """Makes the next item of an iterator while this one is used; an error comes out where its item would."""

    def __init__(self, make: Callable[[], Iterator[Any]]) -> None:
        self._items: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(_AHEAD)
        self._stopped = threading.Event()
        threading.Thread(target=self._work, args=(make,), name="hotrow-ahead", daemon=True).start()

    def _work(self, make: Callable[[], Iterator[Any]]) -> None:
        try:
            for item in make():
                if not self._put(item, None):
                    return
            self._put(None, StopIteration())
        except BaseException as error:  # noqa: BLE001 — raised again, where it is waited for
            self._put(None, error)

    def _put(self, item: Any, error: BaseException | None) -> bool:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._items.put((item, error), timeout=0.1)
                return True
        return False

    def __iter__(self) -> Iterator[Any]:
        try:
            while True:
                item, error = self._items.get()
                if isinstance(error, StopIteration):
                    return
                if error is not None:
                    raise error
                yield item
        finally:
            self._stopped.set()
