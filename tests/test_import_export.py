"""What `hotrow export` writes, `hotrow import` makes the same table of, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

import hotrow
from hotrow.apps.cli import main
from hotrow.exchange import parquet, projector, safetensors, word2vec
from hotrow.exchange.reading import read_table
from hotrow.models import Vectors, open_folder

STRINGS = [
    "lantern", "RED MUG", "", "%", "50%", "a%20b", "tab\there", "line\nbreak", "\r\n", "ü漢字", "\u202eevil", "</s>",
    "nul\0", '"quoted"', "x" * 10_000, "\u2028", "\x85", "1.5", "a 1 2", " ", "\ufeff",
]  # fmt: skip
IDS = {
    "string": STRINGS,
    "int64": np.array([-(2**63), -1, 0, 7, 2**63 - 1]),
    "uint64": np.array([0, 7, 2**64 - 1], np.uint64),
}


def side(kind):
    """Ids of a kind with vectors of any finite floats, and the two apart."""
    ids = IDS[kind]
    bits = np.random.default_rng(4).integers(0, 2**32, (len(ids), 5), np.uint32)
    vectors = np.nan_to_num(bits.view(np.float32), nan=1e-45, posinf=3.4028235e38, neginf=-1e-38)
    return ids, vectors, Vectors.of(ids, vectors)


def check(made, kind, ids, vectors):
    """The table that was made has these ids, with these vectors, to the bit."""
    assert made.table.kind == kind
    assert len(made.table) == len(ids)
    assert made.table.lookup(ids).tobytes() == vectors.tobytes()


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_words_come_back(tmp_path, kind, binary):
    ids, vectors, given = side(kind)
    word2vec.write(given, tmp_path / "w", binary=binary)
    integers = {} if kind == "string" else {"ids": kind}
    check(read_table(tmp_path / "w", unescaped=True, **integers), kind, ids, vectors)


@pytest.mark.parametrize("kind", IDS)
def test_parquet_and_safetensors_come_back_with_their_kind(tmp_path, kind):
    ids, vectors, given = side(kind)
    parquet.write(given, tmp_path / "v.parquet")
    check(read_table(tmp_path / "v.parquet"), kind, ids, vectors)
    safetensors.write(given, tmp_path / "v.safetensors")
    check(read_table(tmp_path / "v.safetensors"), kind, ids, vectors)


@pytest.mark.parametrize("kind", IDS)
def test_a_projectors_files_come_back(tmp_path, kind):
    ids, vectors, given = side(kind)
    projector.write(given, tmp_path / "p")
    integers = {} if kind == "string" else {"ids": kind}
    labels = tmp_path / "p" / "metadata.tsv"
    made = read_table(tmp_path / "p" / "tensors.tsv", "projector", ids_from=labels, unescaped=True, **integers)
    check(made, kind, ids, vectors)


@pytest.mark.parametrize("name", ["parquet", "safetensors", "word2vec"])
def test_a_saved_table_goes_out_and_in_by_the_commands(tmp_path, name):
    table = hotrow.Table(3, seed=5)
    vectors = table.lookup(STRINGS, grow=True)
    table.save(tmp_path / "words")
    out = str(tmp_path / "file")
    assert main(["export", str(tmp_path / "words"), "--to", name, "-o", out]) == 0
    assert main(["import", out, "--out", str(tmp_path / "again"), "--unescape"]) == 0
    found = open_folder(tmp_path / "again").side()
    assert found.lookup(STRINGS).tobytes() == vectors.tobytes()
