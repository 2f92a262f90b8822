"""Retrieval: what it learns, what it remembers, what it keeps."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

import hotrow
from hotrow.models import Retrieval
from hotrow.models.pairs import split
from hotrow.models.ranking import Known
from hotrow.models.training import Pairs, Plan, Side, Trainer

pytestmark = pytest.mark.compiled


def shelves(seed=0, users=60, per_user=6):
    """Users of two kinds, who take from two shelves of 12 items: (users, items), and the shelf of each id by parity."""
    rng = np.random.default_rng(seed)
    pairs = [(u, 2 * i + u % 2) for u in range(users) for i in rng.permutation(12)[:per_user]]
    return tuple(np.array(side) for side in zip(*pairs, strict=True))


@pytest.mark.parametrize("loss", ["softmax", "cosine", "bpr"])
def test_it_learns_which_shelf_a_user_takes_from(loss):
    users, items = shelves()
    settings = {"weight": 5.0} if loss == "cosine" else {}  # 24 items can't all be far apart in 8 dimensions
    model = Retrieval(8, loss=loss, epochs=40, batch_size=64, negatives=16, seed=1, **settings).fit((users, items))
    recommended, _ = model.recommend(np.arange(60), k=3)
    right = [item % 2 == user % 2 for user, row in enumerate(recommended) for item in row]
    assert np.mean(right) > 0.9
    near, cosines = model.similar([0, 1], k=3)
    assert all(item % 2 == side for side, row in enumerate(near) for item in row)
    assert all(row == sorted(row, reverse=True) for row in cosines)


def test_known_items_are_not_recommended_unless_asked_for():
    users, items = shelves()
    model = Retrieval(8, epochs=20, batch_size=64, negatives=16).fit((users, items))
    for user in range(5):
        known = set(items[users == user].tolist())
        assert not known & set(model.recommend([user], k=24)[0][0])
        assert len(model.recommend([user], k=24)[0][0]) == 24 - len(known)
        assert set(model.recommend([user], k=24, exclude_known=False)[0][0]) == set(range(24))


def test_ids_may_be_strings_and_columns_of_a_table():
    users, items = shelves(users=20)
    table = pa.table({"who": pa.array([f"user {u}" for u in users]), "what": [f"item {i}" for i in items]})
    model = Retrieval(4, epochs=2).fit(table)
    assert set(model.users.ids().to_pylist()) == {f"user {u}" for u in range(20)}
    with pytest.raises(hotrow.UnknownIdError, match="item 99"):
        model.similar(["item 99"])
    with pytest.raises(hotrow.UnknownIdError, match="'item 1'"):
        model.similar(["item  1"])


def test_new_users_and_items_get_their_rows_in_a_later_fit():
    users, items = shelves()
    model = Retrieval(8, epochs=5, batch_size=64).fit((users, items))
    model.fit((np.array([1000, 1000]), np.array([3, 500])))
    assert len(model.users) == 61
    assert len(model.items) == 25
    assert 500 not in model.recommend([1000], k=25)[0][0]
    assert 500 in model.recommend([0], k=25)[0][0]


@pytest.mark.parametrize("loss", ["softmax", "cosine", "bpr"])
def test_the_same_seed_makes_the_same_model_to_the_bit_on_any_number_of_threads(loss):
    made = []
    for threads in (1, 2, 3):
        hotrow.set_threads(threads)
        made.append(Retrieval(8, loss=loss, epochs=2, batch_size=2048, seed=7).fit(shelves(users=300)))
    for model in made[1:]:
        assert np.array_equal(model.items.vectors(), made[0].items.vectors())
        assert np.array_equal(model.users.vectors(), made[0].users.vectors())


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_what_is_new_in_a_later_fit_starts_amid_what_it_comes_with_and_the_rest_stays():
    model = Retrieval(8, epochs=1, learning_rate=0.0, l2=0.0).fit((["ann", "ann", "bob"], ["tea", "mug", "tea"]))
    tea, mug = unit(model.items.lookup(["tea", "mug"])[:, :8])
    ann = model.users.lookup("ann")
    model.fit((["ann", "cat", "cat"], ["cup", "tea", "mug"]))
    assert np.array_equal(model.users.lookup("ann"), ann)
    np.testing.assert_allclose(unit(model.users.lookup("cat")), unit(tea + mug), rtol=1e-4)
    np.testing.assert_allclose(unit(model.items.lookup("cup")[:8]), unit(ann), rtol=1e-4)
    assert model.items.lookup(["tea", "mug", "cup"])[:, 8] == pytest.approx(0.5 * np.log([2, 1, 1]))


def test_a_first_fit_starts_where_the_pairs_put_users_and_items():
    users, items = shelves()
    model = Retrieval(4, epochs=1, learning_rate=0.0, l2=0.0).fit((users, items))
    near, _ = model.similar([0, 1], k=4)
    assert [{item % 2 for item in row} for row in near] == [{0}, {1}]
    recommended, _ = model.recommend(np.arange(60), k=3)
    assert np.mean([item % 2 == user % 2 for user, row in enumerate(recommended) for item in row]) > 0.95


def test_training_stops_when_validation_gets_no_better_and_the_best_epoch_stays():
    users, items = shelves(users=200)
    held_out = np.arange(len(users)) % 6 == 5
    train, validation = (users[~held_out], items[~held_out]), (users[held_out], items[held_out])
    model = Retrieval(8, epochs=50, batch_size=64, negatives=16, learning_rate=0.1)
    model.fit(train, validation=validation, patience=2)
    best = int(np.argmax(model.validated))
    assert len(model.validated) == min(50, best + 3)
    assert len(model.validated) < 50
    assert model.evaluate(validation, ks=(20,))["ndcg@20"] == max(model.validated)
    again = Retrieval(8, epochs=50, batch_size=64, negatives=16, learning_rate=0.1).fit(train)
    assert again.validated == []
    assert again.users.steps > model.users.steps  # it went on to the end


def test_validation_is_checked_before_anything_is_learned():
    model = Retrieval(4)
    with pytest.raises(hotrow.ArgumentError, match="patience"):
        model.fit((["a"], ["b"]), validation=(["a"], ["c"]), patience=0)
    with pytest.raises(hotrow.HotrowError):
        model.fit((["a"], ["b"]), validation=(["a"], ["c", "d"]))
    with pytest.raises(hotrow.ArgumentError, match="nothing to measure"):
        model.fit((["a", "b"], ["b", "c"]), validation=(["x"], ["b"]))
    with pytest.raises(hotrow.ArgumentError, match="nothing to measure"):
        model.fit((["a", "b"], ["b", "c"]), validation=(["a", "a"], ["b", "b"]))
    assert len(model.users) == 0


def test_a_pair_given_twice_counts_once():
    once, twice = (Retrieval(4, epochs=2).fit((["a"] * n + ["b"], ["x"] * n + ["y"])) for n in (1, 3))
    assert np.array_equal(once.users.vectors(), twice.users.vectors())


def test_few_pairs_are_gone_through_more_often_and_later_ones_less():
    steps = []
    model = Retrieval(4, batch_size=64)
    model.fit(([1, 2, 3], [1, 2, 3]), progress=lambda done, total, facts: steps.append(total))
    assert set(steps) == {30}
    model.fit(([4], [1]), progress=lambda done, total, facts: steps.append(total))
    assert steps[-1] == 5
    model.fit(([4], [2]), epochs=2, progress=lambda done, total, facts: steps.append(total))
    assert steps[-1] == 2


@pytest.mark.parametrize(
    "pairs",
    [
        ([1, 2], ["a"]),
        ([1, 2], ["a", None]),
        (["a", 1], ["a", "b"]),
        ([[1, 2]], [1, True]),
    ],
)
def test_pairs_that_are_refused_change_nothing(pairs):
    model = Retrieval(4)
    with pytest.raises(hotrow.HotrowError):
        model.fit(pairs)
    assert (len(model.users), len(model.items)) == (0, 0)
    model.fit((["ann"], [7]))  # and the kinds of ids are still open


def test_evaluate_counts_hits_of_held_out_pairs_alone():
    users, items = shelves()
    held_out = np.arange(len(users)) % 6 == 5
    model = Retrieval(8, epochs=40, batch_size=64, negatives=16).fit((users[~held_out], items[~held_out]))
    result = model.evaluate((users[held_out], items[held_out]), ks=(5, 10))
    found = 0
    for user, item in zip(users[held_out], items[held_out], strict=True):
        found += item in model.recommend([user], k=5)[0][0]
    assert result["recall@5"] == pytest.approx(found / held_out.sum())
    assert result["recall@10"] > model.popularity((users[held_out], items[held_out]), ks=(10,))["recall@10"]
    with pytest.raises(hotrow.ArgumentError, match="nothing to measure"):
        model.evaluate((np.array([999]), np.array([1])))


def test_held_out_pairs_that_are_known_or_of_strangers_are_not_measured():
    model = Retrieval(8, epochs=5).fit((["ann", "ann", "bob"], ["tea", "mug", "tea"]))
    alone = model.evaluate((["bob"], ["mug"]), ks=(1,))
    assert alone["recall@1"] == 1.0
    assert model.evaluate((["bob", "bob", "bob", "eve"], ["mug", "mug", "tea", "tea"]), ks=(1,)) == alone
    half = model.evaluate((["bob", "bob", "bob"], ["mug", "hat", "cup"]), ks=(1,))  # two items that no fit has seen
    assert half["recall@1"] == pytest.approx(1 / 3)
    assert model.popularity((["bob", "bob"], ["mug", "hat"]), ks=(1,))["recall@1"] == pytest.approx(1 / 2)


def test_shuffled_pairs_teach_nothing():
    users, items = shelves()
    rng = np.random.default_rng(3)
    held_out = np.arange(len(users)) % 6 == 5
    model = Retrieval(8, epochs=20, batch_size=64, negatives=16).fit(
        (users[~held_out], rng.permutation(items[~held_out]))
    )
    assert model.evaluate((users[held_out], items[held_out]), ks=(5,))["recall@5"] < 0.5  # chance is 5 of 19 or so


def test_a_saved_model_is_the_same_model_and_trains_on(tmp_path):
    users, items = shelves()
    model = Retrieval(8, epochs=5, batch_size=64, temperature=0.2).fit((users, items))
    model.save(tmp_path)
    again = Retrieval.load(tmp_path)
    assert again.config == model.config
    assert again.recommend([3], k=5) == model.recommend([3], k=5)
    again.fit((np.array([1]), np.array([700])))
    again.save(tmp_path)
    assert 700 in Retrieval.load(tmp_path).items


def test_a_save_that_is_interrupted_leaves_the_model_before(tmp_path, monkeypatch):
    from hotrow.models import saving

    model = Retrieval(4, epochs=1).fit(shelves())
    model.save(tmp_path)
    before = model.recommend([3], k=5)
    model.fit((np.array([5000]), np.array([6000])))

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(saving, "write_durably", fail)
    with pytest.raises(OSError, match="no space"):
        model.save(tmp_path)
    again = Retrieval.load(tmp_path)
    assert 5000 not in again.users
    assert again.recommend([3], k=5) == before


def test_saves_that_are_interrupted_again_and_again_leave_the_model_before(tmp_path, monkeypatch):
    from hotrow.models import saving

    model = Retrieval(4, epochs=1).fit(shelves())
    model.save(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(saving, "write_durably", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        for user in range(5000, 5004):
            model.fit((np.array([user]), np.array([0])))
            with pytest.raises(OSError, match="no space"):
                model.save(tmp_path)
    assert 5000 not in Retrieval.load(tmp_path).users
    model.save(tmp_path)
    assert 5003 in Retrieval.load(tmp_path).users
    assert len(list((tmp_path / "users").glob("generation-*"))) == 2


def test_ctrl_c_leaves_a_model_that_answers():
    users, items = shelves()
    model = Retrieval(4, epochs=50, batch_size=32)

    def stop(done, total, facts):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit((users, items), progress=stop)
    assert len(model.recommend([0], k=3)[0][0]) == 3


@pytest.mark.parametrize("side", ["users", "items"])
def test_ctrl_c_never_comes_between_the_updates_of_a_step(side, monkeypatch):
    users, items = shelves()
    model = Retrieval(4, epochs=50, batch_size=32)
    table = getattr(model, side)
    update = table.update

    def pressed(*args, **kwargs):
        update(*args, **kwargs)
        if table.steps == 7:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(table, "update", pressed)
    with pytest.raises(KeyboardInterrupt):
        model.fit((users, items))
    assert (model.users.steps, model.items.steps) == (7, 7)
    assert len(model.known().items) == len(users)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_not_lost_where_python_only_prints_what_is_raised():
    class Dropped:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def stop(done, total, facts):
        if done == 7:
            Dropped()

    model = Retrieval(4, epochs=50, batch_size=32)
    with pytest.raises(KeyboardInterrupt):
        model.fit(shelves(), progress=stop)
    assert model.users.steps == 7


def test_a_second_ctrl_c_is_not_put_off():
    def stop(done, total, facts):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Retrieval(4, epochs=50, batch_size=32).fit(shelves(), progress=stop)


def test_a_fit_beside_the_main_thread_works_too():
    with ThreadPoolExecutor(1) as pool:
        model = pool.submit(Retrieval(4, epochs=2).fit, shelves()).result()
    assert len(model.users) == 60


@pytest.mark.parametrize("side", ["users", "items"])
def test_ids_that_are_forgotten_behind_its_back_are_noticed(side):
    users, items = shelves()
    model = Retrieval(4, epochs=1).fit((users, items))
    model.recommend([1])
    getattr(model, side).forget([0])
    for call in (lambda: model.fit((users + 1, items)), lambda: model.recommend([1]), model.known):
        with pytest.raises(hotrow.ArgumentError, match="forgotten"):
            call()
    assert 60 not in model.users


@pytest.mark.parametrize(
    "call",
    [
        lambda: Retrieval(4, epochs=0),
        lambda: Retrieval(4, batch_size=0),
        lambda: Retrieval(4, loss="other"),
        lambda: Retrieval(4).fit(([1, 2], [1])),
        lambda: Retrieval(4).fit([1, 2, 3]),
        lambda: Retrieval(4).fit(([1, None], [1, 2])),
        lambda: Retrieval(4, epochs=1).fit(shelves()).recommend([0], k=0),
        lambda: Retrieval(4, epochs=1).fit(shelves()).similar([0], side="shelf"),
    ],
)
def test_what_cannot_be_is_refused(call):
    with pytest.raises(hotrow.HotrowError):
        call()


def test_a_model_whose_ids_were_forgotten_says_so_and_does_not_mix_rows_up():
    model = Retrieval(4, epochs=1).fit(shelves())
    model.items.forget([3])
    for ask in (lambda: model.recommend([0]), lambda: model.similar([0]), lambda: model.fit(([1], [2]))):
        with pytest.raises(hotrow.ArgumentError, match="forgotten"):
            ask()


def test_hard_negatives_are_those_that_score_highest_of_what_is_drawn():
    users, items = shelves()
    model = Retrieval(8, epochs=40, batch_size=64, negatives=4, hard=4, seed=1).fit((users, items))
    recommended, _ = model.recommend(np.arange(60), k=3)
    assert np.mean([item % 2 == user % 2 for user, row in enumerate(recommended) for item in row]) > 0.9
    plan = Plan(1, 64, 4, 0.01, 0.0, hard=4)
    pairs = Pairs(*split(model.pairs_in_order()))
    sides = [Side.of(table, table.find(table.ids())) for table in (model.users, model.items)]
    nothing = Known.nothing(len(model.users))
    trainer = Trainer(model.loss, plan, *sides, pairs, nothing, np.random.default_rng(0))
    step = trainer._prepare((1, np.arange(20)))
    users, vectors = (side.compose(rows)[0] for side, rows in zip(sides, (step.users, step.items), strict=True))
    begun = []
    trainer.calculator.begin = begun.append
    taken, _, kept_own, *_ = trainer._begin(step, 0.01)
    fewer, rows, kept = begun[0], step.items.at, taken.items.at
    assert set(kept[fewer.pairs[1]]) == set(rows[step.pairs[1]])  # the pairs are all there
    kept_vectors = sides[1].compose(taken.items)[0]
    assert np.array_equal(np.column_stack([fewer.items, fewer.bias]), kept_vectors)
    assert np.array_equal(kept_own, kept_vectors)
    assert np.array_equal(fewer.log_q, trainer.log_q[kept])
    others = np.setdiff1d(np.arange(len(rows)), step.pairs[1])
    scores = model.loss.user_factors(users) @ model.loss.item_factors(vectors[:, :-1], vectors[:, -1]).T
    highest = scores[:, others].max(0)
    expected = rows[others[np.argsort(-highest)[:4]]]
    assert set(kept) - set(rows[step.pairs[1]]) == set(expected)
    assert set(kept[fewer.drawn]) <= set(rows[step.drawn])
