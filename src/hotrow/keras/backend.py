"""The bridge of the backend that Keras runs on."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import keras

from hotrow.errors import MissingExtraError

NAME: str = keras.backend.backend()
_BRIDGES = ("tensorflow", "jax", "torch")

if NAME not in _BRIDGES:
    raise MissingExtraError(
        f"hotrow.keras trains on {', '.join(_BRIDGES)}; Keras runs on {NAME!r}. "
        "Set KERAS_BACKEND before Keras is imported"
    )

bridge: Any = import_module(f"hotrow.bridges.{NAME}")
