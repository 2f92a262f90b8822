"""hotrow: the embedding layer for discrete features. Raw ids in, trained vectors out.

The public names, in the order data flows. `hotrow.models` loads on first use.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from hotrow.bridges.ahead import ahead
from hotrow.errors import (
    ArgumentError,
    ClusterError,
    CorruptError,
    DataError,
    DiskError,
    HotrowError,
    IdError,
    KindError,
    LockedError,
    MissingExtraError,
    UnknownIdError,
)
from hotrow.kernels.threads import set_threads
from hotrow.ops import embedding_lookup, one_hot
from hotrow.store import compact, load, view
from hotrow.table.batch import Batch
from hotrow.table.initializers import Constant, Normal, TruncatedNormal, Uniform, Zeros
from hotrow.table.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Ftrl,
    Lion,
    Nadam,
    RMSprop,
    RowwiseAdagrad,
)
from hotrow.table.table import Receipt, Table
from hotrow.table.view import View

if TYPE_CHECKING:
    from hotrow import cluster as cluster
    from hotrow import jax as jax
    from hotrow import keras as keras
    from hotrow import models
    from hotrow import torch as torch

__version__ = version("hotrow")

__all__ = [  # noqa: RUF022 — in the order data flows
    # an embedding, by hand
    "embedding_lookup",
    "one_hot",
    # ids in, vectors out, gradients back
    "Table",
    "Batch",
    "ahead",
    # what a row starts with
    "Uniform",
    "Normal",
    "TruncatedNormal",
    "Constant",
    "Zeros",
    # how a gradient moves it
    "SGD",
    "Adagrad",
    "RowwiseAdagrad",
    "RMSprop",
    "Adadelta",
    "Adam",
    "AdamW",
    "Adamax",
    "Nadam",
    "Lion",
    "Ftrl",
    # on disk
    "load",
    "view",
    "View",
    "compact",
    "Receipt",
    # models on the table
    "models",
    # the one thread pool
    "set_threads",
    # what can go wrong
    "HotrowError",
    "IdError",
    "UnknownIdError",
    "KindError",
    "ArgumentError",
    "DataError",
    "CorruptError",
    "LockedError",
    "DiskError",
    "ClusterError",
    "MissingExtraError",
]

_ON_FIRST_USE = ("cluster", "jax", "keras", "models", "torch")


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return import_module(f"hotrow.{name}")
    raise AttributeError(f"module 'hotrow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
