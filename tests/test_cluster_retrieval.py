"""Retrieval on tables in shards, with a crew and without: to the bit what it is on plain ones in one process."""

from __future__ import annotations

import os
import signal
from functools import partial

import numpy as np
import pytest
from test_blocks import MODELS, Pickled, fitted, pairs, same, states

import hotrow
from hotrow import cluster
from hotrow.models import Retrieval

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.compiled, pytest.mark.usefixtures("ray_local")]


@pytest.fixture
def sharded():
    """A factory of tables in so many shards, all of which end with the test."""
    made = []

    def make(shards, *args, **settings):
        made.append(cluster.Table(*args, shards=shards, **settings))
        return made[-1]

    yield lambda shards: partial(make, shards)
    for table in made:
        table.close()


@pytest.fixture(scope="module")
def crew():
    with cluster.Crew(2) as two:
        yield two


def answers(model):
    """All that can be asked, as plain values."""
    held_out = pairs(300, seed=5)
    return (
        model.recommend([1, 2, 3], 5),
        model.similar([7], 4),
        model.evaluate(held_out),
        model.fold_in([[1, 5], [9]]).tolist(),
        model.vectors([3, 4]).tolist(),
        model.users.ids().tolist(),
        model.items.ids().tolist(),
    )


@pytest.mark.parametrize(("shards", "name"), [(1, "hard and features"), (3, "softmax")])
def test_a_model_on_shards_is_that_on_plain_tables(sharded, shards, name):
    expected, losses = fitted(None, MODELS[name])
    model, told = fitted(None, {**MODELS[name], "tables": sharded(shards)})
    assert same(states(model), states(expected))
    assert told == losses
    assert answers(model) == answers(expected)


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
def test_a_crew_of_two_changes_no_bit(crew, settings):
    expected, losses = fitted(None, settings)
    model, told = fitted(crew, settings)
    assert same(states(model), states(expected))
    assert told == losses


@pytest.mark.parametrize("workers", [1, 3, pytest.param(5, marks=pytest.mark.long)])
def test_any_number_of_workers_changes_no_bit(workers):
    with cluster.Crew(workers) as some:
        model = fitted(some, {})[0]
    assert same(states(model), states(fitted(None, {})[0]))


@pytest.mark.long
def test_shards_and_a_crew_that_lags_are_the_same_course_as_one_process(sharded):
    with cluster.Crew(2, staleness=2) as lagging:
        model = fitted(lagging, {"batch_size": 500, "tables": sharded(2)})[0]
    assert same(states(model), states(fitted(Pickled(2), {"batch_size": 500})[0]))


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
def test_workers_killed_in_a_fit_change_no_bit(kills):
    settings, given = {"batch_size": 200, "epochs": 2}, pairs(8000)
    expected = Retrieval(8, **settings).fit(given)
    killed = set()

    def kill(done, of, facts):
        if done % (of // (kills + 1)) == 1:
            victim = hunted.stats()[len(killed) % 2]["pid"]
            if victim not in killed:
                os.kill(victim, signal.SIGKILL)
                killed.add(victim)

    with cluster.Crew(2) as hunted:
        model = Retrieval(8, **settings).fit(given, crew=hunted, progress=kill)
        assert sum(one["restarts"] for one in hunted.stats()) > 0
    assert same(states(model), states(expected))


def test_a_model_on_shards_lives_as_one_on_plain_tables(sharded, tmp_path):
    def lived(tables):
        model = fitted(None, {**MODELS["features"], "tables": tables})[0]
        more = np.r_[pairs(500, seed=3)[0], 5000], np.r_[pairs(500, seed=3)[1], 7000]
        model.fit(more, epochs=3, validation=pairs(300, seed=5), patience=1)
        model.forget([11, 12, 5000])
        model.forget([40], side="item")
        return model.fit(([11], [40]), epochs=1)

    expected, model = lived(hotrow.Table), lived(sharded(2))
    assert model.validated == expected.validated
    assert same(states(model), states(expected))
    assert answers(model) == answers(expected)
    model.save(tmp_path / "model")
    loaded = Retrieval.load(tmp_path / "model")
    assert type(loaded.users) is hotrow.Table
    assert loaded.config == expected.config
    assert same(states(loaded), states(expected))
    assert answers(loaded) == answers(expected)
