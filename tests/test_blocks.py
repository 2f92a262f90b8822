"""Gradients block by block are those of the whole step, wherever the blocks are computed; and steps that lag behind."""

from __future__ import annotations

import pickle
from collections import deque
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_losses import CASES, large_block

import hotrow
from hotrow.models import Retrieval, blocks, losses
from hotrow.models.crews import Calculator, Gradient, Highest
from hotrow.models.ranking import blas_on_one_thread


class Pickled:
    """A crew whose blocks are computed elsewhere as far as pickle goes, last block first, and only when asked for."""

    def __init__(self, staleness=0):
        self.staleness, self.steps, self.open = staleness, [], deque()

    def submit(self, step, blocks, shared):
        assert sum(not pending.done for pending in self.open) <= self.staleness
        self.steps.append(step)
        self.open.append(PickledStep(pickle.dumps((blocks, shared))))
        return self.open[-1]


class PickledStep:
    def __init__(self, sent):
        self.sent, self.done = sent, False

    def result(self):
        self.done = True
        blocks, shared = pickle.loads(self.sent)
        found = {block: pickle.loads(pickle.dumps(shared(block))) for block in reversed(blocks)}
        return [found[block] for block in blocks]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def states(model):
    """All that a fit has made of the tables, as arrays."""
    features = [table for side in model.features.values() for table in side.values()]
    made = []
    for table in (model.users, model.items, *features):
        state = table.state()
        made += [state.weights, *state.slots.values(), np.array(table.steps)]
    return made


@given(st.integers(0, 20_000))
def test_blocks_are_whole_slices_and_cover_all_users(users):
    bounds = blocks.blocks(users)
    assert bounds[0] == 0
    assert bounds[-1] == users
    assert all(0 < b - a <= 512 for a, b in pairwise(bounds) if users)
    assert all(bound % 128 == 0 for bound in bounds[:-1])
    assert len(bounds) - 1 <= max(8, -(-users // 512))
    assert [a for a, _ in blocks.slices(bounds)] == list(range(0, users, 128))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("users", [1, 128, 300, 1100])
def test_a_crew_gives_the_gradients_of_one_process_to_the_bit(name, users):
    loss, step = losses.make_loss(name, **CASES[name][0]), large_block(users)
    with blas_on_one_thread:
        here = Calculator(loss).begin(step)()
        there = Calculator(loss, Pickled()).begin(replace(step, scores=np.empty((0, 0), np.float32)))()
    assert same(here, there)


@pytest.mark.parametrize("name", CASES)
def test_shares_add_up_to_what_users_alone_come_to(name):
    """The gradient of a user is its own, whoever else is in the step: a block of one user says the same."""
    loss, step = losses.make_loss(name, **CASES[name][0]), large_block(300)
    whole = loss.gradients(step)
    share = Gradient(loss, step)
    each = [share((u, u + 1)) for u in range(300)]
    assert whole[0] == pytest.approx(sum(one.loss for one in each), rel=1e-5)
    np.testing.assert_allclose(whole[1], np.concatenate([one.users for one in each]), rtol=1e-4, atol=1e-7)
    items = np.sum([one.items for one in each], 0)
    loss.of_items(items, *loss.scored(step.items))
    np.testing.assert_allclose(whole[2], items, rtol=1e-4, atol=1e-6)


def test_the_highest_scores_are_those_of_no_pair():
    loss, step = losses.make_loss("softmax", temperature=0.3), large_block(300)
    factors = loss.item_factors(step.items, step.bias)
    scores = loss.user_factors(step.users) @ factors.T
    scores[step.pairs] = scores[step.known] = -np.inf
    found = Calculator(loss).highest(step)
    np.testing.assert_allclose(found, scores.max(0), rtol=1e-4)
    assert np.array_equal(found, Calculator(loss, Pickled()).highest(step))
    assert np.array_equal(Highest(loss, step)((0, 300)), found)


def test_candidates_that_are_left_out_take_their_cells_with_them():
    step = large_block(300)
    keep = np.union1d(step.pairs[1], np.arange(0, 400, 3))
    some = step.among(keep)
    assert np.array_equal(some.items, step.items[keep])
    assert np.array_equal(keep[some.pairs[1]], step.pairs[1])
    cells = set(zip(*map(np.ndarray.tolist, step.known), strict=True))
    kept = set(zip(some.known[0].tolist(), keep[some.known[1]].tolist(), strict=True))
    assert kept == {cell for cell in cells if cell[1] in set(keep.tolist())}
    assert np.array_equal(keep[some.drawn], step.drawn[np.isin(step.drawn, keep)])


def pairs(count=4000, users=900, items=300, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, users, count), rng.integers(0, items, count)


MODELS = {
    "softmax": {},
    "cosine": {"loss": "cosine"},
    "bpr": {"loss": "bpr"},
    "hard": {"hard": 3, "negatives": 40},
    "features": {"features": True},
    "hard and features": {"hard": 3, "negatives": 40, "features": True},
}


def fitted(crew, settings, **more):
    settings = {"batch_size": 1500, "negatives": 64, **settings}
    tags = {"tag": (np.repeat(np.arange(300), 2), np.arange(600) % 17)} if settings.pop("features", False) else None
    progress = []
    model = Retrieval(12, epochs=2, **settings)
    model.fit(
        pairs(), item_features=tags, crew=crew, progress=lambda n, of, facts: progress.append(facts["loss"]), **more
    )
    return model, progress


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
def test_a_fit_with_a_crew_is_one_without_to_the_bit(settings):
    (alone, losses_alone), (crewed, losses_crewed) = fitted(None, settings), fitted(Pickled(), settings)
    assert same(states(alone), states(crewed))
    assert losses_alone == losses_crewed
    assert alone.recommend([1, 2], 5) == crewed.recommend([1, 2], 5)


def test_steps_of_a_crew_lack_the_last_ones_and_an_epoch_lacks_none():
    settings = {"batch_size": 500}
    crews = [Pickled(staleness) for staleness in (0, 1, 2, 100)]
    models = [fitted(crew, settings)[0] for crew in crews]
    steps = {tuple(crew.steps) for crew in crews}
    assert len(steps) == 1
    assert {model.users.steps for model in models} == {len(crews[0].steps)}
    for one, other in pairwise(models):
        assert not same(states(one), states(other))
    again = fitted(Pickled(2), settings)[0]
    assert same(states(models[2]), states(again))


def test_a_stale_step_takes_the_gradients_at_the_vectors_that_it_had():
    """One epoch of two steps, and staleness 1: both are computed at the start, and the second comes on top."""
    given, numbers = pairs(600), {"epochs": 1, "batch_size": 300, "learning_rate": 0.5}
    seen = []

    class Watched(Pickled):
        def submit(self, step, blocks, shared):
            seen.append(shared.step)
            return super().submit(step, blocks, shared)

    stale = Retrieval(8, **numbers).fit(given, crew=Watched(1))
    fresh = Retrieval(8, **numbers).fit(given, crew=Watched(0))
    assert same((seen[0].users, seen[0].items), (seen[2].users, seen[2].items))
    assert not np.array_equal(seen[1].items, seen[3].items)
    assert stale.users.steps == fresh.users.steps == 2


def test_validation_sees_whole_epochs_of_a_crew_and_changes_nothing():
    held_out = pairs(300, seed=5)
    watched = fitted(Pickled(2), {"batch_size": 500}, validation=held_out, patience=5)[0]
    for epochs in (1, 2):
        plain = Retrieval(12, batch_size=500, negatives=64)
        plain.fit(pairs(), epochs=2, crew=Pickled(2), validation=held_out, patience=5)
        assert plain.validated[epochs - 1] == watched.validated[epochs - 1]
    assert watched.validated[0] != watched.validated[1]


def test_ctrl_c_leaves_the_steps_that_progress_told_of():
    told = []

    def stop(done, of, facts):
        told.append(done)
        if done == 3:
            raise KeyboardInterrupt

    model = Retrieval(8, epochs=2, batch_size=500)
    with pytest.raises(KeyboardInterrupt):
        model.fit(pairs(), crew=Pickled(2), progress=stop)
    assert model.users.steps == model.items.steps == told[-1] == 3


@pytest.mark.parametrize("count", [1, 2, 3])
def test_threads_change_nothing_where_a_crew_adds_up(count):
    expected = fitted(None, {})[0]
    hotrow.set_threads(count)
    assert same(states(fitted(Pickled(), {})[0]), states(expected))
