"""What `keras.layers.Embedding` may be given, in the table's terms: initializers, regularizers, constraints."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from hotrow.bridges.rules import Penalty
from hotrow.errors import ArgumentError
from hotrow.table import initializers, optimizers
from hotrow.table.initializers import Constant, Initializer, Normal, TruncatedNormal, Uniform, Zeros
from hotrow.table.optimizers import Optimizer

_OURS = "hotrow"  # the key of a config that is the table's, not Keras's
Constraint = Callable[[np.ndarray], np.ndarray]
_EPSILON = 1e-7  # Keras's own, against a norm of 0
_TRUNCATED = 0.87962566103423978  # standard deviation of the normal distribution cut off at two of them


def to_initializer(given: Any, input_dim: int | None, dim: int) -> Initializer:
    """The table's initializer for Keras's; ArgumentError, by name, for one that needs the whole matrix."""
    if isinstance(given, Initializer):
        return given
    of = keras.initializers
    simple: dict[type, Callable[[Any], Initializer]] = {
        of.RandomUniform: lambda g: Uniform((g.maxval - g.minval) / 2, (g.maxval + g.minval) / 2),
        of.RandomNormal: lambda g: Normal(g.stddev, g.mean),
        of.TruncatedNormal: lambda g: TruncatedNormal(g.stddev, g.mean),
        of.Zeros: lambda _: Zeros(),
        of.Ones: lambda _: Constant(1.0),
        of.Constant: lambda g: Constant(float(g.value)),
    }
    if type(given) in simple and np.ndim(getattr(given, "value", 0)) == 0:
        return simple[type(given)](given)
    if isinstance(given, of.VarianceScaling):  # He's, Glorot's and LeCun's are of this class
        return _variance_scaling(given, input_dim, dim)
    raise ArgumentError(
        f"embeddings_initializer={_name(given)} needs the whole matrix, and a row is made when its id comes; expected "
        '"uniform", "normal", "zeros" or another of Keras\'s that draws each number by itself, or weights=[matrix]'
    )


def _variance_scaling(given: Any, input_dim: int | None, dim: int) -> Initializer:
    name = type(given).__name__
    if input_dim is None:
        raise ArgumentError(
            f"embeddings_initializer={name} depends on the number of ids, and there is no bound on them here; expected "
            f'"uniform" or "normal", or a bound, e.g. hotrow.keras.Embedding(1000, {dim}, …)'
        )
    fan = {"fan_in": input_dim, "fan_out": dim, "fan_avg": (input_dim + dim) / 2}[given.mode]
    std = math.sqrt(given.scale / max(1.0, fan))
    if given.distribution == "uniform":
        return Uniform(math.sqrt(3.0) * std)
    if given.distribution == "truncated_normal":
        return TruncatedNormal(std / _TRUNCATED)
    return Normal(std)


def to_penalty(given: Any) -> Penalty | None:
    """The l1 and l2 of a regularizer; ArgumentError, by name, for any other."""
    if given is None:
        return None
    of = keras.regularizers
    if type(given) not in {of.L1, of.L2, of.L1L2}:
        raise ArgumentError(
            f"embeddings_regularizer={_name(given)} can't be worked out for the rows of a batch; expected "
            "keras.regularizers.L1, L2 or L1L2"
        )
    return Penalty(float(getattr(given, "l1", 0.0)), float(getattr(given, "l2", 0.0)))


def to_constraint(given: Any) -> Constraint | None:
    """A constraint as a function of rows, float32 (m, dim); ArgumentError for one that isn't about single rows."""
    if given is None:
        return None
    of = keras.constraints
    kinds: dict[type, Callable[[Any], Constraint]] = {
        of.MaxNorm: lambda g: _to_norms(lambda norms: np.clip(norms, 0, g.max_value)),
        of.UnitNorm: lambda _: _to_norms(np.ones_like),
        of.MinMaxNorm: lambda g: _to_norms(
            lambda norms: g.rate * np.clip(norms, g.min_value, g.max_value) + (1 - g.rate) * norms
        ),
        of.NonNeg: lambda _: lambda rows: np.maximum(rows, 0),
    }
    if type(given) not in kinds:
        raise ArgumentError(
            f"embeddings_constraint={_name(given)} can't be held to by single rows; expected "
            "keras.constraints.MaxNorm, UnitNorm or MinMaxNorm with axis=1, or NonNeg"
        )
    axis = getattr(given, "axis", 1)
    if axis not in {1, -1}:
        raise ArgumentError(
            f"embeddings_constraint={_name(given)}(axis={axis}) is about the norm of a column over all ids, which a "
            f"step doesn't touch; for that of each id's vector, use keras.constraints.{_name(given)}(…, axis=1)"
        )
    return kinds[type(given)](given)


def _to_norms(wanted: Callable[[np.ndarray], np.ndarray]) -> Constraint:
    """Scale each row so that its norm is what is wanted."""

    def function(rows: np.ndarray) -> np.ndarray:
        norms = np.sqrt(np.square(rows).sum(1, keepdims=True))
        return (rows * (wanted(norms) / (_EPSILON + norms))).astype(np.float32)

    return function


def _name(given: Any) -> str:
    return getattr(given, "__name__", type(given).__name__)


# --- to and from configs -------------------------------------------------------------------------------------------


def get_initializer(given: Any) -> Any:
    """Keras's or the table's own, from itself, its name or its config."""
    if isinstance(given, Initializer):
        return given
    if isinstance(given, dict) and _OURS in given:
        return initializers.from_config(given[_OURS])
    return keras.initializers.get(given)


def seed_of(initializer: Any) -> int:
    """The seed that Keras drew for an initializer, or gives to one."""
    seed: Any = getattr(initializer, "seed", None)
    if not isinstance(seed, int):  # and only then: each draw moves what all later layers begin with
        seed = keras.initializers.RandomUniform().seed
    return seed


def initializer_config(initializer: Any) -> Any:
    """From which `get_initializer` makes an equal one."""
    if isinstance(initializer, Initializer):
        return {_OURS: initializers.to_config(initializer)}
    return keras.initializers.serialize(initializer)


def optimizer_config(optimizer: Any) -> Any:
    """JSON values of the `optimizer=` of a layer."""
    if isinstance(optimizer, Optimizer):
        return {_OURS: optimizers.to_config(optimizer)}
    if optimizer is None or isinstance(optimizer, str):
        return optimizer
    return portable(keras.optimizers.serialize(optimizer))


def portable(config: Any) -> Any:
    """A config in which Keras's optimizers for torch have the name that they have on every backend."""
    if isinstance(config, (list, tuple)):
        return [portable(value) for value in config]
    if not isinstance(config, dict):
        return config
    config = {name: portable(value) for name, value in config.items()}
    if str(config.get("module")).startswith("keras.src.backend.torch.optimizers."):
        config |= {"module": "keras.optimizers", "registered_name": None}
    return config


def from_layer_config(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a layer, from its config; but for the table, of which see `sharing`."""
    config = dict(config)
    optimizer = config.get("optimizer")
    if isinstance(optimizer, dict):
        own = optimizer.get(_OURS)
        config["optimizer"] = optimizers.from_config(own) if own else keras.optimizers.deserialize({**optimizer})
    return config
