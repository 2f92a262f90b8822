"""The one door to PyArrow for programs. It has no types, so what comes through is Any, and the rest is checked."""

from __future__ import annotations

from typing import Any

import pyarrow  # noqa: ICN001, as `pa` is the name that has no types
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

pa: Any = pyarrow
compute: Any = pyarrow.compute
csv: Any = pyarrow.csv
parquet: Any = pyarrow.parquet

Array = Any
"""A pyarrow.Array."""


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is text, or a dictionary of texts."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
