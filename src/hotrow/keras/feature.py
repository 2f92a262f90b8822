"""What one column of a `hotrow.keras.Features` layer is: an id, a bag of ids, a sequence of ids, or numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import keras
import numpy as np

from hotrow.bridges.bag_codes import decode_bags, decode_sequences
from hotrow.bridges.codes import decode
from hotrow.errors import ArgumentError
from hotrow.keras import settings
from hotrow.table.batch import POOLINGS, Batch
from hotrow.table.table import Table

Find = Callable[[np.ndarray, bool], Batch]
OF_A_TABLE = ("embeddings_initializer", "embeddings_regularizer", "embeddings_constraint", "ids")
"""What a feature says of its table, and `hotrow.keras.Embedding` takes."""


@dataclass(frozen=True, eq=False)
class Id:
    """A column with one id in each example: (batch,) → (batch, dim).

    dim      floats a vector
    table    a name: features with the same one share a table; or a hotrow.Table; by default the feature has its own
    mask_id  an id that stands for nothing: its vector is zeros, and never trained

    embeddings_initializer, embeddings_regularizer, embeddings_constraint and ids are those of
    `hotrow.keras.Embedding`; of features that share a table, one alone may give them. Raises ArgumentError for what
    can't be right.

    >>> import hotrow
    >>> hotrow.keras.Id(16).dim
    16
    """

    dim: int
    table: str | Table | None = field(default=None, kw_only=True)
    mask_id: Any = field(default=None, kw_only=True)
    embeddings_initializer: Any = field(default=None, kw_only=True)
    embeddings_regularizer: Any = field(default=None, kw_only=True)
    embeddings_constraint: Any = field(default=None, kw_only=True)
    ids: str | None = field(default=None, kw_only=True)

    takes_bags: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, (int, np.integer)) or self.dim < 1:
            raise ArgumentError(
                f"dim must be a whole number from 1 on, the length of a vector; got {self.dim!r}. Try "
                f"hotrow.keras.{type(self).__name__}(16)"
            )

    @property
    def inner(self) -> tuple[int, ...]:
        """The shape of what an example becomes."""
        return (self.dim,)

    def finder(self, table: Table) -> Find:
        """What finds a column's codes in the table."""
        return lambda codes, grow: decode(codes, table, mask=self.mask_id, grow=grow)

    def config(self) -> dict[str, Any]:
        """JSON values, of all but a Table, from which `from_config` makes an equal feature."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        values["table"] = values["table"] if isinstance(values["table"], str) else None
        if self.embeddings_initializer is not None:
            made = settings.get_initializer(self.embeddings_initializer)
            values["embeddings_initializer"] = settings.initializer_config(made)
        for name, module in (("regularizer", keras.regularizers), ("constraint", keras.constraints)):
            value = values[f"embeddings_{name}"]
            values[f"embeddings_{name}"] = None if value is None else module.serialize(module.get(value))
        return {"kind": type(self).__name__, **values}


@dataclass(frozen=True, eq=False)
class Bag(Id):
    """A column with any number of ids in each example, made one vector: lists of ids (batch,) → (batch, dim).

    pooling  "mean", "sum", "sqrtn" or "max"; an empty bag is zeros
    weights  the name of the column with a number for each id of each bag; not with "max"

    The rest is as in `Id`; ids that are `mask_id` are left out.

    >>> import hotrow
    >>> hotrow.keras.Bag(16, "sqrtn", weights="times bought").pooling
    'sqrtn'
    """

    pooling: str = "mean"
    weights: str | None = field(default=None, kw_only=True)

    takes_bags: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling not in POOLINGS:
            raise ArgumentError(f"pooling must be one of {', '.join(map(repr, POOLINGS))}; got {self.pooling!r}")
        if self.weights is not None and self.pooling == "max":
            raise ArgumentError("pooling='max' takes no weights; leave weights= out, or pool by 'sum' or 'mean'")

    def finder(self, table: Table) -> Find:
        """What finds a column's codes in the table."""
        mode = POOLINGS[self.pooling]
        return lambda codes, grow: decode_bags(codes, table, mode, grow=grow)


@dataclass(frozen=True, eq=False)
class Sequence(Id):
    """A column with any number of ids in each example, in an order: lists of ids (batch,) → (batch, length, dim).

    length  the last so many ids are kept; where there are fewer, zeros follow, and a mask tells

    The rest is as in `Id`; ids that are `mask_id` are left out.

    >>> import hotrow
    >>> hotrow.keras.Sequence(16, length=50, table="item").inner
    (50, 16)
    """

    length: int = field(kw_only=True)

    takes_bags: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.length, bool) or not isinstance(self.length, (int, np.integer)) or self.length < 1:
            raise ArgumentError(
                f"length must be a whole number from 1 on, how many ids are kept of each example; got {self.length!r}"
            )

    @property
    def inner(self) -> tuple[int, ...]:
        """The shape of what an example becomes."""
        return (self.length, self.dim)

    def finder(self, table: Table) -> Find:
        """What finds a column's codes in the table."""
        return lambda codes, grow: decode_sequences(codes, table, self.length, grow=grow)


@dataclass(frozen=True, eq=False)
class Number:
    """A column of numbers, which pass as they are: (batch,) or (batch, width) → float (batch, width).

    >>> import hotrow
    >>> hotrow.keras.Number(3).inner
    (3,)
    """

    width: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.width, bool) or not isinstance(self.width, (int, np.integer)) or self.width < 1:
            raise ArgumentError(f"width must be a whole number from 1 on, numbers an example; got {self.width!r}")

    @property
    def inner(self) -> tuple[int, ...]:
        """The shape of what an example becomes."""
        return (self.width,)

    def config(self) -> dict[str, Any]:
        """JSON values, from which `from_config` makes an equal feature."""
        return {"kind": "Number", "width": self.width}


Feature = Id | Number
_KINDS: dict[str, Callable[..., Feature]] = {kind.__name__: kind for kind in (Id, Bag, Sequence, Number)}


def from_config(config: dict[str, Any]) -> Feature:
    """The feature whose `config` this is."""
    values = dict(config)
    kind = _KINDS[values.pop("kind")]
    if values.get("embeddings_initializer") is not None:
        values["embeddings_initializer"] = settings.get_initializer(values["embeddings_initializer"])
    for name, module in (("regularizer", keras.regularizers), ("constraint", keras.constraints)):
        value = values.get(f"embeddings_{name}")
        if value is not None:
            values[f"embeddings_{name}"] = module.deserialize(value)
    return kind(**values)
