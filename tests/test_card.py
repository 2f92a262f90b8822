"""The model card: what it says is so, its code runs, hostile names do nothing, and nobody's own README is lost."""

from __future__ import annotations

import ast
import json
import re
import shlex

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pyarrow import parquet
from test_docs import blocks

import hotrow
from hotrow.apps.cli import main
from hotrow.exchange import card as cards
from hotrow.exchange.card import MARK, Facts, Table, card, plain, quoted
from hotrow.models import classifier_files

RENDER = MarkdownIt("commonmark").enable("table")


def pairs(path, name="pairs.parquet"):
    """Twelve users of two tastes, in a file."""
    draw = np.random.default_rng(3)
    rows = [(who, f"item {3 * draw.integers(8) + who % 3}", t, 1 + who % 5) for who in range(30) for t in range(6)]
    users, items, times, stars = zip(*rows, strict=True)
    parquet.write_table(pa.table({"who": users, "what": items, "when": times, "stars": stars}), path / name)
    return str(path / name)


def train(folder, data, *options):
    """The card of a small model."""
    asked = ["train", data, "--user", "who", "--item", "what", "--dim", "4", "--epochs", "1", "--out", str(folder)]
    assert main([*asked, *options, "--threads", "1"]) == 0
    return (folder / "README.md").read_text("utf-8")


def run(text, folder, monkeypatch):
    """Run the Python of a card in its folder, and those of its commands that need no id."""
    monkeypatch.chdir(folder)
    ran = 0
    for block in blocks(text):
        if block.language == "python":
            exec(compile(block.code, "card", "exec"), {})
            ran += 1
        for line in block.code.splitlines():
            if line.startswith("$ hotrow inspect"):
                assert main(shlex.split(line.removeprefix("$ hotrow "))) == 0
                ran += 1
    assert ran == 2


KINDS = {
    "pairs": ([], "recommends items to users", "popularity"),
    "ratings": (["--rating", "stars", "--time", "when"], "predicts how a user rates", "means and biases alone"),
    "next": (["--next", "--time", "when"], "what comes next", "popularity"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_model_has_a_card_of_the_figures_in_its_report_and_its_code_runs(tmp_path, monkeypatch, kind):
    options, what, beside = KINDS[kind]
    text = train(tmp_path / "model", pairs(tmp_path), *options)
    report = json.loads((tmp_path / "model" / "report.json").read_text("utf-8"))
    assert text.startswith("---\nlibrary_name: hotrow\n")
    assert "license:" not in text.partition("\n---\n")[0]
    assert what in text
    assert f"| {beside} |" in text
    for name, value in report["model"].items():
        assert f"| {name.replace('_', chr(92) + '_')} | {value:.4f} |" in text
        assert f'    - type: "{name}"\n      value: {value:.6g}\n' in text
    for name, interval in report.get("intervals", {}).get("model", {}).items():
        low, high = interval
        assert f"{report['model'][name]:.4f} | {low:.4f} to {high:.4f} |" in text
    assert f"Held out to measure with: {report['protocol']['held_out']}." in text
    assert "Seed of the split and of the training: 0." in text
    assert f"| training | {report['rows']['training']:,} |" in text
    assert not [i for i in range(24) if f"item {i}" in text]  # no id of anybody or anything
    run(text, tmp_path / "model", monkeypatch)


def test_a_classifier_has_a_card_without_keras(tmp_path):
    notes = {"tables": {"job": {"rows": 3, "dim": 4, "ids": "string", "steps": 9}}}
    described = {"config": {"dim": 4}, "columns": {"job": {"kind": "id"}}, "classes": ["no", "yes"], "notes": notes}
    classifier_files.save(tmp_path / "model", described, lambda path: path.write_bytes(b"net"))
    report = {
        "model": {"auc": 0.75}, "logistic": {"auc": 0.5}, "majority": {"auc": 0.5}, "rows": {"train": 9}, "seconds": 1,
        "data": "people.csv", "columns": [{"name": "job", "kind": "discrete"}],
    }  # fmt: skip
    (tmp_path / "model" / "report.json").write_text(json.dumps(report))
    assert main(["card", str(tmp_path / "model")]) == 0
    text = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert "A classifier into no, yes" in text
    assert "| auc | 0.7500 | 0.5000 | 0.5000 |" in text
    assert "| job | 3 | 4 | string | Adam | in the net |" in text
    assert "table = model.table('job')" in text


def test_a_saved_table_has_a_card_on_demand(tmp_path, monkeypatch, capfd):
    table = hotrow.Table(4, optimizer=hotrow.Adagrad())
    table.lookup(["lantern", "cup"], grow=True)
    table.save(tmp_path / "words")
    assert main(["card", str(tmp_path / "words")]) == 0
    assert "the card is in" in capfd.readouterr().out
    text = (tmp_path / "words" / "README.md").read_text("utf-8")
    assert "A table of 2 ids with a vector of 4 floats each" in text
    assert "| table | 2 | 4 | string | Adagrad |" in text
    assert "lantern" not in text
    run(text, tmp_path / "words", monkeypatch)
    assert hotrow.load(tmp_path / "words").lookup("cup").shape == (4,)  # a card does no harm to what is beside it
    assert main(["verify", str(tmp_path / "words")]) == 0


def test_a_readme_of_somebodys_own_is_never_written_over(tmp_path, capfd):
    folder, data = tmp_path / "model", pairs(tmp_path)
    train(folder, data)
    (folder / "README.md").write_text("# Mine\n\nAll mine.\n")
    asked = ["--user", "who", "--item", "what", "--dim", "4", "--epochs", "1", "--threads", "1", "--out", str(folder)]
    assert main(["train", data, *asked]) == 0
    assert "isn't hotrow's own and stays as it is" in capfd.readouterr().out
    assert main(["card", str(folder)]) == 1
    assert f"hotrow card {folder} -o card.md" in capfd.readouterr().err
    assert (folder / "README.md").read_text() == "# Mine\n\nAll mine.\n"
    assert main(["card", str(folder), "-o", str(tmp_path / "card.md"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["card"] == str(tmp_path / "card.md")
    assert MARK in (tmp_path / "card.md").read_text("utf-8").splitlines()
    assert main(["card", str(folder), "-o", str(tmp_path / "card.md")]) == 0  # its own, anew


def test_a_readme_that_is_a_link_or_a_folder_stays(tmp_path):
    (tmp_path / "own.md").write_text(f"{MARK}\n")
    (tmp_path / "link.md").symlink_to(tmp_path / "own.md")
    (tmp_path / "folder.md").mkdir()
    ours = {path.name: cards.is_ours(path) for path in tmp_path.iterdir()}
    assert ours == {"own.md": True, "link.md": False, "folder.md": False}
    assert cards.is_ours(tmp_path / "new.md")
    (tmp_path / "own.md").write_text(f"they write `{MARK}` into it\n")
    assert not cards.is_ours(tmp_path / "own.md")


def test_a_card_follows_what_is_forgotten(tmp_path):
    folder = tmp_path / "model"
    before = train(folder, pairs(tmp_path))
    assert "| users | 30 |" in before
    assert main(["forget", str(folder), "7", "--rewrite"]) == 0
    after = (folder / "README.md").read_text("utf-8")
    assert "| users | 29 |" in after
    (folder / "README.md").unlink()
    assert main(["forget", str(folder), "8"]) == 0
    assert not (folder / "README.md").exists()  # who has removed it doesn't want it


def test_a_model_without_a_report_is_said_not_to_be_measured(tmp_path):
    folder = tmp_path / "model"
    train(folder, pairs(tmp_path))
    (folder / "report.json").unlink()
    assert main(["card", str(folder)]) == 0
    text = (folder / "README.md").read_text("utf-8")
    assert "Not measured" in text
    assert "model-index" not in text


@pytest.mark.parametrize(
    "report", ['{"data": 1}', '{"data": "x", "model": {"a": "b"}, "rows": {}, "seconds": 1}', "[]"]
)
def test_a_report_that_train_did_not_write_is_an_error_of_ours(tmp_path, capfd, report):
    folder = tmp_path / "model"
    train(folder, pairs(tmp_path))
    (folder / "report.json").write_text(report)
    assert main(["card", str(folder)]) == 1
    assert "report.json" in capfd.readouterr().err


def test_a_folder_without_a_model_has_no_card(tmp_path, capfd):
    assert main(["card", str(tmp_path)]) == 1
    assert "holds neither a model nor a table" in capfd.readouterr().err


YAML_NUMBER = re.compile(r"-?[0-9]+|-?[0-9]+\.[0-9]*(e[-+][0-9]+)?|-?\.inf|\.nan")
"""As YAML 1.1 has them, and so 1.2 too."""


def test_a_metric_is_a_number_of_yaml_whatever_it_is():
    given = [0.5, 1, 0, 1e-5, 1.25e-7, 1e20, float("nan"), float("inf"), float("-inf"), -0.25]
    report = {
        "model": {str(i): value for i, value in enumerate(given)}, "rows": {"train": 3}, "seconds": 1.0, "data": "x",
        "columns": {}, "protocol": {},
    }  # fmt: skip
    text = card(Facts("m", "retrieval", "0.1", [Table("users", 1, 2, "string", "Adam", 8)], report))
    shown = re.findall(r"      value: (.*)", text)
    assert all(YAML_NUMBER.fullmatch(one) for one in shown)
    read = [float(one.replace(".inf", "inf").replace(".nan", "nan")) for one in shown]
    np.testing.assert_array_equal(read, given)


# --- names from strangers --------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>", "a|b", "`x`", "```", "[a](javascript:x)", "![i](http://x/y)", "a\nb\r\n---\nc", "# x",
    "*a* _b_ **c**", "&lt;b&gt;", "\u202eevil", "\0\x07\x1b[31m", "x" * 10_000, "https://a.example/x", "www.a.example",
    "me@a.example", "<!-- x -->", "\\", '"', "$x$", "a: b", "{{ x }}", "\u2028", "\ud800", "漢字",
]  # fmt: skip


def test_hostile_names_of_files_columns_and_classes_stay_text():
    for name in HOSTILE:
        report = {
            "model": {"auc": 0.5}, "logistic": {"auc": 0.5}, "rows": {name: 3}, "seconds": 1.0, "data": name,
            "columns": [{"name": name, "kind": name}], "protocol": {"held_out": name, "seed": 0},
        }  # fmt: skip
        tables = [Table(name, 1, 2, "string", name, None)]
        text = card(Facts(name, "classifier", "0.1", tables, report, {name: name}, [name]))
        assert text.splitlines().count(MARK) == 1
        front, _, body = text.removeprefix("---\n").partition("\n---\n")
        assert all(re.match(r"[- ]*[a-z_-]+:( |$)|- ", line) for line in front.splitlines())
        kinds = {token.type for block in RENDER.parse(body) for token in (block, *(block.children or ()))}
        assert not kinds & {"html_inline", "link_open", "image", "em_open", "strong_open"}
        assert [token.content for token in RENDER.parse(body) if token.type == "html_block"] == [f"{MARK}\n"]
        assert body.count("\n# ") == 1
        assert all(c.isprintable() or c == "\n" for c in text)


@given(st.text(max_size=300))
def test_any_name_is_one_line_of_markdown_that_shows_it(name):
    (block,) = [token for token in RENDER.parse(f"x {plain(name)} x") if token.type == "inline"]
    shown = "".join(token.content for token in block.children)
    assert {token.type for token in block.children} <= {"text", "text_special"}
    if name.isprintable() and len(name) <= 200 and name == name.strip() and "  " not in name:
        assert shown.strip() == f"x {name} x".strip()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_name_is_a_yaml_string_of_it(name):
    text = quoted(name)
    assert text.isprintable()
    assert ast.literal_eval(text) == name  # of YAML's escapes these are Python's, too
