"""Ratings: what it learns, what it refuses, what it keeps."""

from __future__ import annotations

import json
import signal

import numpy as np
import pyarrow as pa
import pytest

import hotrow
from hotrow.models import Ratings, Retrieval, rating_steps, saving
from hotrow.models.rating_steps import baseline


def planted(seed=0, users=80, items=60, noise=0.1):
    """Stars from biases and two hidden numbers an id: (users, items, ratings) to train on, and others to hold out."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(0, 0.9, (users, 2)) @ rng.normal(0, 0.9, (2, items))
    stars = 3 + rng.normal(0, 0.4, (users, 1)) + rng.normal(0, 0.4, items) + hidden
    stars = np.clip(stars + rng.normal(0, noise, stars.shape), 1, 5)
    chosen = rng.permutation(users * items)[: users * items // 2]
    user, item = np.divmod(chosen, items)
    cut = len(chosen) * 4 // 5
    everything = user, item, stars[user, item]
    return tuple(side[:cut] for side in everything), tuple(side[cut:] for side in everything)


FEW = (["ann", "ann", "bob", "cy"], ["tea", "mug", "tea", "mug"], [5.0, 1.0, 4.0, 2.0])


@pytest.mark.compiled
def test_it_learns_what_was_planted_and_the_baseline_does_not():
    train, held_out = planted()
    measured = Ratings(8, epochs=200, batch_size=64, l2=0.03).fit(train).evaluate(held_out)
    assert measured["rmse"] < 0.6 * baseline(train, held_out)["rmse"]
    assert measured["mae"] < measured["rmse"]


@pytest.mark.compiled
def test_ratings_that_say_nothing_are_predicted_no_better_than_by_their_mean():
    train, held_out = planted()
    rng = np.random.default_rng(1)
    train, held_out = ((u, i, rng.permutation(stars)) for u, i, stars in (train, held_out))
    measured = Ratings(8).fit(train).evaluate(held_out)["rmse"]
    chance = float(np.std(held_out[2]))
    assert 0.97 * chance < measured < 1.15 * chance


def test_a_step_is_the_gradient_of_its_loss():
    rng = np.random.default_rng(3)
    users, items = (rng.normal(0, 1, (4, 6)).astype(np.float32) for _ in range(2))
    targets, l2 = rng.normal(0, 1, 4).astype(np.float32), np.full(6, 0.1, np.float32)

    def loss(users, items):
        total = 0.0
        for p, q, target in zip(users.astype(float), items.astype(float), targets, strict=True):
            guess = p[5] + q[5] + sum(p[j] * q[j] for j in range(5))
            total += 0.5 * (guess - float(target)) ** 2 + 0.05 * (sum(p * p) + sum(q * q))
        return total

    _, g_users, g_items = rating_steps.gradients(users, items, targets, l2)
    for which, gradient in enumerate((g_users, g_items)):
        for at in np.ndindex(4, 6):
            sides = [[users.astype(float), items.astype(float)] for _ in range(2)]
            sides[0][which][at] += 1e-4
            sides[1][which][at] -= 1e-4
            assert gradient[at] == pytest.approx((loss(*sides[0]) - loss(*sides[1])) / 2e-4, rel=1e-4, abs=1e-5)


def test_one_step_of_a_fit_is_the_naive_one():
    model = Ratings(3, epochs=1, batch_size=8, learning_rate=0.1, l2=0.1, seed=5)
    first = {
        (side, id): table.lookup(id).astype(float)
        for side, table in (("user", model.users), ("item", model.items))
        for id in set(FEW[side == "item"])
    }
    model.fit(FEW)
    l2, unit = np.array([0.1, 0.1, 0.1, 0.02]), 1.0  # a quarter of 5 − 1
    moved = {key: row.copy() for key, row in first.items()}
    for user, item, stars in zip(*FEW, strict=True):
        p, q = first["user", user], first["item", item]
        error = p[3] + q[3] + p[:3] @ q[:3] - (stars - 3.0) / unit
        moved["user", user] -= 0.1 * (error * np.append(q[:3], 1) + l2 * p)
        moved["item", item] -= 0.1 * (error * np.append(p[:3], 1) + l2 * q)
    for (side, id), row in moved.items():
        assert np.allclose((model.users if side == "user" else model.items).lookup(id), row, atol=1e-6)


def test_few_items_of_many_ratings_do_not_overshoot():
    rng = np.random.default_rng(0)
    users, items = np.arange(2000), np.arange(2000) % 2
    model = Ratings(4, epochs=5, learning_rate=0.1).fit((users, items, np.where(items, 100.0, 0.0) + rng.random(2000)))
    assert model.evaluate((users, items, np.where(items, 100.0, 0.0)))["rmse"] < 20


def test_ids_that_no_fit_has_seen_fall_back_to_what_is_known():
    model = Ratings(4, epochs=50).fit(FEW)
    tea = float(model.items.lookup("tea")[-1])
    ann = float(model.users.lookup("ann")[-1])
    found = model.predict((["nobody", "ann", "nobody"], ["tea", "nothing", "nothing"]))
    assert found.dtype == np.float32
    assert found == pytest.approx([3 + tea, 3 + ann, 3], abs=1e-6)
    assert len(model.users) == 3
    assert len(model.items) == 2


def test_predictions_stay_between_the_ratings_seen_or_given():
    users, items, stars = np.repeat(np.arange(9), 9), np.tile(np.arange(9), 9), np.repeat([1.0, 5.0, 5.0], 27)
    for between, expected in ((None, (1, 5)), ((0, 4.9), None), ((0, 10), (0, 10))):
        model = Ratings(2, epochs=50, between=between)
        if expected is None:
            with pytest.raises(hotrow.ArgumentError, match=r"rating 5 isn't between 0 and 4.9.*between=\(0, 5\)"):
                model.fit((users, items, stars))
            assert len(model.users) == 0
            continue
        found = model.fit((users, items, stars)).predict((users, items))
        assert model.between == expected
        assert expected[0] <= found.min()
        assert found.max() <= expected[1]


def test_of_a_pair_rated_twice_the_last_rating_counts():
    once = Ratings(4, epochs=5, between=(1, 5), center=3).fit((["ann", "bob"], ["tea", "mug"], [5, 2]))
    twice = Ratings(4, epochs=5, between=(1, 5), center=3).fit(
        (["ann", "ann", "bob"], ["tea", "tea", "mug"], [1, 5, 2])
    )
    assert np.array_equal(once.users.vectors(), twice.users.vectors())
    assert np.array_equal(once.items.vectors(), twice.items.vectors())


def test_a_later_fit_gives_new_ids_their_rows_and_keeps_the_scale():
    model = Ratings(4, epochs=20).fit(FEW)
    model.fit((["dan"], ["pot"], [2.0]))
    assert model.center == 3
    assert model.between == (1, 5)
    assert model.users.ids().to_pylist() == ["ann", "bob", "cy", "dan"]
    assert len(model.pairs_in_order()) == 5
    with pytest.raises(hotrow.ArgumentError, match="rating 6 isn't between 1 and 5"):
        model.fit((["eve"], ["pot"], [6.0]))
    assert len(model.users) == 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((["ann"], ["tea"], [float("nan")]), "rating nan at position 0"),
        ((["ann"], ["tea"], [float("inf")]), "no finite number"),
        ((["ann"], ["tea"], [None]), "numbers|finite"),
        ((["ann"], ["tea"], ["good"]), "ratings are numbers"),
        ((["ann"], ["tea"], [[1.0]]), "one number each"),
        ((["ann", "bob"], ["tea"], [1.0]), "2 users, 1 items and 1 ratings"),
        ((["ann"], ["tea"], [1.0, 2.0]), "1 users, 1 items and 2 ratings"),
        ((["ann"], ["tea"]), "three columns"),
        (pa.table({"user": ["ann"], "item": ["tea"]}), "three columns"),
    ],
)
def test_what_is_no_rating_is_refused_before_anything_changes(given, words):
    model = Ratings(4, epochs=2).fit(FEW)
    before = model.users.vectors().copy()
    for call in (model.fit, model.evaluate, lambda given: model.fit(FEW, validation=given)):
        with pytest.raises(hotrow.ArgumentError, match=words):
            call(given)
    assert np.array_equal(model.users.vectors(), before)


@pytest.mark.parametrize(
    "arguments",
    [{"epochs": 0}, {"batch_size": True}, {"l2": -1}, {"between": (5, 1)}, {"between": 3}, {"center": np.nan}],
)
def test_an_argument_that_cannot_be_right_is_refused(arguments):
    with pytest.raises(hotrow.ArgumentError, match=next(iter(arguments))):
        Ratings(4, **arguments)


def test_before_the_first_fit_there_is_nothing_to_predict():
    for ask in (lambda m: m.predict((["ann"], ["tea"])), lambda m: m.evaluate(FEW), lambda m: m.recommend(["ann"])):
        with pytest.raises(hotrow.ArgumentError, match="call fit"):
            ask(Ratings(4))
    with pytest.raises(hotrow.ArgumentError, match="nothing to measure"):
        Ratings(4).fit(FEW).evaluate(([], [], []))


def test_columns_of_a_table_are_ratings():
    table = pa.table({"who": FEW[0], "what": FEW[1], "stars": FEW[2]})
    same = Ratings(4, epochs=3).fit(FEW)
    assert np.array_equal(Ratings(4, epochs=3).fit(table).users.vectors(), same.users.vectors())


@pytest.mark.compiled
def test_the_same_seed_makes_the_same_model_to_the_bit_on_any_number_of_threads():
    train, _ = planted()
    made = []
    for threads in (1, 2, 3):
        hotrow.set_threads(threads)
        made.append(Ratings(8, epochs=3, batch_size=1024, seed=7).fit(train))
    for model in made[1:]:
        assert np.array_equal(model.users.vectors(), made[0].users.vectors())
        assert np.array_equal(model.items.vectors(), made[0].items.vectors())
    assert not np.array_equal(Ratings(8, epochs=3, seed=8).fit(train).users.vectors(), made[0].users.vectors())


@pytest.mark.compiled
def test_validation_leaves_the_best_epoch():
    train, held_out = planted(noise=1.5)
    plain = Ratings(16, epochs=60, batch_size=32, learning_rate=0.1, l2=0.0).fit(train)
    measured = []

    def progress(done, total, told):
        if done == total or told["epoch"] > len(measured) + 1:
            measured.append(model.evaluate(held_out)["rmse"])

    model = Ratings(16, epochs=60, batch_size=32, learning_rate=0.1, l2=0.0)
    best = model.fit(train, validation=held_out, progress=progress).evaluate(held_out)["rmse"]
    assert best < plain.evaluate(held_out)["rmse"]  # which has learned noise by then
    assert best <= min(measured) + 0.05
    assert len(measured) == 60


def test_ctrl_c_leaves_the_model_of_the_steps_so_far():
    model = Ratings(4, epochs=50, batch_size=2)

    def progress(done, total, told):
        if done == 7:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        model.fit(FEW, progress=progress)
    assert model.users.steps == model.items.steps == 7
    assert model.predict((["ann"], ["tea"])).shape == (1,)


def test_recommended_is_what_is_rated_highest_and_not_rated_yet():
    train, _ = planted(users=20, items=15)
    model = Ratings(4, epochs=30, batch_size=32).fit(train)
    ids, scores = model.recommend([3], k=15)
    rated = set(train[1][train[0] == 3].tolist())
    assert set(ids[0]) == set(model.items.ids().tolist()) - rated
    assert scores[0] == sorted(scores[0], reverse=True)
    assert np.allclose(np.clip(scores[0], *model.between), model.predict(([3] * len(ids[0]), ids[0])), atol=1e-5)
    assert len(model.recommend([3], k=99, exclude_known=False)[0][0]) == len(model.items)
    near, cosines = model.similar([ids[0][0]], k=3)
    assert ids[0][0] not in near[0]
    assert cosines[0] == sorted(cosines[0], reverse=True)
    for wrong in (lambda: model.recommend([999]), lambda: model.similar([999], side="user")):
        with pytest.raises(hotrow.UnknownIdError, match="999"):
            wrong()


def test_a_saved_model_is_the_same_and_trains_on_to_the_bit(tmp_path):
    train, held_out = planted(users=20, items=15)
    model = Ratings(4, epochs=3, l2=0.05).fit(train)
    model.save(tmp_path / "model")
    loaded = Ratings.load(tmp_path / "model")
    assert loaded.config == model.config
    assert saving.verify(tmp_path / "model") == []
    assert np.array_equal(loaded.predict(held_out[:2]), model.predict(held_out[:2]))
    inside = tuple(side[:20] for side in train)
    assert np.array_equal(loaded.fit(inside).users.vectors(), model.fit(inside).users.vectors())


def test_a_model_of_the_other_kind_and_a_changed_one_are_refused(tmp_path):
    Ratings(4, epochs=3).fit(FEW).save(tmp_path / "ratings")
    Retrieval(4, epochs=1).fit(FEW[:2]).save(tmp_path / "retrieval")
    for kind, folder in ((Retrieval, "ratings"), (Ratings, "retrieval")):
        with pytest.raises(hotrow.CorruptError, match=r"model\.json"):
            kind.load(tmp_path / folder)
    path = tmp_path / "ratings" / "model.json"
    described = json.loads(path.read_text())
    described["config"]["center"] = 4.5
    path.write_text(json.dumps(described))
    with pytest.raises(hotrow.CorruptError, match=r"model\.json"):
        Ratings.load(tmp_path / "ratings")


def test_who_is_forgotten_is_gone_and_the_others_stay_as_they_were(tmp_path):
    model = Ratings(4, epochs=20).fit(FEW)
    before = model.predict((["bob", "cy"], ["tea", "mug"]))
    assert model.forget(["ann", "nobody"]).removed == 1
    assert model.users.ids().to_pylist() == ["bob", "cy"]
    assert len(model.pairs_in_order()) == 2
    assert np.array_equal(model.predict((["bob", "cy"], ["tea", "mug"])), before)
    assert model.recommend(["bob"], k=5)[0] == [["mug"]]
    model.forget("tea", side="item")
    assert len(model.pairs_in_order()) == 1
    model.save(tmp_path / "model")
    assert Ratings.load(tmp_path / "model").items.ids().to_pylist() == ["mug"]
    with pytest.raises(hotrow.ArgumentError, match="side must be"):
        model.forget("mug", side="thing")
