"""A view gives out what was written or an error, opens without reading, and goes on to newer saves."""

from __future__ import annotations

import threading
import zlib

import numpy as np
import pytest
from test_snapshot import fields_of

import hotrow
from hotrow.kernels import INTERPRETED
from hotrow.store import files, generations, guard

DIM = 8
TURNS = 6 if INTERPRETED else 30
N = 600 if INTERPRETED else 3000


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(files, "CHUNK", 4096)  # so that a small table has many
    monkeypatch.setattr(files.os, "fsync", lambda _: None)


@pytest.fixture(params=["int64", "string"])
def saved(request, tmp_path):
    table = hotrow.Table(DIM, ids=request.param)
    ids = np.arange(N) if request.param == "int64" else np.array([f"name {i}" for i in range(N)])
    table.find(ids, grow=True)
    table.save(tmp_path / "t")
    return tmp_path / "t", table, ids


def test_opening_reads_no_contents_and_lookups_read_the_chunks_that_they_touch(saved, monkeypatch):
    path, table, ids = saved
    summed = []
    monkeypatch.setattr(guard.zlib, "crc32", lambda data: summed.append(len(data)) or zlib_crc32(data))
    view = hotrow.view(path)
    assert summed == []
    assert (view.lookup(ids[7:8]) == table.lookup(ids[7:8])).all()
    few = len(summed)
    assert 2 <= few <= 8
    view.lookup(ids[7:8])
    assert len(summed) == few
    assert (view.lookup(ids) == table.lookup(ids)).all()
    view.check()
    chunks = sum(-(-f["bytes"] // f["chunk"]) for f in fields_of(path / "generation-000001")["files"])
    slots = sum(
        -(-f["bytes"] // f["chunk"]) for f in fields_of(path / "generation-000001")["files"] if "slot" in f["name"]
    )
    assert len(summed) == chunks - slots
    view.lookup(ids), view.ids(), view.vectors(), view.check()
    assert len(summed) == chunks - slots


zlib_crc32 = zlib.crc32


def flip(file, at):
    data = bytearray(file.read_bytes())
    data[at] ^= 16
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("role", ["weights", "index", "keys", "strings"])
def test_no_lookup_gives_out_what_a_flipped_bit_has_made_of_it(saved, role):
    path, table, ids = saved
    file = path / "generation-000001" / f"{role}.{'arrow' if role == 'strings' else 'safetensors'}"
    if not file.exists():
        pytest.skip("integers have no strings")
    flip(file, file.stat().st_size // 2)
    expected, refused = table.lookup(ids), 0
    view = hotrow.view(path)
    for i in range(N):
        try:
            found = view.lookup(ids[i : i + 1])[0]
        except hotrow.CorruptError as error:
            refused += f"{file}: bytes " in str(error)
        else:
            assert (found == expected[i]).all()
    assert 0 < refused < len(ids) or role == "keys"
    for look in (view.check, view.ids, view.vectors, lambda: hotrow.load(path)):
        if look == view.vectors and role != "weights":
            continue
        if look == view.ids and role not in {"keys", "strings"}:
            continue
        with pytest.raises(hotrow.CorruptError, match=role):
            look()


def test_a_view_goes_on_from_generation_to_generation(saved):
    path, table, ids = saved
    view = hotrow.view(path)
    assert not view.refresh()
    random_ = np.random.default_rng(0)
    for turn in range(6):
        batch = view.find(np.concatenate([ids[:5], ids[-5:]]))
        table.forget(ids[-1:])
        some = random_.choice(ids[:-1], 100, replace=False)
        table.forget(some[:30])
        table.update(some[30:], np.ones((70, DIM), np.float32))
        table.save(path) if turn == 3 else table.save_delta()
        assert view.refresh()
        assert view.generation == turn + 2
        assert not view.refresh()
        assert (view.lookup(ids) == table.lookup(ids)).all()
        assert len(view) == len(table)
        assert [id in view for id in some] == [False] * 30 + [True] * 70
        with pytest.raises(hotrow.UnknownIdError):  # what was found before the turn is unknown, and never a neighbour
            view.lookup(batch, unknown="error")
        table.find(ids, grow=True)
    assert view.path == path.absolute()


def test_bags_and_the_first_values_of_unknown_ids_are_those_of_the_table(saved):
    path, table, ids = saved
    table.update(ids[:50], np.ones((50, DIM), np.float32))
    table.save_delta()
    some = np.concatenate([ids[:20], ids[:3]])
    unknown = ["who"] if table.kind == "string" else [-1]
    view = hotrow.view(path)
    for pooling in ("sum", "max"):
        options = {"offsets": [0, 5, 23], "pooling": pooling}
        assert (view.lookup(some, **options) == table.lookup(some, **options)).all()
    assert (view.lookup(unknown) == table.lookup(unknown)).all()


@pytest.mark.compiled
def test_each_lookup_sees_one_generation_whole_while_generations_go_by(tmp_path):
    table = hotrow.Table(DIM, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros(), ids="string")
    ids = [f"id {i}" for i in range(500)]
    table.find(ids, grow=True)
    table.save(tmp_path)
    view = hotrow.view(tmp_path)
    stop, seen, odd = threading.Event(), set(), []

    def look():
        last = -1.0
        while not stop.is_set():
            try:
                vectors = view.lookup(ids)
            except hotrow.HotrowError as error:
                odd.append(error)
                continue
            seen.add(float(vectors[0, 0]))
            if (vectors != vectors[0, 0]).any() or vectors[0, 0] < last:
                odd.append(vectors)
            last = vectors[0, 0]

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for k in range(TURNS):
            table.update(ids, -np.ones((500, DIM), np.float32))
            table.save(tmp_path, keep=1) if k % 5 == 4 else table.save_delta()
            if k == TURNS // 2:
                hotrow.compact(tmp_path)
            assert view.refresh()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not odd
    assert len(seen) > 1
    assert (view.lookup(ids) == TURNS).all()


def test_an_id_of_both_generations_is_never_unknown_while_one_follows_the_other(saved, monkeypatch):
    path, table, ids = saved
    view, some = hotrow.view(path), ids[:3]
    honest = view._find

    def overtaken(*given):
        found = honest(*given)
        monkeypatch.setattr(view, "_find", honest)
        table.update(ids, np.ones((len(ids), DIM), np.float32))
        table.save(path)
        assert view.refresh()
        return found

    monkeypatch.setattr(view, "_find", overtaken)
    if table.kind == "string":
        assert (view.lookup(some, unknown="error") == table.lookup(some)).all()
    monkeypatch.setattr(view, "_find", overtaken)
    assert some[0] in view


def test_an_older_generation_can_be_viewed(saved):
    path, table, ids = saved
    before = table.lookup(ids)
    table.update(ids, np.ones((len(ids), DIM), np.float32))
    table.save(path)
    assert (hotrow.view(path, 1).lookup(ids) == before).all()
    assert hotrow.view(path, 1).refresh()
    with pytest.raises(hotrow.DataError, match="no generation 7"):
        hotrow.view(path, 7)
    assert generations.whole(path) == [1, 2]
