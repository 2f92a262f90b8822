"""Work ahead changes when ids are found, and nothing else."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import ids_of_one_kind

import hotrow
from hotrow.bridges.codes import encode, look_ahead
from hotrow.errors import ArgumentError
from hotrow.models import Retrieval, training


def test_items_come_in_their_order_each_made_once_and_all_but_the_first_on_another_thread():
    made = []
    for n, item in enumerate(hotrow.ahead(range(6), lambda i: made.append((i, threading.get_ident())) or 10 * i)):
        assert item == 10 * n
    assert [i for i, _ in made] == list(range(6))
    assert len({thread for _, thread in made[1:]} | {threading.get_ident()}) == 2


def test_the_next_item_is_made_while_one_is_used():
    seen = threading.Event()
    items = hotrow.ahead(range(3), lambda i: seen.set() if i == 2 else None)
    next(items), next(items)
    assert seen.wait(10)


@pytest.mark.parametrize("where", ["items", "function"])
def test_an_error_comes_out_where_its_item_would(where):
    def items():
        yield 1
        yield 2
        if where == "items":
            raise LookupError("the disk is gone")
        yield 0

    ahead = hotrow.ahead(items(), lambda i: 2 // i)
    assert [next(ahead), next(ahead)] == [2, 1]
    with pytest.raises(LookupError if where == "items" else ZeroDivisionError):
        next(ahead)


def test_a_loop_that_is_left_ends_the_thread():
    for _ in hotrow.ahead(iter(int, 1), str):
        pass_ = [thread for thread in threading.enumerate() if thread.name == "hotrow-ahead"]
        if pass_:
            break
    until = time.monotonic() + 10
    while any(thread.is_alive() for thread in pass_) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(thread.is_alive() for thread in pass_)


def trained(kind, batches, way):
    table = hotrow.Table(3, optimizer=hotrow.Adam(0.1), ids=kind)
    for batch in way(table, batches):
        found = table.find(batch, grow=True)
        table.update(found, table.lookup(found) + np.float32(1))
    return table


@given(st.lists(ids_of_one_kind(), min_size=1, max_size=5))
def test_training_is_bitwise_what_it_is_without(drawn):
    kind = drawn[0][0]
    batches = [ids for other, ids in drawn if other == kind]
    plain = trained(kind, batches, lambda table, given: given)
    ahead = trained(kind, batches, lambda table, given: hotrow.ahead(given, table.find))
    assert plain.ids() == ahead.ids() if kind == "string" else (plain.ids() == ahead.ids()).all()
    assert plain.vectors().tobytes() == ahead.vectors().tobytes()


def test_a_batch_found_ahead_gets_rows_for_what_is_new_and_padding_gets_none():
    table = hotrow.Table(2, ids="string")
    batch = table.find(["a", "", "b", "a"], mask="")
    assert len(table) == 0
    grown = table.find(batch, grow=True)
    assert table.ids().to_pylist() == ["a", "b"]
    assert grown.rows.tolist() == [0, -1, 1, 0]
    assert table.find(grown, grow=True) is grown


def test_bags_found_ahead_stay_bags():
    table = hotrow.Table(2, initializer=hotrow.Constant(1.0))
    batch = table.find([1, 2, 3], offsets=[0, 2, 3], pooling="sum")
    assert table.lookup(table.find(batch, grow=True)).tolist() == [[2, 2], [1, 1]]
    assert len(table) == 3


def test_ids_forgotten_between_are_new_again():
    table = hotrow.Table(2)
    table.find([1, 2], grow=True)
    batch = table.find([1, 2])
    table.forget([1])
    grown = table.find(batch, grow=True)
    assert (grown.rows >= 0).all()
    assert 1 in table


def test_a_part_of_a_batch_without_rows_says_what_to_do():
    table = hotrow.Table(2)
    part = table.find([1, 2]).take([0])
    with pytest.raises(ArgumentError, match="before take"):
        table.find(part, grow=True)
    assert len(table) == 0


# --- Keras's streams -------------------------------------------------------------------------------------------------


def test_rows_of_the_next_batch_are_known_before_it_is_asked_for_and_none_is_made():
    table = hotrow.Table(2)
    table.find([5, 6, 7], grow=True)
    first, second = encode(np.array([5, 6]))[1], encode(np.array([7, 8]))[1]
    first.rows(table, np.arange(2), True, None)
    look_ahead([first, "a bag"], [second, "a bag"])
    assert second.known(table).rows.tolist() == [2, -1]
    assert len(table) == 3
    assert second.rows(table, np.arange(2), True, None).tolist() == [2, 3]


def test_ids_that_are_none_for_that_table_are_left_to_who_asks():
    table = hotrow.Table(2)
    first, second = encode(np.array([5, 6]))[1], encode(["a"])[1]
    first.rows(table, np.arange(2), True, None)
    look_ahead([first], [second])
    assert second.known(table) is None


def test_what_is_forgotten_after_a_look_ahead_is_not_known():
    table = hotrow.Table(2)
    table.find([5, 6], grow=True)
    words = encode(np.array([5, 6]))[1]
    words.look(table)
    table.forget([5])
    assert words.known(table).rows.tolist() == [-1, 1]


# --- Retrieval -------------------------------------------------------------------------------------------------------


@pytest.mark.compiled
def test_a_retrieval_prepared_ahead_is_bitwise_one_that_is_not(monkeypatch):
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 50, 400), rng.integers(0, 30, 400)

    def fit():
        return Retrieval(4, epochs=3, batch_size=64, negatives=8).fit(pairs).items.vectors().tobytes()

    ahead = fit()

    def one_by_one(items, function):
        yield from map(function, items)

    monkeypatch.setattr(training, "ahead", one_by_one)
    assert fit() == ahead
