"""hotrow in Keras 3, on TensorFlow, JAX and torch: ids in as they are, rows trained with the model.

    Embedding          the layer: `keras.layers.Embedding`'s own signature, and any id
    Features           many columns in one layer: Id, Bag, Sequence and Number say what each is
    Model              `keras.Model` whose fit, evaluate and predict take ids as they are
    Sequential         `keras.Sequential`, the same
    from_embedding     a table of a trained layer of Keras's own, and of the lookup before it
    SnapshotCallback   saves tables, net and optimizer of one step while fit goes on, to go on from

`hotrow.keras` loads on first use, and Keras with it.
"""

from __future__ import annotations

from importlib import import_module

from hotrow.errors import MissingExtraError

try:
    import_module("keras")
except ImportError as error:  # Keras itself, or the backend that it is told to run on
    raise MissingExtraError(
        f"hotrow.keras needs Keras 3 and the backend that KERAS_BACKEND names ({error}): "
        'pip install "hotrow[tensorflow]", "hotrow[jax]" or "hotrow[torch]"'
    ) from error

from hotrow.keras.bringing import from_embedding
from hotrow.keras.embedding import Embedding
from hotrow.keras.feature import Bag, Id, Number, Sequence
from hotrow.keras.features import Features
from hotrow.keras.model import Model, Sequential
from hotrow.keras.snapshots import SnapshotCallback

__all__ = [
    "Bag", "Embedding", "Features", "Id", "Model", "Number", "Sequence", "Sequential", "SnapshotCallback",
    "from_embedding",
]  # fmt: skip
