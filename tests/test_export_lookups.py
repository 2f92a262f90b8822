"""Lookups for where hotrow isn't: ONNX in onnxruntime; and factors, which rank by one product as the model does."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from test_export import HOSTILE, INTEGERS, KINDS, same, side_of, vectors_of

import hotrow
from hotrow.apps.cli import main
from hotrow.errors import ArgumentError, DataError, MissingExtraError
from hotrow.exchange import onnx
from hotrow.models import NextItem, Ratings, Retrieval, Vectors, open_folder
from hotrow.models.factors import factors_of
from hotrow.models.sides import of_table


def asked(path, ids):
    """The vectors that onnxruntime gives for ids."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    dtype = object if isinstance(np.ravel(ids).tolist()[0], str) else np.int64
    return session.run(None, {"ids": np.array(ids, dtype)})[0]


# --- ONNX ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1 << 30, 1])
@pytest.mark.parametrize("count", [1, None])
@pytest.mark.parametrize("kind", ["string", "int64"])
def test_onnx_is_looked_up_by_onnxruntime(tmp_path, kind, count, limit):
    side, path = side_of(kind, count), tmp_path / "ids.onnx"
    facts = onnx.write(side, path, limit=limit)
    ids = KINDS[kind][:count]
    assert same(asked(path, ids), side.vectors())
    assert facts["bytes"] == sum(one.stat().st_size for one in tmp_path.iterdir())
    assert sorted(facts["files"]) == sorted(str(one) for one in tmp_path.iterdir())
    assert len(facts["files"]) == (1 if limit > 1 else 2)
    square = np.array([ids[:1] * 2, ids[-1:] * 2], object if kind == "string" else np.int64)
    assert same(asked(path, square), side.lookup(square.ravel().tolist()).reshape(2, 2, -1))


def test_uint64_ids_are_looked_up_as_far_as_int64_goes_and_refused_beyond(tmp_path):
    table = hotrow.Table(2, ids="uint64")
    table.set([7, 2**63 - 1], np.eye(2, dtype=np.float32))
    onnx.write(of_table("id", table), tmp_path / "a.onnx")
    assert same(asked(tmp_path / "a.onnx", [2**63 - 1, 7]), np.eye(2)[::-1])
    with pytest.raises(DataError, match=r"is beyond int64, .* --to parquet"):
        onnx.write(side_of("uint64"), tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


@pytest.mark.parametrize("unknown", ["mean", "zeros"])
def test_an_id_that_is_not_there_gets_the_row_that_was_declared(tmp_path, unknown):
    matrix = np.random.default_rng(0).standard_normal((len(HOSTILE), 4)).astype(np.float32)
    onnx.write(Vectors.of(HOSTILE, matrix), tmp_path / "a.onnx", unknown=unknown)
    row = np.zeros(4) if unknown == "zeros" else matrix.mean(0, dtype=np.float64)
    np.testing.assert_allclose(asked(tmp_path / "a.onnx", ["never seen", HOSTILE[0]])[0], row, rtol=1e-6)


def test_another_word_for_the_unknown_and_an_empty_table_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="unknown must be one of 'mean', 'zeros'; got 'first'"):
        onnx.write(side_of("int64"), tmp_path / "a.onnx", unknown="first")
    for kind in ("string", "int64"):
        with pytest.raises(DataError, match="there are no ids"):
            onnx.write(side_of(kind, 0), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_more_text_than_an_onnx_file_can_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "_KEYS_LIMIT", 1000)
    with pytest.raises(DataError, match="which an ONNX file can't hold: try --to parquet"):
        onnx.write(side_of("string"), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_onnx_with_a_file_beside_is_replaced_with_it(tmp_path):
    for seed in range(2):
        side = Vectors.of(INTEGERS, vectors_of(len(INTEGERS), 3, seed))
        onnx.write(side, tmp_path / "a.onnx", limit=1)
        assert same(asked(tmp_path / "a.onnx", INTEGERS), side.vectors())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.onnx.data"]


@pytest.mark.parametrize("graph", [None, b"", b"inside", b"another's"])
def test_a_file_of_data_that_is_not_that_of_our_graph_stays(tmp_path, graph):
    path, beside = tmp_path / "a.onnx", tmp_path / "a.onnx.data"
    side = side_of("int64")
    if graph == b"inside":
        onnx.write(side, path)
    elif graph == b"another's":
        onnx.write(side, path, limit=1)
        path.write_bytes(path.read_bytes().replace(b"hotrow", b"thesis"))
    elif graph is not None:
        path.write_bytes(graph)
    beside.write_bytes(b"a thesis")
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    with pytest.raises(DataError, match=r"a.onnx.data is there, and .* isn't an ONNX file of hotrow's that it belongs"):
        onnx.write(side, path, limit=1)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_without_the_package_onnx_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "onnx":
            raise ImportError("No module named 'onnx'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r'pip install "hotrow\[onnx\]"'):
        onnx.write(side_of("int64"), tmp_path / "a.onnx")


# --- factors ---------------------------------------------------------------------------------------------------------

USERS = [f"user {u}" for u in range(20) for _ in range(4)]
ITEMS = [f"item {(3 * u + 5 * i * i) % 17}" for u in range(20) for i in range(4)]


def exported(capsys, side):
    """Ids and factors as a program without hotrow has them."""
    assert main(["export", "model", "--to", "parquet", "-o", f"{side}.parquet", "--side", side, "--as", "factors"]) == 0
    frame = pd.read_parquet(f"{side}.parquet")
    return frame["id"].tolist(), np.stack(list(frame["vector"]))


def check_rankings(capsys, model):
    users, of_users = exported(capsys, "user")
    items, of_items = exported(capsys, "item")
    scores = of_users @ of_items.T
    wanted, values = model.recommend(users, k=len(items), exclude_known=False)
    for u, (names, best) in enumerate(zip(wanted, values, strict=True)):
        found = [items.index(name) for name in names]
        np.testing.assert_allclose(scores[u][found], best, rtol=1e-4, atol=1e-4)
        assert (np.diff(scores[u][found]) < 1e-4).all()  # in the model's order


@pytest.mark.parametrize("loss", ["softmax", "cosine", "bpr"])
def test_a_product_of_exported_factors_ranks_as_the_model_does(tmp_path, monkeypatch, capsys, loss):
    monkeypatch.chdir(tmp_path)
    model = Retrieval(6, loss=loss, epochs=3, batch_size=16, negatives=8).fit((USERS, ITEMS))
    model.save("model")
    check_rankings(capsys, model)
    assert main(["export", "model", "--to", "safetensors", "-o", "items.safetensors"]) == 0
    assert open_folder("model").side().dim == 6


def test_factors_have_what_features_add(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    kinds = (ITEMS, [f"kind {item[-1]}" for item in ITEMS])
    model = Retrieval(6, epochs=3, batch_size=16, negatives=8).fit((USERS, ITEMS), item_features={"kind": kinds})
    model.save("model")
    check_rankings(capsys, model)
    ids, _ = exported(capsys, "item")
    np.testing.assert_array_equal(open_folder("model").side().lookup(ids), model.vectors(ids)[:, :-1])


def test_a_product_of_the_factors_of_ratings_is_the_rating(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stars = np.random.default_rng(0).integers(1, 6, len(USERS))
    model = Ratings(6, epochs=3).fit((USERS, ITEMS, stars))
    model.save("model")
    check_rankings(capsys, model)


def test_a_model_without_users_has_no_factors_and_says_so(tmp_path):
    NextItem(4, epochs=1).fit((USERS, ITEMS)).save(tmp_path / "next")
    hotrow.Table(2).save(tmp_path / "table")
    for name in ("next", "table"):
        with pytest.raises(ArgumentError, match=f"holds a {name}, of which there are no factors"):
            factors_of(open_folder(tmp_path / name))


def test_the_items_of_a_next_item_model_are_exported_by_what_is_compared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = NextItem(4, epochs=1).fit((USERS, ITEMS))
    model.save("next")
    assert main(["export", "next", "--to", "parquet", "-o", "items.parquet"]) == 0
    frame = pd.read_parquet(Path("items.parquet"))
    assert same(np.stack(list(frame["vector"])), model.items.lookup(frame["id"].tolist())[:, :4])
