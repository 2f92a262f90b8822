"""The data that comes with hotrow: the packages of Debian and what they depend on. See docs/data.md."""

from __future__ import annotations

from importlib import resources
from typing import Any

Table = Any  # pyarrow's, which has no types


def debian_packages() -> Table:
    """One row for each package: `package`, `section`, `depends` and `tags`, the latter two lists of strings.

    The metadata of its schema say where it comes from.

    >>> from hotrow.data import debian_packages
    >>> packages = debian_packages()
    >>> packages.column_names
    ['package', 'section', 'depends', 'tags']
    >>> packages.schema.metadata[b"origin"]
    b'package index of Debian bookworm'
    """
    import pyarrow.parquet

    parquet: Any = pyarrow.parquet
    file = resources.files(__name__).joinpath("debian_packages.parquet")
    with file.open("rb") as opened:  # the package may be in an archive
        return parquet.read_table(opened)


def debian_pairs() -> Table:
    """One row for each dependency of each package: the string columns `package` and `dependency`.

    >>> from hotrow.data import debian_pairs
    >>> pairs = debian_pairs()
    >>> pairs.num_rows, pairs.column_names
    (274858, ['package', 'dependency'])
    """
    import pyarrow  # noqa: ICN001, as `pa` is the name that has no types
    import pyarrow.compute

    pa: Any = pyarrow
    compute: Any = pyarrow.compute
    packages = debian_packages().combine_chunks()
    depends = packages["depends"]
    return pa.table(
        {
            "package": packages["package"].take(compute.list_parent_indices(depends)),
            "dependency": compute.list_flatten(depends),
        }
    )
