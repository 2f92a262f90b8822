"""Files for other programs: each is read back by one, and has the same ids and the same vectors, to the bit."""

from __future__ import annotations

import errno
import json
import os
import struct
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import safetensors
from gensim.models import KeyedVectors
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet as arrow_parquet
from safetensors.numpy import load_file
from strategies import ids_of_one_kind, text_ids

import hotrow
from hotrow.apps.cli import main
from hotrow.errors import ArgumentError, DataError
from hotrow.exchange import leaving, onnx, parquet, projector, word2vec
from hotrow.exchange import safetensors as tensors
from hotrow.exchange.escaping import escape, unescape
from hotrow.models import Vectors
from hotrow.models.sides import of_table

HOSTILE = [
    "WHITE METAL LANTERN", "", "%", "%%", "50%", "50%25", "% x", "a\nb", "\r\n", "tab\tid", "n\0ul", "ends\0", "\0",
    "</s>", "<script>alert(1)</script>", '"quoted"', "'", "back\\slash", "\u202ertl", "עברית", "\u2028", "\u00a0",
    "\u3000x", "\x85", "\ufeffbom", "[UNK]", "-1", "x" * 10_000, "漢字", "🐫", " leads", "trails ", "a,b;c", "#",
    "\x1f", "\x7f",
]  # fmt: skip
INTEGERS = [0, 1, -1, -(2**63), 2**63 - 1, 2**53 + 1, 17]
UNSIGNED = [2**64 - 1, 0, 1, 2**63 - 1, 2**63]
NUMBERS = [0.0, -0.0, 1 / 3, 1e-45, 1e38, -3.4028235e38, 0.1, 16777217.0, 5e-324]


def vectors_of(count, dim=5, seed=0):
    """Any finite float32, not only those that look tidy."""
    bits = np.random.default_rng(seed).integers(0, 2**32, (count, dim), np.uint32)
    matrix = bits.view(np.float32)
    matrix = np.where(np.isfinite(matrix), matrix, np.float32(0.1))
    flat = matrix.reshape(-1)
    few = min(len(flat), len(NUMBERS))
    flat[:few] = np.float32(NUMBERS[:few])
    return matrix


KINDS = {"string": HOSTILE, "int64": INTEGERS, "uint64": UNSIGNED}


def side_of(kind, count=None, dim=5):
    ids = KINDS[kind][:count]
    given = np.array(ids, np.uint64) if kind == "uint64" else ids
    if not ids:
        return of_table("id", hotrow.Table(dim, ids=kind))
    made = Vectors.of(given, vectors_of(len(ids), dim))
    assert made.kind == kind
    return made


def same(a, b):
    """To the bit: a sign of zero counts."""
    a, b = np.ascontiguousarray(a, np.float32), np.ascontiguousarray(b, np.float32)
    return a.shape == b.shape and (a.view(np.uint32) == b.view(np.uint32)).all()


@pytest.fixture(autouse=True)
def _few_rows_at_a_time(monkeypatch):
    """Every file is written in several pieces."""
    monkeypatch.setattr(leaving, "rows_at_a_time", lambda dim, *, text=False: 3)


# --- Parquet ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, None])
@pytest.mark.parametrize("kind", KINDS)
def test_parquet_is_read_by_arrow_pandas_and_polars(tmp_path, kind, count):
    side, path = side_of(kind, count), tmp_path / "ids.parquet"
    facts = parquet.write(side, path, columns={"price": np.arange(len(side)) / 2})
    assert facts["rows"] == len(side)
    assert facts["bytes"] == path.stat().st_size
    table = arrow_parquet.read_table(path)
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 5)
    assert table["id"].to_pylist() == KINDS[kind][:count]
    assert same(table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, 5), side.vectors())
    assert table["price"].to_pylist() == [i / 2 for i in range(len(side))]
    frame = pd.read_parquet(path)
    assert frame["id"].tolist() == KINDS[kind][:count]
    assert same(np.stack([np.zeros(5), *frame["vector"]])[1:], side.vectors())
    frame = pl.read_parquet(path)
    assert frame["id"].to_list() == KINDS[kind][:count]
    assert same(np.array(frame["vector"].to_list()).reshape(-1, 5), side.vectors())


def test_parquet_has_a_group_of_rows_for_each_piece_so_that_a_table_needn_t_fit_into_memory(tmp_path):
    side = side_of("string")
    parquet.write(side, tmp_path / "a.parquet")
    assert arrow_parquet.ParquetFile(tmp_path / "a.parquet").num_row_groups == -(-len(side) // 3)


def test_columns_of_another_length_or_with_our_names_are_refused_and_nothing_is_written(tmp_path):
    side = side_of("int64")
    with pytest.raises(ArgumentError, match="'price' has 2 values, expected one for each of 7 ids"):
        parquet.write(side, tmp_path / "a.parquet", columns={"price": [1, 2]})
    with pytest.raises(ArgumentError, match="can't be called 'vector'"):
        parquet.write(side, tmp_path / "a.parquet", columns={"vector": list(range(7))})
    with pytest.raises(ArgumentError, match="'price' has 2 values"):
        projector.write(side, tmp_path / "p", columns={"price": [1, 2]})
    assert not list(tmp_path.iterdir())


# --- safetensors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, None])
@pytest.mark.parametrize("kind", KINDS)
def test_safetensors_is_read_by_its_own_package(tmp_path, kind, count):
    side, path = side_of(kind, count), tmp_path / "ids.safetensors"
    facts = tensors.write(side, path)
    arrays = load_file(path)
    assert facts["arrays"] == [name for name in facts["arrays"] if name in arrays]
    assert facts["bytes"] == path.stat().st_size
    assert same(arrays["vectors"], side.vectors())
    if kind == "string":
        text, offsets = arrays["ids.utf8"].tobytes(), arrays["ids.offsets"].tolist()
        ids = [text[start:stop].decode() for start, stop in zip(offsets[:-1], offsets[1:], strict=True)]
    else:
        ids = arrays["ids"].tolist()
        assert arrays["ids"].dtype == kind
    assert ids == KINDS[kind][:count]
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata() == {"hotrow": "1", "side": "id", "ids": kind}


# --- word2vec --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("count", [1, None])
@pytest.mark.parametrize("kind", KINDS)
def test_word2vec_is_read_by_gensim(tmp_path, kind, count, binary):
    side, path = side_of(kind, count), tmp_path / "ids.txt"
    facts = word2vec.write(side, path, binary=binary)
    read = KeyedVectors.load_word2vec_format(path, binary=binary)
    assert [unescape(word) for word in read.index_to_key] == [str(id) for id in KINDS[kind][:count]]
    assert same(read.vectors, side.vectors())
    assert facts["escaped"] == sum(escape(str(id)) != str(id) for id in KINDS[kind][:count])
    assert facts["bytes"] == path.stat().st_size


@pytest.mark.parametrize("binary", [False, True])
def test_an_empty_table_in_word2vec_is_the_first_line(tmp_path, binary):
    word2vec.write(side_of("string", 0), tmp_path / "none.txt", binary=binary)
    assert (tmp_path / "none.txt").read_bytes() == b"0 5\n"


def test_word2vec_is_read_by_whoever_splits_lines_at_blanks(tmp_path):
    side = side_of("string")
    word2vec.write(side, tmp_path / "a.txt")
    lines = (tmp_path / "a.txt").read_text("utf-8").splitlines()
    assert lines[0] == f"{len(HOSTILE)} 5"
    assert [unescape(line.split()[0]) for line in lines[1:]] == HOSTILE
    assert same([[float(x) for x in line.split()[1:]] for line in lines[1:]], side.vectors())


def test_binary_word2vec_is_what_the_original_program_reads(tmp_path):
    """distance.c reads a word up to a blank, leaves line breaks out, and then reads dim floats."""
    side = side_of("string")
    word2vec.write(side, tmp_path / "a.bin", binary=True)
    data = (tmp_path / "a.bin").read_bytes()
    head, _, data = data.partition(b"\n")
    count, dim = map(int, head.split())
    words, rows = [], []
    for _ in range(count):
        word, _, data = data.partition(b" ")
        words.append(word.replace(b"\n", b"").decode())
        rows.append(struct.unpack(f"<{dim}f", data[: 4 * dim]))
        data = data[4 * dim :]
    assert data == b"\n"
    assert [unescape(word) for word in words] == HOSTILE
    assert same(rows, side.vectors())


@given(st.lists(st.floats(width=32), min_size=1))
def test_numbers_as_text_are_read_as_the_same_also_by_way_of_float64(numbers):
    given = np.float32(numbers)[None]
    texts = word2vec.joined(given, " ")[0].split(" ")
    read = np.float32([float(text) for text in texts])
    finite = ~np.isnan(given[0])
    assert same(read[finite], given[0][finite])
    assert np.isnan(read[~finite]).all()


def test_a_number_that_would_be_rounded_twice_gets_the_digits_that_it_needs(monkeypatch):
    monkeypatch.setattr(word2vec, "_shortest", lambda flat: pa.array(["0.1", "-2.4999"]))  # the second is another's
    assert word2vec.joined(np.float32([[0.1, -2.5]]), " ") == ["0.1 -2.5"]


# --- escaping --------------------------------------------------------------------------------------------------------


@given(text_ids() | st.text("% 2F0a\t\n") | st.sampled_from(HOSTILE))
@settings(max_examples=300)
def test_an_escaped_id_has_no_blank_and_comes_back(text):
    word = escape(text)
    assert word
    assert word.split() == [word]
    assert word.isprintable() or text.isprintable() or all(ord(c) > 0x9F for c in word if not c.isprintable())
    assert unescape(word) == text
    assert text in {"", "%"} or unquote(word) == text
    field = escape(text, blanks=False)
    assert unescape(field) == text
    assert field.splitlines() == [field]
    assert "\t" not in field


def test_an_ordinary_id_is_written_as_it_is():
    for text in ["python3-numpy", "50%", "ü", "漢字", "a/b?c=d&e", "%g0", "100%x"]:
        assert escape(text) == text


@given(st.lists(st.text("% 2\t0a", max_size=5), unique=True))
def test_different_ids_are_different_words(texts):
    assert len({escape(text) for text in texts}) == len(texts)


# --- the projector ---------------------------------------------------------------------------------------------------


def projected(folder):
    """What TensorBoard's projector_plugin.py makes of the vectors, and the lines of labels as its page splits them."""
    lines = (folder / "tensors.tsv").read_text("utf-8").split("\n")
    matrix = np.array([list(map(float, line.split("\t"))) for line in lines if line], dtype="float32")
    labels = (folder / "metadata.tsv").read_bytes().decode().split("\n")
    assert labels.pop() == ""
    return matrix, [line.split("\t") for line in labels]


@pytest.mark.parametrize("count", [1, None])
@pytest.mark.parametrize("kind", KINDS)
def test_the_projector_gets_a_line_of_numbers_and_a_label_for_each_id(tmp_path, kind, count):
    side, folder = side_of(kind, count), tmp_path / "projector"
    facts = projector.write(side, folder)
    matrix, labels = projected(folder)
    assert same(matrix, side.vectors())
    assert [unescape(label) for (label,) in labels] == [str(id) for id in KINDS[kind][:count]]
    assert facts["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    config = json.loads((folder / "projector_config.json").read_text("utf-8"))["embeddings"][0]
    assert config["tensorShape"] == list(matrix.shape)
    assert (folder / config["tensorPath"]).is_file()
    assert (folder / config["metadataPath"]).is_file()


def test_the_projector_s_labels_have_a_head_when_there_are_more_columns(tmp_path):
    side = side_of("string", 2)
    projector.write(side, tmp_path / "p", columns={"what\tit is": ["a\nb", None], "price": [1.5, 2.0]})
    assert projected(tmp_path / "p")[1] == [
        ["id", "what%09it is", "price"],
        ["WHITE METAL LANTERN", "a%0Ab", "1.5"],
        ["%", "", "2.0"],
    ]


def test_the_projector_s_configuration_is_text_of_a_protobuf(tmp_path):
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    projector.write(Vectors.of([1, 2], np.eye(2), name='odd "ñame"\n'), tmp_path / "p")
    proto = descriptor_pb2.FileDescriptorProto(name="projector_config.proto", package="tensorboard")
    info = proto.message_type.add(name="EmbeddingInfo")
    for number, name in enumerate(["tensor_name", "metadata_path", "tensor_path"], 1):
        info.field.add(name=name, number=number, type=9, label=1)
    proto.message_type.add(name="ProjectorConfig").field.add(
        name="embeddings", number=1, type=11, label=3, type_name=".tensorboard.EmbeddingInfo"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    config = message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorboard.ProjectorConfig"))()
    text_format.Merge((tmp_path / "p" / "projector_config.pbtxt").read_text("utf-8"), config)
    (one,) = config.embeddings
    assert (one.tensor_path, one.metadata_path) == ("tensors.tsv", "metadata.tsv")
    assert unescape(one.tensor_name) == 'odd "ñame"\n'


# --- files -----------------------------------------------------------------------------------------------------------

WRITERS = {"parquet": parquet, "safetensors": tensors, "word2vec": word2vec, "onnx": onnx}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_the_same_kind_is_replaced_and_another_one_is_refused(tmp_path, name):
    path, write = tmp_path / "file", WRITERS[name].write
    write(side_of("string", 2), path)
    before = path.read_bytes()
    write(side_of("int64", 2), path)
    assert path.read_bytes() != before
    path.write_bytes(b"# my thesis\n" + bytes(range(256)))
    with pytest.raises(DataError, match="give another name, or remove it first"):
        write(side_of("string", 2), path)
    assert path.read_bytes().startswith(b"# my thesis")
    path.write_bytes(b"")
    write(side_of("string", 2), path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", WRITERS)
def test_after_an_error_there_is_what_was_there_before(tmp_path, name):
    path, write = tmp_path / "file", WRITERS[name].write
    write(side_of("string", 2), path)
    before = path.read_bytes()

    def fail(done, total, facts):
        if done > 3:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write(side_of("string"), path, progress=fail)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["word2vec", "safetensors"])
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, monkeypatch, name):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(WRITERS[name], "pieces", full)
    with pytest.raises(OSError, match=r"No space left on device.*file"):
        WRITERS[name].write(side_of("int64"), tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_a_pipe_and_a_name_in_no_folder_are_refused(tmp_path, name):
    write, side = WRITERS[name].write, side_of("int64")
    with pytest.raises(DataError, match="is a folder; give the name of a file"):
        write(side, tmp_path)
    with pytest.raises(DataError, match="is no folder: make it first"):
        write(side, tmp_path / "nowhere" / "file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is no plain file"):
        write(side, tmp_path / "pipe")
    assert [one.name for one in tmp_path.iterdir()] == ["pipe"]


def test_a_folder_that_is_not_the_projector_s_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"something else than a projector's files \(notes.txt\)"):
        projector.write(side_of("int64"), tmp_path)
    with pytest.raises(DataError, match="is a file; the projector takes a folder"):
        projector.write(side_of("int64"), tmp_path / "notes.txt")
    with pytest.raises(DataError, match="is no folder: make it first"):
        projector.write(side_of("int64"), tmp_path / "nowhere" / "p")
    assert [one.name for one in tmp_path.iterdir()] == ["notes.txt"]


def test_progress_is_told_in_rows_of_all(tmp_path):
    told = []
    for write in (parquet.write, tensors.write, word2vec.write, onnx.write):
        told.clear()
        write(side_of("int64"), tmp_path / write.__module__, progress=lambda *now: told.append(now))
        assert told == [(3, 7, {}), (6, 7, {}), (7, 7, {})]


@given(ids_of_one_kind())
@settings(max_examples=30)
def test_any_ids_come_back_from_each_format(tmp_path_factory, drawn):
    kind, ids = drawn
    ids = list(dict.fromkeys(ids))
    folder = tmp_path_factory.mktemp("any")
    side = Vectors.of(np.array(ids, kind) if kind != "string" else ids, vectors_of(len(ids), 3))
    parquet.write(side, folder / "a.parquet")
    assert arrow_parquet.read_table(folder / "a.parquet")["id"].to_pylist() == ids
    word2vec.write(side, folder / "a.txt")
    read = KeyedVectors.load_word2vec_format(folder / "a.txt")
    assert [unescape(word) for word in read.index_to_key] == [str(id) for id in ids]
    assert same(read.vectors, side.vectors())


# --- on the command line ---------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A saved table, in a folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    table = hotrow.Table(4)
    table.lookup(["RED MUG", "cup", "lantern"], grow=True)
    table.save("items")
    return table


def printed(capsys, *words):
    assert main(words) == 0
    return capsys.readouterr().out


def test_the_command_says_what_is_written_and_how_to_read_it(saved, capsys):
    said = printed(capsys, "export", "items", "--to", "word2vec", "-o", "items.txt")
    assert "3 ids × 4 (string ids, vectors) written to items.txt" in said
    assert "1 ids have blanks or control characters" in said
    assert "gensim.models.KeyedVectors.load_word2vec_format('items.txt')" in said
    facts = json.loads(printed(capsys, "export", "items", "--to", "parquet", "-o", "items.parquet", "--json"))
    size = Path("items.parquet").stat().st_size
    assert facts == {
        "to": "parquet", "out": "items.parquet", "side": "id", "as": "vectors", "ids": "string", "rows": 3, "dim": 4,
        "bytes": size, "columns": ["id", "vector"],
    }  # fmt: skip
    frame = pd.read_parquet("items.parquet")
    assert same(np.stack(list(frame["vector"])), saved.lookup(frame["id"].tolist()))


@pytest.mark.parametrize("format", ["parquet", "safetensors", "word2vec", "projector", "onnx"])
def test_a_saved_table_is_exported_without_all_its_vectors_in_memory(saved, capsys, monkeypatch, format):
    from hotrow.store.opened import SnapshotView

    monkeypatch.setattr(SnapshotView, "vectors", lambda self: pytest.fail("all vectors at once"))
    assert "3 ids × 4" in printed(capsys, "export", "items", "--to", format, "-o", "out")


def test_forgotten_ids_are_not_exported(saved, capsys):
    table = hotrow.load("items")
    table.forget(["cup"])
    table.save_delta()
    printed(capsys, "export", "items", "--to", "parquet", "-o", "items.parquet")
    assert sorted(pd.read_parquet("items.parquet")["id"]) == ["RED MUG", "lantern"]


def test_what_cannot_be_is_one_line_on_stderr(saved, capsys):
    def wrong(*words):
        assert main(["export", *words]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "holds neither a model nor a table" in wrong("nowhere", "--to", "parquet", "-o", "a")
    assert "has the side 'id'; got side='user'" in wrong("items", "--to", "parquet", "-o", "a", "--side", "user")
    assert "within the model's folder" in wrong("items", "--to", "parquet", "-o", "items/a.parquet")
    assert "no factors of users and items" in wrong("items", "--to", "parquet", "-o", "a", "--as", "factors")
    assert sorted(path.name for path in Path().iterdir()) == ["items"]
    with pytest.raises(SystemExit) as done:
        main(["export", "items", "--to", "parquet", "-o", "a", "--binary"])
    assert done.value.code == 2
    assert "--binary is of word2vec; leave it out with --to parquet" in capsys.readouterr().err
