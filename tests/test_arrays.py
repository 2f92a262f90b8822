"""A table's state as named arrays, which Keras's files carry: the same table again, or CorruptError."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from test_collisions import colliding

import hotrow
from hotrow.store.arrays import from_arrays, sealed, to_arrays
from hotrow.store.checks import made_of
from hotrow.table.optimizers import OPTIMIZERS

DIM = 3


def trained(ids=("cup", "lantern", "ü", ""), optimizer="Adam", steps=2, **how):
    """A table with numbers everywhere."""
    table = hotrow.Table(DIM, optimizer=getattr(hotrow, optimizer)(), seed=7, **how)
    rng = np.random.default_rng(5)
    batch = table.find(list(ids), grow=True)
    for _ in range(steps):
        table.update(batch, rng.normal(size=(len(batch), DIM)).astype(np.float32))
    return table


def read(arrays):
    """The table of these arrays, as a layer makes it."""
    state = from_arrays(arrays, "the part")
    with made_of("the part"):
        return hotrow.Table.from_state(state)


def contents(table):
    return {name: array.tobytes() for name, array in to_arrays(table.state()).items()}


def corrupt(arrays):
    with pytest.raises(hotrow.CorruptError, match=r"^the part: ") as error:
        read(arrays)
    return str(error.value)


# --- there and back --------------------------------------------------------------------------------------------------


@given(
    strategies.ids_of_one_kind(),
    st.sampled_from(sorted(OPTIMIZERS)),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2),
    st.booleans(),
)
def test_a_table_comes_back_to_the_bit(kind_and_ids, optimizer, seed, steps, forget):
    kind, ids = kind_and_ids
    table = hotrow.Table(DIM, optimizer=getattr(hotrow, optimizer)(), seed=seed, ids=kind)
    batch = table.find(ids, grow=True)
    for step in range(steps):
        table.update(batch, np.full((len(ids), DIM), step + 0.5, np.float32))
    if forget:
        table.forget(ids[:1])
    again = read(to_arrays(table.state()))
    assert contents(again) == contents(table)
    assert (again.kind, again.seed, again.steps) == (kind, seed, steps)
    assert (again.optimizer, again.initializer) == (table.optimizer, table.initializer)
    for one in (table, again):  # and it goes on alike, id by id: the row of one that was forgotten is another's here
        one.update(one.find(ids, grow=True), np.ones((len(ids), DIM), np.float32))
    np.testing.assert_array_equal(again.lookup(ids), table.lookup(ids))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_slot_of_each_optimizer_comes_back(optimizer):
    table = trained(optimizer=optimizer)
    arrays = to_arrays(table.state())
    widths = table.optimizer.slot_widths(DIM)
    slots = {f"slot_{name}" for name in widths}
    assert arrays.keys() == {"config", "keys", "weights", "text", "offsets", "sum"} | slots
    assert contents(read(arrays)) == contents(table)


@pytest.mark.parametrize("kind", [None, "int64", "uint64", "string"])
def test_an_empty_table_comes_back(kind):
    table = hotrow.Table(DIM, ids=kind)
    again = read(to_arrays(table.state()))
    assert contents(again) == contents(table)
    assert again.kind == kind


def test_strings_that_share_a_key_come_back():
    one, other = colliding(2)
    table = trained((one, other, "c"))
    arrays = to_arrays(table.state())
    again = read(arrays)
    assert contents(again) == contents(table)
    np.testing.assert_array_equal(again.lookup([other, one]), table.lookup([other, one]))
    assert again.ids().to_pylist() == [one, other, "c"]
    assert "keys aren't those of their strings" in corrupt(sealed(config(aliases=0)(arrays)))


def test_numbers_that_are_not_finite_come_back_as_they_are():
    table = hotrow.Table(2, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    table.update(table.find([1, 2], grow=True), np.array([[np.nan, np.inf], [1, 1]], np.float32))
    again = read(to_arrays(table.state()))
    np.testing.assert_array_equal(again.vectors(), table.vectors())
    assert np.isnan(again.vectors()[0, 0])


def test_the_arrays_are_a_copy():
    table = trained()
    arrays = to_arrays(table.state())
    before = {name: array.copy() for name, array in arrays.items()}
    again = read(arrays)
    for one in (table, again):
        one.update(one.find(["cup", "new"], grow=True), np.ones((2, DIM), np.float32))
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


def test_a_state_of_strings_without_any_is_one_of_none():
    state = replace(hotrow.Table(DIM, ids="string").state(), strings=None)
    assert read(to_arrays(state)).kind == "string"


def test_a_state_that_could_not_be_read_back_is_refused():
    state = trained().state()
    with pytest.raises(hotrow.ArgumentError, match="can't be saved: weights"):
        to_arrays(replace(state, weights=state.weights[1:]))


# --- what isn't what was written -------------------------------------------------------------------------------------


def without(name):
    return lambda arrays: {key: array for key, array in arrays.items() if key != name}


def changed(name, change):
    return lambda arrays: arrays | {name: change(arrays[name])}


def config(**changes):
    def change(text):
        values = json.loads(bytes(text)) | changes
        return np.frombuffer(json.dumps(values).encode(), np.uint8)

    return changed("config", change)


def bytes_of(text):
    return lambda _: np.frombuffer(text, np.uint8)


def with_its_sum(arrays):
    """What can be summed gets its sum; of a type that no table has, it can't."""
    known = all(str(array.dtype) in {"uint8", "uint64", "int64", "float32"} for array in arrays.values())
    return sealed(arrays) if known else arrays


BAD = {
    "nothing": (lambda arrays: {}, "has no config"),
    **{f"no {name}": (without(name), f"has no {name}") for name in ("config", "keys", "weights", "text", "offsets")},
    "no slot": (without("slot_m"), "expected the slots ['m', 'v']; got ['v']"),
    "a slot too many": (lambda arrays: arrays | {"slot_x": arrays["slot_m"]}, "got ['m', 'v', 'x']"),
    "a narrow slot": (changed("slot_m", lambda a: a[:, :1]), "expected slot m of shape (4, 3); got (4, 1)"),
    "a wide slot": (changed("slot_m", lambda a: np.tile(a, 2)), "expected slot m of shape (4, 3); got (4, 6)"),
    "a short slot": (changed("slot_m", lambda a: a[:1]), "slot_m is float32 of shape (1, 3)"),
    "a flat slot": (changed("slot_m", np.ravel), "slot_m is float32 of shape (12,)"),
    "more": (lambda arrays: arrays | {"more": np.zeros(1, np.float32)}, "has more besides"),
    "doubles": (changed("weights", lambda a: a.astype(np.float64)), "weights is float64"),
    "another byte order": (changed("weights", lambda a: a.astype(">f4")), "weights is >f4"),
    "signed keys": (changed("keys", lambda a: a.astype(np.int64)), "keys is int64"),
    "narrow weights": (changed("weights", lambda a: a[:, :2]), "weights is float32 of shape (4, 2)"),
    "another dim": (config(dim=2), "weights is float32 of shape (4, 3), expected float32 of (4, 2)"),
    "a key twice": (changed("keys", lambda a: a[[0, 0, 1, 2]]), "stand there twice"),
    "keys in another order": (changed("keys", lambda a: a[::-1].copy()), "keys aren't those of their strings"),
    "no JSON": (changed("config", bytes_of(b"{")), "isn't valid JSON"),
    "JSON of a list": (changed("config", bytes_of(b"[]")), "isn't a JSON object"),
    "a JSON key twice": (
        changed("config", lambda a: np.append(a[:-1], list(b', "dim": 3}')).astype(np.uint8)),
        "twice",
    ),
    "JSON's NaN": (config(steps=float("nan")), "isn't valid JSON: NaN"),
    "no text": (changed("config", bytes_of(b"\xff\xfe")), "isn't valid JSON"),
    "a config without a seed": (changed("config", bytes_of(b'{"dim": 3, "ids": "string"}')), "config has seed = None"),
    "a seed below 0": (config(seed=-1), "config has seed = -1"),
    "a seed of 65 bits": (config(seed=2**64), f"config has seed = {2**64}"),
    "steps below 0": (config(steps=-1), "config has steps = -1"),
    "no dim": (config(dim=0), "config has dim = 0"),
    "no kind": (config(ids=None), "are of no kind of ids"),
    "integers with strings": (config(ids="int64"), "has offsets, text besides"),
    "an unknown kind": (config(ids="float"), "config has ids = 'float'"),
    "no such optimizer": (config(optimizer={"name": "Sorcery"}), "fits no table"),
    "an optimizer of no name": (config(optimizer={}), "fits no table"),
    "an optimizer that is a list": (config(optimizer=["Adam"]), "fits no table"),
    "an optimizer that is a number": (config(optimizer=1), "fits no table"),
    "an optimizer with other numbers": (config(optimizer={"name": "Adam", "lr": 1}), "fits no table"),
    "another optimizer": (config(optimizer={"name": "SGD"}), "expected the slots []; got ['m', 'v']"),
    "no such initializer": (config(initializer={"name": "Sorcery"}), "fits no table"),
    "an initializer that is a list": (config(initializer=["Zeros"]), "fits no table"),
    "an initializer with a text": (config(initializer={"name": "Normal", "std": "wide"}), "fits no table"),
    "offsets that fall": (changed("offsets", lambda a: a[[0, 2, 1, 3, 4]]), "offsets don't begin at 0, fall"),
    "offsets from 1": (changed("offsets", lambda a: a + 1), "offsets don't begin at 0"),
    "offsets that go too far": (
        changed("offsets", lambda a: np.append(a[:-1], a[-1] + 9)),
        "don't end where the text does",
    ),
    "offsets that wrap": (
        changed("offsets", lambda a: np.array([0, 2**63 - 1, -(2**63), -1, a[-1]], np.int64)),
        "offsets don't begin at 0, fall",
    ),
    "too few offsets": (changed("offsets", lambda a: a[1:]), "offsets is int64 of shape (4,)"),
    "no UTF-8": (changed("text", lambda a: np.full_like(a, 255)), "its text isn't UTF-8"),
    "a letter cut in two": (
        changed("offsets", lambda a: a - np.eye(1, 5, 3, dtype=np.int64)[0]),
        "its text isn't UTF-8",
    ),
    "other strings": (changed("text", lambda a: np.full_like(a, 97)), "keys aren't those of their strings"),
    "aliases that aren't": (config(aliases=1), "keys aren't those of their strings"),
}


@pytest.mark.parametrize(("change", "text"), BAD.values(), ids=BAD.keys())
def test_what_no_table_has_written_is_corrupt_even_with_a_right_checksum(change, text):
    assert text in corrupt(with_its_sum(change(to_arrays(trained().state()))))


def test_a_string_that_stands_there_twice_under_a_false_key_is_corrupt():
    arrays = to_arrays(trained(("a", "b")).state())
    arrays["text"][:] = arrays["text"][0]
    arrays = config(aliases=1)(arrays)
    assert "some strings stand there twice" in corrupt(sealed(arrays))


@pytest.mark.parametrize(
    ("change", "text"),
    {
        "no sum": (without("sum"), "has no sum"),
        "a name of bytes": (lambda arrays: arrays | {b"\xff": np.zeros(1, np.uint8)}, "names aren't text"),
        "a long sum": (changed("sum", lambda a: np.append(a, a)), "sum is uint8 of shape (8,)"),
        "another sum": (changed("sum", lambda a: a ^ 1), "checksum differs"),
        "two arrays that changed places": (
            lambda arrays: arrays | {"slot_m": arrays["slot_v"], "slot_v": arrays["slot_m"]},
            "checksum differs",
        ),
        "an array of another shape": (changed("weights", lambda a: a.reshape(2, -1)), "checksum differs"),
        "more": (lambda arrays: arrays | {"slot_x": np.zeros((4, 0), np.float32)}, "checksum differs"),
    }.values(),
)
def test_arrays_without_their_checksum_are_corrupt(change, text):
    assert text in corrupt(change(to_arrays(trained().state())))


def test_the_checksum_is_as_the_docstring_says():
    arrays = to_arrays(hotrow.Table(2, optimizer=hotrow.SGD(), ids="uint64").state())
    wanted = zlib.crc32(b"config uint8 %d\n" % len(arrays["config"]) + arrays["config"].tobytes())
    wanted = zlib.crc32("keys uint64 0\nweights float32 0×2\n".encode(), wanted)
    assert arrays["sum"].tobytes() == wanted.to_bytes(4, "little")


@given(st.data())
def test_flipped_bits_and_cuts_are_corrupt(data):
    arrays = to_arrays(trained().state())
    name = data.draw(st.sampled_from(sorted(arrays)))
    array = arrays[name].copy()
    flat = array.reshape(-1).view(np.uint8)
    if data.draw(st.booleans()):
        arrays[name] = array[: data.draw(st.integers(0, len(array) - 1))]
    else:
        flat[data.draw(st.integers(0, len(flat) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        arrays[name] = array
    corrupt(arrays)


@given(st.data())
def test_what_has_a_right_checksum_is_a_table_that_goes_on_or_is_corrupt(data):
    """As a stranger could write it: numbers may be others, but what comes is a table that can be used."""
    arrays = to_arrays(trained().state())
    name = data.draw(st.sampled_from(sorted(set(arrays) - {"sum"})))
    array = arrays[name].copy()
    flat = array.reshape(-1).view(np.uint8)
    flat[data.draw(st.integers(0, len(flat) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        again = read(sealed(arrays | {name: array}))
    except hotrow.CorruptError:
        return
    ids = again.ids().to_pylist()
    assert len(set(ids)) == len(ids) == len(again)
    np.testing.assert_array_equal(again.lookup(ids), again.vectors())
    again.update(ids, np.ones((len(ids), DIM), np.float32))
