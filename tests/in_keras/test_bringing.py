"""A trained layer of Keras's own, with the lookup before it, becomes a table of the same vectors."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import hotrow
from hotrow.errors import ArgumentError
from hotrow.exchange.reading import read_table
from hotrow.keras import from_embedding

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="a lookup in a model is TensorFlow's; its file is the same everywhere",
)


def embedding(rows, **how):
    """A built layer with some weights."""
    layer = keras.layers.Embedding(rows, 3, name="emb", **how)
    layer.build()
    layer.set_weights([np.random.default_rng(1).standard_normal((rows, 3)).astype(np.float32)])
    return layer


LOOKUPS = [
    (keras.layers.StringLookup, {"vocabulary": ["a", "b c", "ü"]}),
    (keras.layers.StringLookup, {"vocabulary": ["a", "b c", "ü"], "mask_token": "", "num_oov_indices": 2}),
    (keras.layers.StringLookup, {"vocabulary": ["a"], "num_oov_indices": 0}),
    (keras.layers.IntegerLookup, {"vocabulary": [-7, 5, 2**40]}),
    (keras.layers.IntegerLookup, {"vocabulary": [5, 7], "mask_token": 0, "num_oov_indices": 3}),
]


@pytest.mark.parametrize(("kind", "how"), LOOKUPS)
def test_each_id_of_a_lookup_has_the_vector_that_keras_gives_it(kind, how):
    lookup, layer = kind(**how), embedding(9)
    table = from_embedding(layer, lookup, optimizer=hotrow.SGD(0.5))
    ids = how["vocabulary"]
    rows = [int(lookup(np.array([id], object if isinstance(id, str) else np.int64))[0]) for id in ids]
    assert table.lookup(ids).tolist() == np.asarray(layer.get_weights()[0])[rows].tolist()
    assert len(table) == len(ids)
    assert table.optimizer == hotrow.SGD(0.5)


@on_tensorflow
@pytest.mark.parametrize(("kind", "how"), LOOKUPS)
def test_a_file_that_keras_saves_gives_the_same_table(tmp_path, kind, how):
    lookup, layer = kind(name="look", **how), embedding(9)
    text = kind is keras.layers.StringLookup
    given = keras.Input((None,), dtype="string" if text else "int64")
    keras.Model(given, layer(lookup(given))).save(tmp_path / "m.keras")
    made, live = read_table(tmp_path / "m.keras"), from_embedding(layer, lookup)
    assert list(made.table.ids()) == list(live.ids())
    assert made.table.vectors().tolist() == live.vectors().tolist()


@on_tensorflow
def test_a_vocabulary_that_was_learned_is_read_from_the_file(tmp_path):
    lookup, layer = keras.layers.IntegerLookup(name="look"), embedding(6)
    lookup.adapt(np.array([[5], [5], [9], [2**40]]))
    keras.Sequential([keras.Input((None,), dtype="int64"), lookup, layer]).save(tmp_path / "m.keras")
    made, live = read_table(tmp_path / "m.keras"), from_embedding(layer, lookup)
    assert sorted(live.ids().tolist()) == [5, 9, 2**40]
    assert made.table.lookup([5, 9, 2**40]).tolist() == live.lookup([5, 9, 2**40]).tolist()


def test_layers_without_a_lookup_have_row_numbers_or_the_ids_given():
    layer = embedding(4, mask_zero=True)
    weights = layer.get_weights()[0]
    assert from_embedding(layer).ids().tolist() == [1, 2, 3]
    assert from_embedding(layer, ids=list("pabc")).lookup(["a", "c"]).tolist() == weights[[1, 3]].tolist()
    assert from_embedding(embedding(4)).ids().tolist() == [0, 1, 2, 3]


def test_what_does_not_fit_is_refused():
    layer, lookup = embedding(3), keras.layers.StringLookup(vocabulary=["a", "b", "c"])
    with pytest.raises(ArgumentError, match="numbers up to 3, and there are 3 rows"):
        from_embedding(layer, lookup)
    with pytest.raises(ArgumentError, match="a lookup or ids, not both"):
        from_embedding(layer, lookup, ids=["a"])
    with pytest.raises(ArgumentError, match=r"expected a keras\.layers\.Embedding that is built"):
        from_embedding(keras.layers.Embedding(3, 2))
    with pytest.raises(ArgumentError, match="expected a StringLookup or an IntegerLookup"):
        from_embedding(layer, layer)
    with pytest.raises(ArgumentError, match="doesn't give numbers of rows"):
        from_embedding(layer, keras.layers.StringLookup(vocabulary=["a"], output_mode="one_hot"))
