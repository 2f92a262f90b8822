"""hotrow in Keras 3, on TensorFlow, JAX and torch: ids in as they are, rows trained with the model.

    Embedding    the layer: `keras.layers.Embedding`'s own signature, and any id
    Model        `keras.Model` whose fit, evaluate and predict take ids as they are
    Sequential   `keras.Sequential`, the same

`hotrow.keras` loads on first use, and Keras with it.
"""

from __future__ import annotations

from importlib.util import find_spec

from hotrow.errors import MissingExtraError

if find_spec("keras") is None:
    raise MissingExtraError(
        'hotrow.keras needs Keras 3 and a backend: pip install "hotrow[tensorflow]", "hotrow[jax]" or "hotrow[torch]"'
    )

from hotrow.keras.embedding import Embedding
from hotrow.keras.model import Model, Sequential

__all__ = ["Embedding", "Model", "Sequential"]
