"""A forgotten id leaves no byte in anything that is kept, and a receipt says what was removed from where."""

from __future__ import annotations

import json
import struct
import threading
from contextlib import suppress

import numpy as np
import pytest
from test_collisions import colliding
from test_saving import content

import hotrow
from hotrow.apps.cli import main
from hotrow.models import Retrieval
from hotrow.store import files, forgetting, generations, snapshot
from hotrow.store.forgetting import forget

DIM = 5


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda _: None)


class Trace:
    """What there is of one id in a table: the bytes of its vectors, slots, key and string."""

    def __init__(self, table, id):
        self.table, self.id, self.bytes = table, id, set()
        self.look()

    def look(self):
        place = self.table.ids().tolist().index(self.id)
        state = self.table.state()
        found = [np.array(array[place]).tobytes() for array in (state.weights, *state.slots.values())]
        found.append(struct.pack("<Q", state.keys[place]))
        if isinstance(self.id, str):
            found.append(self.id.encode())
        self.bytes |= set(found)

    def files(self, path):
        return {f.relative_to(path).as_posix() for f in path.rglob("*") if f.is_file() and self.is_in(f.read_bytes())}

    def is_in(self, data):
        return any(one in data for one in self.bytes)


@pytest.fixture(params=["int64", "string"])
def kept(request, tmp_path):
    """A table in many generations, and the trace of an id in them: there, changed, gone, back, in a second snapshot."""
    path = tmp_path / "t"
    table = hotrow.Table(DIM, optimizer=hotrow.Adam(0.1), ids=request.param)
    named = (lambda i: f"secret name {i:04d}") if request.param == "string" else (lambda i: 7_000_000_000_123 + i)
    random_ = np.random.default_rng(0)

    def step():
        ids = [named(int(i)) for i in random_.integers(0, 300, 60)]
        table.update(table.find(ids, grow=True), random_.normal(size=(60, DIM)).astype(np.float32))

    step()
    id = named(7)
    table.update(table.find([id], grow=True), np.ones((1, DIM), np.float32))
    trace = Trace(table, id)
    table.save(path)
    table.update([id], np.ones((1, DIM), np.float32))
    trace.look()
    table.save_delta()
    step()
    table.forget([id])
    table.save_delta()
    table.update(table.find([id], grow=True), np.ones((1, DIM), np.float32))
    trace.look()
    table.save_delta()
    table.save(path)
    step()
    table.save_delta()
    return path, table, trace


def without(table, id):
    return {name: row for name, row in content(table).items() if name != id}


def test_no_byte_of_it_is_left_in_any_generation_and_all_others_are_as_they_were(kept):
    path, table, trace = kept
    assert {name.split("/")[0][-1] for name in trace.files(path)} == set("12345")
    numbers = snapshot.generations(path)
    before = {number: without(hotrow.load(path, number), trace.id) for number in numbers}
    removed = forget(path, [trace.id])
    assert trace.files(path) == set()
    assert snapshot.generations(path) == numbers
    assert {number: content(hotrow.load(path, number)) for number in numbers} == before
    assert snapshot.verify(path) == []
    assert forget(path, [trace.id]) == []
    found = {(one.generation, one.file): one for one in removed}
    assert found[1, "weights.safetensors"].bytes == 4 * DIM
    assert found[3, "gone.safetensors"].rows == 1
    assert (2, "slot-m.safetensors") in found
    assert ((4, "strings.arrow") in found) == (table.kind == "string")
    assert not any(one.generation == 6 for one in removed)


def test_a_table_in_training_and_a_view_go_on_after_it(kept):
    path, table, trace = kept
    view, chained = hotrow.view(path, 5), hotrow.view(path)
    forget(path, [trace.id])
    for each in (view, chained):
        assert trace.id in each  # it has the file, or the rows, from before
        assert each.refresh()
        assert trace.id not in each
    table.forget([trace.id])
    table.update(table.find(table.ids()), np.ones((len(table), DIM), np.float32))
    table.save_delta()
    loaded = hotrow.load(path)
    assert content(loaded) == content(table)
    assert trace.id not in loaded


def test_of_two_strings_with_one_fingerprint_only_the_one_goes(tmp_path):
    twins = colliding(3)
    table = hotrow.Table(DIM, ids="string")
    vectors = table.lookup(twins, grow=True)
    table.save(tmp_path)
    forget(tmp_path, twins[1:2])
    loaded = hotrow.load(tmp_path)
    assert [twin in loaded for twin in twins] == [True, False, True]
    assert (loaded.lookup(twins[::2]) == vectors[::2]).all()
    assert twins[1].encode() not in b"".join(f.read_bytes() for f in tmp_path.rglob("*.arrow"))


def test_one_twin_forgotten_in_all_that_is_kept_neither_brings_the_other_back_nor_breaks_the_chain(tmp_path):
    twins = colliding(3)
    table = hotrow.Table(DIM, ids="string")
    table.find([*twins, "other"], grow=True)
    table.save(tmp_path)
    table.forget(twins[:1])
    table.save_delta()
    table.find(["more"], grow=True)
    table.save_delta()
    forget(tmp_path, twins[1:2])
    for number in (1, 2, 3):
        loaded = hotrow.load(tmp_path, number)
        assert [twin in loaded for twin in twins] == [number == 1, False, True]
    assert snapshot.verify(tmp_path) == []
    assert twins[1].encode() not in b"".join(f.read_bytes() for f in tmp_path.rglob("*.arrow"))


def test_whoever_opens_a_table_while_ids_are_taken_out_gets_it_with_or_without_them(tmp_path):
    table = hotrow.Table(DIM)
    ids = np.arange(200)
    vectors = table.lookup(ids, grow=True)
    table.save(tmp_path)
    table.save_delta()
    stop, odd = threading.Event(), []

    def read():
        while not stop.is_set():
            for opened in (hotrow.load(tmp_path, 1), hotrow.view(tmp_path)):
                here = np.isin(ids, opened.ids())
                if not here[100:].all() or (opened.lookup(ids[here]) != vectors[here]).any():
                    odd.append(opened)

    def reading():
        try:
            read()
        except BaseException as error:
            odd.append(error)

    thread = threading.Thread(target=reading)
    thread.start()
    for id in range(30):
        assert forget(tmp_path, [id])
    stop.set()
    thread.join()
    assert not odd


def test_what_is_damaged_is_told_and_not_given_a_right_checksum(kept):
    path, _, trace = kept
    file = generations.folder_of(path, 2) / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(hotrow.CorruptError, match="000002/weights"):
        forget(path, [trace.id])
    assert "weights" in snapshot.verify(path)[0]
    assert not any("rewritten" in name for name in trace.files(path))
    file.write_bytes(bytes(data[:-1]) + bytes([data[-1] ^ 1]))
    forget(path, [trace.id])
    assert trace.files(path) == set()


@pytest.mark.compiled  # what is interrupted is the writing of files
def test_an_interrupted_forgetting_can_be_begun_again_wherever_it_was(kept, monkeypatch):
    path, _, trace = kept
    numbers = snapshot.generations(path)
    before = {number: without(hotrow.load(path, number), trace.id) for number in numbers}

    class Killed(BaseException):
        pass

    for name in ("write_parts", "write_durably", "encode"):
        for at in range(1, 7):
            with monkeypatch.context() as patch:
                calls, call = [], getattr(forgetting, name)

                def killing(*given, calls=calls, call=call, at=at, **named):
                    calls.append(1)
                    if len(calls) == at:
                        patch.setattr(generations, "remove_strangers", lambda _: None)
                        raise Killed
                    return call(*given, **named)

                patch.setattr(forgetting, name, killing)
                with suppress(Killed):
                    forget(path, [trace.id])
            for number in numbers:
                assert without(hotrow.load(path, number), trace.id) == before[number]
    forget(path, [trace.id])
    assert trace.files(path) == set()
    assert snapshot.verify(path) == []


def test_the_receipt_of_a_table_counts_what_was_overwritten():
    table = hotrow.Table(DIM, optimizer=hotrow.Adam())
    table.find(["ann", "bob", "çelik"], grow=True)
    receipt = table.forget(["ann", "çelik", "ann", "who"])
    assert (receipt.asked, receipt.removed) == (3, 2)
    assert receipt.bytes == {"weights": 40, "slots": 80, "index": 24, "strings": 9}
    assert table.forget(["who"]).removed == 0


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_takes_ids_out_of_a_saved_table_and_writes_a_receipt(kept, capsys, tmp_path):
    path, _, trace = kept
    receipt = tmp_path / "receipt.json"
    assert main(["forget", str(path), str(trace.id)]) == 0
    assert "--rewrite takes them out there, too" in capsys.readouterr().out
    assert trace.id not in hotrow.load(path)
    assert trace.files(path)
    assert main(["forget", str(path), str(trace.id), "--rewrite", "--receipt", str(receipt), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(receipt.read_text("utf-8"))
    assert {"from": "generation-000001/weights.safetensors", "rows": 1, "bytes": 4 * DIM} in said["removed"]
    assert trace.files(path) == set()
    assert main(["forget", str(path), str(trace.id), "--rewrite"]) == 0
    assert "has none of these ids; nothing was changed" in capsys.readouterr().out


def test_an_id_of_another_kind_is_refused(tmp_path, capsys):
    table = hotrow.Table(DIM)
    table.find([1], grow=True)
    table.save(tmp_path)
    assert main(["forget", str(tmp_path), "ann", "--rewrite"]) == 1
    assert "ids here are integers (int64); got 'ann'" in capsys.readouterr().err
    with pytest.raises(hotrow.KindError):
        forget(tmp_path, ["ann"])


def pairs():
    random_ = np.random.default_rng(0)
    users = [f"user {i}" for i in random_.integers(0, 30, 300)]
    return users, [f"item {i}" for i in random_.integers(0, 20, 300)]


@pytest.mark.parametrize("side", ["user", "item"])
def test_a_model_forgets_a_user_or_an_item_with_its_pairs_and_goes_on(tmp_path, side, capsys):
    model = Retrieval(4, epochs=2).fit(pairs())
    model.save(tmp_path)
    model.fit(pairs(), epochs=1)
    model.save(tmp_path)
    gone, table = f"{side} 7", model.users if side == "user" else model.items
    trace = Trace(table, gone)
    others = [id for id in table.ids().to_pylist() if id != gone]
    before = table.lookup(others)
    assert main(["forget", str(tmp_path), gone, "--side", side, "--rewrite"]) == 0
    said = capsys.readouterr().out
    assert f"{side}s: weights" in said
    assert "known pairs" in said
    assert trace.files(tmp_path) == set()
    again = Retrieval.load(tmp_path)
    table = again.users if side == "user" else again.items
    assert table.ids().to_pylist() == others
    assert (table.lookup(others) == before).all()
    known = {(u, i) for u, i in zip(*pairs(), strict=True) if gone not in {u, i}}
    users, items = again.users.ids().to_pylist(), again.items.ids().to_pylist()
    assert {(users[c >> 32], items[c & 0xFFFFFFFF]) for c in again.pairs_in_order().tolist()} == known
    again.fit(pairs())
    assert len(again.users) == 30
    assert again.recommend(["user 7"], k=3)[0]
    with pytest.raises(hotrow.ArgumentError, match="side must be"):
        again.forget(["user 1"], side="both")


def test_compact_by_the_command(kept, capsys):
    path, table, _ = kept
    assert main(["inspect", str(path)]) == 0
    assert "4 (delta)" in capsys.readouterr().out
    assert main(["compact", str(path), "--keep", "1"]) == 0
    assert "generation 7 is a snapshot" in capsys.readouterr().out
    assert snapshot.generations(path) == [7]
    assert content(hotrow.load(path)) == content(table)
    assert main(["verify", str(path)]) == 0
