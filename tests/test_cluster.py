"""A table in shards is the plain table, to the bit: whatever is asked or changed. Nothing is mocked."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sharding import place, shards_of

import hotrow
from hotrow.store.joining import join
from hotrow.table.ids import Keys

cluster = pytest.importorskip("hotrow.cluster")
pytest.importorskip("ray")
from hotrow.cluster import starting  # noqa: E402 — after what it needs
from hotrow.cluster.view import _apart  # noqa: E402 — after what it needs
from hotrow.cluster.wire import decode, encode  # noqa: E402

DIM = 5
OPTIMIZERS = [hotrow.SGD(0.1), hotrow.Adagrad(0.1), hotrow.Adam(0.01)]
NAMES = [type(optimizer).__name__ for optimizer in OPTIMIZERS]


@pytest.fixture(scope="session")
def in_shards(ray_local):
    """in_shards(count, plain) → a table in so many shards, equal to a plain one; the shards are there once."""
    tables = {}

    def make(count, plain):
        table = tables.get(count)
        if table is None:
            table = tables[count] = cluster.Table(DIM, shards=count)
        table.restore(plain.state())
        return table

    yield make
    for table in tables.values():
        table.close()


def assert_same(table, plain):
    """The same ids in the same order, and the same bits."""
    a, b = table.state(), plain.state()
    assert a.config == b.config
    assert np.array_equal(a.keys, b.keys)
    assert a.weights.tobytes() == np.ascontiguousarray(b.weights).tobytes()
    assert a.slots.keys() == b.slots.keys()
    for name, slot in a.slots.items():
        assert slot.tobytes() == np.ascontiguousarray(b.slots[name]).tobytes()
    assert (a.strings is None) == (b.strings is None)
    assert a.strings is None or a.strings.equals(b.strings)
    assert len(table) == len(plain)


def ids_of(kind, numbers):
    """Ids of a kind: some beyond what other kinds can hold."""
    if kind == "string":
        return [f"id {n}" if n % 7 else "é" * (n + 1) for n in numbers]
    if kind == "uint64":
        return np.array(numbers, np.uint64) + np.uint64(2**64 - 100)
    return np.array(numbers, np.int64) - 20


NUMBERS = st.lists(st.integers(0, 60), min_size=1, max_size=40)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["step", "step", "step", "set", "forget", "bags", "constrain", "look"]), NUMBERS),
    min_size=1,
    max_size=8,
)


@pytest.mark.compiled
@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=NAMES)
@settings(max_examples=8)
@given(kind=st.sampled_from(["int64", "uint64", "string"]), changes=CHANGES, seed=st.integers(0, 99))
def test_it_is_the_plain_table_to_the_bit(in_shards, count, optimizer, kind, changes, seed):
    plain = hotrow.Table(DIM, optimizer=optimizer, seed=seed)
    table = in_shards(count, plain)
    random = np.random.default_rng(seed)
    for what, numbers in changes:
        change(what, table, plain, ids_of(kind, numbers), random)
    assert_same(table, plain)
    assert table.has_holes == plain.has_holes


def change(what, table, plain, ids, random):
    """One change of both, and what they answer on the way."""
    n = len(ids)
    if what == "step":
        gradients = random.normal(size=(n, DIM)).astype(np.float32)
        batches = [each.find(ids, grow=True) for each in (table, plain)]
        assert np.array_equal(batches[0].rows, batches[1].rows)
        assert np.array_equal(table.lookup(batches[0]), plain.lookup(batches[1]))
        for each, batch in zip((table, plain), batches, strict=True):
            each.update(batch, gradients, learning_rate=0.05)
    elif what == "bags":
        offsets = [0, n // 2, n // 2, n]
        gradients = random.normal(size=(3, DIM)).astype(np.float32)
        for pooling in ("mean", "max"):
            vectors = [each.lookup(ids, grow=True, offsets=offsets, pooling=pooling) for each in (table, plain)]
            assert np.array_equal(*vectors)
            for each in (table, plain):
                each.update(ids, gradients, offsets=offsets, pooling=pooling)
    elif what == "set":
        vectors = random.normal(size=(n, DIM)).astype(np.float32)
        for each in (table, plain):
            each.set(ids, vectors)
    elif what == "forget":
        receipts = [each.forget(ids[: n // 2 + 1]) for each in (table, plain)]
        assert receipts[0].asked == receipts[1].asked
        assert receipts[0].removed == receipts[1].removed
    elif what == "constrain":
        for each in (table, plain):
            each.constrain(each.find(ids, grow=True), lambda vectors: np.maximum(vectors, 0))
    else:
        for unknown in ("initial", "zero"):
            assert np.array_equal(table.lookup(ids, unknown=unknown), plain.lookup(ids, unknown=unknown))
        assert (ids[0] in table) == (ids[0] in plain)


def test_strings_that_collide_keep_rows_of_their_own(in_shards):
    plain = hotrow.Table(DIM, ids="string")
    texts = [f"text {i}" for i in range(30)]
    keys = np.arange(30, dtype=np.uint64) % 4 << np.uint64(40)
    fake = Keys("string", keys, (30,), pa.array(texts, pa.large_string()))
    table = in_shards(3, plain)
    gradients = np.random.default_rng(0).normal(size=(30, DIM)).astype(np.float32)
    for _ in range(2):
        batches = [each.find(fake, grow=True) for each in (table, plain)]
        assert len(set(batches[0].rows.tolist())) == 30
        assert np.array_equal(table.lookup(batches[0]), plain.lookup(batches[1]))
        for each, batch in zip((table, plain), batches, strict=True):
            each.update(batch, gradients)
    assert np.array_equal(table.vectors(), plain.vectors())
    assert table.ids().equals(plain.ids())


def test_a_batch_forgets_as_that_of_a_plain_table(in_shards):
    plain = hotrow.Table(DIM, optimizer=hotrow.SGD(1.0))
    table = in_shards(2, plain)
    for each in (table, plain):
        batch = each.find([1, 2, 3, 2], grow=True)
        each.forget([2])
        each.find([9], grow=True)  # takes the row that 2 had
        each.update(batch, np.ones((4, DIM), np.float32))
        assert batch.rows.tolist() == [0, -1, 2, -1]
    assert_same(table, plain)


def test_only_rows_that_are_still_there_are_constrained(in_shards):
    plain = hotrow.Table(DIM)
    table = in_shards(2, plain)
    for gone in ([1, 2], [6], []):
        given = []
        for each in (table, plain):
            batch = each.find([1, 2, 5, 6, 5], grow=True)
            each.forget(gone)
            each.constrain(batch, lambda vectors, given=given: given.append(vectors.copy()) or 2.0 * vectors)
            each.constrain(batch, lambda _: 1.5)
        assert np.array_equal(*given)
    for each in (table, plain):
        batch = each.find([1, 2], grow=True)
        each.forget([1, 2])
        each.constrain(batch, lambda vectors: vectors)
    assert_same(table, plain)


def test_what_cannot_be_is_refused_with_nothing_changed(in_shards):
    plain = hotrow.Table(DIM)
    table = in_shards(2, plain)
    table.lookup([1, 2], grow=True)
    before = table.state()
    with pytest.raises(hotrow.UnknownIdError):
        table.update([1, 77], np.ones((2, DIM), np.float32))
    with pytest.raises(hotrow.UnknownIdError, match="77"):
        table.lookup([77], unknown="error")
    with pytest.raises(hotrow.KindError):
        table.find(["a"], grow=True)
    with pytest.raises(hotrow.ArgumentError):
        table.update([1], np.ones((1, DIM + 1), np.float32))
    after = table.state()
    assert before.config == after.config
    assert before.weights.tobytes() == after.weights.tobytes()


def test_tables_that_cannot_be_are_refused_before_a_shard_is_started(ray_local):
    for wrong in ({"shards": 0}, {"shards": True}, {"threads": 0}, {"seed": -1}, {"ids": "text"}):
        with pytest.raises(hotrow.ArgumentError):
            cluster.Table(4, **wrong)
    with pytest.raises(hotrow.ArgumentError, match="home="):
        cluster.Table.from_state(hotrow.Table(4).state(), path="rows")


@pytest.mark.parametrize("kind", [pytest.param("int64", marks=pytest.mark.long), "string"])
def test_a_save_goes_to_any_number_of_shards_and_to_none(in_shards, tmp_path, kind):
    plain = hotrow.Table(DIM, seed=7)
    table, random = in_shards(2, plain), np.random.default_rng(7)
    for numbers in (range(40), range(20, 60)):
        change("step", table, plain, ids_of(kind, list(numbers)), random)
    change("forget", table, plain, ids_of(kind, [3, 4, 5]), random)
    assert table.save(tmp_path / "t") == 1
    change("step", table, plain, ids_of(kind, [1, 50, 80]), random)
    assert table.save_delta() == 2
    change("step", table, plain, ids_of(kind, [2, 51, 81]), random)
    saving = table.save(tmp_path / "t", wait=False)
    beside = hotrow.Table.from_state(plain.state())
    change("step", table, plain, ids_of(kind, list(range(60))), random)  # goes on beside the save, and isn't in it
    assert saving.result() == 3
    assert_same(hotrow.load(tmp_path / "t"), beside)
    for count in (1, 3):
        again = cluster.load(tmp_path / "t", shards=count)
        assert_same(again, beside)
        twin, same = hotrow.Table.from_state(beside.state()), np.random.default_rng(count)
        change("step", again, twin, ids_of(kind, list(range(70))), same)
        assert_same(again, twin)
        again.close()


def test_a_plain_save_goes_to_shards(ray_local, tmp_path):
    plain = hotrow.Table(DIM)
    plain.update(plain.find(range(50), grow=True), np.ones((50, DIM), np.float32))
    plain.save(tmp_path / "t")
    table = cluster.load(tmp_path / "t", shards=2)
    assert_same(table, plain)
    table.close()


def test_a_reader_sees_what_the_owner_has_changed(in_shards):
    table = in_shards(2, hotrow.Table(DIM))
    view = cluster.attach(table.name)
    assert len(view) == 0
    first = table.lookup(range(9), grow=True)
    view.wait_for(table.marks)
    assert np.array_equal(view.lookup(range(9)), first)
    table.update(range(9), np.ones((9, DIM), np.float32))
    view.wait_for(table.marks)
    assert np.array_equal(view.lookup(range(9)), table.lookup(range(9)))
    assert np.array_equal(view.lookup([99]), table.lookup([99]))  # its first value
    assert view.ids().tolist() == list(range(9))
    assert len(view) == 9
    assert 3 in view
    assert 99 not in view
    view.close()
    with pytest.raises(hotrow.ArgumentError, match=table.name):
        cluster.attach("nobody")


@pytest.mark.parametrize(
    "ids", [np.array([2**63 + 5, 2**64 - 1, 1], np.uint64), ["a", "b", "c"]], ids=["uint64", "string"]
)
def test_a_reader_that_came_before_the_first_id_knows_of_which_kind_they_are(in_shards, ids):
    kind = "string" if isinstance(ids, list) else "uint64"
    for chosen in (ids[:1], ids):  # of one id a shard at least knows nothing
        table = in_shards(2, hotrow.Table(DIM))
        views = [cluster.attach(table.name) for _ in range(3)]
        table.find(chosen, grow=True)
        for view in views:
            view.wait_for(table.marks)
        assert list(views[0].ids()) == list(table.ids())
        assert np.array_equal(views[1].lookup(chosen), table.lookup(chosen))
        assert -5 not in views[2]  # no id of this kind: the bits of another
        assert [view.kind for view in views] == [kind] * 3
        assert table.stats()["bytes_of"].keys() == hotrow.Table.from_state(table.state()).stats()["bytes_of"].keys()
        for view in views:
            view.close()


def test_what_shards_were_at_two_moments_is_joined_by_a_reader():
    table = hotrow.Table(DIM)
    ids = np.arange(40)
    shard = place(ids.view(np.uint64), "int64", 2)
    here, there = ids[shard == 0], ids[shard == 1]
    table.find([*here[:5], *there[:5]], grow=True)
    before = shards_of(table, 2)
    table.forget(here[:2])
    table.find(there[5:7], grow=True)  # they have the numbers of those
    table.set_optimizer(hotrow.Adam(0.1))
    states = [before[0], shards_of(table, 2)[1]]
    with pytest.raises(hotrow.ArgumentError):
        join(states)
    state = join(_apart(states))
    assert sorted(state.keys.tolist()) == sorted([*here[:5], *there[:7]])
    vectors = hotrow.Table(DIM).lookup(state.keys.view(np.int64))
    assert np.array_equal(state.weights, vectors)


def test_from_another_node_nothing_is_taken_but_from_who_has_the_keys():
    zmq = pytest.importorskip("zmq")
    from hotrow.cluster.keys import show
    from hotrow.cluster.server import Server

    def answer(fields, arrays, reply):
        reply({"length": len(arrays[0])})
        return True

    def asked(endpoint, prepare, arrays, wait):
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            prepare(socket)
            socket.connect(endpoint)
            socket.send_multipart(encode({"id": 1, "secret": secret}, arrays))
            return decode(socket.recv_multipart())[0]["length"] if socket.poll(wait) else None

    def stranger(socket):  # even if he knew the shard's own key
        show(socket, secret)
        socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()

    secret = "0123456789abcdef" * 2
    server = Server(secret, 0, answer)
    server.start()
    try:
        afar, array = server.remote("127.0.0.1"), np.zeros(1000, np.uint64)
        assert asked(server.local, lambda _: None, [array], 20_000) == 1000
        assert asked(afar, lambda socket: show(socket, secret), [array], 20_000) == 1000
        before = server.counts()["bytes_in"]
        for prepare in (lambda _: None, stranger, lambda socket: show(socket, "f" * 32)):
            assert asked(afar, prepare, [array], 300) is None
        assert server.counts()["bytes_in"] == before
    finally:
        server.stop()


def test_shards_on_this_machine_are_as_urgent_as_their_owner(in_shards):
    here = os.getpriority(os.PRIO_PROCESS, 0)
    for facts in in_shards(2, hotrow.Table(DIM)).shards_.call("facts"):
        assert os.getpriority(os.PRIO_PROCESS, facts["pid"]) == here


def test_what_ray_warns_of_is_no_part_of_what_a_program_prints(ray_local, capfd):
    said = {"lines": ["many processes"], "pid": "raylet", "is_err": False}
    ray_local._private.worker.print_to_stdstream(said, ignore_prefix=False)
    out, err = capfd.readouterr()
    assert out == ""
    assert "many processes" in err


def test_shards_that_yield_to_others_are_said(ray_local, monkeypatch, caplog):
    class Yielding(starting.shard_class()):
        def __init__(self, *given):
            os.nice(7)
            super().__init__(*given)

    monkeypatch.setattr(starting, "shard_class", lambda: Yielding)
    with caplog.at_level("WARNING", "hotrow"):
        cluster.Table(DIM, shards=1).close()
    assert "RAY_worker_niceness=0" in caplog.text


def test_a_name_is_one_tables_alone_whatever_the_numbers_of_shards(ray_local):
    table = cluster.Table(DIM, shards=2, name="mine")
    for count in (2, 1, 3):
        with pytest.raises(hotrow.ArgumentError, match="mine"):
            cluster.Table(DIM + 1, shards=count, name="mine")
    assert starting.names()["mine"] == 2
    view = cluster.attach("mine")
    assert view.dim == DIM
    view.close()
    table.close()


def test_who_began_a_table_of_a_name_while_another_did_gives_up(ray_local, monkeypatch):
    table = cluster.Table(DIM, shards=2, name="ours")
    looks = iter([set(), starting.listed(), starting.listed()])  # the other's actors come after the first look
    monkeypatch.setattr(starting, "listed", lambda: next(looks))
    with pytest.raises(hotrow.ArgumentError, match="ours"):
        cluster.Table(DIM, shards=1, name="ours")
    monkeypatch.undo()
    table.lookup([1, 2], grow=True)
    assert len(table) == 2
    table.close()
