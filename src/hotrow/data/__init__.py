"""The data that comes with hotrow: the packages of Debian, and what they depend on. docs/data.md says how it is made."""

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
    import pyarrow.parquet as pq

    file = resources.files(__name__).joinpath("debian_packages.parquet")
    with file.open("rb") as opened:  # the package may be in an archive
        return pq.read_table(opened)


def debian_pairs() -> Table:
    """One row for each dependency of each package: the string columns `package` and `dependency`.

    >>> from hotrow.data import debian_pairs
    >>> pairs = debian_pairs()
    >>> {"package": "python3-numpy", "dependency": "libopenblas0"} in pairs.to_pylist()
    False
    """
    import pyarrow as pa
    import pyarrow.compute

    compute: Any = pyarrow.compute  # its functions are made when it is imported
    packages = debian_packages().combine_chunks()
    depends = packages["depends"]
    return pa.table(
        {
            "package": packages["package"].take(compute.list_parent_indices(depends)),
            "dependency": compute.list_flatten(depends),
        }
    )
