"""A table is split into shards and joined again, and every bit is what it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sharding import held, shards_of
from test_collisions import colliding

import hotrow
from hotrow.store import snapshot
from hotrow.store.joining import NUMBER, join, split
from hotrow.store.writing import Still, Writer
from hotrow.table import strings as strings_
from hotrow.table.ids import to_keys
from hotrow.table.optimizers import OPTIMIZERS
from hotrow.table.placing import place
from hotrow.table.state import State

SHARDS = [1, 2, 3, 5]
TWINS = colliding(6)
IDS = {
    "int64": [0, -1, 2**63 - 1, -(2**63), *range(1, 40)],
    "uint64": [0, 2**64 - 1, 2**63, *range(1, 40)],
    "string": ["", "\0", "Ω", *TWINS, *(f"id {i}" for i in range(35))],
}
NUMBERS = {"SGD": {"momentum": 0.5}, "RMSprop": {"momentum": 0.1, "centered": True}, "Adam": {"amsgrad": True}}


def optimizer(name: str):
    return OPTIMIZERS[name](**NUMBERS.get(name, {}))


def table_of(kind, name="Adam", dim=3):
    return hotrow.Table(dim, optimizer=optimizer(name), seed=7, ids=kind)


def step(table, ids, at=0):
    """One update of these ids, which get their rows."""
    batch = table.find(ids, grow=True)
    gradients = np.sin(np.arange(len(batch) * table.dim, dtype=np.float32) + at).reshape(-1, table.dim)
    table.update(batch, gradients.reshape(*batch.shape, table.dim))


def grown(kind, name="Adam", dim=3, holes=True):
    """A table of some steps, with rows that are free."""
    table, ids = table_of(kind, name, dim), IDS[kind]
    step(table, ids[:20])
    step(table, ids[10:30], 1)
    if holes:
        table.forget(ids[3:8])
    return table


def same(a: State, b: State) -> None:
    """All but the cells, of which an index may have several layouts."""
    assert a.config == b.config
    assert list(a.slots) == list(b.slots)
    for x, y in [(a.keys, b.keys), (a.weights, b.weights), *((a.slots[n], b.slots[n]) for n in a.slots)]:
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.tobytes() == y.tobytes()
    assert (a.strings is None) == (b.strings is None)
    assert a.strings is None or a.strings.equals(b.strings)


# --- join and split --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_table_that_was_split_and_joined_is_the_same_to_the_bit(name, kind, shards):
    table = grown(kind, name)
    state = table.state()
    same(join(split(state, shards)), state)
    same(join(shards_of(table, shards)), state)  # with numbers that have holes
    whole = hotrow.Table.from_state(join(shards_of(table, shards)))
    for one in (whole, table):
        step(one, [*IDS[kind][25:], *IDS[kind][:6]], 2)
        one.forget(IDS[kind][12:15])
        step(one, IDS[kind][9:18], 3)
    assert held(whole) == held(table)


KINDS = st.sampled_from([None, *IDS])
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["step", "find", "forget", "pass"]), st.lists(st.integers(0, 43), min_size=1, max_size=12)
    ),
    max_size=12,
)


@given(kind=KINDS, operations=OPERATIONS, later=OPERATIONS, shards=st.sampled_from(SHARDS), start=st.integers(0, 12))
def test_whatever_was_done_before_and_comes_after_shards_are_the_table(kind, operations, later, shards, start):
    """A naive twin of what crosses: the table that was never in shards, by id and to the bit."""
    table, ids = table_of(kind), IDS[kind or "int64"]

    def do(one, operation, chosen):
        given_ids = [ids[i % len(ids)] for i in chosen]
        if operation == "pass":  # into shards and out of them
            return hotrow.Table.from_state(join(shards_of(one, shards)))
        calls = {"step": step, "find": lambda t, x: t.find(x, grow=True), "forget": hotrow.Table.forget}
        calls[operation](one, given_ids)
        return one

    for operation, chosen in operations:
        do(table, operation if operation != "pass" else "find", chosen)
    joined = hotrow.Table.from_state(join(shards_of(table, shards)))
    same(joined.state(), table.state())
    for operation, chosen in later:
        joined = do(joined, operation, chosen)
        if operation != "pass":
            do(table, operation, chosen)
    assert held(joined) == held(table)
    assert joined.kind == table.kind
    for one in (joined, table):
        one.forget(ids)
        step(one, ids[start:])
    assert held(joined) == held(table)


@pytest.mark.parametrize("shards", SHARDS)
def test_each_row_is_where_it_is_looked_for_with_its_row_as_its_number(shards):
    state = grown("string").state()
    found = split(state, shards)
    assert len(found) == shards
    for at, one in enumerate(found):
        assert (place(one.keys, "string", shards) == at).all()
        numbers = np.ascontiguousarray(one.slots[NUMBER]).view(np.int64).ravel()
        assert (state.keys[numbers] == one.keys).all()
        assert (np.diff(numbers) > 0).all()
        assert one.strings.equals(state.strings.take(pa.array(numbers)))
        assert one.config["aliases"] == np.count_nonzero(to_keys(one.strings, "string").keys != one.keys)
    assert sum(len(one.keys) for one in found) == len(state.keys)


@pytest.mark.parametrize("kind", [None, *IDS])
@pytest.mark.parametrize("shards", SHARDS)
def test_an_empty_table_is_so_many_empty_shards_and_back(kind, shards):
    state = table_of(kind).state()
    found = split(state, shards)
    assert [len(one.keys) for one in found] == [0] * shards
    assert [one.config["ids"] for one in found] == [kind] * shards
    same(join(found), state)


def test_a_shard_that_has_seen_no_id_does_not_decide_the_kind():
    found = split(grown("string", holes=False).state(), 2)
    empty = split(table_of(None).state(), 2)[0]
    assert join(split(grown("string", holes=False).state(), 1)).config["ids"] == "string"
    with pytest.raises(hotrow.ArgumentError, match="where nobody looks for it"):
        join([found[1], found[0]])
    assert join([empty, empty]).config["ids"] is None


def test_a_number_of_any_bits_survives_being_a_float(tmp_path):
    """Some are floats that are no number, and those that signal: nothing on the way may quieten them."""
    state = split(grown("int64", holes=False).state(), 1)[0]
    n = len(state.keys)
    numbers = np.array([0x7FA00001, 0x7FC00000, 0xFFA00001 << 32 >> 1, 2**62 + 0x7F800001, *range(4, n)], np.int64)
    one = replace(state, slots=state.slots | {NUMBER: numbers.view(np.float32).reshape(-1, 2)})
    writer = Writer(tmp_path)
    writer.write(Still(one))
    writer.close()
    chain = snapshot.use(tmp_path, None, lambda chain: chain)
    read = next(chain.states())
    poured = np.zeros((n, 2), np.float32)
    read.slots[NUMBER].pour(poured.reshape(-1), 2, 0, 0, n)
    assert poured.view(np.int64).ravel().tolist() == numbers.tolist()
    order = np.argsort(numbers)
    assert join([one]).keys.tolist() == state.keys[order].tolist()


def refused(states, match):
    with pytest.raises(hotrow.ArgumentError, match=match):
        join(states)


def test_what_cannot_be_the_shards_of_one_table_is_refused():
    found = split(grown("int64").state(), 2)
    refused([], "at least one shard")
    refused([found[0], split(grown("int64", "SGD").state(), 2)[1]], "aren't shards of one table.*optimizer")
    refused([found[0], split(grown("uint64").state(), 2)[1]], "aren't shards of one table.*'ids'")
    refused([found[0], replace(found[1], slots=found[1].slots | {"more": found[1].weights})], "have the slots")
    refused(
        [found[0], replace(found[1], slots={n: s for n, s in found[1].slots.items() if n != NUMBER})], "slot 'number'"
    )
    refused([replace(one, slots={"m": one.weights}) for one in found], "with a slot 'number' of 2 floats a row")
    twice = replace(found[1], slots=found[1].slots | {NUMBER: np.zeros((len(found[1].keys), 2), np.float32)})
    refused([found[0], twice], "no number, or the same as another")
    minus = np.full(len(found[1].keys), -1).view(np.float32).reshape(-1, 2)
    refused([found[0], replace(found[1], slots=found[1].slots | {NUMBER: minus})], "no number")
    for shards in (0, -1, True, 1.0):
        with pytest.raises(hotrow.ArgumentError, match="expected a whole number from 1 on"):
            split(grown("int64").state(), shards)
    with pytest.raises(hotrow.ArgumentError, match="expected the state of a whole table"):
        split(found[0], 2)
    with pytest.raises(hotrow.ArgumentError, match="expected the state of a whole table"):
        split(replace(grown("int64").state(), gone=np.zeros(0, np.uint64)), 2)


# --- strings that collide --------------------------------------------------------------------------------------------


def test_strings_of_one_fingerprint_are_on_one_shard():
    table = grown("string")
    keys = {t: table._strings.aliases.key_of.get(t.encode()) for t in TWINS}
    fingerprint = int(to_keys(TWINS[:1], "string").keys[0])
    aliases = [key for key in keys.values() if key is not None]
    assert aliases
    assert {key >> 20 for key in aliases} == {fingerprint >> 20}
    for shards in (2, 3, 5, 64):
        where = place(np.array([fingerprint, *aliases], np.uint64), "string", shards)
        assert len(set(where.tolist())) == 1


def test_an_alias_of_an_older_version_works_and_gets_one_in_its_block_when_a_table_is_split(tmp_path, monkeypatch):
    def anywhere(self, fingerprint, is_taken):  # as it was
        key = fingerprint
        while True:
            key = (key * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) & (2**64 - 1)
            if key and not is_taken(key):
                return key

    with monkeypatch.context() as old:
        old.setattr(strings_.Aliases, "propose", anywhere)
        table = table_of("string")
        step(table, [*TWINS[:4], "other"])
    table.save(tmp_path)
    table = hotrow.load(tmp_path)
    fingerprint = int(to_keys(TWINS[:1], "string").keys[0])
    assert len({int(key) >> 20 for key in table.state().keys} - {fingerprint >> 20}) == 4
    step(table, TWINS, 1)  # two more get aliases of the new sort
    assert len(table) == 7
    joined = hotrow.Table.from_state(join(split(table.state(), 5)))
    keys = joined.state().keys
    assert len({int(key) for key in keys if int(key) >> 20 == fingerprint >> 20}) == 6
    assert joined.ids().equals(table.ids())
    assert (joined.vectors() == table.vectors()).all()
    for one in (joined, table):
        step(one, [*TWINS, "other"], 2)
        one.forget(TWINS[:2])
        step(one, TWINS[::-1], 3)
    assert sorted(joined.ids().to_pylist()) == sorted(table.ids().to_pylist())
    ids = table.ids().to_pylist()
    assert (joined.lookup(ids) == table.lookup(ids)).all()


def test_when_all_keys_of_a_block_are_taken_it_is_said_why():
    tried = set()

    def taken(key):
        tried.add(key)
        return True

    fingerprint = 0x123456789ABCDEF0
    with pytest.raises(hotrow.IdError, match=r"all 1,048,576 keys for strings with one like that are taken.*collide"):
        strings_.Aliases().propose(fingerprint, taken)
    assert len(tried) == 1 << 20  # each once
    assert {key >> 20 for key in tried} == {fingerprint >> 20}


def test_a_string_whose_fingerprint_is_the_alias_that_one_beside_it_would_get_has_a_key_of_its_own(monkeypatch):
    fingerprint = int(to_keys(TWINS[:1], "string").keys[0])
    alias = strings_.Aliases().propose(fingerprint, lambda key: key == fingerprint)
    table = table_of("string")
    honest = hotrow.table.ids.to_keys

    def made(ids, kind):  # as if "neighbour" had that fingerprint
        keys = honest(ids, kind)
        if keys.texts is not None:
            at = np.array([text == "neighbour" for text in keys.texts.to_pylist()])
            keys.keys[at] = alias
        return keys

    monkeypatch.setattr(hotrow.table.ids, "to_keys", made)
    batch = table.find([TWINS[0], TWINS[1], "neighbour"], grow=True)
    assert len(table) == 3
    assert len(set(batch.rows.tolist())) == 3
