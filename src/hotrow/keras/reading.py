"""What reads an input of a model as ids, and what that input becomes on its way there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hotrow.bridges.bag_codes import encode_bags
from hotrow.bridges.codes import encode
from hotrow.errors import ArgumentError
from hotrow.keras.embedding import Embedding
from hotrow.keras.feature import Bag, Id


@dataclass(frozen=True)
class Reader:
    """An Embedding layer, or a feature of a Features layer, whose table is that of a layer of its own."""

    layer: Embedding
    name: str
    feature: Id | None = None

    @property
    def takes_bags(self) -> bool:
        """Whether it reads lists of ids."""
        return self.feature is not None and self.feature.takes_bags

    @property
    def form(self) -> tuple[Any, ...]:
        """What must be alike for all that read one input."""
        weights = self.feature.weights if isinstance(self.feature, Bag) else None
        mask = self.feature.mask_id if self.takes_bags and self.feature is not None else None
        return self.takes_bags, weights, mask


def encode_column(readers: list[Reader], value: Any, columns: Mapping[Any, Any] | None) -> tuple[np.ndarray, Any]:
    """Codes for a column that goes to these, int32, and what must be held while they are in use.

    columns: all of the data by name, where weights of bags are. Raises what ids are refused with, and ArgumentError
    where the readers want it in different forms.
    """
    forms = {reader.form for reader in readers}
    if len(forms) > 1:
        names = ", ".join(sorted({repr(reader.name) for reader in readers}))
        raise ArgumentError(
            f"one input is read by {names} in different forms; expected that all take single ids, or all bags with the "
            "same weights and mask_id: give each an Input of its own"
        )
    takes_bags, weights, mask = forms.pop() if forms else (False, None, None)
    held: Any
    if takes_bags:
        codes, held = encode_bags(value, weights=_column(columns, weights), mask=mask)
        words = held.words
    else:
        codes, words = encode(value)
        held = words
    for reader in readers:
        if reader.feature is not None and reader.feature.mask_id is not None:
            words.place(reader.feature.mask_id)
        reader.layer.check(words)  # now, for in the middle of a step JAX would lose the model's weights
    return codes, held


def _column(columns: Mapping[Any, Any] | None, name: str | None) -> Any:
    if name is None:
        return None
    if columns is None or name not in columns:
        given = "no columns by name" if columns is None else str(list(columns))
        raise ArgumentError(f"expected a column {name!r} with the weights of a bag, in a dict or table; got {given}")
    return columns[name]


_recent: list[Any] = []
_MOST = 128  # calls of models whose codes are still good


def remember(held: Any) -> None:
    """Hold what a call has encoded until many others have come."""
    _recent.append(held)
    del _recent[:-_MOST]
