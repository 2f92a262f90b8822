"""`hotrow explain`: true numbers, in a terminal, in SVG and in JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rich.cells import cell_len

import hotrow
from hotrow.apps import explain
from hotrow.apps.cli import main
from hotrow.apps.pictures import CHINESE, ENGLISH, number
from hotrow.apps.svg import with_gaps

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"
OURS = ["--ids", "lantern,cup,python3-numpy,mug,teapot", "--dim", "4", "--pick", "python3-numpy"]
HOSTILE = [
    "<script>alert(1)</script>",
    "[red]x[/red]",
    "\x1b[2J&\"'",
    "漢字" * 20,
    "שלום",
    "\u202etxt",
    "W" * 300,
    "]]>--",
]


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    """80 columns without colours, whatever the tests run in."""
    for name in ("FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")


def text_of(capfd, *arguments):
    assert main(["explain", *map(str, arguments)]) == 0
    return capfd.readouterr().out


def facts_in_json(capfd, *arguments):
    out = text_of(capfd, *arguments, "--json")
    assert out.count("\n") == 1
    return json.loads(out)


def drawn(capfd, path, *arguments):
    """The parsed SVG that a command writes."""
    text_of(capfd, *arguments, "--svg", path)
    return ET.fromstring(path.read_bytes())


def boxes(svg, kind):
    """What is written in the boxes of a kind, in the order in which they were drawn."""
    elements = list(svg)
    return [elements[i + 1].text for i, e in enumerate(elements) if e.tag == f"{SVG}rect" and e.get("class") == kind]


def table(dim=3, seed=0):
    return hotrow.Table(dim, optimizer=hotrow.SGD(0.5), initializer=hotrow.Uniform(1.0), seed=seed)


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_a_table_and_the_product_is_the_lookup(capfd):
    facts = facts_in_json(capfd, "--values", 5, "--dim", 3, "--pick", 2)
    assert facts["ids"] == [0, 1, 2, 3, 4]
    assert facts["pick"] == 2
    assert facts["one_hot"] == [0, 0, 1, 0, 0]
    assert facts["matrix"] == table().lookup(np.arange(5)).astype(float).tolist()
    assert facts["vector"] == table().lookup(2).astype(float).tolist()
    assert (np.array(facts["one_hot"]) @ np.array(facts["matrix"])).tolist() == facts["vector"]
    assert (facts["step"], facts["svg"], facts["complete"]) == (None, None, True)


def test_nothing_asked_is_five_values_of_three_floats_and_the_third_picked(capfd):
    assert facts_in_json(capfd) == facts_in_json(capfd, "--values", 5, "--dim", 3, "--pick", 2, "--seed", 0)


def test_the_seed_is_that_of_the_table(capfd):
    facts = facts_in_json(capfd, "--seed", 7)
    assert facts["matrix"] == table(seed=7).lookup(np.arange(5)).astype(float).tolist()
    assert facts_in_json(capfd, "--seed", 2**64 - 1, "--step")["seed"] == 2**64 - 1


def test_a_step_moves_the_picked_row_alone_and_is_that_of_a_table(capfd):
    facts = facts_in_json(capfd, *OURS, "--step")
    step, ids = facts["step"], facts["ids"]
    assert (step["optimizer"], step["learning_rate"]) == ("SGD", 0.5)
    assert step["before"] == facts["matrix"]
    ours = table(4)
    ours.lookup(ids, grow=True)
    ours.update([facts["pick"]], np.array([step["gradient"]], np.float32))
    assert step["after"] == ours.lookup(ids).astype(float).tolist()
    moved = [id for id, before, after in zip(ids, step["before"], step["after"], strict=True) if before != after]
    assert moved == ["python3-numpy"]
    assert (step["compared"], step["moved"]) == (5, 1)
    expected = np.array(facts["vector"]) - 0.5 * np.array(step["gradient"])
    assert np.allclose(step["after"][2], expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_a_gradient_has_one_decimal_place_and_no_zeros(seed):
    gradient = explain.gradient_of(64, seed)
    assert gradient.dtype == np.float32
    assert (gradient != 0).all()
    assert np.allclose(gradient * 10, np.round(gradient * 10), atol=1e-5)


def test_what_is_not_equal_is_never_called_equal(monkeypatch, capfd):
    with pytest.raises(hotrow.HotrowError, match="the product and the lookup must be equal"):
        explain.must_equal("the product and the lookup", np.ones(2), np.array([1, 1.5]))
    monkeypatch.setattr(hotrow.Table, "update", lambda *_: None)
    assert main(["explain", "--step"]) == 1
    assert "moved row" in capfd.readouterr().err


def test_picked_is_an_id_before_it_is_a_position(capfd):
    assert facts_in_json(capfd, "--ids", "7,1,0", "--pick", "0")["pick"] == "0"
    assert facts_in_json(capfd, "--ids", "7,1,0", "--pick", "1")["one_hot"] == [0, 1, 0]
    assert facts_in_json(capfd, "--ids", "lantern,cup", "--pick", "1")["pick"] == "cup"
    assert facts_in_json(capfd, "--ids", "lantern,cup")["pick"] == "cup"
    assert facts_in_json(capfd, "--values", 1)["pick"] == 0


# --- large tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pick", [0, 1, 500_000, 999_998, 999_999])
def test_of_a_large_table_at_most_12_rows_and_8_columns_are_shown_among_them_the_picked(capfd, tmp_path, pick):
    arguments = ["--values", 1_000_000, "--dim", 4096, "--pick", pick, "--step"]
    facts = facts_in_json(capfd, *arguments)
    assert len(facts["rows"]) == 12
    assert {0, pick, 999_999} <= set(facts["rows"])
    assert len(facts["columns"]) == 8
    assert not facts["complete"]
    assert facts["ids"] == facts["rows"]
    assert facts["step"]["compared"] == 12
    assert np.array(facts["matrix"]).shape == (12, 8)
    assert facts["vector"] == table(4096).lookup(pick)[facts["columns"]].astype(float).tolist()
    out = text_of(capfd, *arguments)
    assert "shown: 12 of 1,000,000 rows, 8 of 4,096 columns" in out
    assert "…" in out
    svg = drawn(capfd, tmp_path / "large.svg", *arguments)
    assert len(boxes(svg, "box")) == 2 * 11 * 8
    assert "⋮" in svg.itertext()
    assert "⋯" in svg.itertext()


def test_a_product_that_is_not_over_all_rows_says_so(capfd):
    assert ENGLISH.over_shown in text_of(capfd, "--values", 1_000_000, "--dim", 4096)
    assert ENGLISH.over_shown not in text_of(capfd, "--values", 100)


@pytest.mark.compiled
def test_a_step_on_a_million_rows_is_compared_with_all_of_them(capfd):
    assert facts_in_json(capfd, "--values", 1_000_000, "--dim", 1, "--step")["step"]["compared"] == 1_000_000


@pytest.mark.parametrize("count", [1, 2, 11, 12, 13, 14, 100])
def test_shown_rows_are_ascending_and_as_many_as_fit(count):
    for pick in range(count):
        rows = explain.shown(count, pick, 12)
        assert rows == sorted(set(rows))
        assert len(rows) == min(count, 12)
        assert {0, pick, count - 1} <= set(rows) <= set(range(count))


def test_a_gap_is_where_numbers_were_left_out():
    assert with_gaps([]) == []
    assert with_gaps([4]) == [0]
    assert with_gaps([0, 2, 3, 9]) == [0, None, 1, 2, None, 3]


def test_numbers_have_two_decimals_and_a_true_minus():
    assert [number(x) for x in (0.234, -0.5, -0.004, 0.0, -1)] == ["0.23", "−0.50", "0.00", "0.00", "−1.00"]


# --- in the terminal -------------------------------------------------------------------------------------------------


def test_the_picked_row_has_an_arrow_and_the_signs(capfd):
    lines = text_of(capfd).splitlines()
    vector = " ".join(number(x).rjust(5) for x in table().lookup(2))
    assert [line for line in lines if "→" in line] == [f"→  2     1    × {vector} = {vector}"]
    assert ENGLISH.equal in lines
    assert max(map(cell_len, lines)) <= 80


def test_a_step_shows_the_rows_before_and_after_and_says_which_moved(capfd):
    out = text_of(capfd, "--step")
    assert max(map(cell_len, out.splitlines())) <= 80
    assert "− 0.5 ×" in out
    assert out.count("unchanged") == 4 + 1
    for words in ("SGD", "learning rate 0.5", "rows compared: 5; moved: 1, that of 2", "--seed 0"):
        assert words in out
    others = [line.split("unchanged") for line in out.splitlines() if line.startswith(("   0", "   4"))]
    assert all(before.split()[1:] == after.split() for before, after in others)


def test_the_picked_row_is_red_where_there_are_colours(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    out = text_of(capfd)
    assert "\x1b[1;31m→  2" in out
    assert out.count("\x1b[1;31m→") == 1


@pytest.mark.parametrize("columns", [1, 12, 30, 50, 80, 200])
@pytest.mark.parametrize("arguments", [[], ["--step"]])
def test_a_narrow_terminal_gets_the_parts_one_below_the_other_and_fewer_columns(capfd, monkeypatch, columns, arguments):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = text_of(capfd, "--values", 6, "--dim", 9, *arguments)
    picture = out.partition("\n\n")[0].splitlines()
    assert columns < 24 or max(map(cell_len, picture)) <= columns
    assert number(table(9).lookup(2)[0]) in out
    assert any(line.startswith("→  2") for line in picture)
    fitted = int(re.search(r"(\d) of 9 columns", out)[1])
    assert fitted == {1: 1, 12: 1, 30: 3, 50: 7}.get(columns, 8)


def test_a_terminal_without_unicode_gets_what_it_can_show(capfd, monkeypatch):
    monkeypatch.setattr("rich.console.Console.encoding", "ascii")
    out = text_of(capfd, "--values", 20, "--step")
    assert out.isascii()
    assert "> " in out
    assert "- 0.5 x" in out
    assert "?" in text_of(capfd, "--lang", "zh")


def test_the_words_are_chinese_where_asked(capfd, tmp_path):
    assert CHINESE.equal in text_of(capfd, "--lang", "zh")
    assert "学习率 0.5" in text_of(capfd, "--lang", "zh", "--step")
    svg = drawn(capfd, tmp_path / "zh.svg", "--lang", "zh", "--step")
    assert svg.get("lang") == "zh-Hans"
    texts = list(svg.itertext())
    assert {CHINESE.before, CHINESE.gradient, CHINESE.after, CHINESE.unchanged} <= set(texts)
    assert not {ENGLISH.before, ENGLISH.gradient, ENGLISH.after} & set(texts)


def test_both_languages_fill_in_the_same():
    for name, english in vars(ENGLISH).items():
        blanks = [sorted(re.findall(r"\{[^}]*\}", words)) for words in (english, getattr(CHINESE, name))]
        assert blanks[0] == blanks[1], name


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_picture_marks_the_picked_row_and_shows_the_numbers(capfd, tmp_path):
    svg = drawn(capfd, tmp_path / "explain.svg", *OURS)
    matrix = table(4).lookup(["lantern", "cup", "python3-numpy", "mug", "teapot"])
    picked = [number(x) for x in matrix[2]]
    assert boxes(svg, "hot") == ["1"]
    assert boxes(svg, "empty") == ["0"] * 4
    assert boxes(svg, "warm") == picked * 2
    assert boxes(svg, "box") == [number(x) for x in np.delete(matrix, 2, axis=0).flat]
    red = [e.text for e in svg.iter(f"{SVG}text") if e.get("class") == "red"]
    assert red[0] == "python3-numpy"


def test_a_picture_of_a_step_shows_the_row_before_its_gradient_and_the_row_after(capfd, tmp_path):
    svg = drawn(capfd, tmp_path / "step.svg", *OURS, "--step")
    facts = facts_in_json(capfd, *OURS, "--step")
    assert boxes(svg, "warm") == [number(x) for x in (*facts["vector"], *facts["step"]["gradient"])]
    assert boxes(svg, "hot") == [number(x) for x in facts["step"]["after"][2]]
    others = boxes(svg, "box")
    assert others[: len(others) // 2] == others[len(others) // 2 :]
    texts = list(svg.itertext())
    assert texts.count("unchanged") == 4
    assert "− 0.5 ×" in texts
    assert any("SGD, learning rate 0.5" in words for words in texts)


def test_a_picture_stands_alone_is_read_out_and_follows_dark_mode(capfd, tmp_path):
    svg = drawn(capfd, tmp_path / "explain.svg", *OURS)
    text = (tmp_path / "explain.svg").read_text("utf-8")
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == svg.find(f"{SVG}title").text == ENGLISH.lookup_title
    assert "python3-numpy" in svg.find(f"{SVG}desc").text
    assert "prefers-color-scheme: dark" in text
    assert text.replace("http://www.w3.org/2000/svg", "").count("://") == 0
    assert "href" not in text


def test_nothing_that_is_drawn_lies_outside(capfd, tmp_path):
    for i, arguments in enumerate([[], ["--values", 1, "--dim", 1], [*OURS, "--step"], ["--values", 99, "--dim", 99]]):
        svg = drawn(capfd, tmp_path / f"{i}.svg", *arguments)
        width, height = float(svg.get("width")), float(svg.get("height"))
        assert svg.get("viewBox") == f"0 0 {width:g} {height:g}"
        for box in svg.iter(f"{SVG}rect"):
            assert 0 <= float(box.get("x", 0)) <= width - float(box.get("width"))
            assert 0 <= float(box.get("y", 0)) <= height - float(box.get("height"))


def test_where_a_picture_was_written_is_said_and_an_older_one_is_replaced(capfd, tmp_path):
    path = tmp_path / "explain.svg"
    for arguments in ([], ["--step"]):
        assert f"written to {path}" in text_of(capfd, *arguments, "--svg", path)
    assert ENGLISH.step_title in path.read_text("utf-8")
    assert facts_in_json(capfd, "--svg", path)["svg"] == str(path)


def test_a_file_that_is_no_svg_is_not_written_over(capfd, tmp_path):
    path = tmp_path / "thesis.txt"
    path.write_text("mine")
    assert main(["explain", "--svg", str(path)]) == 1
    assert "thesis.txt" in capfd.readouterr().err
    assert path.read_text() == "mine"


@pytest.mark.skipif(not (ROOT / "docs" / "one-hot.svg").exists(), reason="this is no checkout")
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(("name", "options"), [("one-hot", []), ("step", ["--step"])])
def test_the_documents_pictures_are_what_the_command_writes(capfd, tmp_path, name, options, language):
    path = tmp_path / "written.svg"
    text_of(capfd, *OURS, *options, "--lang", language, "--svg", path)
    kept = ROOT / "docs" / f"{name}{'' if language == 'en' else '.zh'}.svg"
    assert path.read_text("utf-8") == kept.read_text("utf-8"), f"see apps/pictures.py for how {kept.name} is made"


# --- what can be given -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--step"]])
@pytest.mark.parametrize("pick", range(len(HOSTILE)))
def test_hostile_ids_are_harmless_in_the_terminal_and_in_the_file(capfd, tmp_path, pick, options):
    arguments = ["--ids", ",".join(HOSTILE), "--pick", HOSTILE[pick], "--dim", 2, *options]
    path = tmp_path / "hostile.svg"
    out = text_of(capfd, *arguments, "--svg", path)
    assert not {"\x1b", "\u202e"} & set(out)
    for words in ("[red]x[/red]", "<script>", "\\x1b[2J", "\\u202etxt", "שלום"):
        assert words in out
    svg = ET.fromstring(path.read_bytes())
    assert not svg.findall(".//{*}script")
    texts = list(svg.itertext())
    assert "\\x1b[2J&\"'" in texts
    assert all(c.isprintable() or c == "\n" for words in texts for c in words)
    assert max(cell_len(words) for e in svg.iter(f"{SVG}text") if (words := e.text)) < 100
    assert facts_in_json(capfd, *arguments)["pick"] == HOSTILE[pick]


def test_an_id_that_runs_from_right_to_left_does_not_turn_the_line(capfd):
    assert "שלום\u200e" in text_of(capfd, "--ids", "a,שלום")


def test_long_ids_are_cut_by_their_width():
    assert explain.short("a" * 24, 24) == "a" * 24
    assert explain.short("a" * 25, 24) == "a" * 23 + "…"
    assert cell_len(explain.short("漢" * 30, 24)) <= 24
    assert len(explain.short("e" + "\u0301" * 300, 24)) <= 25


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pick", "5"], ["0 to 4", "'5'", "--pick 2"]),
        (["--pick", "-1"], ["0 to 4", "'-1'"]),
        (["--pick", "cup"], ["0 to 4", "'cup'"]),
        (["--pick", "9" * 5000], ["0 to 4", "999…"]),
        (["--ids", "lantern,cup", "--pick", "mug"], ["'mug'", "0 to 1", "--pick lantern"]),
        (["--ids", "lantern,cup,cup"], ["'cup' twice", "--ids lantern,cup"]),
        (["--ids", "lantern,,cup"], ["an empty one"]),
        (["--ids", ""], ["an empty one"]),
        (["--ids", "lantern,cup", "--values", "3"], ["2 values", "says 3"]),
        (["--ids", "lantern,\udcff"], ["surrogate"]),
        (["--values", "1000001"], ["1000000", "1000001", "--values 5"]),
        (["--values", "1" + "0" * 4000], ["1000000", "000…"]),
        (["--dim", "4097"], ["4096", "4097", "--dim 3"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["--svg", "nowhere/explain.svg"], ["nowhere/explain.svg"]),
    ],
)
def test_what_cannot_be_explained_is_one_line_that_says_what_to_do(capfd, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["explain", *arguments]) == 1
    captured = capfd.readouterr()
    assert captured.err.startswith("hotrow: ")
    assert captured.err.count("\n") == 1
    assert len(captured.err) < 300
    assert not captured.out
    for word in words:
        assert word in captured.err


@pytest.mark.parametrize("arguments", [["--values", "0"], ["--dim", "x"], ["--lang", "fr"], ["--pick"], ["cup"]])
def test_wrong_usage_is_exit_code_2(capfd, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["explain", *arguments])
    assert stopped.value.code == 2
