"""The search for settings: what it tries, what it never looks at, and what is left when it is ended."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hotrow.apps.cli import main
from hotrow.apps.console import Output
from hotrow.apps.settings import SETTINGS
from hotrow.errors import ArgumentError
from hotrow.models import Retrieval, evaluation, tune, tuning
from hotrow.models.tuning import SPACE, Trial

SMALL = {"dim": 4, "epochs": 2, "batch_size": 64}
FEW = {"l2": (1e-4, 1e-3), "negatives": (8, 16), "temperature": (0.2, 0.5)}


def shelves(users=40, per_user=7):
    """(users, items, times): users of two kinds, who take from two shelves of 12 items, one after the other."""
    rng = np.random.default_rng(0)
    rows = [(u, 2 * i + u % 2, day) for u in range(users) for day, i in enumerate(rng.permutation(12)[:per_user])]
    return tuple(np.array(side) for side in zip(*rows, strict=True))


def scores(found):
    return [(trial.settings, trial.score) for trial in found.trials]


# --- what it tries ---------------------------------------------------------------------------------------------------


def drawn(seed, fixed, space=SPACE, trials=25):
    """Settings as a search draws them, which takes each trial to be a little better or worse than those before."""
    parts = tuning._cut(shelves(6)[:2], None, None, 0)
    search, done = tuning._Search(parts, "ndcg@5", space, seed, fixed), []
    for score in np.random.default_rng(seed).random(trials).tolist():
        settings = search.draw(done)
        if settings is None:
            break
        done.append(Trial(settings, score, 0.0, np.zeros(1)))
    return done


@given(
    seed=st.integers(0, 2**63),
    fixed=st.sampled_from([{}, {"dim": 3}, {"loss": "bpr"}, {"loss": "cosine", "margin": 0.1}, {"temperature": 0.2}]),
)
def test_every_trial_is_another_that_a_model_takes_and_keeps_what_is_fixed(seed, fixed):
    done = drawn(seed, fixed)
    assert done[0].settings == {}
    assert len({repr(sorted(trial.settings.items())) for trial in done}) == len(done) == 25
    for trial in done:
        assert not set(trial.settings) & set(fixed)
        Retrieval(**fixed | trial.settings)  # or ArgumentError: temperature of another loss than softmax
        for name, value in trial.settings.items():
            assert value in SPACE[name]


def test_every_second_trial_is_the_best_so_far_with_one_setting_changed():
    done = drawn(3, {"loss": "softmax"})
    for i in range(2, 25, 2):
        best = max(done[:i], key=lambda trial: trial.score).settings
        names = set(best) | set(done[i].settings)
        assert sum(best.get(name) != done[i].settings.get(name) for name in names) == 1


def test_all_values_are_drawn_in_the_long_run():
    seen = {name: set() for name in SPACE}
    defaults = Retrieval().config
    for seed in range(40):
        for trial in drawn(seed, {}):
            for name in SPACE:
                seen[name].add(trial.settings.get(name, defaults.get(name)))
    assert {name: set(values) - seen[name] for name, values in SPACE.items()} == {name: set() for name in SPACE}


def test_each_setting_that_is_searched_can_be_given_to_the_command_line():
    assert set(SPACE) <= {one.name for one in SETTINGS}


@pytest.mark.compiled
def test_a_space_that_is_used_up_ends_the_search():
    found = tune(shelves()[:2], space={"l2": (1e-3, 1e-2)}, trials=50, metric="recall@5", **SMALL)
    assert found.trials[0].settings == {}
    assert sorted(trial.settings.get("l2", 0) for trial in found.trials) == [0, 1e-3, 1e-2]
    assert found.stopped == "space"


@pytest.mark.compiled
def test_the_same_seed_searches_alike_and_another_seed_elsewhere():
    pairs = shelves()[:2]
    first, again, other = (tune(pairs, trials=5, space=FEW, seed=seed, metric="ndcg@5", **SMALL) for seed in (1, 1, 2))
    assert scores(first) == scores(again)
    assert first.gain == again.gain
    assert [trial.settings for trial in first.trials] != [trial.settings for trial in other.trials]


@pytest.mark.compiled
def test_what_is_found_is_the_best_trial_and_how_far_it_is_above_the_defaults():
    users, items, _ = shelves()
    found = tune((users, items), space={"learning_rate": (0.05,)}, trials=4, metric="recall@5", dim=4, epochs=15)
    assert len(found.trials) == 2
    assert found.best.score == max(trial.score for trial in found.trials)
    assert found.settings == {"dim": 4, "epochs": 15} | found.best.settings
    parts = tuning._cut((users, items), None, None, 0)
    for trial in found.trials:
        model = Retrieval(dim=4, epochs=15, **trial.settings).fit(parts.train)
        assert model.report(parts.held_out, ks=(5,))["model"]["recall@5"] == pytest.approx(trial.score)
    difference = found.best.each - found.trials[0].each
    assert found.gain == tuple(evaluation.intervals(difference[:, None], seed=0)[0])
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["settings"] == found.settings


# --- what it never looks at ------------------------------------------------------------------------------------------


class Recording(Retrieval):
    """Remembers what it was trained on and measured with."""

    fits, measured = [], []

    def fit(self, pairs, **options):
        self.fits.append(set(zip(*(side.tolist() for side in pairs), strict=True)))
        return super().fit(pairs, **options)

    def evaluate_each(self, pairs, metric):
        self.measured.append(set(zip(*(side.tolist() for side in pairs), strict=True)))
        return super().evaluate_each(pairs, metric)


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(tuning, "Retrieval", Recording)
    Recording.fits, Recording.measured = [], []
    return Recording


@pytest.mark.compiled
@pytest.mark.parametrize("way", ["last", "latest", "random"])
def test_trials_are_trained_on_one_part_of_the_pairs_and_measured_on_the_other(recorded, way):
    users, items, times = shelves()
    items = np.unique(items, return_inverse=True)[1]
    items = np.argsort(np.array(list(dict.fromkeys(items.tolist()))))[items]  # numbered as they come, as in the search
    twice = (np.r_[users, users[:50]], np.r_[items, items[:50]])
    tune(twice, times=np.r_[times, times[:50] + 100], way=way, trials=3, space=FEW, metric="ndcg@5", **SMALL)
    assert len(recorded.fits) == len(recorded.measured) == 3
    train, validation = recorded.fits[0], recorded.measured[0]
    assert all(fit == train for fit in recorded.fits)
    assert all(measured == validation for measured in recorded.measured)
    assert not train & validation
    assert train | validation == set(zip(users.tolist(), items.tolist(), strict=True))
    when = dict(zip(zip(users.tolist(), items.tolist(), strict=True), times.tolist(), strict=True))
    if way == "last":
        assert all(when[pair] > when[other] for pair in validation for other in train if other[0] == pair[0])
    if way == "latest":
        assert max(when[pair] for pair in train) < min(when[pair] for pair in validation)


def write(path, rows):
    path.write_text("user,item,when\n" + "".join(f"{user},{item},{when}\n" for user, item, when in rows))
    return path


COLUMNS = ["--user", "user", "--item", "item"]
QUICK = ["--trials", "4", "--metric", "ndcg@5", "--dim", "4", "--epochs", "3"]


@pytest.fixture
def rows():
    return [(user, f"thing {item}", day) for user, item, day in zip(*shelves(), strict=True)]


@pytest.mark.compiled
@pytest.mark.parametrize("way", ["last", "latest"])
def test_what_the_test_cut_holds_makes_no_difference_to_the_search(capfd, rows, tmp_path, way):
    """In one file users end with other things than in the other; all that was before is the same."""
    rows.sort(key=lambda row: row[2])
    last = max(day for *_, day in rows)
    has = {row[:2] for row in rows}
    other = [
        (user, next(f"thing {i}" for i in range(24) if (user, f"thing {i}") not in has) if day == last else item, day)
        for user, item, day in rows
    ]
    found = []
    for name, some in (("one", rows), ("other", other)):
        arguments = [*COLUMNS, "--time", "when", "--hold-out", way, *QUICK, "--out", str(tmp_path / name)]
        assert main(["tune", str(write(tmp_path / f"{name}.csv", some)), *arguments]) == 0
        trials = json.loads((tmp_path / name / "tune.json").read_text("utf-8"))["trials"]
        report = json.loads((tmp_path / name / "report.json").read_text("utf-8"))
        found.append(([(trial["settings"], trial["score"]) for trial in trials], report["model"]))
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]  # and the test cuts did differ


# --- when it ends ----------------------------------------------------------------------------------------------------


@pytest.mark.compiled
def test_when_time_is_over_the_defaults_were_tried_at_least():
    found = tune(shelves()[:2], trials=5, space=FEW, minutes=1e-9, metric="ndcg@5", **SMALL)
    assert (len(found.trials), found.stopped, found.settings) == (1, "time", SMALL)
    assert found.gain == (0.0, 0.0)


@pytest.mark.compiled
def test_a_trial_that_time_runs_out_on_does_not_count(monkeypatch):
    asked = []
    monkeypatch.setattr(tuning._Clock, "is_over", property(lambda clock: asked.append(1) or len(asked) > 60))
    found = tune(shelves()[:2], trials=50, space=SPACE, minutes=1, metric="ndcg@5", dim=4, epochs=3, batch_size=32)
    assert 1 < len(found.trials) < 50
    assert found.stopped == "time"


@pytest.mark.compiled
def test_ctrl_c_keeps_the_trials_that_are_done_and_in_the_first_there_are_none():
    def press(trial):
        def told(done, total, facts):
            if facts["trial"] == trial:
                raise KeyboardInterrupt

        return told

    found = tune(shelves()[:2], trials=5, space=FEW, metric="ndcg@5", progress=press(3), **SMALL)
    whole = tune(shelves()[:2], trials=2, space=FEW, metric="ndcg@5", **SMALL)
    assert (scores(found), found.stopped) == (scores(whole), "Ctrl-C")
    with pytest.raises(KeyboardInterrupt):
        tune(shelves()[:2], trials=5, space=FEW, metric="ndcg@5", progress=press(1), **SMALL)


@pytest.mark.compiled
def test_progress_goes_from_the_first_trial_to_the_last_and_each_is_told():
    told, trials = [], []
    tune(
        shelves()[:2], trials=4, space=FEW, metric="ndcg@5", on_trial=trials.append,
        progress=lambda done, total, facts: told.append((done / total, facts["trial"], facts["best"])), **SMALL,
    )  # fmt: skip
    assert [share for share, *_ in told] == sorted(share for share, *_ in told)
    assert told[-1][0] == 1
    assert {trial for _, trial, _ in told} == {1, 2, 3, 4}
    assert told[0][2] is None
    assert told[-1][2] == max(trial.score for trial in trials[:3])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trials": 0}, "trials must be"),
        ({"minutes": 0}, "minutes must be"),
        ({"metric": "auc"}, "metric must be"),
        ({"space": {"nonsense": (1,)}}, "nonsense"),
        ({"space": {"loss": ("hinge",)}}, "'hinge'"),
        ({"space": {"l2": (0.1, 5)}}, "l2 must be"),
        ({"space": {"l2": ()}}, "got none for 'l2'"),
        ({"nonsense": 1}, "nonsense"),
        ({"way": "last"}, "known by their times"),
        ({"times": [1, 2]}, "for each of 280 pairs"),
        ({"times": np.full(280, np.nan)}, "no value for some pairs"),
        ({"times": np.zeros(280), "way": "latest"}, "at the same time"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_it_begins(options, words):
    with pytest.raises(ArgumentError, match=words):
        tune(shelves()[:2], on_trial=lambda trial: pytest.fail("it has begun"), **options)


def test_pairs_of_users_with_one_pair_each_have_nothing_to_validate_with():
    with pytest.raises(ArgumentError, match="nothing to validate with"):
        tune((["ann", "bob"], ["tea", "mug"]))


# --- as a program ----------------------------------------------------------------------------------------------------


@pytest.mark.compiled
def test_the_command_line_that_it_prints_makes_the_same_model(capfd, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a log.csv", rows)
    arguments = ["a log.csv", *COLUMNS, "--time", "when", "--seed", "5", "--out", "tuned"]
    assert main(["tune", *arguments, "--trials", "6", "--metric", "recall@5", "--dim", "4", "--loss", "softmax"]) == 0
    line = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("the same model: hotrow "))
    words = shlex.split(line.removeprefix("the same model: hotrow "))
    assert main(["tuned" if word == "nothing" else word for word in words[:-1]] + ["trained"]) == 0
    tuned, trained = Retrieval.load("tuned"), Retrieval.load("trained")
    assert tuned.config == trained.config
    for side in ("users", "items"):
        assert np.array_equal(getattr(tuned, side).vectors(), getattr(trained, side).vectors())
    assert tuned.dim == 4
    first, second = (json.loads((tmp_path / name / "report.json").read_text("utf-8")) for name in ("tuned", "trained"))
    assert first["model"] == second["model"]
    assert shlex.split(first["tuned"]["command"])[1:] == words
    assert not (tmp_path / "trained" / "tune.json").exists()


@pytest.mark.compiled
def test_trials_are_shown_as_they_come_and_kept_beside_the_model(capfd, rows, tmp_path):
    path, folder = write(tmp_path / "log.csv", rows), tmp_path / "m"
    assert main(["tune", str(path), *COLUMNS, "--out", str(folder), *QUICK]) == 0
    out = capfd.readouterr().out
    kept = json.loads((folder / "tune.json").read_text("utf-8"))
    assert len(kept["trials"]) == 4
    assert kept["settings"]["dim"] == 4
    for number, trial in enumerate(kept["trials"], 1):
        assert f"{number}  {trial['score']:.4f}  " in out
    for words in ("the defaults", "pairs held out of the training pairs", "recall@20", "never seen"):
        assert words in out
    assert out.index("the defaults") < out.index("recall@20")
    assert main(["inspect", str(folder)]) == 0
    assert main(["train", str(path), *COLUMNS, "--out", str(folder), "--epochs", "1"]) == 0
    assert not (folder / "tune.json").exists()  # they would be another model's


@pytest.mark.compiled
def test_machines_get_one_object_with_the_trials_conclusion(capfd, rows, tmp_path):
    path = write(tmp_path / "log.csv", rows)
    assert main(["tune", str(path), *COLUMNS, "--out", str(tmp_path / "m"), *QUICK, "--json"]) == 0
    out = capfd.readouterr().out
    assert out.count("\n") == 1
    report = json.loads(out)
    assert report["model"]["recall@10"] >= 0
    assert report["tuned"]["score"] >= report["tuned"]["defaults"]
    assert "trials" not in report["tuned"]


@pytest.mark.compiled
def test_ctrl_c_in_the_search_ends_the_search_and_the_best_is_trained(capfd, rows, tmp_path, monkeypatch):
    class Interrupted(Retrieval):
        fits = 0

        def fit(self, pairs, **options):
            type(self).fits += 1
            if self.fits == 3:
                raise KeyboardInterrupt
            return super().fit(pairs, **options)

    monkeypatch.setattr(tuning, "Retrieval", Interrupted)
    path, folder = write(tmp_path / "log.csv", rows), tmp_path / "m"
    assert main(["tune", str(path), *COLUMNS, "--out", str(folder), *QUICK]) == 0
    assert "ended by Ctrl-C" in capfd.readouterr().out
    kept = json.loads((folder / "tune.json").read_text("utf-8"))
    assert (len(kept["trials"]), kept["stopped"]) == (2, "Ctrl-C")
    assert len(Retrieval.load(folder).users) == 40


@pytest.mark.compiled
def test_ctrl_c_in_the_last_training_keeps_the_model_so_far_and_the_trials(capfd, rows, tmp_path, monkeypatch):
    class Interrupted(Retrieval):
        def fit(self, pairs, **options):
            super().fit(pairs, **options)
            raise KeyboardInterrupt

    monkeypatch.setattr("hotrow.apps.tune.Retrieval", Interrupted)
    path, folder = write(tmp_path / "log.csv", rows), tmp_path / "m"
    assert main(["tune", str(path), *COLUMNS, "--out", str(folder), *QUICK]) == 130
    out = capfd.readouterr().out
    assert "not measured" in out
    assert "to train it to the end: hotrow train" in out
    assert len(json.loads((folder / "tune.json").read_text("utf-8"))["trials"]) == 4
    assert not (folder / "report.json").exists()
    assert len(Retrieval.load(folder).users) == 40


def test_a_metric_that_there_is_none_of_is_told_before_the_file_is_read(capfd):
    assert main(["tune", "nowhere.csv", "--metric", "auc"]) == 1
    assert "metric must be one of" in capfd.readouterr().err


def test_what_is_said_beside_a_bar_goes_to_stdout_where_that_is_a_file(capfd):
    output = Output(as_json=False)
    output.errors = Console(stderr=True, force_terminal=True)
    with output.bar("searching", str) as progress:
        progress(1, 2, {})
        output.say("a line of the table")
    captured = capfd.readouterr()
    assert "a line of the table" in captured.out
    assert "a line of the table" not in captured.err
