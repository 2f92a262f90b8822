"""A `.keras` file of a lookup and its vectors: written by hotrow on any backend, loaded where there is no hotrow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

from hotrow.apps.cli import main
from hotrow.errors import DataError, MissingExtraError
from hotrow.exchange import keras as writing
from hotrow.models import Classifier, Vectors

TEXTS = [
    "RED MUG", "", "%", "a\nb", "tab\tid", "n\0ul", "</s>", "<script>", '"', "\u202ertl", "x" * 10_000, "[UNK]",
    "[UNK]1", "漢字",
]  # fmt: skip
INTEGERS = [0, 1, -1, -2, -(2**63), 2**63 - 1, 2**53 + 1]

READER = """
import builtins, json, sys
real = builtins.__import__
def without(name, *args, **kwargs):
    assert name.partition(".")[0] != "hotrow", name
    return real(name, *args, **kwargs)
builtins.__import__ = without
import keras, numpy as np, tensorflow as tf
found = {}
for name, ids in json.load(sys.stdin).items():
    model = keras.models.load_model(name)
    ids = tf.constant(ids, "string" if name.startswith("text") else "int64")
    vectors = np.asarray(model(ids), np.float32)
    assert (vectors == model.predict(ids, verbose=0)).all()
    lookup, embedding = model.get_layer("lookup"), model.get_layer("vectors")
    assert (vectors == np.asarray(embedding(lookup(tf.reshape(ids, (-1, 1)))))[:, 0]).all()
    found[name] = vectors.view(np.uint32).tolist()
assert not [name for name in sys.modules if name.startswith("hotrow")]
print(json.dumps(found))
"""


def matrix(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)


def read(folder, files):
    """The vectors of ids by Keras on TensorFlow, in a process in which hotrow can't be imported."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    done = subprocess.run(
        [sys.executable, "-I", "-c", READER], cwd=folder, input=json.dumps(files), capture_output=True, text=True,
        env={**ours, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: np.array(bits, np.uint32).view(np.float32) for name, bits in found.items()}


@pytest.mark.enough("tensorflow")  # which reads it, whatever runs here
def test_a_model_of_keras_s_own_layers_gives_the_same_vectors_where_there_is_no_hotrow(tmp_path):
    sides = {
        "text.keras": Vectors.of(TEXTS, matrix(len(TEXTS))),
        "whole.keras": Vectors.of(INTEGERS, matrix(len(INTEGERS))),
    }
    for name, side in sides.items():
        facts = writing.write(side, tmp_path / name, unknown="zeros" if name == "text.keras" else "mean")
        assert facts["rows"] == len(side)
        assert facts["bytes"] == (tmp_path / name).stat().st_size
    found = read(tmp_path, {"text.keras": [*TEXTS, "never seen"], "whole.keras": [*INTEGERS, 99]})
    for name, side in sides.items():
        assert (found[name][:-1].view(np.uint32) == side.vectors().view(np.uint32)).all()
    assert (found["text.keras"][-1] == 0).all()
    np.testing.assert_allclose(found["whole.keras"][-1], sides["whole.keras"].vectors().mean(0), rtol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.keras", "whole.keras"]


@pytest.mark.parametrize("ids", [[5, 7, 2**40], ["RED MUG", "", "漢字"]])
def test_its_layers_can_be_used_on_each_backend(tmp_path, ids):
    side = Vectors.of(ids, matrix(3))
    writing.write(side, tmp_path / "a.keras")
    model = keras.models.load_model(tmp_path / "a.keras")
    rows = model.get_layer("lookup")(np.array(ids[::-1]))  # on the host, so all 64 bits are kept on JAX, too
    vectors = keras.ops.convert_to_numpy(model.get_layer("vectors")(rows))
    assert (vectors == side.lookup(ids[::-1])).all()


@pytest.mark.enough("torch")
def test_a_column_of_a_classifier_is_exported_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    columns = {"what": ["cup", "mug", "lamp", "bulb"] * 10, "price": [4.0, 5.0, 40.0, None] * 10}
    model = Classifier(dim=4, hidden=(), epochs=1, batch_size=8).fit(
        columns, ["kitchen", "kitchen", "light", "light"] * 10
    )
    model.save("model")
    assert main(["export", "model", "--to", "safetensors", "--side", "what", "-o", "what.safetensors"]) == 0
    arrays = load_file("what.safetensors")
    text, offsets = arrays["ids.utf8"].tobytes(), arrays["ids.offsets"]
    ids = [text[start:stop].decode() for start, stop in pairwise(offsets)]
    assert (arrays["vectors"] == model.table("what").lookup(ids)).all()
    assert main(["export", "model", "--to", "keras", "--side", "what", "-o", "what.keras"]) == 0
    assert "(string ids, vectors) written to what.keras" in capsys.readouterr().out


def test_what_keras_cannot_look_up_is_refused_before_anything_is_written(tmp_path):
    for ids, why in (
        (["a", "ends\0"], "takes a NUL from the end of a string"),
        (np.array([1, 2**63], np.uint64), "is beyond int64"),
        (np.zeros(0, np.int64), "there are no ids"),
    ):
        with pytest.raises(DataError, match=why):
            writing.write(Vectors.of(ids, matrix(len(ids))), tmp_path / "a.keras")
    with pytest.raises(DataError, match=r"end with .keras alone; .* Try .*a.keras"):
        writing.write(Vectors.of([1], matrix(1)), tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_without_tensorflow_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "hotrow\[tensorflow\]"'):
        writing.write(Vectors.of([1], matrix(1)), tmp_path / "a.keras")


def test_strings_that_keras_would_give_too_much_room_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_WIDE", 1000)
    with pytest.raises(DataError, match="each string as much room as the longest, of 200 characters: 2 would take"):
        writing.write(Vectors.of(["a", "b" * 200], matrix(2)), tmp_path / "a.keras")
