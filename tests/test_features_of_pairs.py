"""Features of users and items in Retrieval: how vectors are composed and learned, where they start, what is kept."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pytest

import hotrow
from hotrow.models import Retrieval, saving
from hotrow.models.features import Feature
from hotrow.models.towers import Side, all_vectors
from hotrow.store import snapshot

pytestmark = pytest.mark.compiled

SMALL = {"epochs": 5, "batch_size": 64, "negatives": 16}


def shelves(users=40, per_user=6):
    """Users of two kinds, who take from two shelves of 12 items, told by parity: (users, items)."""
    rng = np.random.default_rng(0)
    pairs = [(u, 2 * i + u % 2) for u in range(users) for i in rng.permutation(12)[:per_user]]
    return tuple(np.array(side) for side in zip(*pairs, strict=True))


def labels(ids):
    """Which shelf ids belong to, and something that each two share."""
    return {
        "shelf": (ids, [f"shelf {i % 2}" for i in ids]),
        "pair": (np.repeat(ids, 2), [p for i in ids for p in (i // 4, 90)]),
    }


def whole(table, features):
    """The vectors of all rows, one after the other, in plain loops."""
    out = table.vectors()
    for feature in features.values():
        vectors = feature.table.vectors()
        for row in range(len(out)):
            values = [int(code) & 0xFFFFFFFF for code in feature.pairs if int(code) >> 32 == row]
            if values:
                out[row] += vectors[values].mean(0)
    return out


def made(**options):
    ids = np.arange(24)
    settings = SMALL | options
    model = Retrieval(8, **settings)
    return model.fit(shelves(), user_features=labels(np.arange(40)), item_features=labels(ids))


def test_a_vector_is_its_own_row_and_the_mean_of_each_features_values():
    model = made()
    for table, side in ((model.users, "user"), (model.items, "item")):
        expected = whole(table, model.parts[side])
        np.testing.assert_allclose(all_vectors(table, list(model.parts[side].values())), expected, rtol=1e-5, atol=1e-6)
        assert np.abs(expected - table.vectors()).max() > 0.1
        np.testing.assert_allclose(model.vectors(table.ids()[3:5], side=side), expected[3:5], rtol=1e-5, atol=1e-6)
    ids, scores = model.recommend([3], k=24, exclude_known=False)
    users, items = whole(model.users, model.parts["user"]), whole(model.items, model.parts["item"])
    row = model.users.find([3]).rows
    expected = model.loss.user_factors(users[row]) @ model.loss.item_factors(items[:, :-1], items[:, -1]).T
    np.testing.assert_allclose(scores[0], expected[0, model.items.find(ids[0]).rows], rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_vector_goes_whole_to_its_own_row_and_its_share_to_each_value():
    table = hotrow.Table(3, optimizer=hotrow.SGD(1.0), initializer=hotrow.Normal(1.0))
    batch = table.find(["mug", "cup", "hat"], grow=True)
    feature = Feature.of(table, hotrow.Table)
    feature.table.lookup(["red", "tea", "big"], grow=True)
    values = feature.table.find(["red", "tea", "big"])
    feature.table.set(values, np.arange(9, dtype=np.float32).reshape(3, 3))
    feature.add(np.array([0 << 32 | 0, 0 << 32 | 1, 1 << 32 | 1], np.uint64))
    side = Side.of(table, batch, [feature])
    target = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)

    def loss(own, value):
        vectors = own.copy()
        vectors[0] += (value[0] + value[1]) / 2
        vectors[1] += value[1]
        return 0.5 * ((vectors - target) ** 2).sum()

    own, value = table.vectors().astype(np.float64), feature.table.vectors().astype(np.float64)
    rows = side.rows(np.arange(3))
    vectors, own_rows = side.compose(rows)
    side.update(rows, vectors - target, own_rows, 0.0, 1.0)
    for array, moved, at in ((own, table, 0), (value, feature.table, 1)):
        gradient = np.zeros_like(array)
        for cell in np.ndindex(*array.shape):
            up, down = deepcopy((own, value)), deepcopy((own, value))
            up[at][cell] += 1e-4
            down[at][cell] -= 1e-4
            gradient[cell] = (loss(*up) - loss(*down)) / 2e-4
        np.testing.assert_allclose(array - moved.vectors(), gradient, rtol=1e-3, atol=1e-3)
        assert np.abs(gradient).max() > 0.1


def test_a_row_that_is_left_out_of_a_step_gets_no_gradient_and_its_features_do():
    model = made()
    side = Side.of(model.items, model.items.find(model.items.ids()), list(model.parts["item"].values()))
    rows = side.rows(np.arange(24), np.random.default_rng(0), 0.5)
    assert set(rows.keeps.ravel().tolist()) == {0.0, 1.0}
    vectors, own = side.compose(rows)
    features = whole(model.items, model.parts["item"]) - model.items.vectors()
    np.testing.assert_allclose(vectors, features + own * rows.keeps, rtol=1e-4, atol=1e-5)
    gradients = np.ones_like(vectors)
    side.update(rows, gradients, own, 0.0, 0.1)
    assert np.array_equal(gradients, np.broadcast_to(rows.keeps, gradients.shape))


@pytest.mark.parametrize("loss", ["softmax", "cosine", "bpr"])
def test_an_item_in_no_pair_is_placed_by_its_features_and_recommended(loss):
    settings = {"weight": 5.0} if loss == "cosine" else {}
    users, items = shelves()
    model = Retrieval(8, loss=loss, **(SMALL | {"epochs": 20}), **settings)
    ids = np.r_[np.arange(24), 100, 101]
    model.fit((users, items), item_features={"shelf": (ids, ids % 2)})
    near, _ = model.similar([100, 101], k=3)
    assert [{i % 2 for i in row} for row in near] == [{0}, {1}]
    assert not model.items.lookup([100, 101])[:, :8].any()
    names, _ = model.recommend(np.arange(40), k=26)
    ranks = np.array([[row.index(100), row.index(101)] for row in names])
    assert (np.argmin(ranks, 1) == np.arange(40) % 2).mean() > 0.9


def test_a_user_in_no_pair_is_recommended_what_its_mates_take():
    ids = np.arange(44)
    model = Retrieval(8, **(SMALL | {"epochs": 20})).fit(shelves(), user_features={"kind": (ids, ids % 2)})
    names, _ = model.recommend([40, 41, 42, 43], k=5)
    assert [np.mean([i % 2 == u % 2 for i in row]) for u, row in enumerate(names)] == [1.0] * 4
    held_out = np.array([40, 41]), np.array([2, 3])
    assert model.evaluate(held_out, ks=(12,))["recall@12"] == 1.0


def test_features_do_not_move_anyone_when_they_come_and_new_values_start_amid_those_that_have_them():
    model = Retrieval(8, learning_rate=0.0, l2=0.0, epochs=1).fit(shelves())
    before = model.users.vectors(), model.items.vectors()
    plain = model.recommend(np.arange(5), k=5)
    model.fit(([], []), user_features=labels(np.arange(40)), item_features={"shelf": labels(np.arange(24))["shelf"]})
    for table, side, vectors in zip((model.users, model.items), ("user", "item"), before, strict=True):
        np.testing.assert_allclose(whole(table, model.parts[side]), vectors, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.recommend(np.arange(5), k=5)[1], plain[1], rtol=1e-4)
    shelf = model.features["item"]["shelf"].lookup(["shelf 0", "shelf 1"])
    rows = model.items.find(np.arange(24)).rows.reshape(12, 2)
    np.testing.assert_allclose(shelf, before[1][rows].mean(0), rtol=1e-4, atol=1e-5)
    model.fit(([0], [500]), item_features={"shelf": ([500, 501, 0], ["shelf 0", "shelf 0", "shelf 1"])})
    cold = whole(model.items, model.parts["item"])[model.items.find([501]).rows[0]]
    np.testing.assert_allclose(cold, model.features["item"]["shelf"].lookup("shelf 0"), rtol=1e-5)
    np.testing.assert_allclose(whole(model.items, model.parts["item"])[:24], before[1], rtol=1e-4, atol=1e-5)


def test_an_item_placed_by_features_alone_stays_there_when_its_first_pair_comes_but_for_what_the_pair_says():
    model = Retrieval(8, **SMALL).fit(shelves(), item_features={"shelf": (np.arange(26), np.arange(26) % 2)})
    model.fit(([2, 4], [24, 24]), epochs=1)
    assert {i % 2 for i in model.similar([24], k=3)[0][0]} == {0}
    assert model.items.lookup(24).any()


def test_features_add_up_over_fits_and_one_given_again_counts_once():
    model = made()
    pairs = {side: {name: f.pairs for name, f in model.parts[side].items()} for side in ("user", "item")}
    model.fit(([], []), user_features=labels(np.arange(40)), item_features=labels(np.arange(24)))
    for side, features in pairs.items():
        for name, codes in features.items():
            assert np.array_equal(model.parts[side][name].pairs, codes)
    model.fit(([0], [0]), item_features={"maker": ([0, 0], ["x", "y"]), "shelf": ([0], ["shelf 1"])})
    assert list(model.features["item"]) == ["shelf", "pair", "maker"]
    assert len(model.parts["item"]["shelf"].pairs) == 25


def test_negatives_are_no_items_that_only_features_know():
    ids = np.r_[np.arange(24), np.arange(1000, 1200)]
    model = Retrieval(8, l2=0.0, **SMALL).fit(
        shelves(), item_features={"shelf": (ids, np.r_[np.arange(24) % 2, [2] * 200])}
    )
    assert not model.items.lookup(np.arange(1000, 1200)).any()
    assert not model.features["item"]["shelf"].lookup(2).any()


def test_of_hard_negatives_the_rows_and_bags_that_are_kept_belong_together():
    model = made(hard=3)
    side = Side.of(model.items, model.items.find(model.items.ids()), list(model.parts["item"].values()))
    rows = side.rows(np.arange(24), np.random.default_rng(0), 0.5)
    some = np.array([3, 7, 20])
    for all_of_it, part in zip(side.compose(rows), side.compose(side.some(rows, some)), strict=True):
        assert np.array_equal(all_of_it[some], part)


@pytest.mark.parametrize("loss", ["softmax", "cosine", "bpr"])
def test_features_are_the_same_to_the_bit_on_any_number_of_threads(loss):
    models = []
    for threads in (1, 2, 3):
        hotrow.set_threads(threads)
        models.append(made(loss=loss, batch_size=2048))
        models[-1].fit(([100, 3], [7, 300]), item_features={"shelf": ([300], ["shelf 0"])})
    for model in models[1:]:
        for side, table in (("user", model.users), ("item", model.items)):
            assert np.array_equal(table.vectors(), getattr(models[0], side + "s").vectors())
            for name, values in model.features[side].items():
                assert np.array_equal(values.vectors(), models[0].features[side][name].vectors())


def test_a_validation_cut_keeps_the_features_of_the_best_epoch():
    users, items = shelves()
    out = np.arange(len(users)) % 6 == 5
    model = Retrieval(8, batch_size=64, epochs=6, learning_rate=0.5)
    model.fit((users[~out], items[~out]), item_features=labels(np.arange(24)), validation=(users[out], items[out]))
    assert max(model.validated) > model.validated[-1] or len(model.validated) == 6
    assert model.evaluate((users[out], items[out]), ks=(20,))["ndcg@20"] == max(model.validated)


def test_folded_in_users_see_the_features_of_items():
    ids = np.arange(26)
    model = Retrieval(8, **(SMALL | {"epochs": 20})).fit(shelves(), item_features={"shelf": (ids, ids % 2)})
    names, _ = model.recommend_for([[24], [25]], k=5)
    assert [{i % 2 for i in row} for row in names] == [{0}, {1}]


# --- refused, forgotten, kept ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ([1, 2], "by name"),
        ({"": ([1], [2])}, "has a name"),
        ({3: ([1], [2])}, "has a name"),
        ({"tag": [1, 2, 3]}, "item ids and values"),
        ({"tag": ([1, 2], ["a"])}, "as many item ids as values"),
        ({"tag": ([1], [None])}, "None"),
        ({"tag": (["mug"], ["a"])}, "int64"),
        ({"tag": ([1], ["a"]), "hue": ([1], [True])}, "bool"),
    ],
)
def test_features_that_are_refused_change_nothing(given, word):
    for model in (Retrieval(4, epochs=1), Retrieval(4, epochs=1).fit(([1], [2]))):
        before = len(model.users), len(model.items), model.items.steps
        with pytest.raises(hotrow.HotrowError, match=word):
            model.fit(([1, 5], [2, 7]), item_features=given)
        assert (len(model.users), len(model.items), model.items.steps) == before
        assert model.features == {"user": {}, "item": {}}


def test_a_feature_keeps_its_kind_of_values():
    model = made()
    with pytest.raises(hotrow.KindError):
        model.fit(([0], [0]), item_features={"pair": ([0], ["a"])})
    assert len(model.parts["item"]["pair"].pairs) == 48


def test_forgetting_a_user_takes_its_features_and_the_values_that_nobody_else_has():
    ids = np.arange(40)
    values = [f"only {i}" if i == 7 else "all" for i in ids]
    model = Retrieval(8, **SMALL).fit(shelves(), user_features={"name": (ids, values), "kind": (ids, ids % 2)})
    before = {u: model.recommend([u], k=5) for u in (0, 39)}
    model.forget([7])
    assert model.features["user"]["name"].ids().to_pylist() == ["all"]
    assert len(model.parts["user"]["name"].pairs) == len(model.parts["user"]["kind"].pairs) == 39
    for user, answer in before.items():
        again = model.recommend([user], k=5)
        assert again[0] == answer[0]
        np.testing.assert_allclose(again[1], answer[1], rtol=1e-5)
    model.fit(([7], [2]), user_features={"kind": ([7], [1])})
    assert len(model.parts["user"]["kind"].pairs) == 40


def test_values_that_are_forgotten_behind_its_back_are_noticed():
    model = made()
    model.features["item"]["shelf"].forget(["shelf 0"])
    for call in (lambda: model.recommend([1]), lambda: model.fit(([1], [1])), model.known):
        with pytest.raises(hotrow.ArgumentError, match="forgotten"):
            call()


def test_a_saved_model_has_its_features_whatever_they_are_called(tmp_path):
    ids = np.arange(26)
    named = {"../../x": (ids, ids % 2), "tag": (ids, [f"t{i % 3}" for i in ids])}
    model = Retrieval(8, **SMALL).fit(shelves(), user_features=labels(np.arange(40)), item_features=named)
    for _ in range(2):
        model.save(tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    again = Retrieval.load(tmp_path / "model")
    assert list(again.features["item"]) == list(named)
    for side in ("user", "item"):
        for name, feature in model.parts[side].items():
            assert np.array_equal(again.parts[side][name].pairs, feature.pairs)
    assert again.recommend([3], k=9) == model.recommend([3], k=9)
    assert again.similar([24], k=9) == model.similar([24], k=9)
    for one in (model, again):
        one.fit(([1], [700]), item_features={"tag": ([700, 701], ["t0", "t9"])})
    assert np.array_equal(again.items.vectors(), model.items.vectors())
    again.save(tmp_path / "model")
    assert "t9" in Retrieval.load(tmp_path / "model").features["item"]["tag"]
    assert len(list((tmp_path / "model").glob("item-feature-2-*"))) == 1
    assert len(list((tmp_path / "model" / "item-feature-2").glob("generation-*"))) == 2


def test_a_model_without_features_is_saved_as_it_ever_was(tmp_path):
    Retrieval(4, epochs=1).fit(shelves()).save(tmp_path)
    described = json.loads((tmp_path / "model.json").read_text("utf-8"))
    assert described["format"] == 1
    assert set(described) == {"format", "config", "generations", "pairs", "sha256"}


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.pop("features"),
        lambda told: told.update(features=[]),
        lambda told: told["features"].pop("user"),
        lambda told: told["features"]["item"].pop(),
        lambda told: told["features"]["item"].append(told["features"]["item"][0]),
        lambda told: told["features"]["item"][0].update(name=7),
        lambda told: told["features"]["item"][0].update(pairs={}),
        lambda told: told["features"].update(item={"shelf": 1}),
        lambda told: told["generations"].pop("item-feature-1"),
        lambda told: told.update(format=1),
        lambda told: told.update(format=3),
        lambda told: told["features"]["item"][0].update(pairs=told["pairs"]),
    ],
)
def test_a_description_of_features_that_cannot_be_is_refused(tmp_path, change):
    from hotrow.store.sealed import sealed

    made().save(tmp_path)
    path = tmp_path / "model.json"
    told = json.loads(path.read_text("utf-8"))
    told.pop("sha256")
    change(told)
    path.write_bytes(sealed(told))
    with pytest.raises(hotrow.CorruptError):
        Retrieval.load(tmp_path)


@pytest.mark.parametrize("name", ["item-feature-1", "item-feature-1-*.safetensors", "user-feature-2"])
def test_a_flipped_bit_in_a_feature_is_found(tmp_path, name):
    made().save(tmp_path)
    found = next(tmp_path.glob(name))
    file = found if found.is_file() else max(found.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    problems = saving.verify(tmp_path)
    for path in saving.tables(tmp_path).values():
        problems += snapshot.verify(path)
    assert any(file.name in problem for problem in problems)
    if found.is_file():
        with pytest.raises(hotrow.CorruptError):
            Retrieval.load(tmp_path)


def test_a_save_that_fails_leaves_nothing_of_its_features(tmp_path, monkeypatch):
    model = made()
    model.save(tmp_path)
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    with monkeypatch.context() as broken:
        broken.setattr(saving, "write_durably", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            model.save(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == files
