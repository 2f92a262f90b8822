"""The server goes on to what is saved: no request fails meanwhile, and each is of one save, whole."""

from __future__ import annotations

import logging
import shutil
import threading

import numpy as np
import pytest
from serving import made, running, serving, shop, table_of, until, vectors_of

import hotrow
from hotrow.errors import ArgumentError, DataError
from hotrow.serve import create_app

IDS = [f"id {i}" for i in range(400)]


def filled(number: float, dim: int = 8) -> hotrow.Table:
    """A table all of whose numbers are one."""
    table = table_of(IDS, dim)
    table.set(IDS, np.full((len(IDS), dim), number, np.float32))
    return table


@pytest.mark.parametrize("how", ["save", "save_delta"])
def test_every_answer_is_of_one_save_while_others_are_saved(tmp_path, how):
    table = filled(0)
    table.save(tmp_path)
    stamps: dict[str, set[float]] = {}
    with serving(tmp_path, every=0.02) as client:
        ended = threading.Event()

        def write():
            for number in range(1, 15):
                table.set(IDS, np.full((len(IDS), 8), number, np.float32))
                getattr(table, how)(tmp_path)
            ended.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not (ended.is_set() and {14.0} in stamps.values()):
            answer = client.post("/v1/lookup", json={"ids": IDS})
            numbers = np.unique(vectors_of(answer))
            assert len(numbers) == 1
            stamps.setdefault(answer.json()["stamp"], set()).update(numbers.tolist())
            near = client.get("/v1/similar?id=id+3&k=2")
            assert near.status_code == 200, near.text
        writer.join()
        made(client)
        assert 'hotrow_saves_followed_total{how="served"}' in client.get("/metrics").text
    assert all(len(numbers) == 1 for numbers in stamps.values()), stamps
    assert len(stamps) > 1


def test_a_model_that_is_trained_on_is_followed_with_its_new_items(tmp_path):
    model = shop()
    model.save(tmp_path)
    with serving(tmp_path, every=0.02) as client:
        assert client.get("/v1/lookup?id=whisk").status_code == 404
        before = client.get("/ready").json()["stamp"]
        model.fit(([10, 12], ["whisk", "whisk"]))
        model.save(tmp_path)
        until(lambda: client.get("/ready").json()["stamp"] != before)
        assert np.array_equal(vectors_of(client.get("/v1/lookup?id=whisk"))[0], model.vectors(["whisk"])[0, :-1])
        made(client)
        ids, _ = model.similar(["whisk"], k=3)
        assert [each["id"] for each in client.get("/v1/similar?id=whisk&k=3").json()["similar"]] == ids[0]


def test_a_newer_save_that_is_broken_is_told_and_the_older_one_served(tmp_path, caplog):
    table = filled(1)
    table.save(tmp_path)
    with serving(tmp_path, every=0.02) as client, caplog.at_level(logging.WARNING, "hotrow.serve"):
        stamp = client.get("/ready").json()["stamp"]
        table.set(IDS, np.full((len(IDS), 8), 2, np.float32))
        table.save(tmp_path / "aside")
        broken = tmp_path / "generation-000002"
        shutil.copytree(tmp_path / "aside" / "generation-000001", broken.with_name("x"))
        manifest = broken.with_name("x") / "manifest.json"
        manifest.write_bytes(manifest.read_bytes().replace(b'"rows"', b'"rowz"'))
        broken.with_name("x").rename(broken)
        until(lambda: client.get("/ready").json()["problem"])
        ready = client.get("/ready").json()
        assert (ready["ready"], ready["stamp"]) == (True, stamp)
        assert "manifest.json" in ready["problem"]
        assert set(np.unique(vectors_of(client.post("/v1/lookup", json={"ids": IDS})))) == {1}
        assert 'hotrow_saves_followed_total{how="broken"} 0.0' not in client.get("/metrics").text
        shutil.rmtree(broken)
        table.save(tmp_path)
        until(lambda: client.get("/ready").json()["problem"] is None and client.get("/ready").json()["stamp"] != stamp)
        assert set(np.unique(vectors_of(client.post("/v1/lookup", json={"ids": IDS})))) == {2}
    said = [record for record in caplog.records if "is served on" in record.getMessage()]
    assert len(said) == 1  # not once a second


def test_a_folder_that_goes_away_is_served_on(tmp_path):
    filled(1).save(tmp_path / "table")
    with serving(tmp_path / "table", every=0.02) as client:
        shutil.rmtree(tmp_path / "table")
        until(lambda: client.get("/ready").json()["problem"])
        assert client.post("/v1/lookup", json={"ids": IDS}).status_code == 200


def test_a_search_that_cannot_be_made_is_told_and_vectors_are_served(tmp_path, monkeypatch):
    from hotrow.search import Search

    def broken(*_, **__):
        raise ArgumentError("vectors that can't be searched")

    monkeypatch.setattr(Search, "open", broken)
    filled(1).save(tmp_path)
    with running(create_app(tmp_path)) as client:
        until(lambda: client.get("/ready").json()["sides"]["id"]["search"].startswith("failed: vectors that"))
        assert client.get("/v1/lookup?id=id+3").status_code == 200
        answer = client.get("/v1/similar?id=id+3")
        assert answer.status_code == 503
        assert "vectors that can't be searched" in answer.json()["error"]["message"]


def test_the_search_before_answers_while_the_next_one_is_made(tmp_path, monkeypatch):
    from hotrow.search import Search

    table = filled(1)
    table.save(tmp_path)
    held, going = threading.Event(), threading.Event()
    updated = Search.updated

    def slow(self, vectors, *args):
        going.set()
        assert held.wait(60)
        return updated(self, vectors, *args)

    monkeypatch.setattr(Search, "updated", slow)
    with serving(tmp_path, every=0.02) as client:
        table.find(["new"], grow=True)
        table.save(tmp_path)
        assert going.wait(60)
        assert client.get("/v1/lookup?id=new").status_code == 200
        assert client.get("/v1/similar?id=id+3&k=1").status_code == 200
        assert client.get("/v1/similar?id=new&k=1").status_code == 404
        assert client.get("/ready").json()["sides"]["id"]["search"] == "being made"
        held.set()
        made(client)
        assert client.get("/v1/similar?id=new&k=1").status_code == 200


def endless(monkeypatch):
    """Let no search be made before it is given up; an event that one has begun."""
    from hotrow.search import Search

    going = threading.Event()

    def make(*_, progress, **__):
        while True:
            going.set()
            progress(1, 2, {})

    monkeypatch.setattr(Search, "open", make)
    return going


def test_a_search_that_is_being_made_does_not_hold_up_the_end(tmp_path, monkeypatch):
    going = endless(monkeypatch)
    filled(1).save(tmp_path)
    app = create_app(tmp_path)
    with running(app) as client:
        assert going.wait(60)
        assert client.get("/ready").json()["sides"]["id"]["search"] == "being made"
        assert client.get("/v1/similar?id=id+3").status_code == 503
    assert not any(thread.name == "hotrow-following" for thread in threading.enumerate())


def test_an_application_that_has_ended_can_begin_again_and_goes_on_following(tmp_path):
    table = filled(1)
    table.save(tmp_path)
    app = create_app(tmp_path, every=0.02)
    for new in ("a", "b", "c"):
        with running(app) as client:
            made(client)
            assert client.get("/v1/similar?id=id+3").status_code == 200
            table.find([new], grow=True)
            table.save(tmp_path)
            until(lambda: client.get("/ready").json()["sides"]["id"]["rows"] == len(table))
            assert client.get(f"/v1/lookup?id={new}").status_code == 200
            assert client.get("/metrics").status_code == 200


def test_a_search_whose_making_the_end_has_stopped_is_made_at_the_next_begin(tmp_path, monkeypatch):
    from hotrow.search import Search

    opened, going = Search.open, endless(monkeypatch)
    filled(1).save(tmp_path)
    app = create_app(tmp_path)
    with running(app):
        assert going.wait(60)
    monkeypatch.setattr(Search, "open", opened)
    with running(app) as client:
        made(client)
        assert client.get("/v1/similar?id=id+3").status_code == 200


def test_following_outlives_what_nobody_thought_of_and_tells_it(tmp_path, monkeypatch, caplog):
    table = filled(1)
    table.save(tmp_path)
    app = create_app(tmp_path, every=0.02)
    look, failed = app.following.look, threading.Event()

    def broken():
        failed.set()
        raise ZeroDivisionError("of nobody")

    with running(app) as client:
        made(client)
        monkeypatch.setattr(app.following, "look", broken)
        assert failed.wait(60)
        until(lambda: "of nobody" in str(client.get("/ready").json()["problem"]))
        monkeypatch.setattr(app.following, "look", look)
        table.find(["new"], grow=True)
        table.save(tmp_path)
        until(lambda: client.get("/v1/lookup?id=new").status_code == 200)
        assert client.get("/ready").json()["problem"] is None
    assert "of nobody" in caplog.text


def test_what_is_known_of_ids_stays_where_it_cannot_be_told_any_more(tmp_path, caplog):
    from hotrow.search import Metadata

    table, broken = filled(1), []

    def told(folder, side):
        if broken:
            raise DataError("the file has gone")
        known = {"id": IDS, "half": ["ab"[i % 2] for i in range(len(IDS))], "number": [i / 2 for i in range(len(IDS))]}
        return Metadata.of(known, folder.side(side), id="id")

    table.save(tmp_path)
    with serving(tmp_path, metadata=told, every=0.02) as client:
        columns = client.get("/v1/map").json()["columns"]
        for new in ("new", "newer"):
            broken.append(new)
            table.find([new], grow=True)
            table.save(tmp_path)
            until(lambda: client.get("/ready").json()["sides"]["id"]["rows"] == len(table))
            made(client)
            for _ in range(2):
                found = client.get("/v1/similar?id=id+3&where=half:a&where=number:2..4&k=10").json()["similar"]
                assert {each["id"] for each in found} == {"id 4", "id 6", "id 8"}
                assert [each["name"] for each in client.get("/v1/map").json()["columns"]] == [
                    each["name"] for each in columns
                ]
    assert caplog.text.count("the file has gone") == 2
