"""The documents are true: their Python runs, their commands run, and so do the examples in docstrings.

What is checked in README.md, its neighbours and docs/, block by block, in a folder of its own for each file:

    ```python   runs; the blocks of a file share their variables, so a later one goes on from an earlier one
    ```console  each line that begins with `$ hotrow` is run and must end well; what it prints is an example
    ```sh       as console, with the `$` left out

There is one file in the folder from the start, `purchases.parquet`: see `write_purchases`.

The Python of a translation isn't run again: it is that of the document it translates, but for comments.

A block that isn't to be run says why, in the line above it: `<!-- not run: it trains for an hour -->`. A line of a
shell block that is no `hotrow` command must be in such a block.
"""

from __future__ import annotations

import ast
import doctest
import re
import shlex
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pyarrow as pa
import pytest
from pyarrow import parquet

import hotrow

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("**/*.md"))]
TRANSLATIONS = {ROOT / "docs" / "tutorial.zh.md": ROOT / "docs" / "tutorial.md"}
PROGRAM = Path(sysconfig.get_path("scripts")) / "hotrow"

FENCE = re.compile(r"(?P<indent> *)```(?P<language>[a-z]*)[^`]*")
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>\S.*\S) -->")
SHELLS = {"console", "sh", "shell", "bash"}


@dataclass(frozen=True)
class Block:
    """Code of a document: its language, where it begins, its lines, and why it isn't run."""

    language: str
    line: int
    code: str
    reason: str | None


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a Markdown text."""
    found, lines, i = [], text.splitlines(), 0
    while i < len(lines):
        fence = FENCE.fullmatch(lines[i])
        if fence:
            above = next((line for line in reversed(lines[:i]) if line.strip()), "")
            why = NOT_RUN.fullmatch(above.strip())
            begin = i + 1
            i = next((j for j in range(begin, len(lines)) if lines[j].strip() == "```"), None)
            assert i is not None, f"the block that begins in line {begin} never ends"
            code = "\n".join(line.removeprefix(fence["indent"]) for line in lines[begin:i])
            found.append(Block(fence["language"], begin, code, why and why["reason"]))
        i += 1
    return found


def commands(block: Block) -> list[list[str]]:
    """The commands of a shell block, each as a list of words; AssertionError for one that can't be run here."""
    lines = block.code.replace("\\\n", " ").splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]  # the others are what is printed
    words = [shlex.split(line, comments=True) for line in lines]
    words = [command for command in words if command]
    for command in words:
        assert command[0] == "hotrow", f"line {block.line}: {command[0]!r} isn't run here; say so: <!-- not run: … -->"
    return words


def execute(document: Path, block: Block, names: dict[str, object]) -> None:
    """Run one block in the current folder."""
    if block.language == "python":
        code = "\n" * block.line + block.code  # so that errors show the line of the document
        exec(compile(code, str(document), "exec"), names)
    if block.language in SHELLS:
        for command in commands(block):
            done = subprocess.run([PROGRAM, *command[1:]], capture_output=True, text=True, timeout=600, check=False)
            assert done.returncode == 0, f"{document}:{block.line}: {shlex.join(command)}\n{done.stdout}{done.stderr}"


def write_purchases(path: Path) -> None:
    """A shop of two tastes: who buys from one shelf buys more of it. Some customers are unknown."""
    shelves = [["WHITE METAL LANTERN", "CREAM CANDLE", "GLASS T-LIGHT"], ["RED MUG", "TEA POT", "JAM SPOON"]]
    bought = [(17850 + who, item) for who in range(20) for item in shelves[who % 2][: 2 + who % 3]]
    customers = [None, *(who for who, _ in bought)]
    items = ["RED MUG", *(item for _, item in bought)]
    parquet.write_table(pa.table({"CustomerID": customers, "Description": items}), path)


def test_blocks_are_found_with_their_reasons():
    text = "a\n```python\nx = 1\n```\n\n<!-- not run: no such file -->\n\n```console\n$ hotrow train\nok\n```\n"
    first, second = blocks(text)
    assert (first.language, first.line, first.code, first.reason) == ("python", 2, "x = 1", None)
    assert (second.language, second.reason) == ("console", "no such file")
    assert commands(second) == [["hotrow", "train"]]


def test_a_command_that_cannot_be_run_here_must_say_so():
    with pytest.raises(AssertionError, match="not run"):
        commands(Block("sh", 1, "make demo", None))


@pytest.mark.compiled
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_code_of_a_document_runs(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_purchases(tmp_path / "purchases.parquet")
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(document.read_text("utf-8")):
        if block.reason is None and not (document in TRANSLATIONS and block.language == "python"):
            execute(document, block, names)


def parsed(document: Path) -> list[str]:
    """The Python of a document, without comments."""
    return [
        ast.dump(ast.parse(block.code)) for block in blocks(document.read_text("utf-8")) if block.language == "python"
    ]


@pytest.mark.parametrize("translation", TRANSLATIONS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_python_of_a_translation_is_that_of_the_document(translation):
    assert parsed(translation) == parsed(TRANSLATIONS[translation])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_documents_lead_somewhere(document):
    text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target):
            assert (document.parent / target.partition("#")[0]).exists(), target


def examples() -> list[doctest.DocTest]:
    """The examples in the docstrings of every module, found where they are written."""
    modules = ["hotrow", *(module.name for module in walk_packages(hotrow.__path__, "hotrow."))]
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [name for name in modules if not name.endswith(".__main__")]
    found = [test for name in modules for test in finder.find(import_module(name), name)]
    return [test for test in found if test.examples]


@pytest.mark.parametrize("example", [pytest.param(test, id=test.name) for test in examples()])
def test_an_example_in_a_docstring_prints_what_it_says(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    printed: list[str] = []
    runner.run(example, out=printed.append)
    assert not runner.failures, "".join(printed)


@pytest.mark.parametrize("command", [[PROGRAM], [sys.executable, "-m", "hotrow"]], ids=["hotrow", "python -m hotrow"])
def test_the_command_is_installed_and_says_what_it_can_do(command):
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: hotrow ")
    assert "train" in done.stdout
