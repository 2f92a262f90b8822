"""Models of several files, as `test_crashes.py` and `test_faults.py` have it for tables: all of it is of one save."""

from __future__ import annotations

import argparse
import errno
import os
import random
from functools import partial
from pathlib import Path

import pytest
from disk import Disk
from stories import Story, leave_out, tree_of
from test_crashes import STATES, held
from test_faults import error_of, failing

from hotrow.apps import forget
from hotrow.apps.console import Output
from hotrow.errors import LockedError
from hotrow.models import Retrieval, classifier_files, saving
from hotrow.store import generations, snapshot
from hotrow.store.lock import lock

USERS = ["ann", "bob", "cat", "dan", "eve"]
ITEMS = ["mug", "cup", "pot", "jug", "pan"]


class Recommender:
    """What is done with a recommender, and what is to be seen of it."""

    @staticmethod
    def made(seed: int):
        n = 2 + seed
        features = {"color": (ITEMS[: n + 1], ["red", "blue", "red", "red", "blue"][: n + 1])} if seed % 2 else None
        return Retrieval(4, epochs=1, seed=seed).fit((USERS[:n], ITEMS[:n]), item_features=features)

    @staticmethod
    def content(model: Retrieval):
        features = [(name, held(each.table), each.pairs.tolist()) for name, each in model.parts["item"].items()]
        return held(model.users), held(model.items), model.pairs_in_order().tolist(), features

    @staticmethod
    def save(model: Retrieval, path: Path):
        model.save(path)

    @staticmethod
    def look(path: Path):
        if not (path / "model.json").exists():
            return None
        problems = [
            *saving.verify(path),
            *(p for table in saving.tables(path).values() for p in snapshot.verify(table)),
        ]
        if problems:
            raise OSError(problems[0])
        return Recommender.content(Retrieval.load(path))


class Classifier:
    """The same of a classifier, without Keras: its net is some bytes."""

    @staticmethod
    def made(seed: int):
        return {"config": {"seed": seed}, "columns": {}, "classes": ["x", "y"], "notes": {}}, b"net" * (seed + 1)

    @staticmethod
    def content(model):
        return model

    @staticmethod
    def save(model, path: Path):
        described, net = model

        def save_net(draft: Path):
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.write(handle, net)
            os.close(handle)

        classifier_files.save(path, described, save_net)

    @staticmethod
    def look(path: Path):
        if not classifier_files.is_classifier(path):
            return None
        described, net = classifier_files.read(path)
        assert all(classifier_files.is_ours(found.name) for found in path.iterdir())
        return {name: described[name] for name in ("config", "columns", "classes", "notes")}, net.read_bytes()


KINDS = pytest.mark.parametrize("kind", [Recommender, Classifier])


def again(kind):
    def save(path: Path):
        model = kind.made(0)
        kind.save(model, path)
        assert len(list(path.glob("pairs-*")) + list(path.glob("net-*"))) == 1
        return kind.content(model)

    return save


def story_of_saves(folder: Path, kind, saves: int, fault=None) -> Story:
    """fault: in the first of them"""
    story = Story(folder, "model", kind.look, again(kind))
    for model in map(kind.made, range(saves)):
        story.do(kind.content(model), partial(kind.save, model), fault)
        fault = None
    return story


@pytest.mark.parametrize("at_most", STATES)
@KINDS
def test_whenever_the_power_fails_a_model_is_the_last_that_was_saved_or_the_next(tmp_path, kind, at_most):
    story = story_of_saves(tmp_path / "disk", kind, 3)
    assert list(story.problems(tmp_path / "crash", at_most)) == []


@KINDS
def test_the_sync_before_a_model_names_its_files_is_needed_and_noticed_if_it_is_left_out(tmp_path, kind):
    calls = story_of_saves(tmp_path / "whole", kind, 1).disk.calls
    step = len(calls) - 1 - calls[::-1].index("replace")
    assert calls[step - 4 : step + 2] == ["fsync", "open", "write", "fsync", "replace", "fsync"]
    story = story_of_saves(tmp_path / "disk", kind, 1, lambda before: leave_out(before + step - 3))
    late = story.disk.crashes(900, since=len(story.disk.events) - 5)
    assert next(filter(None, (story.problem(crash, tmp_path / "crash") for crash in late)), None)


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])
@KINDS
def test_whichever_call_of_a_models_save_fails_the_model_before_stays_and_nothing_half_is_left(
    tmp_path, monkeypatch, kind, every
):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # this machine's power doesn't fail, and it takes long
    path = tmp_path / "disk" / "model"
    story = story_of_saves(tmp_path / "whole", kind, 2)
    calls = story.disk.calls[story.starts[-1] :]
    story_of_saves(tmp_path / "disk", kind, 1)
    failed, model = 0, kind.made(1)
    for step in range(1 + random.randrange(every), len(calls) + 1, every):
        before, files = kind.look(path), set(tree_of(path))
        with Disk(path.parent, failing(step, errno.ENOSPC)) as disk:
            error = error_of(kind.save, model, path)
        if error is not None:
            failed += 1
            assert error.errno == errno.ENOSPC
            assert str(path.parent) in str(error)
            late = (
                "replace" in disk.calls[: step - 1]
            )  # the sync after the rename: it is there, though perhaps not for long
            assert kind.look(path) in ([before, kind.content(model)] if late else [before])
            assert set(tree_of(path)) == files or kind.look(path) != before
        else:
            assert kind.look(path) == kind.content(model)
        kind.save(kind.made(0), path)
    assert failed > len(calls) // (3 * every)


@KINDS
def test_a_second_writer_of_a_model_is_refused(tmp_path, kind):
    kind.save(kind.made(0), tmp_path)
    with lock(tmp_path), pytest.raises(LockedError):
        kind.save(kind.made(1), tmp_path)
    assert kind.look(tmp_path) == kind.content(kind.made(0))


def test_forgetting_in_a_model_whose_last_save_was_killed_keeps_the_generation_that_it_names(tmp_path):
    Recommender.save(model := Recommender.made(1), tmp_path)
    model.users.save(tmp_path / "users")  # and then it was killed
    options = argparse.Namespace(model=str(tmp_path), id=["nobody"], side="user", rewrite=True, receipt=None)
    forget.forget(options, Output(as_json=True))
    assert generations.whole(tmp_path / "users") == [1]
    assert Recommender.look(tmp_path) == Recommender.content(model)
