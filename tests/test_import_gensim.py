"""gensim's KeyedVectors are read without unpickling: what gensim saves comes to the bit, and nothing hostile is run."""

from __future__ import annotations

import builtins
import os
import pickle
import pickletools
import random
import re
import struct
import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from loaders import outcome

import hotrow
from hotrow.errors import ArgumentError, CorruptError, DataError
from hotrow.exchange.inert_pickle import Name, Thing, read_inert
from hotrow.exchange.keyed_vectors import from_keyed_vectors
from hotrow.exchange.reading import read_table

WORDS = ["lantern", "cup", "ü", "two words", ""]
VECTORS = np.random.default_rng(5).standard_normal((5, 3)).astype(np.float32)


def contents(made):
    """The ids and vectors of what was read."""
    ids = made.table.ids()
    return (ids.to_pylist() if hasattr(ids, "to_pylist") else ids.tolist()), made.table.vectors().tolist()


def put(path, data):
    """The path, with these bytes in it."""
    path.write_bytes(data)
    return path


@pytest.fixture
def kv():
    """Live vectors of gensim's."""
    made = pytest.importorskip("gensim.models").KeyedVectors(3)
    made.add_vectors(WORDS, VECTORS)
    return made


# --- what gensim saves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("how", [{}, {"sep_limit": 0}], ids=["in the pickle", "beside it"])
def test_what_gensim_saves_is_read_to_the_bit(tmp_path, kv, protocol, how):
    kv.save(str(tmp_path / "words.kv"), pickle_protocol=protocol, **how)
    assert (tmp_path / "words.kv.vectors.npy").exists() == bool(how)
    assert contents(read_table(tmp_path / "words.kv")) == (WORDS, VECTORS.tolist())


def test_vectors_of_a_trained_model_with_counts_are_read(tmp_path):
    models = pytest.importorskip("gensim.models")
    model = models.Word2Vec([["a", "b", "c"], ["b", "c", "d"]] * 5, vector_size=4, min_count=1, workers=1, seed=1)
    model.wv.save(str(tmp_path / "w"))
    assert contents(read_table(tmp_path / "w")) == (model.wv.index_to_key, model.wv.vectors.tolist())
    model.save(str(tmp_path / "m"))
    with pytest.raises(
        CorruptError, match=r"gensim\.models\.word2vec\.Word2Vec, which no KeyedVectors has.*save_word2vec_format"
    ):
        read_table(tmp_path / "m")


def test_integer_keys_are_integer_ids(tmp_path):
    made = pytest.importorskip("gensim.models").KeyedVectors(2)
    made.add_vectors([7, 2**40], np.eye(2, dtype=np.float32))
    made.save(str(tmp_path / "k"))
    assert contents(read_table(tmp_path / "k")) == ([7, 2**40], [[1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.dtype(">i4").type])
def test_integer_keys_of_numpy_are_integer_ids(tmp_path, kind, protocol):
    made = pytest.importorskip("gensim.models").KeyedVectors(2)
    made.add_vectors([kind(7), kind(200)], np.eye(2, dtype=np.float32))
    made.save(str(tmp_path / "k"), pickle_protocol=protocol)
    assert contents(read_table(tmp_path / "k")) == ([7, 200], [[1.0, 0.0], [0.0, 1.0]])
    assert contents(from_keyed_vectors(made)) == ([7, 200], [[1.0, 0.0], [0.0, 1.0]])


def test_live_vectors_become_a_table(kv):
    made = from_keyed_vectors(kv, optimizer=hotrow.SGD(0.1))
    assert contents(made) == (WORDS, VECTORS.tolist())
    assert made.table.optimizer == hotrow.SGD(0.1)
    with pytest.raises(ArgumentError, match=r"expected a gensim KeyedVectors, as model.wv is; got 7"):
        from_keyed_vectors(7)
    with pytest.raises(ArgumentError, match="one of them is half filled"):
        from_keyed_vectors(SimpleNamespace(index_to_key=["a"], vectors=VECTORS))


def test_a_file_of_vectors_that_is_not_there_is_asked_for(tmp_path, kv):
    kv.save(str(tmp_path / "w"), sep_limit=0)
    (tmp_path / "w.vectors.npy").unlink()
    with pytest.raises(DataError, match=r"keeps its vectors in w.vectors.npy, which isn't beside it"):
        read_table(tmp_path / "w")


# --- gensim 3, whose classes are no more ------------------------------------------------------------------------------


def old_pickle(state, protocol=2, kind="Word2VecKeyedVectors"):
    """What gensim 3 saved: an object of its class, and one for each word."""
    module = ModuleType("gensim.models.keyedvectors")
    classes = {name: type(name, (), {"__module__": module.__name__}) for name in (kind, "Vocab")}
    vars(module).update(classes)
    before, sys.modules[module.__name__] = sys.modules.get(module.__name__), module
    try:
        saved = classes[kind]()
        vars(saved).update(state(classes["Vocab"]))
        return pickle.dumps(saved, protocol)
    finally:
        del sys.modules[module.__name__]
        if before is not None:
            sys.modules[module.__name__] = before


def old_state(vocab):
    """As of gensim 3.8."""

    def word(i):
        made = vocab()
        vars(made).update({"count": 9 - i, "index": i, "sample_int": np.int64(2**32)})
        return made

    return {
        "vectors": VECTORS, "vocab": {id: word(i) for i, id in enumerate(WORDS)}, "vector_size": 3,
        "index2word": list(WORDS), "vectors_norm": None, "__numpys": [], "__scipys": [], "__ignoreds": [],
        "__recursive_saveloads": [],
    }  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("kind", ["Word2VecKeyedVectors", "EuclideanKeyedVectors", "KeyedVectors"])
def test_what_gensim_3_saved_is_read(tmp_path, protocol, kind):
    path = put(tmp_path / "w", old_pickle(old_state, protocol, kind))
    assert contents(read_table(path)) == (WORDS, VECTORS.tolist())


def test_arrays_of_other_types_orders_and_byte_orders_are_read(tmp_path):
    for array in (VECTORS.astype(">f4"), np.asfortranarray(VECTORS), VECTORS.astype(np.float64), VECTORS[::-1][::-1]):
        for protocol in (2, 4, 5):
            data = old_pickle(lambda vocab, array=array: old_state(vocab) | {"vectors": array}, protocol)
            assert contents(read_table(put(tmp_path / "w", data))) == (WORDS, VECTORS.tolist())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index2word": ["a"]}, "has 1 keys, and vectors of shape"),
        ({"index2word": ["a", "b", "c", "d", None]}, "rows that were never filled"),
        ({"index2word": ["a", "b", "c", "d", 5]}, "aren't all texts"),
        ({"index2word": 5}, "has no list index_to_key"),
        ({"vectors": None}, "has no vectors"),
        ({"vectors": VECTORS[0]}, "vectors of shape"),
        ({"index_to_key": WORDS, "key_to_index": dict.fromkeys(WORDS, 0)}, "isn't that of its index_to_key"),
        ({"index2word": ["a", "a", "b", "c", "d"]}, "the id 'a' has come before"),
        ({"vectors": VECTORS * np.float32("nan")}, "row 0: number 1 of the vector, nan"),
        ({"vectors": np.array([["a"]], object)}, "no KeyedVectors|isn't one of numbers"),
    ],
)
def test_a_state_that_cannot_be_is_refused(tmp_path, change, message):
    path = put(tmp_path / "w", old_pickle(lambda vocab: old_state(vocab) | change))
    with pytest.raises((CorruptError, DataError), match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


# --- hostile pickles -------------------------------------------------------------------------------------------------


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


WATCHED = {"exec", "compile", "import", "os.system", "subprocess.Popen", "os.exec", "pickle.find_class"}
"""What the interpreter tells its audit hooks of before it happens."""
watching: list[list[str]] = []


def _hook(event, arguments):
    if watching and event in WATCHED:
        watching[-1].append(f"{event} {arguments!r:.80}")


@pytest.fixture(scope="module")
def _hooked(tmp_path_factory):
    sys.addaudithook(_hook)  # for good: an audit hook can't be taken back
    path = put(tmp_path_factory.mktemp("warm") / "w", old_pickle(old_state))
    read_table(path)  # imports, and Numba compiles


@pytest.fixture
def nothing_runs(_hooked):
    """A context within which nothing may be run, compiled, imported or found by name."""

    @contextmanager
    def watch():
        watching.append([])
        try:
            yield
        finally:
            seen = watching.pop()
        assert not seen

    return watch


def test_the_watch_sees_what_is_run(nothing_runs):
    with pytest.raises(AssertionError, match="exec"), nothing_runs():
        exec("1")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "argument", "named"),
    [
        (os.system, "touch run", "posix.system"),
        (builtins.eval, "1", "builtin.*eval"),
        (builtins.exec, "1", "builtin.*exec"),
        (builtins.getattr, (1, "real"), "builtin.*getattr"),
        (np.load, "x", "numpy.load|numpy.lib"),
    ],
)
def test_a_function_in_a_pickle_is_refused_and_not_run(tmp_path, protocol, function, argument, named, nothing_runs):
    arguments = argument if isinstance(argument, tuple) else (argument,)
    path = put(tmp_path / "w", pickle.dumps({"vectors": Evil(function, *arguments)}, protocol))
    with pytest.raises(CorruptError) as caught, nothing_runs():
        read_table(path)
    assert re.search(f"byte [0-9]+: names .*({named}), which no KeyedVectors has; nothing of it", str(caught.value))


BEGIN = b"\x80\x04"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cos\nsystem\n(S'x'\ntR.", "names os.system"),
        (b"\x8c\x02os\x8c\x06system\x93.", "names os.system"),
        (b"\x8c\x05numpy\x8c\x07ndarray\x93\x85R.", "takes what isn't there|isn't a function"),
        (b"cnumpy\nndarray\n)\x81.", "makes an object that no KeyedVectors has"),
        (b"cnumpy\ndtype\n\x8c\x01O\x85R.", "calls dtype as no KeyedVectors does"),
        (b"c_codecs\nencode\n\x8c\x01a\x8c\x03rot\x86R.", "calls encode as no KeyedVectors does"),
        (b"(i__main__\nx\n.", "opcode INST"),
        (b"Pid\n.", "opcode PERSID"),
        (b"\x82\x01.", "opcode EXT1"),
        (b"\x97.", "opcode NEXT_BUFFER"),
        (b"0.", "opcode POP"),
        (b"2.", "opcode DUP"),
        (b"a.", "takes what isn't there"),
        (b"t.", "takes what isn't there"),
        (b"]]a", "isn't a whole pickle"),
        (b"h\x05.", "isn't a whole pickle"),
        (b"N", "isn't a whole pickle"),
        (b"NN.", "doesn't end with one object"),
        (b"(N.", "doesn't end with one object"),
        (b"N.N", "goes on after its end"),
        (b"}NNs.", "a key that is neither text nor a number"),
        (b"})Ns.", "a key that is neither text nor a number"),
        (b"}(K\x01u.", "a key without a value"),
        (b"NNa.", "adds to what isn't a list"),
        (b"NNb.", "adds to what isn't a Thing"),
        (b"\xff.", "opcode b.\\\\xff"),
        (b"\x8d" + struct.pack("<Q", 2**62) + b"a.", "isn't a whole pickle"),
        (b"\x8b" + struct.pack("<i", 2**31 - 1) + b"a.", "isn't a whole pickle"),
        (b"L" + b"9" * 10_000 + b"L\n.", "opcode LONG"),
    ],
)  # fmt: skip
def test_a_program_that_is_no_keyed_vectors_is_refused_where_it_stands(tmp_path, program, message, nothing_runs):
    path = put(tmp_path / "w", BEGIN + program)
    with pytest.raises(CorruptError) as caught, nothing_runs():
        read_inert(path)
    assert re.search(rf"{re.escape(str(path))}, byte [0-9,]+: .*({message})", str(caught.value), re.DOTALL)


def test_a_deep_pickle_and_one_of_many_containers_end_soon(tmp_path):
    deep = BEGIN + b"]" + b"]" * 200_000 + b"a" * 200_000 + b"."
    with pytest.raises(CorruptError, match="more lists and dicts"):
        read_inert(put(tmp_path / "w", deep))
    tuples = BEGIN + b")" + b"\x85" * 200_000 + b"."
    with pytest.raises(CorruptError, match="more lists and dicts"):
        read_inert(put(tmp_path / "w", tuples))
    memos = BEGIN + b"N" + b"\x94" * 200_000 + b"."
    with pytest.raises(CorruptError, match="remembers more than there is"):
        read_inert(put(tmp_path / "w", memos))


DTYPE = b"cnumpy\ndtype\n\x8c\x02f4\x85R"
DEEP = b")" + b"\x85" * 200_000
"""A tuple in a tuple in …: who hashes, compares or shows it ends the interpreter, or has a RecursionError."""


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (DTYPE + b"(K\x03" + DEEP + b"tb.", "has a type of numbers that can't be"),
        (DTYPE + DEEP + b"b.", "has a type of numbers that can't be"),
        (DEEP + b"\x8c\x01a\x93.", "names what isn't text"),
        (b"\x8c\x05numpy" + DEEP + b"\x93.", "names what isn't text"),
        (b"cnumpy\ndtype\n" + DEEP + b"\x85R.", "calls dtype as no KeyedVectors does"),
        (b"cnumpy._core.multiarray\n_reconstruct\n" + DEEP + b"\x85R.", "calls _reconstruct"),
        (b"cgensim.models.keyedvectors\nKeyedVectors\n" + DEEP + b"\x81.", "makes an object"),
        (b"}" + DEEP + b"Ns.", "a key that is neither text nor a number"),
        (DEEP + b"Nb.", "adds to what isn't a Thing"),
        (b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nNNtR(K\x01" + DEEP + b"NNNtb.", "isn't one of"),
    ],
)  # fmt: skip
def test_a_deep_tuple_is_refused_wherever_it_stands(tmp_path, program, message):
    room = b"X" + struct.pack("<I", 16 * 200_000) + b"a" * 16 * 200_000  # so many containers have a place beside it
    with pytest.raises(CorruptError, match=message):
        read_inert(put(tmp_path / "w", BEGIN + b"(" + room + program))


def test_what_was_remembered_and_comes_again_takes_no_more_than_the_file(tmp_path):
    def text(length):
        return b"X" + struct.pack("<I", length) + b"a" * length

    encode = b"c_codecs\nencode\nq\x00" + text(10_000) + text(6).replace(b"aaaaaa", b"latin1") + b"\x86q\x01("
    with pytest.raises(CorruptError, match="makes more bytes of its texts than it has"):
        read_inert(put(tmp_path / "w", BEGIN + encode + b"h\x00h\x01R" * 900 + b"t."))
    keys = text(10_000) + b"q\x00" + text(10_000) + b"q\x01}" + b"h\x00Nsh\x01Ns" * 1000
    with pytest.raises(CorruptError, match="more text in its keys than vectors need"):
        read_inert(put(tmp_path / "w", BEGIN + b"(" + keys + b"t."))
    with pytest.raises(CorruptError, match="deeper than vectors need"):
        read_inert(put(tmp_path / "w", BEGIN + b"(" * 5000 + b"t" * 5000 + b"."))
    twice = DTYPE + b"(K\x03\x8c\x01<tq\x00b" + b"h\x00b."
    with pytest.raises(CorruptError, match="has a type of numbers that can't be"):
        read_inert(put(tmp_path / "w", BEGIN + twice))


@pytest.mark.parametrize(
    "long", [b"\x8a\x09" + b"\xff" * 8 + b"\x01", b"\x8b" + struct.pack("<i", 5000) + b"\x01" * 5000]
)
def test_a_number_that_is_none_of_vectors_is_refused(tmp_path, long):
    with pytest.raises(CorruptError, match="number of more than 64 bits"):
        read_inert(put(tmp_path / "w", BEGIN + long + b"."))
    assert read_inert(put(tmp_path / "w", BEGIN + b"\x8a\x09" + b"\xff" * 8 + b"\x00.")) == 2**64 - 1


def test_lists_that_hold_each_other_take_the_memory_of_what_is_written(tmp_path):
    """Each list has the one before it ten times: 10**60 items, were they ever walked through."""
    program = b"]q\x00"
    for level in range(60):
        program += b"]q" + bytes([level + 1]) + b"(" + (b"h" + bytes([level])) * 10 + b"e"
    found = read_inert(put(tmp_path / "w", BEGIN + b"](" + program + b"e."))
    assert len(found) == 61


def test_names_stay_names(tmp_path):
    program = BEGIN + b"cgensim.models.keyedvectors\nKeyedVectors\n."
    assert read_inert(put(tmp_path / "w", program)) == Name("gensim.models.keyedvectors", "KeyedVectors")
    program = BEGIN + b"cgensim.models.keyedvectors\nKeyedVectors\n)\x81}\x8c\x01aK\x05sb."
    found = read_inert(put(tmp_path / "w", program))
    assert isinstance(found, Thing)
    assert (found.kind, found.state) == ("KeyedVectors", {"a": 5})


def test_opcodes_drawn_at_random_give_a_plain_value_or_an_error_of_ours(tmp_path, nothing_runs):
    draw = random.Random(7)
    codes = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
    valid = old_pickle(old_state, 4)
    for _ in range(1500):
        if draw.random() < 0.5:
            program = BEGIN + b"".join(
                draw.choice(codes) + draw.randbytes(draw.choice([0, 0, 1, 2, 4])) for _ in range(draw.randrange(40))
            )
        else:
            at = draw.randrange(len(valid))
            program = valid[:at] + draw.choice(codes) + valid[at + draw.randrange(3) :]
        path = put(tmp_path / "w", program + b".")
        with nothing_runs():
            _, error = outcome(lambda path=path: read_table(path, "gensim"))
        assert error is None or str(path) in str(error)


def test_no_module_is_imported_by_a_name_in_a_file(tmp_path):
    put(tmp_path / "w", BEGIN + b"cantigravity\nfly\n.")
    with pytest.raises(CorruptError, match="antigravity"):
        read_inert(tmp_path / "w")
    assert "antigravity" not in sys.modules
