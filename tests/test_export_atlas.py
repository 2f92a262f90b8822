"""What is exported beside vectors: places, neighbours and metadata, in the form in which embedding-atlas reads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import hotrow
from hotrow.apps.cli import main
from hotrow.exchange import atlas
from hotrow.maps import Map
from hotrow.models import Retrieval, Vectors, open_folder
from hotrow.search import Metadata, Search

LAMPS = [f"lamp {i}" for i in range(40)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A saved table of 40 lamps, in a folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    table = hotrow.Table(6)
    table.set(LAMPS, np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32))
    table.save("lamps")
    return open_folder("lamps")


def exported(*words):
    assert main(["export", *words, "--to", "parquet", "-o", "out.parquet"]) == 0
    return pd.read_parquet("out.parquet")


def test_places_and_neighbours_are_as_embedding_atlas_takes_them(folder):
    frame = exported("lamps", "--atlas", "--neighbors", "5")
    # What its pagerank.py does with the column, which it reads by pandas as well
    rows = np.stack([np.array(one["ids"]) for one in frame["neighbors"]])
    distances = np.stack([np.array(one["distances"]) for one in frame["neighbors"]])
    assert (rows[:, 0] == np.arange(40)).all()
    vectors = np.stack(list(frame["vector"])).astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    far = 1 - unit @ unit.T
    np.fill_diagonal(far, -1)
    assert (rows == np.argsort(far, axis=1)[:, :6]).all()
    np.testing.assert_allclose(distances[:, 1:], np.take_along_axis(far, rows, 1)[:, 1:], atol=1e-6)
    assert (distances[:, 0] == 0).all()
    np.testing.assert_array_equal(frame[["x", "y"]].to_numpy(), Map.open(folder).points)
    schema = parquet.read_schema("out.parquet")
    assert (schema.field("x").type, schema.field("y").type) == (pa.float32(), pa.float32())
    assert schema.field("neighbors").type == pa.struct(
        [("ids", pa.list_(pa.int32())), ("distances", pa.list_(pa.float32()))]
    )


def test_the_command_says_how_places_were_found_and_how_to_look_at_them(folder, capsys):
    assert main(["export", "lamps", "--to", "parquet", "--atlas", "-o", "a.parquet"]) == 0
    said = capsys.readouterr().out
    assert "with the columns x, y, neighbors; x and y by PCA" in said
    assert "embedding-atlas a.parquet --text id --x x --y y --neighbors neighbors" in said


def test_after_deltas_and_forgotten_ids_each_place_is_still_its_id_s(folder):
    table = hotrow.load("lamps")
    table.forget([LAMPS[3], LAMPS[20]])
    table.set(["new lamp"], np.ones((1, 6), np.float32))
    table.save_delta()
    frame, now = exported("lamps", "--atlas", "--neighbors", "1"), open_folder("lamps")
    assert frame["id"].tolist() == now.side().ids().tolist()
    np.testing.assert_array_equal(np.stack(list(frame["vector"])), now.side().vectors())
    np.testing.assert_array_equal(frame[["x", "y"]].to_numpy(), Map.open(now).points)
    row = frame["id"].tolist().index("new lamp")
    nearest = frame["id"][frame["neighbors"][row]["ids"][1]]
    assert nearest == Search(now.side()).similar(["new lamp"], 1)[0][0][0]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_fewer_ids_than_neighbours_are_all_there_are(tmp_path, monkeypatch, count):
    monkeypatch.chdir(tmp_path)
    table = hotrow.Table(3)
    table.set(list(range(count)), np.eye(4, 3, dtype=np.float32)[:count])
    table.save("few")
    found = exported("few", "--atlas")["neighbors"]
    assert [sorted(one["ids"].tolist()) for one in found] == [list(range(count))] * count


def test_metadata_of_a_file_is_joined_by_id(folder):
    rooms = {
        "id": LAMPS[::-2],
        "room": ["hall", "kitchen"] * 10,
        "price": np.arange(20) / 4,
        "x": ["mine", "yours"] * 10,
    }
    pd.DataFrame(rooms).to_csv("rooms.csv", index=False)
    frame = exported("lamps", "--atlas", "--metadata", "rooms.csv").set_index("id")
    for id, room, price, x in zip(*rooms.values(), strict=True):
        assert frame.loc[id, ["room", "price", "x_"]].tolist() == [room, price, x]
    untold = frame.loc[sorted(set(LAMPS) - set(rooms["id"]))]
    assert untold[["room", "price", "x_"]].isna().all(axis=None)


def test_the_projector_gets_metadata_as_labels(folder, capsys):
    pd.DataFrame({"id": LAMPS[:2], "room": ["hall\twide", "kitchen"]}).to_parquet("rooms.parquet")
    words = ["export", "lamps", "--to", "projector", "-o", "p", "--metadata", "rooms.parquet", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 40
    lines = [line.split("\t") for line in Path("p/metadata.tsv").read_bytes().decode().split("\n")]
    assert lines[:4] == [["id", "room"], ["lamp 0", "hall%09wide"], ["lamp 1", "kitchen"], ["lamp 2", ""]]


def test_the_features_of_a_model_are_exported_by_themselves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    users = [u for u in range(12) for _ in range(3)]
    items = [f"item {(u + 2 * i) % 7}" for u in range(12) for i in range(3)]
    kinds = ([f"item {i}" for i in range(7)], ["odd" if i % 2 else "even" for i in range(7)])
    Retrieval(4, epochs=1).fit((users, items), item_features={"kind": kinds}).save("model")
    frame = exported("model")
    assert dict(zip(frame["id"], frame["kind"], strict=True)) == dict(zip(*kinds, strict=True))
    assert list(exported("model", "--side", "user").columns) == ["id", "vector"]


def test_columns_whose_names_are_taken_get_others_and_nothing_is_lost():
    side = Vectors.of(["a", "b"], np.eye(2))
    told = Metadata.of({"id": ["a", "b"], "vector": ["u", "v"], "vector_": [1, 2]}, side)
    columns = atlas.columns_of(told, ("id", "vector"))
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        "vector_": ["u", "v"], "vector__": [1.0, 2.0],
    }  # fmt: skip


def test_neighbors_without_a_map_are_wrong_usage(folder, capsys):
    for words, why in (
        (["--to", "parquet", "--neighbors", "3"], "--neighbors is of --atlas"),
        (["--to", "onnx", "--atlas"], "--atlas is of parquet; leave it out with --to onnx"),
        (["--to", "keras", "--metadata", "a.csv"], "--metadata is of parquet and projector"),
    ):
        with pytest.raises(SystemExit) as done:
            main(["export", "lamps", "-o", "a", *words])
        assert done.value.code == 2
        assert why in capsys.readouterr().err
