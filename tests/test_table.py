"""The table against a dict: every id, whatever the order."""

from __future__ import annotations

import tempfile

import naive
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import hotrow
from hotrow.store import files

DIM = 3
INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(["", "a", "\0", "a\0", "ü"])


def fingerprint(text: str) -> int:
    return naive.fingerprint64(text.encode())


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda _: None)  # hundreds of saves, of which none must outlive the power


class TableMachine(RuleBasedStateMachine):
    """Any sequence of calls leaves the table as the specification has it."""

    @initialize(optimizer=st.sampled_from(sorted(naive.STEPS)), text=st.booleans(), seed=st.integers(0, 2**64 - 1))
    def begin(self, optimizer, text, seed):
        self.ids = TEXTS if text else INTEGERS
        self.table = hotrow.Table(
            DIM, optimizer=getattr(hotrow, optimizer)(), seed=seed, ids="string" if text else "int64"
        )
        self.naive = naive.Table(DIM, optimizer, seed, key_of=fingerprint if text else lambda i: i)
        self.rng = np.random.default_rng(seed)

    def some(self, data, known=False):
        choice = st.sampled_from(sorted(self.naive.weights)) if known and self.naive.weights else self.ids
        return data.draw(st.lists(choice, max_size=8))

    def vectors(self, n):
        return self.rng.normal(size=(n, DIM)).astype(np.float32)

    @rule(data=st.data())
    def grow(self, data):
        ids = self.some(data)
        self.table.find(ids, grow=True)
        self.naive.grow(ids)

    @rule(data=st.data(), known=st.booleans())
    def look_up(self, data, known):
        ids = self.some(data, known)
        expected = np.array(self.naive.lookup(ids)).reshape(-1, DIM)
        np.testing.assert_allclose(self.table.lookup(ids).reshape(-1, DIM), expected, rtol=1e-5, atol=1e-6)
        assert [id in self.table for id in ids] == [id in self.naive.weights for id in ids]

    @rule(data=st.data())
    def update(self, data):
        ids = [id for id in self.some(data, known=True) if id in self.naive.weights]
        gradients = self.vectors(len(ids))
        self.table.update(self.table.find(ids), gradients if ids else gradients[:0])
        self.naive.update(ids, gradients)

    @rule(data=st.data())
    def update_of_an_unknown_id_changes_nothing(self, data):
        ids = self.some(data) + self.some(data, known=True)
        unknown = [id for id in ids if id not in self.naive.weights]
        if unknown:
            with pytest.raises(hotrow.UnknownIdError) as error:
                self.table.update(ids, self.vectors(len(ids)))
            assert repr(unknown[0]) in str(error.value)

    @rule(data=st.data())
    def set(self, data):
        ids = self.some(data)
        vectors = self.vectors(len(ids))
        self.table.set(ids, vectors if ids else np.zeros((0, DIM), np.float32))
        self.naive.set(ids, vectors)

    @rule(data=st.data())
    def forget(self, data):
        ids = self.some(data, known=True)
        assert self.table.forget(ids).removed == len(set(ids) & set(self.naive.weights))
        self.naive.forget(ids)

    @rule()
    def save_and_load(self):
        with tempfile.TemporaryDirectory() as folder:
            self.table.save(folder)
            view = hotrow.view(folder)
            self.table = hotrow.load(folder)
            ids = list(self.naive.weights)
            assert (view.lookup(ids) == self.table.lookup(ids)).all()
            assert len(view) == len(ids)
            del view

    @invariant()
    def the_same_ids_have_rows(self):
        if hasattr(self, "table"):
            ids = self.table.ids()
            assert len(self.table) == len(self.naive.weights) == len(ids)
            assert set(ids.tolist()) == set(self.naive.weights)
            assert self.table.vectors().shape == (len(ids), DIM)


TestTable = TableMachine.TestCase


def test_ids_come_back_in_the_order_in_which_they_came():
    table = hotrow.Table(2)
    table.find(["b", "a", "b", "c"], grow=True)
    assert table.ids().to_pylist() == ["b", "a", "c"]
    assert (table.vectors() == table.lookup(["b", "a", "c"])).all()


def test_uint64_ids_use_the_whole_range():
    table = hotrow.Table(2)
    ids = [0, 2**63, 2**64 - 1]
    table.find(ids, grow=True)
    assert table.kind == "uint64"
    assert table.ids().tolist() == ids
    assert table.ids().dtype == np.uint64


def test_the_first_growing_call_with_an_id_decides_the_kind():
    table = hotrow.Table(2)
    table.lookup(["a"])
    table.find([], grow=True)
    assert table.kind is None
    table.find([1], grow=True)
    assert table.kind == "int64"
    with pytest.raises(hotrow.KindError, match="string"):
        table.find(["a"], grow=True)
    with pytest.raises(hotrow.IdError, match='ids="uint64"'):
        table.find([2**63], grow=True)
    assert len(table) == 1


def test_a_lookup_of_any_shape_has_that_shape():
    table = hotrow.Table(4)
    assert table.lookup(5).shape == (4,)
    assert table.lookup([]).shape == (0, 4)
    assert table.lookup(np.zeros((2, 3, 5), np.int16)).shape == (2, 3, 5, 4)
    assert table.lookup([["a", "b"]]).shape == (1, 2, 4)


def test_a_lookup_does_not_depend_on_whether_the_row_was_made():
    table = hotrow.Table(4, seed=3)
    before = table.lookup([7, 8, 7])
    assert len(table) == 0
    assert (table.lookup([7, 8, 7], grow=True) == before).all()
    assert (table.lookup([8, 9, 7])[[0, 2]] == before[[1, 0]]).all()


def test_unknown_ids_may_be_zero_or_an_error():
    table = hotrow.Table(4)
    known = table.lookup(["x"], grow=True)
    assert table.lookup(["x", "y"], unknown="zero").tolist() == [known[0].tolist(), [0.0] * 4]
    with pytest.raises(hotrow.UnknownIdError, match=r"'y' \(position 1\)"):
        table.lookup(["x", "y"], unknown="error")
    with pytest.raises(hotrow.ArgumentError, match="'initial'"):
        table.lookup(["x"], unknown="raise")


def test_out_is_written_and_returned():
    table = hotrow.Table(4)
    out = np.empty((2, 4), np.float32)
    assert table.lookup([1, 2], out=out) is out
    assert (out == table.lookup([1, 2])).all()
    for bad in (np.empty((2, 3), np.float32), np.empty((2, 4)), np.empty((4, 2), np.float32).T):
        with pytest.raises(hotrow.ArgumentError, match="out must be"):
            table.lookup([1, 2], out=bad)


def test_a_batch_stands_for_its_ids():
    table = hotrow.Table(4, optimizer=hotrow.SGD(1.0))
    batch = table.find(["a", "b", "a"], grow=True)
    assert batch.rows.tolist() == [0, 1, 0]
    assert batch.distinct.tolist() == [0, 1]
    assert (table.lookup(batch) == table.lookup(["a", "b", "a"])).all()
    with pytest.raises(hotrow.ArgumentError, match="another table"):
        hotrow.Table(4).lookup(batch)
    assert table.find(table.find(["new"]), grow=True).rows.tolist() == [2]


def test_part_of_a_batch_is_a_batch():
    table = hotrow.Table(4, optimizer=hotrow.SGD(1.0))
    batch = table.find([[5, 6], [7, 5]], grow=True)
    part = batch.take([[3], [2]])
    assert part.shape == (2, 1)
    assert (table.lookup(part) == table.lookup([[5], [7]])).all()
    before = table.lookup([5, 6, 7])
    table.update(part, np.ones((2, 1, 4), np.float32))
    np.testing.assert_allclose(before - table.lookup([5, 6, 7]), [[1] * 4, [0] * 4, [1] * 4], atol=1e-6)
    with pytest.raises(hotrow.ArgumentError, match="positions"):
        batch.take([4])


def test_a_batch_whose_row_was_forgotten_skips_it():
    table = hotrow.Table(2, optimizer=hotrow.SGD(1.0))
    first = table.lookup([1])
    batch = table.find([1, 2], grow=True)
    part = batch.take([0])
    table.set([1], np.full((1, 2), 9.0))
    table.forget([1])
    table.find([3], grow=True)  # takes the row that became free
    before = table.lookup([2, 3])
    table.update(batch, np.ones((2, 2), np.float32))
    table.update(part, np.ones((1, 2), np.float32))
    np.testing.assert_allclose(table.lookup([2, 3]) - before, [[-1, -1], [0, 0]], atol=1e-6)
    assert (table.lookup(batch)[0] == first[0]).all()
    assert 1 not in table


def test_what_is_forgotten_leaves_no_number_and_no_letter():
    table = hotrow.Table(2)
    table.set(["a secret name", "b"], np.full((2, 2), 7.5))
    assert table.forget(["a secret name", "never here"]).removed == 1
    assert b"secret" not in table._strings._data.array[:64].tobytes()
    assert (table._rows.matrix(2) == 7.5).sum() == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.update([1, 2], np.ones((2, 3), np.float32)),
        lambda t: t.update([1, 2], np.ones((2, 4), np.int64)),
        lambda t: t.update([1, 2], np.ones((2, 4), np.float32), learning_rate=float("nan")),
        lambda t: t.update([1, 3], np.ones((2, 4), np.float32)),
        lambda t: t.set([1, 3], np.ones((2, 3))),
        lambda t: t.set([1, 3], np.array([[1, 1, 1, 1], [1, np.inf, 1, 1]])),
        lambda t: t.find([3, None], grow=True),
        lambda t: t.find([3, "a"], grow=True),
        lambda t: t.lookup([3], grow=True, offsets=[0, 2]),
    ],
)
def test_bad_input_is_refused_before_anything_changes(call):
    table = hotrow.Table(4)
    table.find([1, 2], grow=True)
    before, steps = table.vectors(), table.steps
    with pytest.raises(hotrow.HotrowError):
        call(table)
    assert table.steps == steps
    assert table.ids().tolist() == [1, 2]
    assert (table.vectors() == before).all()


@pytest.mark.parametrize(
    "arguments",
    [{"dim": 0}, {"dim": 2.5}, {"dim": True}, {"seed": -1}, {"seed": 2**64}, {"ids": "int32"}, {"optimizer": "adam"},
     {"initializer": 0.1}],
)  # fmt: skip
def test_a_table_that_cannot_be_is_refused(arguments):
    with pytest.raises(hotrow.ArgumentError, match="got"):
        hotrow.Table(**({"dim": 4} | arguments))


def test_what_cannot_be_an_id_is_not_in_the_table():
    table = hotrow.Table(2)
    table.find([1], grow=True)
    assert 1 in table
    for stranger in (2, "1", None, 1.5, True, 2**64, [1, 1]):
        assert stranger not in table


def test_read_only_and_strided_input_will_do():
    table = hotrow.Table(2, optimizer=hotrow.SGD(1.0))
    ids, gradients = np.arange(20)[::2], np.ones((2, 10)).T[:, ::-1]
    ids.flags.writeable = gradients.flags.writeable = False
    before = table.lookup(ids, grow=True)
    table.update(ids, gradients)
    np.testing.assert_allclose(before - table.lookup(ids), 1, atol=1e-6)


def test_stats_count_rows_and_bytes():
    table = hotrow.Table(4)
    table.find(["a", "bc"], grow=True)
    stats = table.stats()
    assert stats["rows"] == 2
    assert stats["ids"] == "string"
    assert stats["bytes"] == sum(stats["bytes_of"].values())
    assert stats["bytes_of"]["rows"] == 2 * 4 * 12


def test_a_table_without_room_to_reserve_grows_by_copying(monkeypatch):
    from hotrow.table import memory

    monkeypatch.setattr(memory, "_reserve", lambda size: None)
    table, reserved = hotrow.Table(3), None
    ids = [f"item {i}" for i in range(3000)]
    for start in range(0, 3000, 500):
        table.find(ids[start : start + 500], grow=True)
    monkeypatch.undo()
    reserved = hotrow.Table(3)
    reserved.find(ids, grow=True)
    assert (table.vectors() == reserved.vectors()).all()
    assert table.ids() == reserved.ids()


def test_a_saved_config_that_no_table_has_is_damage(tmp_path):
    from dataclasses import replace

    from hotrow.store import writing

    table = hotrow.Table(2)
    table.find([1], grow=True)
    state = table.state()
    for wrong in ({"optimizer": {"name": "Muon"}}, {"optimizer": {"name": "SGD", "speed": 1}}, {"initializer": {}}):
        writing.save(tmp_path, replace(state, config=state.config | wrong))
        with pytest.raises(hotrow.CorruptError, match="fits no table"):
            hotrow.load(tmp_path)
    writing.save(tmp_path, replace(state, slots={"m": state.slots["m"]}))
    with pytest.raises(hotrow.CorruptError, match="fits no table"):
        hotrow.load(tmp_path)


# --- restored, and trained otherwise ----------------------------------------------------------------------------------


def trained(ids, optimizer=None, seed=0, steps=3):
    table = hotrow.Table(2, optimizer=optimizer, seed=seed)
    batch = table.find(ids, grow=True)
    for step in range(steps):
        table.update(batch, np.full((len(ids), 2), step - 0.5, np.float32))
    return table


def everything(table):
    state = table.state()
    arrays = {"keys": state.keys, "weights": state.weights, **state.slots}
    return state.config, {name: array.tobytes() for name, array in arrays.items()}, table.ids().tolist()


class Owed:
    """A framework's steps that the table hasn't taken."""

    def __init__(self):
        self.calls = []

    def settle(self):
        self.calls.append("settle")

    def drop(self):
        self.calls.append("drop")


@pytest.mark.parametrize("ids", [[7, 8, 9], []])
def test_a_restored_table_is_the_other_one_to_whoever_holds_it(ids):
    table, other = trained([1, 2]), trained(ids, hotrow.RMSprop(0.1), seed=3)
    holder, watched = table.lookup, table.find([1, 5, 2])
    table.restore(other.state())
    assert everything(table) == everything(other)
    np.testing.assert_array_equal(holder([7, 1]), other.lookup([7, 1]))
    for one in (table, other):  # the two go on alike, and apart
        one.update(one.find([7, 4], grow=True), np.ones((2, 2), np.float32))
    assert everything(table) == everything(other)
    assert watched.table is table


def test_a_batch_from_before_a_restore_has_unknown_ids_and_updates_nothing():
    table, other = trained([1, 2]), trained([2, 1, 3], seed=3)
    batch = table.find([1, 2])
    part = batch.take([1])
    table.restore(other.state())
    before = everything(table)
    first = hotrow.Table(2, seed=3).lookup([1, 2])
    np.testing.assert_array_equal(table.lookup(batch), first)
    np.testing.assert_array_equal(table.lookup(part), first[1:])
    for old in (batch, part):
        table.update(old, np.ones((*old.shape, 2), np.float32))
    config, *rest = everything(table)
    assert rest == list(before[1:])
    assert config["steps"] == 3 + 2


def test_a_restore_drops_the_steps_that_are_owed():
    table, other = trained([1, 2]), trained([1])
    table.pending = owed = Owed()
    table.restore(other.state())
    assert owed.calls[-1] == "drop"
    assert table.pending is owed


@pytest.mark.parametrize("wrong", ["dim", "optimizer", "slot", "weights"])
def test_a_state_that_is_no_table_is_refused_and_changes_nothing(wrong):
    from dataclasses import replace

    table, state = trained([1, 2]), trained([7, 8, 9]).state()
    changed = {
        "dim": lambda: hotrow.Table(3).state(),
        "optimizer": lambda: replace(state, config=state.config | {"optimizer": {"name": "Sorcery"}}),
        "slot": lambda: replace(state, slots=state.slots | {"m": state.slots["m"][:, :1]}),
        "weights": lambda: replace(state, weights=state.weights[:1]),
    }[wrong]()
    before = everything(table)
    table.pending = owed = Owed()
    with pytest.raises((hotrow.ArgumentError, KeyError)):
        table.restore(changed)
    assert "drop" not in owed.calls
    assert everything(table) == before


def test_another_optimizer_trains_as_in_a_table_that_begins_with_these_vectors():
    table = trained([3, 1, 2])
    table.forget([1])
    fresh = hotrow.Table(2, optimizer=hotrow.Adagrad(0.1, initial_accumulator=0.5))
    fresh.set(table.ids(), table.vectors())
    table.set_optimizer(hotrow.Adagrad(0.1, initial_accumulator=0.5))
    assert everything(table) == everything(fresh)
    for one in (table, fresh):
        one.update(one.find([2, 3], grow=True), np.ones((2, 2), np.float32))
    assert everything(table) == everything(fresh)
    table.find([4], grow=True)
    assert table.state().slots["accumulator"][table.ids().tolist().index(4)].tolist() == [0.5, 0.5]


def test_an_optimizer_of_the_same_kind_goes_on_unless_it_is_to_begin_anew():
    table, as_new = trained([1, 2], hotrow.Adam(0.1)), trained([1, 2], hotrow.Adam(0.1))
    slots = {name: slot.tolist() for name, slot in table.state().slots.items()}
    table.set_optimizer(hotrow.Adam(0.5, beta_1=0.5))
    assert table.optimizer == hotrow.Adam(0.5, beta_1=0.5)
    assert table.steps == 3
    assert {name: slot.tolist() for name, slot in table.state().slots.items()} == slots
    as_new.set_optimizer(hotrow.Adam(0.1), fresh=True)
    assert as_new.steps == 0
    assert not any(slot.any() for slot in as_new.state().slots.values())
    np.testing.assert_array_equal(as_new.vectors(), table.vectors())


def test_a_change_of_optimizer_for_which_there_is_no_memory_changes_nothing(monkeypatch):
    table = trained([1, 2])
    before = everything(table)
    monkeypatch.setattr(type(table._rows), "with_slots", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        table.set_optimizer(hotrow.SGD(0.1))
    assert everything(table) == before
