"""What is near what: the nearest vectors of one side, exactly or by an index, and what is known of its ids beside them.

Vectors ──Space──▶ exact: a blocked product with all of them          ╮
        ──Graph──▶ usearch: a walk through a graph of neighbours      ├─▶ candidates ──measured──▶ rows, scores
Metadata ──where──▶ which of them may come                            ╯
"""

from __future__ import annotations

from hotrow.search.asking import Search
from hotrow.search.metadata import Column, Metadata

__all__ = ["Column", "Metadata", "Search"]
