"""gensim's KeyedVectors in: what `kv.save(path)` wrote, of gensim 3 and 4, read without unpickling; and live ones.

words             the pickle: the keys, and small arrays
words.vectors.npy the vectors, where they are more than some megabytes
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from hotrow.errors import ArgumentError, CorruptError, DataError
from hotrow.exchange.arrays_reading import mapped_npy
from hotrow.exchange.incoming import Imported, Incoming, into_table, of_arrays
from hotrow.exchange.inert_pickle import Thing, read_inert
from hotrow.store.strict_json import MalformedError
from hotrow.table.optimizers import Optimizer

_CLASSES = {"KeyedVectors", "Word2VecKeyedVectors", "EuclideanKeyedVectors"}


def open_keyed_vectors(path: Path, progress: Callable[[int, int], object] | None = None) -> Incoming:
    """What `kv.save(path)` wrote. CorruptError for what isn't that, DataError for what can't be taken of it."""
    saved = read_inert(path, progress)
    if not isinstance(saved, Thing) or saved.kind not in _CLASSES or not isinstance(saved.state, dict):
        raise CorruptError(f"{path}: isn't a KeyedVectors; of a whole model save these: model.wv.save(path)")
    state = cast("dict[str, Any]", saved.state)
    try:
        keys = _keys(state)
        vectors = _vectors(path, state)
    except MalformedError as error:
        raise CorruptError(f"{path}: {error}") from error
    if vectors.ndim != 2 or len(vectors) != len(keys):
        raise CorruptError(f"{path}: has {len(keys):,} keys, and vectors of shape {vectors.shape}")
    return of_arrays(str(path), "gensim's KeyedVectors", keys, vectors)


def from_keyed_vectors(kv: Any, *, optimizer: Optimizer | None = None) -> Imported:
    """A table of a live `gensim.models.KeyedVectors`: its keys, texts or integers, each with its vector.

    ArgumentError for what isn't one.

    >>> from types import SimpleNamespace
    >>> words = SimpleNamespace(index_to_key=["lantern", "cup"], vectors=np.eye(2, dtype=np.float32))
    >>> from_keyed_vectors(words).table.lookup("cup").tolist()
    [0.0, 1.0]
    """
    keys, vectors = getattr(kv, "index_to_key", None), getattr(kv, "vectors", None)
    if not isinstance(keys, list) or not isinstance(vectors, np.ndarray) or vectors.ndim != 2:
        raise ArgumentError(
            f"expected a gensim KeyedVectors, as model.wv is; got {kv!r:.80}, without index_to_key and vectors"
        )
    texts = cast("list[Any]", keys)
    if len(texts) != len(vectors):
        raise ArgumentError(f"{len(texts):,} keys, and vectors of shape {vectors.shape}: one of them is half filled")
    return into_table(of_arrays("the KeyedVectors", "gensim's KeyedVectors", texts, vectors), optimizer=optimizer)


def _keys(state: dict[str, Any]) -> list[Any]:
    """The keys in the order of the vectors."""
    keys = state.get("index_to_key", state.get("index2word"))
    if not isinstance(keys, list):
        raise MalformedError("has no list index_to_key (gensim 4) or index2word (gensim 3)")
    found = cast("list[Any]", keys)
    kinds = {type(key) for key in found}
    if not kinds <= {str} and not kinds <= {int}:
        raise MalformedError("has keys that aren't all texts, or all integers; perhaps rows that were never filled")
    numbered = state.get("key_to_index")
    if numbered is not None and (
        not isinstance(numbered, dict)
        or numbered != {key: i for i, key in enumerate(found)}
        or len(numbered) != len(found)
    ):
        raise MalformedError("has a key_to_index that isn't that of its index_to_key")
    return found


def _vectors(path: Path, state: dict[str, Any]) -> np.ndarray:
    """The array in the pickle, or the one beside it."""
    for name in ("vectors", "syn0"):
        held = state.get(name)
        if isinstance(held, Thing) and isinstance(held.state, np.ndarray):
            return held.state
        beside = state.get("__numpys")
        if isinstance(beside, list) and name in beside:
            other = path.with_name(f"{path.name}.{name}.npy")
            if not other.is_file():
                raise DataError(f"{path} keeps its vectors in {other.name}, which isn't beside it: copy both files")
            return mapped_npy(other)
    raise MalformedError("has no vectors")
