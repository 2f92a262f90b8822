"""Columns whose items are lists, in the forms in which they come, as values and offsets.

[["red", "small"], [], ["red"]]   →   values ["red", "small", "red"], offsets [0, 2, 2, 3]
"""

from __future__ import annotations

from itertools import chain
from typing import Any, cast

import numpy as np

from hotrow.errors import ArgumentError, KindError

_EXPECTED = "expected a list of ids for each example, such as [[1, 2], [], [3]], and [] where there is none"


def take_apart(bags: Any) -> tuple[Any, np.ndarray]:
    """The values of all bags, one after the other, and offsets int64 (bags + 1,): where each bag begins and ends.

    bags: lists of lists, tuples or arrays; an Arrow, pandas or polars column of lists; a matrix (bags, n), whose rows
    are the bags; a tf.RaggedTensor; a nested tensor of torch's. Raises KindError for what isn't bags, ArgumentError for
    a bag that is null.

    >>> from hotrow.bridges.ragged import take_apart
    >>> take_apart([["red", "small"], [], ["red"]])
    (['red', 'small', 'red'], array([0, 2, 2, 3]))
    """
    if hasattr(bags, "row_splits"):  # TensorFlow's
        return bags.flat_values.numpy(), np.asarray(bags.row_splits.numpy(), np.int64)
    if getattr(bags, "is_nested", False):  # torch's
        bags = [bag.numpy(force=True) for bag in bags.unbind()]
    if hasattr(bags, "to_arrow") and not hasattr(bags, "iloc"):  # polars'
        bags = bags.to_arrow()
    if hasattr(getattr(bags, "dtype", None), "pyarrow_dtype"):  # pandas' columns of Arrow lists
        bags = bags.array.__arrow_array__()
    if hasattr(bags, "combine_chunks"):
        bags = bags.combine_chunks()
    if hasattr(bags, "flatten") and hasattr(bags, "value_lengths"):
        return _of_arrow(bags)
    if not isinstance(bags, (list, tuple)):
        bags = np.asarray(bags)
        if bags.ndim == 2:
            return bags.reshape(-1), np.arange(len(bags) + 1, dtype=np.int64) * bags.shape[1]
        bags = bags.tolist() if bags.ndim == 1 else _refuse(bags)
    return _of_lists(cast("list[Any]", bags))


def _of_arrow(bags: Any) -> tuple[Any, np.ndarray]:
    if bags.null_count:
        _refuse_null(int(np.argmax(bags.is_null().to_numpy(zero_copy_only=False))))
    lengths = bags.value_lengths().to_numpy(zero_copy_only=False)
    return bags.flatten(), _offsets(lengths)


def _of_lists(bags: list[Any]) -> tuple[Any, np.ndarray]:
    for place, bag in enumerate(bags):
        if bag is None:
            _refuse_null(place)
        if isinstance(bag, (str, bytes)) or not hasattr(bag, "__len__") or not hasattr(bag, "__getitem__"):
            raise KindError(f"got {bag!r:.60} at position {place} for a bag of ids; {_EXPECTED}")
    offsets = _offsets(np.fromiter(map(len, bags), np.int64, len(bags)))
    if bags and all(type(bag) is np.ndarray for bag in bags) and len({bag.dtype for bag in bags}) == 1:
        return np.concatenate(bags), offsets
    return list(chain.from_iterable(bag.tolist() if isinstance(bag, np.ndarray) else bag for bag in bags)), offsets


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _refuse_null(place: int) -> None:
    raise ArgumentError(f"the bag at position {place} is null; {_EXPECTED}")


def _refuse(bags: np.ndarray) -> Any:
    raise KindError(f"got an array of shape {bags.shape} for a column of bags; {_EXPECTED}")


def take_weights(weights: Any, offsets: np.ndarray) -> np.ndarray:
    """The weights of the ids of all bags, float32 (ids,); ArgumentError where they aren't one finite number an id."""
    try:
        values, own = take_apart(weights)
    except (KindError, ArgumentError) as error:
        raise type(error)(f"weights must be one number for each id of each bag, in lists; {error}") from None
    numbers = np.asarray(values, np.float32).reshape(-1)
    if len(own) != len(offsets) or (own != offsets).any():
        place = "" if len(own) != len(offsets) else f": first in bag {int(np.argmax(own != offsets)) - 1}"
        raise ArgumentError(f"weights must be one number for each id of each bag, in lists of the same lengths{place}")
    if not np.isfinite(numbers).all():
        raise ArgumentError(f"weights must be finite; weight {int(np.argmin(np.isfinite(numbers)))} isn't")
    return numbers
