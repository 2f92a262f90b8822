"""Make src/hotrow/data/debian_packages.parquet from a Debian package index.

    python scripts/debian_packages.py                                   # what `apt-cache dumpavail` prints here
    python scripts/debian_packages.py Packages --release … --date …     # a file, or - for standard input

    Package: foo                    package  section  depends       tags
    Section: libs                   foo      libs     [bar, libc6]  [role::shared-lib]
    Depends: libc6 (>= 2.36),   →
     bar | baz
    Tag: role::shared-lib

One row for each package, sorted by name; the same index makes the same rows, whatever the order of its paragraphs.
What counts as a dependency is told in docs/data.md. It needs nothing but PyArrow.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import pyarrow as pa

OUT = Path(__file__).parents[1] / "src" / "hotrow" / "data" / "debian_packages.parquet"
LISTS = Path("/var/lib/apt/lists")  # where apt keeps what it has downloaded
DEPENDENCIES = ("Pre-Depends", "Depends")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*")


@dataclass(frozen=True)
class Package:
    """One package of the index; both lists are sorted and without repetition."""

    name: str
    section: str | None
    depends: list[str] = field(default_factory=list[str])
    tags: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Origin:
    """Where an index comes from, e.g. "Debian bookworm main", "12.15", 2026-07-11."""

    index: str
    release: str
    date: str


# --- the index -------------------------------------------------------------------------------------------------------


def paragraphs(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """The fields of each paragraph; the lines of a long field are joined."""
    fields: dict[str, str] = {}
    name = ""
    for line in lines:
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif line[0] in " \t":
            fields[name] += " " + line.strip()
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    if fields:
        yield fields


def read_package(fields: dict[str, str]) -> Package:
    """The package that a paragraph describes."""
    name = fields["Package"]
    wanted = {first for key in DEPENDENCIES for first in first_alternatives(fields.get(key, ""))}
    tags = {tag.strip() for tag in fields.get("Tag", "").split(",")}
    return Package(name, fields.get("Section"), sorted(wanted - {name}), sorted(tags - {""}))


def first_alternatives(relation: str) -> list[str]:
    """Package names in a dependency field: the first of each group of alternatives, bare.

    >>> first_alternatives("libc6 (>= 2.36), python3:any, default-mta | mail-transport-agent")
    ['libc6', 'python3', 'default-mta']
    """
    groups = [group.strip() for group in relation.split(",")]
    matches = [(group, NAME.match(group)) for group in groups if group]
    for group, match in matches:
        if match is None:
            raise SystemExit(f"this isn't a dependency: {group!r}")
    return [match[0] for _, match in matches if match]


def read_packages(lines: Iterable[str]) -> list[Package]:
    """The packages of an index by name. Of several paragraphs for one name the first counts."""
    packages: dict[str, Package] = {}
    for fields in paragraphs(lines):
        if "Package" in fields:
            packages.setdefault(fields["Package"], read_package(fields))
    return [packages[name] for name in sorted(packages)]


@contextmanager
def opened(index: str | None) -> Generator[TextIO]:
    """The lines of the index: a file, standard input for "-", and what apt prints for None."""
    if index == "-":
        yield sys.stdin
    elif index is not None:
        with Path(index).open(encoding="utf-8") as lines:
            yield lines
    else:
        with subprocess.Popen(["apt-cache", "dumpavail"], stdout=subprocess.PIPE, encoding="utf-8") as apt:
            assert apt.stdout is not None
            yield apt.stdout
        if apt.returncode:
            raise SystemExit("`apt-cache dumpavail` failed; on a Debian machine, run `apt-get update` first")


def read_origin(release: str) -> Origin:
    r"""What a release file says of itself (the text of `InRelease` or `Release`, signed or not).

    >>> read_origin("Origin: Debian\nVersion: 12.1\nCodename: bookworm\nDate: Sat, 22 Jul 2023 09:01:02 UTC").date
    '2023-07-22'
    """
    told = dict(re.findall(r"^(Origin|Version|Codename|Date): (.*?)\s*$", release, re.MULTILINE))
    day = parsedate_to_datetime(told["Date"]).astimezone(UTC).date()
    return Origin(f"{told['Origin']} {told['Codename']}", told.get("Version", told["Codename"]), day.isoformat())


def origin_of_apt() -> Origin:
    """Where the index that apt prints comes from; there must be one source, or the file's origin would be a guess."""
    files = sorted([*LISTS.glob("*_InRelease"), *LISTS.glob("*_Release")])
    if len(files) != 1:
        raise SystemExit(f"apt has {len(files)} sources and one is needed; else give --release and --date")
    return read_origin(files[0].read_text("utf-8"))


# --- the file --------------------------------------------------------------------------------------------------------


def to_table(packages: list[Package], origin: Origin) -> pa.Table:
    """One row for each package, with the origin in the metadata of the schema."""
    import pyarrow as pa

    texts = pa.list_(pa.string())
    told = {"origin": f"package index of {origin.index}", "release": origin.release, "date": origin.date}
    schema = pa.schema({"package": pa.string(), "section": pa.string(), "depends": texts, "tags": texts}, told)
    columns = {
        "package": [package.name for package in packages],
        "section": [package.section for package in packages],
        "depends": [package.depends for package in packages],
        "tags": [package.tags for package in packages],
    }
    return pa.table(columns, schema)


def write(table: pa.Table, path: Path) -> None:
    """Write the Parquet file, small rather than quick to write."""
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd", compression_level=19, use_dictionary=True, write_statistics=False)


def report(packages: list[Package], origin: Origin) -> str:
    """What came out, in one line."""
    needed = {name for package in packages for name in package.depends}
    pairs = sum(len(package.depends) for package in packages)
    tags = sum(len(package.tags) for package in packages)
    counts = f"{len(packages):,} packages, {pairs:,} pairs with {len(needed):,} dependencies, {tags:,} tags"
    return f"{origin.index} {origin.release} of {origin.date}: {counts}"


def main(arguments: list[str] | None = None) -> None:
    """Read the index, write the file, say what came out."""
    parser = argparse.ArgumentParser(description="Make the data that hotrow ships from a Debian package index.")
    parser.add_argument("index", nargs="?", help="the index, - for standard input (default: apt-cache dumpavail)")
    parser.add_argument("--out", type=Path, default=OUT, help="the Parquet file to write")
    parser.add_argument("--release", help="with an index of your own: its release, e.g. 'Debian bookworm 12.15'")
    parser.add_argument("--date", type=date.fromisoformat, help="with an index of your own: its date, YYYY-MM-DD")
    options = parser.parse_args(arguments)
    if options.release and options.date:
        index, _, version = options.release.rpartition(" ")
        origin = Origin(index or version, version, options.date.isoformat())
    elif options.index is None:
        origin = origin_of_apt()
    else:
        parser.error("an index doesn't say where it comes from: give --release and --date")
    with opened(options.index) as lines:
        packages = read_packages(lines)
    if not packages:
        raise SystemExit("there is no package in this index")
    write(to_table(packages, origin), options.out)
    print(f"{report(packages, origin)}\n{options.out}: {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
