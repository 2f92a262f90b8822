"""NextItem: what it learns of order, what it can't see, what it keeps."""

from __future__ import annotations

import json
import signal

import numpy as np
import pyarrow as pa
import pytest

import hotrow
from hotrow.apps.cli import main
from hotrow.errors import ArgumentError, CorruptError, UnknownIdError
from hotrow.models import NextItem, Retrieval
from hotrow.models.next_training import pool, weigh
from hotrow.models.sequences import Histories, Sequences, hold_out, take_histories

pytestmark = pytest.mark.compiled
SMALL = {"epochs": 12, "batch_size": 64, "negatives": 12}


def ring(users=80, length=8, items=24, seed=0):
    """Sequences in which item i is followed by i + 1: pairs in time order, the order of users mixed."""
    starts = np.random.default_rng(seed).integers(0, items, users)
    steps = (starts[None] + np.arange(length)[:, None]) % items
    return np.tile(np.arange(users), length), steps.reshape(-1)


@pytest.fixture(scope="module")
def chain():
    return NextItem(16, seed=1, **SMALL).fit(ring())


def follows(model, items=24, **options):
    """How often the first recommendation after i is i + 1."""
    best, _ = model.recommend([[i] for i in range(items)], k=1, **options)
    return float(np.mean([row[0] == (i + 1) % items for i, row in enumerate(best)]))


# --- what it learns --------------------------------------------------------------------------------------------------


def test_a_chain_is_learned_that_a_model_blind_to_order_can_not_learn(chain):
    assert follows(chain) > 0.9
    users, items = ring()
    blind = Retrieval(16, epochs=20, batch_size=64, negatives=12, seed=1).fit((users, items))
    near, _ = blind.similar(np.arange(24), k=1)
    assert np.mean([row[0] == (i + 1) % 24 for i, row in enumerate(near)]) < 0.8


def test_the_order_of_a_history_matters(chain):
    ids, scores = chain.recommend([[3, 9], [9, 3]], k=5)
    assert [ids[0][0], ids[1][0]] == [10, 4]
    assert scores[0] == sorted(scores[0], reverse=True)


def test_shuffled_sequences_lose_what_order_gave(chain):
    users, items = ring()
    rng = np.random.default_rng(0)
    shuffled = NextItem(16, seed=1, **SMALL).fit((users, rng.permutation(items)))
    assert follows(shuffled) < 0.4 < follows(chain)


def test_times_put_pairs_in_order_and_ties_stay_as_they_come(chain):
    users, items = ring()
    times = np.repeat(np.arange(8), 80)
    order = np.random.default_rng(0).permutation(len(users))
    rows = {"who": users[order], "what": items[order], "when": times[order]}
    model = NextItem(16, seed=1, **SMALL).fit(pa.table(rows))
    assert follows(model) > 0.9
    same = NextItem(16, seed=1, **SMALL).fit((users, items, np.zeros(len(users))))
    assert np.array_equal(same.items.vectors(), chain.items.vectors())


def test_an_item_that_may_come_again_is_recommended_again():
    users, items = np.repeat(np.arange(40), 8), np.tile([0, 1], 160)
    options = SMALL | {"negatives": 4}
    again = NextItem(8, repeats=True, **options).fit((users, items))
    assert again.recommend([[0, 1, 0], [0, 1]], k=1)[0] == [[1], [0]]
    once = NextItem(8, **options).fit((users, items))
    assert once.recommend([[0, 1]], k=2)[0] == [[]]
    assert len(once.recommend([[0, 1]], k=2, exclude_known=False)[0][0]) == 2


def test_new_items_get_their_rows_in_a_later_fit():
    model = NextItem(8, **SMALL).fit(ring())
    model.fit(([1000, 1000] * 20, [7, 99] * 20), epochs=20)
    assert len(model.items) == 25
    assert model.recommend([[7]], k=1)[0] == [[99]]


def test_a_user_needs_no_row_and_strange_items_say_nothing(chain):
    assert chain.recommend([[5, 12345]], k=3) != chain.recommend([[6]], k=3)
    known, strange = chain.recommend([[5], [777, 888], []], k=24)[0][0], chain.recommend([[777], []], k=24)
    assert len(known) == 23
    assert strange[0][0] == strange[0][1]
    assert strange[1][0] == strange[1][1]


# --- what it is given ------------------------------------------------------------------------------------------------


def test_a_history_ends_before_the_item_that_comes_next():
    rng = np.random.default_rng(0)
    users = rng.integers(0, 9, 200)
    sequences = Sequences.of(users, np.arange(200), None)
    first, targets = sequences.first_of(), sequences.targets()
    for last in (1, 3, 500):
        histories = Histories.before(sequences.items, first[targets], targets, last)
        for e, place in enumerate(targets):
            wanted = sequences.items[place]
            seen = histories.items[histories.offsets[e] : histories.offsets[e + 1]]
            mine = np.flatnonzero(users == users[wanted])
            assert seen.tolist() == mine[mine < wanted][-last:].tolist()  # items are numbered in time order


def test_pooling_is_the_sum_of_vectors_and_differences_that_decay():
    rng = np.random.default_rng(0)
    items, rows = np.array([4, 5, 6]), rng.normal(size=(3, 7)).astype(np.float32)
    ends = np.array([3, 0, 2])
    histories = Histories.before(items, np.array([0, 0, 0]), ends, 2)
    assert histories.items.tolist() == [5, 6, 4, 5]
    taken = rows[histories.items - 4]
    got = pool(taken, histories, weigh(histories, 0.5))
    vectors = rows[:, :3] + rows[:, 4:]
    expected = [vectors[2] + vectors[1] / 2, np.zeros(3), vectors[1] + vectors[0] / 2]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_without_decay_the_last_item_alone_counts():
    model = NextItem(8, decay=0.0, **SMALL).fit(ring())
    _, scores = model.recommend([[3, 9, 5], [17, 5], [5]], k=24, exclude_known=False)
    assert scores[0] == scores[1] == scores[2]


def test_only_the_last_items_count():
    model = NextItem(8, last=2, **SMALL).fit(ring())
    _, scores = model.recommend([[3, 9, 5], [17, 9, 5], [5, 9]], k=24, exclude_known=False)
    assert scores[0] == scores[1] != scores[2]


def test_histories_come_as_lists_or_as_ids_and_offsets(chain):
    lists = [[1, 2], [], [7]]
    assert chain.recommend(lists, k=4) == chain.recommend((np.array([1, 2, 7]), [0, 2, 2, 3]), k=4)
    assert take_histories([["a"], []])[1].tolist() == [0, 1, 1]


def test_held_out_is_each_users_last_and_histories_are_all_before():
    users, items = ["a", "b", "a", "c", "a", "b"], list("uvwxyz")
    (places, numbers), histories, wanted = hold_out((users, items, [1, 2, 3, 4, 2, 1]))
    assert wanted.tolist() == [2, 1]
    assert places.tolist() == [0, 4, 5, 3]
    assert numbers.tolist() == [0, 0, 1, 2]
    assert histories.items.tolist() == [0, 4, 5]


# --- measure ---------------------------------------------------------------------------------------------------------


def test_metrics_are_those_of_the_places_that_recommend_gives(chain):
    histories, wanted = [[1, 2], [4], [9, 10], [3]], [3, 20, 777, 3]
    lists = chain.recommend(histories, k=20)[0]
    places = [row.index(item) + 1 if item in row else None for row, item in zip(lists, wanted, strict=True)]
    got = chain.evaluate(histories, wanted, ks=(1, 20))
    assert got["recall@20"] == np.mean([p is not None for p in places])
    assert got["recall@1"] == np.mean([p == 1 for p in places])
    assert got["ndcg@20"] == pytest.approx(np.mean([0 if p is None else 1 / np.log2(p + 1) for p in places]))
    assert places[0] == 1
    assert places[2] is places[3] is None  # never seen; in its own history
    most = chain.popularity([[1]], [5], [5, 5, 7], ks=(1,))
    assert most == {"recall@1": 1.0, "ndcg@1": 1.0}


# --- determinism -----------------------------------------------------------------------------------------------------


def test_results_are_the_same_to_the_bit_for_any_number_of_threads():
    def made(n):
        hotrow.set_threads(n)
        model = NextItem(8, batch_size=300, negatives=50, epochs=2).fit(ring(users=200))
        return model.items.vectors(), model.recommend([[3, 4], [9]], k=5)

    try:
        (one, asked), (several, again) = made(1), made(3)
    finally:
        hotrow.set_threads(None)
    assert np.array_equal(one, several)
    assert asked == again


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"last": 0}, "last"), ({"decay": 1.5}, "decay"), ({"dropout": 1.0}, "dropout"), ({"l2": -1.0}, "l2"),
        ({"epochs": 0}, "epochs"), ({"dim": True}, "dim"), ({"repeats": 1}, "repeats"), ({"temperature": 0}, "temp"),
    ],
)  # fmt: skip
def test_settings_that_can_not_be_are_refused(wrong, says):
    with pytest.raises(ArgumentError, match=says):
        NextItem(**wrong)


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (([1, 2], [3, 4]), "no user has two"),
        (([], []), "no user has two"),
        (([1, 1], [3, 4, 5]), "as long as"),
        (([1, 1], [3, 4], [1]), "as long as"),
        (([1, 1], [3, 4], [1.0, float("nan")]), "missing"),
        (([1, 1], [3, 4], ["x", "y"]), "times are numbers"),
        (([1, 1],), "1 columns"),
        (7, "got int"),
    ],
)
def test_pairs_that_can_not_be_are_refused_and_nothing_changes(pairs, says):
    model = NextItem(8)
    with pytest.raises(ArgumentError, match=says):
        model.fit(pairs)
    assert len(model.items) == 0
    assert model.config == NextItem(8).config


def test_questions_that_can_not_be_answered_say_what_to_do(chain):
    with pytest.raises(ArgumentError, match="fit"):
        NextItem(8).recommend([[1]])
    with pytest.raises(UnknownIdError, match="777"):
        chain.similar([777])
    with pytest.raises(ArgumentError, match="offsets"):
        chain.recommend(([1, 2], [0, 3]))
    with pytest.raises(ArgumentError, match="one wanted item"):
        chain.evaluate([[1], [2]], [3])
    with pytest.raises(ArgumentError, match="k must"):
        chain.recommend([[1]], k=0)


# --- keep ------------------------------------------------------------------------------------------------------------


def test_a_loaded_model_answers_and_goes_on_training_as_the_one_saved(chain, tmp_path):
    model = NextItem(8, **SMALL).fit(ring())
    model.save(tmp_path / "m")
    other = NextItem.load(tmp_path / "m")
    assert other.config == model.config
    asked = [[1, 2], [5]]
    assert other.recommend(asked) == model.recommend(asked)
    assert other.similar([3]) == model.similar([3])
    for one in (model, other):
        one.fit(ring(seed=2), epochs=1)
    assert np.array_equal(model.items.vectors(), other.items.vectors())
    other.save(tmp_path / "m")
    assert NextItem.load(tmp_path / "m").recommend(asked) == other.recommend(asked)


def test_what_is_no_model_is_refused(tmp_path):
    folder = tmp_path / "m"
    NextItem(8, **SMALL).fit(ring()).save(folder)
    text = (folder / "next.json").read_text()
    (folder / "next.json").write_text(text.replace('"last": 10', '"last": 11').replace('"last":10', '"last":11'))
    assert (folder / "next.json").read_text() != text
    with pytest.raises(CorruptError, match=r"next\.json"):
        NextItem.load(folder)
    pairs = tmp_path / "pairs"
    Retrieval(4, epochs=1).fit(([1, 2], [3, 4])).save(pairs)
    with pytest.raises(CorruptError, match=r"next\.json"):
        NextItem.load(pairs)
    with pytest.raises(ArgumentError, match="another folder"):
        NextItem(8, **SMALL).fit(ring()).save(pairs)


def test_ctrl_c_ends_a_fit_between_two_steps_and_the_model_can_be_asked():
    model, steps = NextItem(8, **SMALL), []

    def press(done, total, facts):
        steps.append(done)
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        model.fit(ring(), progress=press)
    assert steps == [1, 2, 3]
    assert model.items.steps == 3
    assert len(model.recommend([[1]], k=5)[0][0]) == 5


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    users, items = ring()
    rows = [f"{u},item {i},{t // 80}" for t, (u, i) in enumerate(zip(users, items, strict=True))]
    path.write_text("\n".join(["user,item,time", *rows[::-1]]) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(log, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "m"
    columns = ["--user", "user", "--item", "item", "--time", "time", "--next", "--out", str(out)]
    assert main(["train", str(log), *columns, "--dim", "16", "--epochs", "300", "--json"]) == 0
    return out


def asked(capfd, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def test_the_command_learns_what_comes_next_and_measures_it(capfd, folder):
    report = json.loads((folder / "report.json").read_text())
    assert report["rows"]["held_out"] == 80
    assert report["rows"]["training"] == 560
    assert report["model"]["recall@10"] > report["popularity"]["recall@10"]
    found = asked(capfd, "recommend", folder, "--after", "item 3", "--after", "item 4", "-k", "1")
    assert found["recommended"][0]["id"] == "item 5"
    assert asked(capfd, "similar", folder, "item 3", "-k", "2")["similar"]
    assert set(asked(capfd, "inspect", folder)["tables"]) == {"items"}
    assert asked(capfd, "verify", folder)["problems"] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["recommend", "MODEL", "item 3"], "--after"),
        (["recommend", "MODEL", "--after", "item 333"], "item 333"),
        (["recommend", "MODEL", "ann", "--after", "item 3"], "not both"),
        (["similar", "MODEL", "item 3", "--side", "user"], "has the side 'item'"),
        (["lookup", "MODEL", "--item", "item 3"], "--id ITEM"),
        (["forget", "MODEL", "item 3"], "without them"),
    ],
)
def test_commands_that_can_not_be_say_what_can(capfd, folder, arguments, says):
    assert main([str(folder) if a == "MODEL" else a for a in arguments]) == 1
    assert says in " ".join(capfd.readouterr().err.split())


def test_next_needs_times_and_takes_no_loss(capfd, log):
    for extra in ([], ["--time", "time", "--loss", "bpr"], ["--time", "time", "--label", "item"]):
        with pytest.raises(SystemExit):
            main(["train", str(log), "--user", "user", "--item", "item", "--next", *extra])
        assert "--next" in capfd.readouterr().err.rpartition("error:")[2]


def test_nothing_else_than_a_next_item_model_is_written_into(capfd, log, tmp_path):
    (tmp_path / "precious").write_text("x")
    columns = ["--user", "user", "--item", "item", "--time", "time", "--next", "--out", str(tmp_path)]
    assert main(["train", str(log), *columns]) == 1
    assert "something else" in " ".join(capfd.readouterr().err.split())
