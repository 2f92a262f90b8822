"""Broken and hostile files of Keras: the table in them is the one that was saved, or there is an error of ours.

python tests/in_keras/test_hostile.py NAME FOLDER     every byte cut, every bit flipped: see `loaders.main`
"""

from __future__ import annotations

import json
import sys
import zipfile
import zlib
from pathlib import Path

import h5py
import keras
import loaders
import numpy as np
import pytest
from loaders import Loader, contents, opened, seal_again

import hotrow
from hotrow.models import Classifier


def a_layer(words=()):
    """A layer, with rows for these words that some steps have moved."""
    layer = hotrow.keras.Embedding(None, 2, optimizer=hotrow.SGD(0.1, momentum=0.5), name="mine")
    if words:
        layer.table.update(layer.table.find(words, grow=True), np.ones((len(words), 2), np.float32))
    return layer


def part(libver):
    """The part of a layer in a file of HDF5, which holds nothing else."""

    def write(folder):
        with h5py.File(folder / "part.h5", "w", libver=libver) as file:
            a_layer(["cup", "ü", "mug"]).save_own_variables(file.create_group("vars"))
        layer = a_layer(["another"])
        before = contents(layer.table)

        def load():
            layer.load_own_variables(before_it)
            with opened(lambda: h5py.File(folder / "part.h5")) as file:
                group = opened(lambda: file["vars"])
                try:
                    layer.load_own_variables(group)
                except hotrow.HotrowError:
                    assert contents(layer.table) == before  # refused, and nothing has changed
                    raise
            return contents(layer.table)

        before_it = {}
        layer.save_own_variables(before_it)
        return load

    return write


LOADERS = {
    "part": Loader(part("earliest"), names=False),
    "part, new layout": Loader(part("latest"), names=False),
}


@pytest.mark.enough("torch")
@pytest.mark.parametrize("name", LOADERS)
def test_a_cut_or_flipped_part_gives_the_same_table_or_an_error_of_ours(tmp_path, name):
    tried, same = loaders.sweep(LOADERS[name], tmp_path, lambda data: loaders.some(data, 3, 60))
    assert tried > same > 0  # not every byte of HDF5's own is looked at


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
@pytest.mark.parametrize("name", LOADERS)
def test_every_cut_and_every_flipped_bit_of_a_part_gives_the_same_table_or_an_error_of_ours(tmp_path, name):
    loaders.sweep_in_a_child(Path(__file__), name, tmp_path)


def refused(change, tmp_path):
    """What is said of a part that `change` has changed."""
    path = tmp_path / "part.h5"
    with h5py.File(path, "w") as file:
        a_layer(["cup", "mug"]).save_own_variables(file)
        change(file, np.array(file["text"]))
    layer = a_layer(["another"])
    before = contents(layer.table)
    with h5py.File(path) as file, pytest.raises(hotrow.CorruptError, match="the part of layer 'mine'") as error:
        layer.load_own_variables(file)
    assert contents(layer.table) == before
    return str(error.value)


@pytest.mark.enough("torch")
def test_an_array_whose_bytes_are_in_another_file_is_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(b"cupmug")

    def outside(file, text):
        del file["text"]
        file.create_dataset("text", text.shape, text.dtype, external=[(str(tmp_path / "secret"), 0, len(text))])

    def virtual(file, text):
        del file["text"]
        with h5py.File(tmp_path / "other.h5", "w") as other:
            other["text"] = text
        layout = h5py.VirtualLayout(text.shape, text.dtype)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "text", text.shape)
        file.create_virtual_dataset("text", layout)

    for change in (outside, virtual):
        assert "text isn't an array of numbers in this file" in refused(change, tmp_path)


@pytest.mark.enough("torch")
def test_an_array_that_claims_more_than_is_stored_takes_no_memory(tmp_path):
    def endless(file, text):
        del file["weights"]
        file.create_dataset("weights", (1 << 40, 2), np.float32, chunks=(1024, 2))

    def squeezed(file, text):
        del file["weights"]
        file.create_dataset("weights", data=np.zeros((1 << 20, 2), np.float32), compression="gzip")

    def many(file, text):
        file["big"] = np.zeros(4096, np.uint8)
        for i in range(100):
            file[f"slot_{i}"] = file["big"]  # the same bytes by another name

    assert "weights claims 8,796,093,022,208 bytes, more than are stored of it" in refused(endless, tmp_path)
    assert "weights claims 8,388,608 bytes, more than are stored of it" in refused(squeezed, tmp_path)
    assert "the part of layer 'mine': claims 41" in refused(many, tmp_path)


@pytest.mark.enough("torch")
def test_texts_of_hdf5_are_no_arrays_of_ours(tmp_path):
    def texts(file, text):
        del file["text"]
        file["text"] = ["cup", "mug"]

    assert "text isn't an array of numbers in this file" in refused(texts, tmp_path)


# --- a classifier, whose net Keras makes -----------------------------------------------------------------------------


def exchanged(folder, change):
    """Let the net's config say something else, under checksums that are right."""
    (net,) = folder.glob("*.keras")
    with zipfile.ZipFile(net) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(entries["config.json"])
    change(config)
    with zipfile.ZipFile(net, "w") as archive:
        for name, data in (entries | {"config.json": json.dumps(config).encode()}).items():
            archive.writestr(name, data)
    data = net.read_bytes()
    path = folder / "classifier.json"
    described = json.loads(path.read_text("utf-8"))
    described["net"] |= {"bytes": len(data), "crc32": f"{zlib.crc32(data):08x}"}
    seal_again(path, described)


def test_a_classifier_s_net_is_made_of_what_a_classifier_makes_one_of_and_nothing_else(tmp_path):
    columns = {"what": ["cup", "mug", "lamp", "bulb"] * 10, "price": [4.0, 5.0, 40.0, None] * 10}
    model = Classifier(dim=2, hidden=(4,), epochs=1).fit(columns, ["a", "a", "b", "b"] * 10)
    model.save(tmp_path)
    exchanged(tmp_path, lambda config: None)
    loaded = Classifier.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(columns), model.predict_proba(columns))

    def dense(config):
        return next(layer for layer in config["config"]["layers"] if layer["class_name"] == "Dense")

    def a_lambda(config):
        code = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
        dense(config).update(module="keras.layers", class_name="Lambda", config={"name": "x", "function": code})

    exchanged(tmp_path, a_lambda)
    with pytest.raises(
        hotrow.CorruptError, match=r"net-000001\.keras: .*names keras\.layers\.Lambda, which no classif"
    ):
        Classifier.load(tmp_path)
    model.save(tmp_path)
    exchanged(tmp_path, lambda config: dense(config)["config"].update(units="many"))
    with pytest.raises(hotrow.CorruptError, match=r"net-000002\.keras"):
        Classifier.load(tmp_path)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    loaders.main(LOADERS[sys.argv[1]], Path(sys.argv[2]))
