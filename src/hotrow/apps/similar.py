"""`hotrow similar` and `hotrow index`: the nearest of any side of any folder, and the index of a large one."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from hotrow.apps import backends
from hotrow.apps.console import Output
from hotrow.apps.questions import show
from hotrow.errors import DataError
from hotrow.models import open_folder
from hotrow.search import Search
from hotrow.search.asking import LARGE
from hotrow.search.kept import size_of

if TYPE_CHECKING:
    import numpy as np

    from hotrow.models import Folder

MEASURES = {"cosine": "cosine", "dot": "product", "euclidean": "distance"}
"""What a score is called."""


def similar(options: argparse.Namespace, output: Output) -> None:
    """The nearest of an id; or of several ids together, and far from others."""
    backends.prepare_for(options.model)
    folder = open_folder(options.model)
    vectors = folder.side(options.side)
    ids, minus = ([vectors.parse(text) for text in texts] for texts in (options.id, options.minus))
    within = _within(folder, options)
    search = _opened(folder, options, output)
    asked: dict[str, Any]
    if len(ids) == 1 and not minus:
        asked = {"id": ids[0]}
        (names,), (scores,) = search.similar(ids, options.k, within=within)
        recall = search.recall
    else:
        if options.metric != "cosine":
            raise DataError(f"several IDs, and --minus, go by cosine: leave out --metric {options.metric}")
        asked = {"ids": ids, "minus": minus}
        found = search.most_similar(ids, minus, options.k, within)
        names, scores = [id for id, _ in found], [score for _, score in found]
        recall = search.mixed_recall
    asked["side"] = vectors.name
    if recall is not None:
        asked["recall"] = recall
    show(output, asked, "similar", MEASURES[search.metric], names, scores)
    if recall is not None and not output.as_json:
        kind = "such mixtures" if ids[1:] or minus else "an ID"
        output.say(f"by an index that finds {100 * recall:.1f} % of the nearest to {kind}; --method exact finds all")


def index(options: argparse.Namespace, output: Output) -> None:
    """Make the index of a side, or bring it up to date, and say what it finds."""
    backends.prepare_for(options.model)
    folder = open_folder(options.model)
    vectors = folder.side(options.side)
    begin = time.perf_counter()
    search = _opened(folder, options, output)
    seconds = time.perf_counter() - begin
    size = size_of(folder, vectors.name, search.metric) if search.method == "usearch" else 0
    facts: dict[str, Any] = {
        "side": vectors.name, "rows": len(vectors), "dim": vectors.dim, "metric": search.metric,
        "method": search.method, "recall": search.recall, "seconds": seconds, "bytes": size,
    }  # fmt: skip
    output.result(facts)
    if output.as_json:
        return
    if search.recall is None:
        why = "usearch isn't installed: pip install 'hotrow[search]'" if len(vectors) >= LARGE else "it takes no index"
        output.say(
            f"{len(vectors):,} {vectors.name}s are compared one by one; {why}. --method usearch makes one all the same"
        )
        return
    row = [f"{len(vectors):,}", str(vectors.dim), f"{100 * search.recall:.2f} %", f"{seconds:.1f}", f"{size:,}"]
    output.table("", ["side", "rows", "dim", "metric", "recall of 10", "seconds", "bytes"],
                 [[vectors.name, *row[:2], search.metric, *row[2:]]])  # fmt: skip
    if len(vectors) < LARGE:
        output.say(f"below {LARGE:,} rows every vector is compared by default: --method usearch goes by the index")


def _opened(folder: Folder, options: argparse.Namespace, output: Output) -> Search:
    with output.bar("index", lambda facts: f"recall {facts['recall']:.3f}" if facts else "") as progress:
        return Search.open(folder, options.side, metric=options.metric, method=options.method, progress=progress)


def _within(folder: Folder, options: argparse.Namespace) -> np.ndarray | None:
    """Which ids fulfil what --where asks for."""
    if not options.where:
        if options.metadata is not None:
            raise DataError(f"--metadata {options.metadata} is what --where asks: add --where COLUMN=VALUE")
        return None
    from hotrow.apps.told import metadata_of

    metadata = metadata_of(folder, options.side, options.metadata)
    if metadata is None:
        raise DataError(f"nothing is known of the ids in {options.model} to ask --where for: add --metadata FILE")
    return metadata.where(metadata.parse(options.where))
