"""The data that comes with hotrow, and the script that makes it from a package index."""

from __future__ import annotations

import importlib.util
import io
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hotrow.data import debian_packages, debian_pairs

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "debian_packages.py"
needs_script = pytest.mark.skipif(not SCRIPT.exists(), reason="this is no checkout")

INDEX = """\
Package: tool
Version: 1.0
Section: utils
Depends: libc6 (>= 2.36), python3:any (>= 3.9~), editor | vim,
 tool-data (= 1.0), libc6 (<< 3), tool
Pre-Depends: dpkg (>= 1.15.6~)
Recommends: unwanted
Description: a tool
 Depends: is a word of this description
Tag: role::program, use::editing,
 works-with::text

Package: lonely
Section: misc

Package: tool
Section: a later paragraph of the same name

Package: tool-data
Pre-Depends: multiarch-support
"""


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("debian_packages_script", SCRIPT)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@needs_script
def test_a_package_depends_on_the_first_of_alternatives_bare_once_and_never_on_itself(script):
    lonely, tool, data = script.read_packages(io.StringIO(INDEX))
    assert (lonely.name, lonely.section, lonely.depends, lonely.tags) == ("lonely", "misc", [], [])
    assert tool.section == "utils"
    assert tool.depends == ["dpkg", "editor", "libc6", "python3", "tool-data"]
    assert tool.tags == ["role::program", "use::editing", "works-with::text"]
    assert (data.section, data.depends) == (None, ["multiarch-support"])


@needs_script
def test_the_same_index_makes_the_same_bytes_whatever_its_order(script, tmp_path, monkeypatch):
    paragraphs = INDEX.strip().split("\n\n")
    del paragraphs[2]
    made = []
    for seed in range(3):
        random.Random(seed).shuffle(paragraphs)
        (tmp_path / "Packages").write_text("\n\n".join(paragraphs), "utf-8")
        out = tmp_path / f"{seed}.parquet"
        script.main(
            [str(tmp_path / "Packages"), "--release", "Debian test 1.0", "--date", "2020-02-29", "--out", str(out)]
        )
        made.append(out.read_bytes())
    assert made[0] == made[1] == made[2]
    table = pq.read_table(tmp_path / "0.parquet")
    assert table["package"].to_pylist() == ["lonely", "tool", "tool-data"]
    told = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    assert told == {"origin": "package index of Debian test", "release": "1.0", "date": "2020-02-29"}
    monkeypatch.setattr("sys.stdin", io.StringIO(INDEX))
    script.main(["-", "--release", "Debian test 1.0", "--date", "2020-02-29", "--out", str(tmp_path / "3.parquet")])
    assert pq.read_table(tmp_path / "3.parquet").equals(table)


@needs_script
def test_an_index_must_have_packages_dependencies_that_can_be_read_and_an_origin(script, tmp_path):
    with pytest.raises(SystemExit):
        script.main([str(tmp_path / "Packages")])
    (tmp_path / "Packages").write_text("\n\n", "utf-8")
    with pytest.raises(SystemExit, match="no package"):
        script.main([str(tmp_path / "Packages"), "--release", "x", "--date", "2020-02-29"])
    with pytest.raises(SystemExit, match="isn't a dependency"):
        script.read_packages(io.StringIO("Package: a\nDepends: ${misc:Depends}\n"))


@needs_script
def test_the_origin_is_what_the_release_file_says(script):
    text = "Origin: Debian\nSuite: stable\nVersion: 12.1\nCodename: bookworm\nDate: Sat, 22 Jul 2023 09:01:02 UTC\n"
    assert script.read_origin(text) == script.Origin("Debian bookworm", "12.1", "2023-07-22")


def test_the_packages_that_come_with_hotrow_are_sorted_and_say_where_they_come_from():
    packages = debian_packages()
    assert packages.schema.names == ["package", "section", "depends", "tags"]
    assert packages.num_rows == 63_436
    names = packages["package"].to_pylist()
    assert names == sorted(set(names))
    for column in ("depends", "tags"):
        for values in packages[column].to_pylist():
            assert values == sorted(set(values))
    assert sum(map(len, packages["tags"].to_pylist())) == 112_091
    assert {name.decode(): value.decode() for name, value in packages.schema.metadata.items()} == {
        "origin": "package index of Debian bookworm", "release": "12.15", "date": "2026-07-11",
    }  # fmt: skip


def test_pairs_are_the_dependencies_of_every_package():
    pairs = debian_pairs()
    assert [str(field.type) for field in pairs.schema] == ["string", "string"]
    users, items = pairs["package"].to_pylist(), pairs["dependency"].to_pylist()
    assert len(users) == len(set(zip(users, items, strict=True))) == 274_858
    assert (len(set(users)), len(set(items))) == (55_848, 34_776)
    assert all(user != item for user, item in zip(users, items, strict=True))
    of_numpy = [item for user, item in zip(users, items, strict=True) if user == "python3-numpy"]
    assert {"libblas3", "libc6", "python3"} <= set(of_numpy)


def test_the_file_is_small():
    import hotrow.data

    assert (Path(hotrow.data.__file__).parent / "debian_packages.parquet").stat().st_size < 3 << 20
