"""What one asks of a trained model: recommend, lookup."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotrow.apps.console import Output, printable
from hotrow.errors import DataError
from hotrow.models import classifier_files, next_files
from hotrow.models.sides import parsed

if TYPE_CHECKING:
    from hotrow.models.next_item import NextItem
    from hotrow.models.ratings import Ratings
    from hotrow.models.retrieval import Retrieval
    from hotrow.table.view import View


def recommend(options: argparse.Namespace, output: Output) -> None:
    """The best items for a user that it doesn't have yet, or after some items."""
    if options.after is not None:
        _recommend_after(options, output)
        return
    if next_files.is_next_item(Path(options.model)) or options.id is None:
        raise DataError(
            f"give a USER: `hotrow recommend {options.model} USER`; or items, for somebody new or for what comes next: "
            f"`hotrow recommend {options.model} --after ITEM --after ITEM`"
        )
    model = open_model(options.model)
    user = parsed(options.id, model.users.kind)
    ids, scores = model.recommend([user], k=options.k)
    show(output, {"user": user}, "recommended", "score", ids[0], scores[0])


def _recommend_after(options: argparse.Namespace, output: Output) -> None:
    """For somebody who is in no model, by items: those that came last, or of a model without an order all of them."""
    if options.id is not None:
        raise DataError(f"give a USER or --after, not both; got {options.id!r} and --after")
    if next_files.is_next_item(Path(options.model)):
        next_item = open_next(options.model)
        history = [parsed(text, next_item.items.kind) for text in options.after]
        next_item.items.lookup(history, unknown="error")  # a typing error would silently count for nothing
        ids, scores = next_item.recommend([history], k=options.k)
    else:
        from hotrow.models.retrieval import Retrieval

        model = open_model(options.model)
        if not isinstance(model, Retrieval):
            raise DataError(f"{options.model} holds a model of ratings, which goes by user: give a USER, not --after")
        history = [parsed(text, model.items.kind) for text in options.after]
        ids, scores = model.recommend_for([history], k=options.k)
    show(output, {"after": history}, "recommended", "score", ids[0], scores[0])


def lookup(options: argparse.Namespace, output: Output) -> None:
    """The vector of one id; an id without a row is an error, not its first value."""
    side, text = ("item", options.item) if options.item is not None else ("user", options.user)
    if text is not None and options.column is None:
        from hotrow.models.retrieval import Retrieval

        model = open_model(options.model)
        table = model.items if side == "item" else model.users
        id = parsed(text, table.kind)
        of_one = (
            model.vectors([id], side=side)[0] if isinstance(model, Retrieval) else table.lookup(id, unknown="error")
        )
    else:
        table, text = _table_asked(options)
        id = parsed(text, table.kind)
        of_one = table.lookup(id, unknown="error")
    vector: list[float] = of_one.tolist()
    output.result({"id": id, "vector": vector})
    if not output.as_json:
        for start in range(0, len(vector), 8):
            output.say("  ".join(f"{x: .6f}" for x in vector[start : start + 8]))


def _table_asked(options: argparse.Namespace) -> tuple[View, str]:
    path = Path(options.model)
    if options.column is not None:
        from hotrow.apps.predict import open_classifier

        if options.id is None:
            raise DataError(f"--column {options.column} is of a classifier: give --id ID with it")
        return open_classifier(path).table(options.column), options.id
    from hotrow.store import view

    _check_no_classifier(path)
    return view(path), options.id


def open_model(path: str | Path) -> Retrieval | Ratings:
    """The model in a folder; DataError, saying how one is made, where there is none."""
    from hotrow.models.ratings import Ratings, is_ratings
    from hotrow.models.retrieval import Retrieval

    folder = Path(path)
    _check_no_classifier(folder)
    if next_files.is_next_item(folder):
        raise DataError(
            f"{folder} holds a next-item model, which has no users: `hotrow recommend {folder} --after ITEM`, `hotrow "
            f"similar {folder} ITEM` and `hotrow lookup {folder}/items --id ITEM` ask it"
        )
    if not (folder / "model.json").is_file():
        raise DataError(f"{folder} holds no model; `hotrow train FILE --user … --item … --out {folder}` makes one")
    return (Ratings if is_ratings(folder) else Retrieval).load(folder)


def open_next(path: str | Path) -> NextItem:
    """The next-item model in a folder; DataError, saying how one is made, where there is none."""
    from hotrow.models.next_item import NextItem

    folder = Path(path)
    if not next_files.is_next_item(folder):
        raise DataError(
            f"{folder} holds no next-item model; `hotrow train FILE --user … --item … --time … --next --out {folder}` "
            f"makes one"
        )
    return NextItem.load(folder)


def _check_no_classifier(folder: Path) -> None:
    if classifier_files.is_classifier(folder):
        raise DataError(
            f"{folder} holds a classifier, which has a table for each column of ids: `hotrow lookup {folder} --column "
            f"COLUMN --id ID`; `hotrow predict {folder} FILE` asks it"
        )


def show(output: Output, asked: dict[str, Any], key: str, measure: str, ids: Any, scores: Any) -> None:
    """Ids and their scores, as a table or as JSON with what was asked."""
    found = [{"id": name, measure: score} for name, score in zip(ids, scores, strict=True)]
    output.result(asked | {key: found})
    if not output.as_json:
        output.table("", [key, measure], [(printable(f["id"]), f"{f[measure]:.3f}") for f in found])
