"""A layer of Keras's own, and the lookup before it, brought into a table."""

from __future__ import annotations

from typing import Any, cast

import keras
import numpy as np

from hotrow.bridges.bringing import table_of
from hotrow.errors import ArgumentError
from hotrow.table.optimizers import Optimizer
from hotrow.table.table import Table


def from_embedding(layer: Any, lookup: Any = None, *, ids: Any = None, optimizer: Optimizer | None = None) -> Table:
    """A table of a trained `keras.layers.Embedding`, with the ids of the StringLookup or IntegerLookup before it.

    lookup     the lookup whose numbers the Embedding takes
    ids        in place of a lookup, an id for each row, in a form that has a length; None: the row numbers 0, 1, …
    optimizer  what the table is trained with from now on; Adam(1e-3) if not given

    The rows of the mask and of ids outside of the vocabulary are no id's: left out, as is row 0 with `mask_zero`;
    in the table an unknown id gets a row of its own once it is trained. ArgumentError for other layers, a lookup of
    more ids than there are rows, and ids that don't fit.

    >>> import keras, hotrow
    >>> layer = keras.layers.Embedding(3, 2)
    >>> layer.build()
    >>> len(hotrow.keras.from_embedding(layer)), len(hotrow.keras.from_embedding(layer, ids=["a", "b", "c"]))
    (3, 3)
    """
    if not isinstance(layer, keras.layers.Embedding) or not layer.built:
        raise ArgumentError(f"expected a keras.layers.Embedding that is built; got {layer!r:.80}")
    matrix = np.asarray(keras.ops.convert_to_numpy(cast("Any", layer).embeddings)).astype(np.float32)
    rows = np.arange(len(matrix))
    if lookup is None:
        return table_of(ids, matrix, rows[1:] if layer.mask_zero else rows, optimizer)
    if ids is not None:
        raise ArgumentError("give a lookup or ids, not both")
    tokens, first = _vocabulary(lookup)
    if first + len(tokens) > len(matrix):
        raise ArgumentError(
            f"the lookup gives numbers up to {first + len(tokens) - 1}, and there are {len(matrix)} rows"
        )
    return table_of(tokens, matrix[first : first + len(tokens)], np.arange(len(tokens)), optimizer)


def _vocabulary(lookup: Any) -> tuple[list[Any], int]:
    """The ids of a lookup, and the number of the first."""
    if not isinstance(lookup, keras.layers.StringLookup | keras.layers.IntegerLookup):
        raise ArgumentError(f"expected a StringLookup or an IntegerLookup; got {lookup!r:.80}")
    known = cast("Any", lookup)
    if known.output_mode != "int" or known.invert:
        raise ArgumentError("the lookup doesn't give numbers of rows: expected output_mode='int' and invert=False")
    tokens: list[Any] = known.get_vocabulary(include_special_tokens=False)
    first = int(known.num_oov_indices) + (known.mask_token is not None)
    if isinstance(lookup, keras.layers.IntegerLookup):
        return [int(token) for token in tokens], first
    return [str(token) for token in tokens], first
