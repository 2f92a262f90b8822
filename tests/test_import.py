"""What other programs write is read to the bit, and what is broken is refused with its place."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import re
import struct
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import hotrow
from hotrow.apps.cli import main
from hotrow.errors import ArgumentError, CorruptError, DataError
from hotrow.exchange.escaping import escape
from hotrow.exchange.incoming import into_table, of_arrays, rows_at_a_time
from hotrow.exchange.reading import open_vectors, read_table

WORDS = ["lantern", "cup", "ü", "漢字", "a%20b"]
VECTORS = np.random.default_rng(5).standard_normal((5, 3)).astype(np.float32)


def text(words=WORDS, vectors=VECTORS, header=True):
    """A word2vec text file, by hand."""
    first = f"{len(words)} {vectors.shape[1]}\n" if header else ""
    rows = (f"{word} {' '.join(map(repr, row.tolist()))}\n" for word, row in zip(words, vectors, strict=True))
    return (first + "".join(rows)).encode()


def binary(words=WORDS, vectors=VECTORS, end=b"\n"):
    """A word2vec binary file, as the first program (with line feeds) or gensim (without) writes it."""
    rows = (word.encode() + b" " + row.tobytes() + end for word, row in zip(words, vectors, strict=True))
    return f"{len(words)} {vectors.shape[1]}\n".encode() + b"".join(rows)


def write(path, data):
    """The path, with these bytes in it."""
    path.write_bytes(data)
    return path


def contents(made):
    """The ids and vectors of what was read."""
    ids = made.table.ids()
    return (ids.to_pylist() if hasattr(ids, "to_pylist") else ids.tolist()), made.table.vectors().tolist()


# --- word2vec --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lambda d: pa.compress(d, "zstd", asbytes=True)])
@pytest.mark.parametrize(
    "data", [text(), text(header=False), binary(), binary(end=b"")], ids=["text", "GloVe", "binary", "gensim's binary"]
)
def test_words_and_vectors_are_what_was_written_in_every_form(tmp_path, data, pack):
    made = read_table(write(tmp_path / "words", pack(data)))
    assert contents(made) == (WORDS, VECTORS.tolist())
    assert made.rows == 5
    assert made.repeated == 0


def test_gensim_writes_what_is_read(tmp_path):
    kv = pytest.importorskip("gensim.models").KeyedVectors(3)
    kv.add_vectors(WORDS, VECTORS)
    for name, how in {"t": {}, "b": {"binary": True}, "g": {"write_header": False}, "z.gz": {"binary": True}}.items():
        kv.save_word2vec_format(str(tmp_path / name), **how)
        assert contents(read_table(tmp_path / name)) == (WORDS, VECTORS.tolist())


def test_more_rows_than_are_read_at_a_time_come_in_order_with_progress(tmp_path):
    step = rows_at_a_time(100)
    vectors = np.arange(100 * (step + 5), dtype=np.float32).reshape(-1, 100)
    words = [f"w{i}" for i in range(len(vectors))]
    told = []
    for data in (binary(words, vectors), text(words, vectors)):
        made = read_table(write(tmp_path / "w", data), progress=lambda *facts: told.append(facts))
        assert contents(made) == (words, vectors.tolist())
    assert [facts["rows"] for *_, facts in told] == 2 * [step, step + 5]
    assert all(done <= size for done, size, _ in told)


def test_blanks_and_tabs_of_words_and_lines_are_told_apart(tmp_path):
    data = b"at name 0.5 1\r\n. . . 2 3 \ncup\t4\t5\n"
    made = read_table(write(tmp_path / "w", b"3 2\n" + data))
    assert contents(made) == (["at name", ". . .", "cup"], [[0.5, 1], [2, 3], [4, 5]])


def test_escapes_are_undone_on_demand_and_else_said(tmp_path):
    ids = ["RED MUG", "50%", "", "tab\there"]
    path = write(tmp_path / "w", text([escape(id) for id in ids], VECTORS[:4]))
    assert contents(read_table(path, unescaped=True))[0] == ids
    made = read_table(path)
    assert contents(made)[0][0] == "RED%20MUG"
    assert "2 words have %XX" in made.notes[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello\n", "line 1: expected a word and numbers"),
        (b"2 3\na 1 2 3\n", "ends after 1 words, and its header says 2"),
        (b"1 3\na 1 2 3\nb 1 2 3\n", "goes on after the 1 words"),
        (b"2 3\na 1 2 3\nb 1 2\n", "line 3: expected a word and 3 numbers"),
        (b"2 2\na 1 2\nb 1 2 3\n", "line 3: expected a word and 2 numbers"),
        (b"2 3\na 1 2 3\nb 1 x 3\n", "line 3: b'x' isn't a number"),
        (b"2 3\na 1 2 3\nb 1  3\n", "line 3"),
        (b"2 1\na 1\nb 3\r4\n", "line 3: has a carriage return in it: b'3.*r4'"),
        (b"2 2\na 1\r 3\nb 1 2\n", "line 2: has a carriage return in it"),
        (b"2 2\na 1 2\nb  1 2\n", "line 3: expected one blank after the word, and none before it: b'b  1 2'"),
        (b"2 2\n a 1 2\nb 1 2\n", "line 2: expected one blank after the word, and none before it"),
        (b"2 3\na 1 2 3\n\xff 1 2 3\n", "line 3: isn't UTF-8"),
        (b"2 3\na 1 2 3\nb 1 nan 3\n", "line 3: number 2 of the vector, nan, isn't finite"),
        (b"2 3\na 1 2 3\nb 1 2 1e39\n", "line 3: number 3 of the vector, inf"),
        (b"2 3\na 1 2 3\na 4 5 6\n", "line 3: the id 'a' has come before"),
        (b"2 99999999\na 1\n", "vectors have 99,999,999 floats; expected 1 to 65,536"),
        (b"2 0\na\n", "expected 1 to 65,536"),
        (b"999999999 3\n" + binary()[4:], "more than its"),
        (binary()[:-8], "word 5 of 5: the file ends within its vector"),
        (gzip.compress(binary()[:30], mtime=0), "word 2 of 5: the file ends within its vector"),
        (gzip.compress(binary()[:25], mtime=0), "word 2 of 5: the file ends before it"),
        (binary() + b"more", "goes on after the 5 words"),
        (binary(["a"], VECTORS[:1]).replace(b"a ", b"\xff "), "word 1 of 1: isn't UTF-8"),
        (gzip.compress(text(), mtime=0)[:-30], "can't be read|ends after|expected"),
    ],
)  # fmt: skip
def test_what_is_broken_is_refused_with_its_file_and_place(tmp_path, data, message):
    path = write(tmp_path / "w", data)
    with pytest.raises((CorruptError, DataError), match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_of_an_id_that_comes_twice_the_first_vector_counts_on_demand(tmp_path):
    data = text(["a", "b", "a"], VECTORS[:3])
    made = read_table(write(tmp_path / "w", data), duplicates="first")
    assert contents(made) == (["a", "b"], VECTORS[:2].tolist())
    assert (made.rows, made.repeated) == (3, 1)


def test_a_repetition_far_behind_the_first_is_noticed(tmp_path):
    step = rows_at_a_time(2)
    vectors = np.zeros((step + 2, 2), np.float32)
    words = [*(f"w{i}" for i in range(step)), "w7", "new"]
    path = write(tmp_path / "w", binary(words, vectors))
    with pytest.raises(DataError, match=f"word {step + 1:,}: the id 'w7' has come before"):
        read_table(path)
    assert read_table(path, duplicates="first").repeated == 1


def test_numbers_become_ids_of_integers_on_demand_alone(tmp_path):
    path = write(tmp_path / "w", text(["-5", "7", str(2**63 - 1)], VECTORS[:3]))
    assert contents(read_table(path))[0] == ["-5", "7", str(2**63 - 1)]
    assert contents(read_table(path, ids="int64"))[0] == [-5, 7, 2**63 - 1]
    with pytest.raises(DataError, match=re.escape("line 2: '-5' isn't an uint64")):
        read_table(path, ids="uint64")
    with pytest.raises(DataError, match=r"line 3: '07' isn't an int64"):
        read_table(write(path, text(["7", "07"], VECTORS[:2])), ids="int64")


@given(
    st.lists(
        st.text(st.characters(exclude_characters=" \t\r\n", exclude_categories=["Cs"]), min_size=1), unique=True,
        min_size=1, max_size=8,
    ),
    st.integers(1, 4),
    st.data(),
)  # fmt: skip
def test_any_words_and_floats_come_back_from_text_and_from_bytes(tmp_path_factory, words, dim, data):
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    rows = data.draw(st.lists(st.lists(finite, min_size=dim, max_size=dim), min_size=len(words), max_size=len(words)))
    vectors = np.array(rows, np.float32)
    path = tmp_path_factory.mktemp("w") / "w"
    for written, form in ((text(words, vectors), "word2vec"), (binary(words, vectors), "word2vec-binary")):
        ids, found = contents(read_table(write(path, written), form))
        assert ids == words
        assert np.array(found, np.float32).tobytes() == vectors.tobytes()


# --- Parquet ---------------------------------------------------------------------------------------------------------

NAMES = [f"id {i}" for i in range(7)]
MATRIX = np.random.default_rng(6).standard_normal((7, 4)).astype(np.float32)


def lists(kind):
    """MATRIX as a column of an Arrow type."""
    return pa.array(MATRIX.tolist(), kind)


@pytest.mark.parametrize(
    ("columns", "how"),
    [
        ({"id": NAMES, "vector": lists(pa.list_(pa.float32(), 4))}, {}),
        ({"id": NAMES, "vector": lists(pa.list_(pa.float32())), "x": MATRIX[:, 0], "n": range(7)}, {}),
        ({"n": range(7), "sku": NAMES, "v": lists(pa.large_list(pa.float64()))}, {"id": "sku"}),
        ({"name": NAMES, "vector": pa.StructArray.from_arrays(list(MATRIX.T), list("abcd"))}, {}),
        ({"name": NAMES, **{str(i): MATRIX[:, i] for i in range(4)}}, {}),
        ({"name": NAMES, "y": MATRIX[:, 3], **{str(i): MATRIX[:, i] for i in range(4)}}, {"vector": list("0123")}),
        ({"id": pa.array(NAMES).dictionary_encode(), "a": lists(pa.list_(pa.float32())),
          "vector": lists(pa.list_(pa.float32()))}, {"vector": ["vector"]}),
    ],
)  # fmt: skip
def test_parquet_of_any_form_has_its_ids_and_vectors(tmp_path, columns, how):
    parquet.write_table(pa.table(columns), tmp_path / "v", row_group_size=3)
    made = read_table(tmp_path / "v", **how)
    assert contents(made) == (NAMES, MATRIX.tolist())


def test_what_pandas_writes_of_an_index_and_columns_is_read(tmp_path):
    pd.DataFrame(MATRIX, index=pd.Index(NAMES), columns=list("abcd")).to_parquet(tmp_path / "v")
    assert contents(read_table(tmp_path / "v")) == (NAMES, MATRIX.tolist())


def test_a_column_of_uint64_is_of_that_kind_whatever_its_first_ids_are(tmp_path):
    ids = pa.array([*range(6), 2**64 - 1], pa.uint64())
    parquet.write_table(pa.table({"id": ids, "vector": lists(pa.list_(pa.float32()))}), tmp_path / "v")
    made = read_table(tmp_path / "v")
    assert made.table.kind == "uint64"
    assert contents(made)[0] == ids.to_pylist()


@pytest.mark.parametrize("form", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_a_column_of_text_becomes_integers_on_demand(tmp_path, form):
    path = tmp_path / "v.parquet"
    texts = pa.array(["-5", "7", str(2**63 - 1)]).cast(form)
    parquet.write_table(pa.table({"id": texts, "v": lists(VECTOR)[:3]}), path)
    assert contents(read_table(path))[0] == ["-5", "7", str(2**63 - 1)]
    assert contents(read_table(path, ids="int64"))[0] == [-5, 7, 2**63 - 1]
    with pytest.raises(DataError, match=re.escape("row 0: '-5' isn't an uint64; without it ids are strings")):
        read_table(path, ids="uint64")


def test_integer_keys_of_a_list_stay_integers_when_these_are_asked_for(tmp_path):
    given = of_arrays("x", "y", [7, 9], np.eye(2, dtype=np.float32))
    assert contents(into_table(given, ids="int64"))[0] == [7, 9]
    parquet.write_table(pa.table({"id": [7, 9, 11], "v": lists(VECTOR)[:3]}), tmp_path / "v.parquet")
    assert contents(read_table(tmp_path / "v.parquet", ids="uint64"))[0] == [7, 9, 11]


def test_wider_numbers_are_rounded_and_that_is_said(tmp_path):
    parquet.write_table(pa.table({"id": NAMES, "v": lists(pa.list_(pa.float64()))}), tmp_path / "v")
    assert "rounded to float32" in read_table(tmp_path / "v").notes[-1]
    half = pa.array(MATRIX.astype(np.float16).tolist(), pa.list_(pa.float16()))
    parquet.write_table(pa.table({"id": NAMES, "v": half}), tmp_path / "v")
    made = read_table(tmp_path / "v")
    assert contents(made)[1] == MATRIX.astype(np.float16).astype(np.float32).tolist()
    assert not made.notes


VECTOR = pa.list_(pa.float32())


@pytest.mark.parametrize(
    ("columns", "how", "message"),
    [
        ({"id": ["a", "b"], "v": pa.array([[1.0], None], VECTOR)}, {}, "row 1: column 'v' is null"),
        ({"id": ["a", "b"], "v": pa.array([[1.0], [None]], VECTOR)}, {}, "row 1: its vector has a null"),
        ({"id": ["a", None], "v": pa.array([[1.0], [2.0]], VECTOR)}, {}, "row 1: column 'id' is null"),
        ({"id": ["a", "b"], "v": pa.array([[1.0], [2.0, 3.0]], VECTOR)}, {}, "row 1: a vector of 2 floats"),
        ({"id": ["a", "a"], "v": pa.array([[1.0], [2.0]], VECTOR)}, {}, "row 1: the id 'a' has come before"),
        ({"id": ["a", "b"], "v": pa.array([[1.0], [float("inf")]], VECTOR)}, {}, "row 1: number 1 of the vector, inf"),
        ({"id": ["a"], "v": pa.array([[1.0]], VECTOR)}, {"id": "key"}, "no column 'key'. It has 'id', 'v'"),
        ({"p": ["a"], "q": ["b"], "v": pa.array([[1.0]], VECTOR)}, {}, "2 columns that may be ids .*--id NAME"),
        ({"id": ["a"], "v": pa.array([[1.0]], VECTOR), "w": pa.array([[1.0]], VECTOR)}, {}, "2 columns of vectors"),
        ({"id": ["a"]}, {}, "0 columns of vectors.*--vector NAME"),
        ({"id": ["a"], "v": pa.array([["x"]])}, {"vector": ["v"]}, "expected lists or structs of floats"),
        ({"id": [1.5], "v": pa.array([[1.0]], VECTOR)}, {"id": "id"}, "ids are integers or texts"),
    ],
)  # fmt: skip
def test_parquet_that_cannot_be_told_or_taken_is_refused_with_the_right_option(tmp_path, columns, how, message):
    parquet.write_table(pa.table(columns), tmp_path / "v")
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "v", **how)


# --- matrices --------------------------------------------------------------------------------------------------------


def test_a_tensor_of_a_state_dict_has_the_ids_of_a_file_beside_it(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    net = torch.nn.Sequential(torch.nn.Embedding(3, 4, padding_idx=0), torch.nn.Linear(4, 2))
    save_file(net.state_dict(), tmp_path / "m.safetensors")
    ids = write(tmp_path / "vocab.txt", "[PAD]\nlantern\n漢字\n".encode())
    made = read_table(tmp_path / "m.safetensors", tensor="0.weight", ids_from=ids, skip=0)
    assert contents(made) == (["lantern", "漢字"], net[0].weight[1:].tolist())
    assert made.notes == ["row 0 was left out, as asked"]
    with pytest.raises(DataError, match=r"has 2 tensors of floats \[n, dim\]: '0.weight', '1.weight'"):
        read_table(tmp_path / "m.safetensors", ids_from=ids)
    with pytest.raises(DataError, match=r"'1.bias' is F32 of shape \[2\]"):
        read_table(tmp_path / "m.safetensors", tensor="1.bias", ids_from=ids)
    with pytest.raises(DataError, match=r"no tensor 'x'"):
        read_table(tmp_path / "m.safetensors", tensor="x", ids_from=ids)


def test_a_bfloat16_tensor_has_its_exact_values(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    weight = torch.tensor(MATRIX).to(torch.bfloat16)
    save_file({"w": weight}, tmp_path / "w")
    made = read_table(tmp_path / "w", number_rows=True)
    assert contents(made) == (list(range(7)), weight.float().tolist())


def test_ids_inside_of_safetensors_are_taken_as_hotrow_writes_them(tmp_path):
    numbers = {"vectors": MATRIX, "ids": np.arange(7, dtype=np.uint64) + np.uint64(2**63)}
    safetensors.numpy.save_file(numbers, tmp_path / "n")
    assert contents(read_table(tmp_path / "n")) == (numbers["ids"].tolist(), MATRIX.tolist())
    encoded = [id.encode() for id in ["", "a\nb", "ü", *NAMES[3:]]]
    offsets = np.cumsum([0, *map(len, encoded)])
    data = np.frombuffer(b"".join(encoded), np.uint8)
    texts = {"vectors": MATRIX, "ids.offsets": offsets, "ids.utf8": data}
    safetensors.numpy.save_file(texts, tmp_path / "t")
    assert contents(read_table(tmp_path / "t"))[0] == ["", "a\nb", "ü", *NAMES[3:]]
    for wrong in (offsets[::-1].copy(), offsets + 1):
        safetensors.numpy.save_file(texts | {"ids.offsets": wrong}, tmp_path / "t")
        with pytest.raises(CorruptError, match=r"don't lie in its ids.utf8"):
            read_table(tmp_path / "t")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[]", "isn't a JSON object"),
        (b'{"w": {"dtype": "F32", "shape": [7, 4], "data_offsets": [0, 9999]}}', "of a file of"),
        (b'{"w": {"dtype": "F32", "shape": [7, 5], "data_offsets": [0, 112]}}', "doesn't fill"),
        (b'{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 112]}}', "isn't a dtype, a shape"),
        (b'{"w": {"dtype": "F99", "shape": [7, 4], "data_offsets": [0, 112]}}', "has 0 tensors of floats"),
        (b'{"w": 1}', "isn't a dtype, a shape"),
    ],
)  # fmt: skip
def test_a_header_that_lies_is_refused(tmp_path, header, message):
    path = write(tmp_path / "w.safetensors", struct.pack("<Q", len(header)) + header + MATRIX.tobytes())
    with pytest.raises((CorruptError, DataError), match=message) as caught:
        read_table(path, "safetensors", number_rows=True)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("ids.txt", "\n".join(NAMES).encode()),
        ("ids.json", json.dumps(NAMES).encode()),
        ("ids.json", json.dumps({id: i for i, id in reversed(list(enumerate(NAMES)))}).encode()),
        ("ids.npy", None),
    ],
)
def test_a_matrix_of_numpy_has_the_ids_of_a_file_beside_it(tmp_path, name, data):
    np.save(tmp_path / "m.npy", np.asfortranarray(MATRIX))
    if data is None:
        np.save(tmp_path / name, NAMES)
    else:
        write(tmp_path / name, data)
    assert contents(read_table(tmp_path / "m.npy", ids_from=tmp_path / name)) == (NAMES, MATRIX.tolist())


def test_ids_beside_a_matrix_must_fit(tmp_path):
    np.save(tmp_path / "m.npy", MATRIX)
    with pytest.raises(DataError, match=r"--ids FILE, one id a line, or --number-rows, for ids 0 to 6"):
        read_table(tmp_path / "m.npy")
    for name, data, message in (
        ("a.txt", b"a\nb\n", "has 2 ids, and .* 7 rows"),
        ("b.txt", b"a\n\xff\n", "line 2: isn't UTF-8"),
        ("c.json", b"{", "isn't valid JSON"),
        ("d.json", b'{"a": 0, "b": 2}', "aren't 0 to 1, each once"),
        ("e.json", b"[1, 2]", "expected a list of texts"),
    ):
        with pytest.raises(DataError, match=message):
            read_table(tmp_path / "m.npy", ids_from=write(tmp_path / name, data))
    with pytest.raises(DataError, match=r"no row 7 to leave out"):
        read_table(tmp_path / "m.npy", number_rows=True, skip=7)


def test_an_array_of_objects_or_of_another_shape_is_refused(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{}, 1], object), allow_pickle=True)
    with pytest.raises(CorruptError, match=r"isn't a whole .npy file of numbers"):
        read_table(tmp_path / "o.npy", number_rows=True)
    np.save(tmp_path / "i.npy", np.arange(4))
    with pytest.raises(DataError, match=r"expected floats \(n, dim\)"):
        read_table(tmp_path / "i.npy", number_rows=True)


def test_what_torch_saves_is_refused_with_the_call_that_converts_it(tmp_path):
    torch = pytest.importorskip("torch")
    for name, how in {"new.pt": {}, "old.pt": {"_use_new_zipfile_serialization": False}}.items():
        torch.save({"w": torch.zeros(2, 2)}, tmp_path / name, **how)
        with pytest.raises(DataError, match=rf"torch.load\('{name}', weights_only=True\).*--tensor NAME --ids FILE"):
            read_table(tmp_path / name)


def test_a_projectors_two_files_are_one_table(tmp_path):
    tensors = "".join("\t".join(map(repr, row)) + "\n" for row in MATRIX.tolist())
    write(tmp_path / "tensors.tsv", tensors.encode())
    write(tmp_path / "one.tsv", "".join(f"{id}\n" for id in NAMES).encode())
    write(tmp_path / "two.tsv", b"n\tid\n" + "".join(f"{i}\t{id}\n" for i, id in enumerate(NAMES)).encode())
    expected = NAMES, MATRIX.tolist()
    assert contents(read_table(tmp_path / "tensors.tsv", "projector", ids_from=tmp_path / "one.tsv")) == expected
    assert (
        contents(read_table(tmp_path / "tensors.tsv", "projector", ids_from=tmp_path / "two.tsv", id="id")) == expected
    )
    with pytest.raises(DataError, match=r"no column 'x'. It has 'n', 'id'"):
        read_table(tmp_path / "tensors.tsv", "projector", ids_from=tmp_path / "two.tsv", id="x")
    with pytest.raises(DataError, match=r"has vectors and no ids"):
        read_table(tmp_path / "tensors.tsv", "projector")
    write(tmp_path / "a.tsv", b"a\nb\n")
    with pytest.raises(CorruptError, match=r"tensors.tsv, line 2: has a carriage return in it"):
        read_table(write(tmp_path / "tensors.tsv", b"1\n3\r4\n"), "projector", ids_from=tmp_path / "a.tsv")


# --- what a file is --------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_file_of_vectors_is_refused_by_what_it_is(tmp_path):
    with pytest.raises(DataError, match=r"is no file"):
        read_table(tmp_path / "missing")
    with pytest.raises(DataError, match=r"is a folder"):
        read_table(tmp_path)
    with pytest.raises(ArgumentError, match=r"has no number_row=; what it takes of a file is ids_from, number_rows, "):
        read_table(write(tmp_path / "w", text()), number_row=True)
    with pytest.raises(ArgumentError, match=r"expected one of word2vec"):
        read_table(write(tmp_path / "w", text()), "excel")
    with pytest.raises(DataError, match=r"HDF5.*save the model as .keras"):
        read_table(write(tmp_path / "w.h5", b"\x89HDF\r\n\x1a\n" + bytes(100)))
    with pytest.raises(CorruptError, match=r"isn't the parquet file that its name promises"):
        read_table(write(tmp_path / "w.parquet", b"hello"))
    buffer = io.BytesIO()
    np.savez(buffer, a=MATRIX)
    with pytest.raises(DataError, match=r"of an .npz save the array as .npy"):
        read_table(write(tmp_path / "w.npz", buffer.getvalue()))


def test_what_a_name_says_counts_for_nothing(tmp_path):
    parquet.write_table(pa.table({"id": NAMES, "v": lists(VECTOR)}), tmp_path / "v.txt")
    assert open_vectors(tmp_path / "v.txt").form.startswith("Parquet")


# --- the command -----------------------------------------------------------------------------------------------------


def test_what_is_imported_is_looked_up_trained_and_described(tmp_path, capfd):
    path, out = write(tmp_path / "w", text()), tmp_path / "words"
    asked = ["import", str(path), "--out", str(out), "--optimizer", "adagrad", "--learning-rate", "0.5"]
    assert main(asked) == 0
    shown = capfd.readouterr().out
    assert "word2vec, text" in shown
    assert "5 ids (string), each with 3 floats" in shown
    table = hotrow.load(out)
    assert (table.optimizer, len(table)) == (hotrow.Adagrad(0.5), 5)
    assert table.lookup(WORDS).tolist() == VECTORS.tolist()
    table.update(["cup"], np.ones((1, 3), np.float32))
    assert "# words" in (out / "README.md").read_text("utf-8")
    assert main([*asked, "--json"]) == 0  # over the table that is there
    facts = json.loads(capfd.readouterr().out)
    assert (facts["rows"], facts["dim"], facts["ids"], facts["generation"]) == (5, 3, "string", 2)


def test_an_import_that_fails_writes_nothing_and_says_why_in_a_line(tmp_path, capfd):
    path = write(tmp_path / "w", b"2 3\na 1 2 3\n")
    assert main(["import", str(path), "--out", str(tmp_path / "o")]) == 1
    assert re.fullmatch(r"hotrow: .*ends after 1 words, and its header says 2\n", capfd.readouterr().err)
    assert not (tmp_path / "o").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    assert main(["import", str(write(path, text())), "--out", str(tmp_path / "full")]) == 1
    assert "holds something else than a saved table (thesis.tex)" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["model.json", "next.json", "classifier.json"])
@pytest.mark.parametrize("part", ["items", "new"])
def test_a_part_of_a_model_is_no_saved_table_to_import_over(tmp_path, capfd, monkeypatch, name, part):
    path, inside = write(tmp_path / "w", text()), tmp_path / "model" / part
    (tmp_path / "model").mkdir()
    write(tmp_path / "model" / name, b"{}")
    if part == "items":
        hotrow.Table(3).save(inside)
    before = sorted(tmp_path.rglob("*"))
    assert main(["import", str(path), "--out", str(inside)]) == 1
    assert "is in a model's folder" in capfd.readouterr().err
    monkeypatch.chdir(tmp_path / "model")
    assert main(["import", str(path), "--out", part]) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_rows_may_be_in_a_file_while_they_are_imported(tmp_path):
    path = write(tmp_path / "w", text())
    asked = ["import", str(path), "--out", str(tmp_path / "o"), "--scratch", str(tmp_path), "--threads", "1"]
    assert main(asked) == 0
    assert hotrow.load(tmp_path / "o").lookup(WORDS).tolist() == VECTORS.tolist()


def test_options_of_the_command_reach_the_reader(tmp_path):
    parquet.write_table(pa.table({"p": NAMES, "q": NAMES[::-1], "a": MATRIX[:, 0], "b": MATRIX[:, 1]}), tmp_path / "v")
    asked = ["--id", "q", "--vector", "b", "--vector", "a", "--from", "parquet", "--seed", "3"]
    assert main(["import", str(tmp_path / "v"), "--out", str(tmp_path / "o"), *asked]) == 0
    table = hotrow.load(tmp_path / "o")
    assert table.seed == 3
    assert table.lookup(NAMES[::-1]).tolist() == MATRIX[:, [1, 0]].tolist()


# --- Keras's files ---------------------------------------------------------------------------------------------------


def keras_file(path, layers, weights, vocabulary=None):
    """A .keras file, by hand: layers as (class, config, the layer before), weights by the name of a layer."""
    h5py = pytest.importorskip("h5py")
    told = [
        {
            "class_name": kind, "module": "keras.layers", "config": config,
            "inbound_nodes": [{"args": [{"config": {"keras_history": [before, 0, 0]}}]}] if before else [],
        }
        for kind, config, before in layers
    ]  # fmt: skip
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as groups:
        for i, (name, matrix) in enumerate(weights.items()):
            variables = groups.create_group(f"layers/embedding{f'_{i}' * (i > 0)}/vars")
            variables.attrs["name"] = name
            variables["0"] = matrix
        for kind, config, _ in layers:
            if kind.endswith("Lookup"):
                groups.create_group(f"layers/{config['name']}/vars").attrs["name"] = config["name"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": {"layers": told}}))
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", buffer.getvalue())
        for name, lines in (vocabulary or {}).items():
            archive.writestr(f"assets/layers/{name}/vocabulary.txt", "\n".join(lines))
    return path


def lookup(name="look", kind="StringLookup", **config):
    """A lookup layer."""
    settings = {"name": name, "num_oov_indices": 1, "mask_token": None, "oov_token": "[UNK]", "output_mode": "int"}
    return kind, settings | config, "input"


EMBEDDING = ("Embedding", {"name": "emb", "mask_zero": False}, "look")


@pytest.mark.parametrize(
    ("layer", "ids", "first"),
    [
        (lookup(vocabulary=["a", "b"]), ["a", "b"], 1),
        (lookup(vocabulary=["[UNK]", "a", "b"]), ["a", "b"], 1),
        (lookup(vocabulary=["a", "b"], mask_token="", num_oov_indices=3), ["a", "b"], 4),
        (lookup(vocabulary=["a", "b"], num_oov_indices=0), ["a", "b"], 0),
        (lookup(kind="IntegerLookup", vocabulary=[-7, 2**40], oov_token=-1, mask_token=0), [-7, 2**40], 2),
        (lookup(vocabulary=None), ["x", "y", "z"], 1),
    ],
)
def test_the_rows_of_an_embedding_are_those_of_the_lookup_before_it(tmp_path, layer, ids, first):
    path = keras_file(tmp_path / "m.keras", [layer, EMBEDDING], {"emb": MATRIX}, {"look": ["[UNK]", "x", "y", "z"]})
    made = read_table(path)
    assert contents(made) == (ids, MATRIX[first : first + len(ids)].tolist())
    said = " ".join(made.notes)
    assert ("mask" in said) == (layer[1]["mask_token"] is not None)
    assert ("outside of the vocabulary" in said) == (layer[1]["num_oov_indices"] > 0)


def test_rows_of_a_layer_that_takes_numbers_have_these_as_ids(tmp_path):
    layer = "Embedding", {"name": "emb", "mask_zero": True}, "input"
    path = keras_file(tmp_path / "m.keras", [layer], {"emb": MATRIX})
    assert contents(read_table(path, number_rows=True)) == (list(range(1, 7)), MATRIX[1:].tolist())
    with pytest.raises(DataError, match=r"0 layers IntegerLookup or StringLookup: none. Say which.*--number-rows"):
        read_table(path)


@pytest.mark.parametrize(
    ("layers", "how", "message"),
    [
        ([lookup(), EMBEDDING, ("Embedding", {"name": "other"}, None)], {}, "'emb', 'other'. Say which: --layer"),
        ([lookup(vocabulary=["a"]), EMBEDDING], {"layer": "x"}, "no Embedding 'x'. It has 'emb'"),
        ([lookup(vocabulary=["a"]), EMBEDDING], {"lookup": "x"}, "no IntegerLookup or StringLookup 'x'"),
        ([lookup(vocabulary=list("abcdefgh")), EMBEDDING], {}, "1 \\+ 8 ids, and the Embedding has 7 rows"),
        ([lookup(vocabulary=["a"], output_mode="one_hot"), EMBEDDING], {}, "doesn't give numbers of rows"),
        ([lookup(vocabulary=["a"], vocabulary_size=9), EMBEDDING], {}, "2 entries, and the lookup says 9"),
        ([lookup(vocabulary=[1]), EMBEDDING], {}, "isn't one of strs alone"),
        ([lookup(vocabulary=["a", "a"]), EMBEDDING], {}, "the id 'a' has come before"),
        ([lookup(vocabulary=None), EMBEDDING], {}, "no vocabulary of its lookup"),
        ([lookup(vocabulary=["a"], num_oov_indices=-1), EMBEDDING], {}, "-1 rows for unknown ids"),
    ],
)  # fmt: skip
def test_a_keras_file_that_cannot_be_told_or_taken_is_refused(tmp_path, layers, how, message):
    path = keras_file(tmp_path / "m.keras", layers, {"emb": MATRIX, "other": MATRIX})
    with pytest.raises((CorruptError, DataError), match=message) as caught:
        read_table(path, **how)
    assert str(path) in str(caught.value)


def test_a_keras_file_may_have_more_ids_in_its_config_than_a_model_of_ours_has_settings(tmp_path):
    words = [f"{i:08d}" * 50 for i in range(50_000)]  # 20 MB
    layers = [lookup(vocabulary=words), EMBEDDING]
    made = read_table(keras_file(tmp_path / "m.keras", layers, {"emb": np.ones((50_001, 1), np.float32)}))
    assert made.table.ids().to_pylist() == words


def test_nothing_that_a_keras_file_names_is_made(tmp_path):
    evil = "Lambda", {"name": "evil", "function": {"class_name": "__lambda__", "config": {"code": "4wEA"}}}, "input"
    path = keras_file(tmp_path / "m.keras", [evil, lookup(vocabulary=["a"]), EMBEDDING], {"emb": MATRIX})
    assert contents(read_table(path))[0] == ["a"]


def stored(path, put):
    """A .keras file whose weights are what `put` puts into a group of variables."""
    h5py = pytest.importorskip("h5py")
    keras_file(path, [lookup(vocabulary=["a"]), EMBEDDING], {})
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as groups:
        variables = groups.create_group("layers/embedding/vars")
        variables.attrs["name"] = "emb"
        put(h5py, variables)
    with zipfile.ZipFile(path) as archive:
        data = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (data | {"model.weights.h5": buffer.getvalue()}).items():
            archive.writestr(name, content)
    return path


def test_an_array_of_hdf5_that_claims_more_than_is_stored_is_refused(tmp_path):
    path = stored(tmp_path / "m.keras", lambda _, group: group.create_dataset("0", (1 << 30, 1 << 10), "f4"))
    with pytest.raises(CorruptError, match=r"claim 4,398,046,511,104 bytes, more than are stored"):
        read_table(path)


def test_weights_in_another_file_are_never_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as groups:
        groups["secret"] = MATRIX
    (tmp_path / "raw").write_bytes(MATRIX.tobytes())

    def external(_, group):
        group.create_dataset("0", (7, 4), "f4", external=[(str(tmp_path / "raw"), 0, MATRIX.nbytes)])

    def virtual(h5py, group):
        layout = h5py.VirtualLayout((7, 4), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "secret", (7, 4))
        group.create_virtual_dataset("0", layout)

    def linked(h5py, group):
        group["0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "secret")

    def nothing(_, group):
        group["1"] = MATRIX

    for put, message in (
        (external, "expected floats"),
        (virtual, "expected floats"),
        (linked, "are a link"),
        (nothing, "there"),
    ):
        with pytest.raises((CorruptError, DataError), match=message):
            read_table(stored(tmp_path / "m.keras", put))


# --- layers of torch's -----------------------------------------------------------------------------------------------


def test_a_layer_of_torch_becomes_a_table():
    torch = pytest.importorskip("torch")
    for layer in (torch.nn.Embedding(4, 3, padding_idx=1), torch.nn.EmbeddingBag(4, 3, padding_idx=1)):
        weight = layer.weight.detach().numpy()
        table = hotrow.torch.from_embedding(layer)
        assert table.ids().tolist() == [0, 2, 3]
        assert table.vectors().tolist() == weight[[0, 2, 3]].tolist()
        for ids in (list("abcd"), np.array(list("abcd")), pa.array(list("abcd"))):
            table = hotrow.torch.from_embedding(layer, ids, optimizer=hotrow.SGD(0.5))
            assert table.lookup(["a", "c", "d"]).tolist() == weight[[0, 2, 3]].tolist()
        assert table.optimizer == hotrow.SGD(0.5)
        assert hotrow.torch.from_embedding(layer, torch.tensor([5, 6, 7, 8])).ids().tolist() == [5, 7, 8]


def test_a_layer_of_torch_that_does_not_fit_is_refused():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Embedding(2, 3)
    with pytest.raises(ArgumentError, match=r"expected a torch.nn.Embedding or EmbeddingBag; got Linear"):
        hotrow.torch.from_embedding(torch.nn.Linear(2, 2))
    with pytest.raises(ArgumentError, match=r"an id for each of 2 rows; got 3"):
        hotrow.torch.from_embedding(layer, ["a", "b", "c"])
    for ids in ((id for id in "ab"), {"a", "b"}, 7, np.array(7), {"a": 0, "b": 1}, "ab"):
        with pytest.raises(ArgumentError, match=r"expected ids in a list or an array, one for each row; got"):
            hotrow.torch.from_embedding(layer, ids)
    with pytest.raises(ArgumentError, match=r'on the device "meta" and has no numbers; load its state_dict'):
        hotrow.torch.from_embedding(torch.nn.Embedding(2, 3, device="meta"))
    with pytest.raises(ArgumentError, match=r"2 rows have 1 distinct ids"):
        hotrow.torch.from_embedding(layer, ["a", "a"])
    torch.nn.init.constant_(layer.weight, float("nan"))
    with pytest.raises(ArgumentError, match=r"finite"):
        hotrow.torch.from_embedding(layer)
