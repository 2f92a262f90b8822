"""The documents about Keras are true on each backend; on TensorFlow they run with all others, in tests/test_docs.py."""

from __future__ import annotations

import re
import subprocess

import keras
import pytest
from test_docs import PROGRAM, ROOT, Block, blocks, commands, execute

TUTORIALS = [ROOT / "docs" / name for name in ("tutorial.md", "tutorial.zh.md")]
DOCUMENTS = [*TUTORIALS, ROOT / "docs" / "keras.md", ROOT / "docs" / "classify.md"]
PRINT = re.compile(r" *print\(.*\) +# (?P<says>.*)")

each_tutorial = pytest.mark.parametrize("document", TUTORIALS, ids=lambda path: path.name)


def python_of(document) -> list[Block]:
    return [block for block in blocks(document.read_text("utf-8")) if block.language == "python"]


def is_said(line: str, comment: str) -> bool:
    """Whether a comment begins with what is printed, or ends in … before it has all of it."""
    return comment.startswith(line) or (comment.endswith("…") and line.startswith(comment.rstrip("… ")))


@pytest.mark.compiled
@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="the main run has it")
@pytest.mark.parametrize(
    "document",
    [
        pytest.param(path, id=path.name, marks=pytest.mark.enough("torch") if path is TUTORIALS[1] else [])
        for path in DOCUMENTS
    ],
)
def test_its_code_runs_and_prints_what_it_says(document, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in python_of(document):
        capsys.readouterr()
        execute(document, block, names)
        said = [found["says"] for found in map(PRINT.fullmatch, block.code.splitlines()) if found]
        printed = capsys.readouterr().out.splitlines()
        assert len(printed) == len(said), f"line {block.line}: {printed}"
        for line, comment in zip(printed, said, strict=True):
            assert is_said(line, comment), f"line {block.line}: {line!r}, and not {comment!r}"


@pytest.mark.compiled
@pytest.mark.enough("torch")  # the commands know nothing of Keras
@each_tutorial
def test_its_commands_print_what_it_shows(document):
    for block in blocks(document.read_text("utf-8")):
        if block.language == "console" and block.reason is None:
            (command,) = commands(block)
            done = subprocess.run([PROGRAM, *command[1:]], capture_output=True, text=True, timeout=300, check=True)
            shown = block.code.splitlines()[1:]
            assert [line.rstrip() for line in done.stdout.splitlines()][: len(shown)] == shown


def test_both_tutorials_have_the_same_code():
    english, chinese = ([re.sub(r" *#.*", "", block.code) for block in python_of(document)] for document in TUTORIALS)
    assert english == chinese
