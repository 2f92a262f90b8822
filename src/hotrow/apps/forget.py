"""`hotrow forget` and `hotrow compact`: what is kept of a model or a saved table is rewritten."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hotrow.apps.card import CARD, renew_card
from hotrow.apps.care import tables_of
from hotrow.apps.console import Output, printable
from hotrow.apps.questions import open_model
from hotrow.errors import DataError, HotrowError
from hotrow.models import classifier_files, next_files, saving
from hotrow.models.sides import parsed
from hotrow.store import compact as compact_table
from hotrow.store import derived, forgetting, load, saves, view
from hotrow.store import generations as folders
from hotrow.store.files import sync_folder
from hotrow.store.forgetting import Removed
from hotrow.store.lock import lock
from hotrow.store.sharded import is_sharded


def compact(options: argparse.Namespace, output: Output) -> None:
    """Make a snapshot of each table's newest generation, if that is a delta."""
    made: dict[str, int] = {}
    with output.bar("writing", lambda facts: str(facts.get("file", ""))) as progress:
        for name, path in tables_of(Path(options.model)).items():
            made[name] = compact_table(path, keep=options.keep, progress=progress)
    output.result({"generations": made})
    if not output.as_json:
        for name, number in made.items():
            output.say(f"{name}: generation {number} is a snapshot")


def forget(options: argparse.Namespace, output: Output) -> None:
    """Take ids out, and say what was removed from where."""
    folder = Path(options.model)
    _check_receipt(options.receipt)
    sizes: list[int] = []

    def clear() -> None:
        """Remove what was made from the tables: it has ids, and can be made anew."""
        sizes.append(derived.remove(folder))

    removed = _forget_in(folder, options, output, clear)
    changed, failure = bool(removed), None
    try:  # once more, whatever was found: it may have been made since, or be left by a forgetting that was stopped
        clear()
    except OSError as error:
        failure = error
    if any(sizes):
        removed.append(_part(f"{derived.NAME}/, all of it", 0, sum(sizes)))
    receipt: dict[str, Any] = {
        "model": str(folder),
        "ids": options.id,
        "rewritten": bool(options.rewrite),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "removed": removed,
    }
    output.result(receipt)
    if options.receipt:
        Path(options.receipt).write_text(json.dumps(receipt, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if failure is not None:
        raise DataError(f"{folder / derived.NAME} may still have them: {failure}; forget them once more") from failure
    if not output.as_json:
        _show(output, folder, removed, changed=changed, rewritten=options.rewrite)
    if changed:
        _renew_card(folder, output)


def _forget_in(
    folder: Path, options: argparse.Namespace, output: Output, clear: Callable[[], None]
) -> list[dict[str, Any]]:
    """Take ids out of whatever is in the folder. clear: called before any of it changes."""
    if classifier_files.is_classifier(folder):
        return _forget_in_classifier(folder, options, clear)
    if next_files.is_next_item(folder):
        raise DataError(
            f"{folder} holds a next-item model, which keeps no users, and whose items `hotrow forget` can't take out: "
            f"train one without them"
        )
    if (folder / "model.json").is_file():
        return _forget_in_model(folder, options, clear)
    return _forget_in_table(tables_of(folder)["table"], options, output, clear)


def _check_receipt(path: str | None) -> None:
    """Before anything changes: what is removed is gone, and to be told of."""
    if path is not None and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
        raise DataError(f"--receipt {path} is no file in a folder that is there; give a name such as receipt.json")


def _renew_card(folder: Path, output: Output) -> None:
    """The ids are gone, and that was said: if the card can't be written, that is one more sentence."""
    try:
        renew_card(folder)
    except (HotrowError, OSError) as error:
        told = f"the ids are forgotten, but {folder / CARD} is as it was: {error}"
        output.errors.print(f"hotrow: {printable(told)}", markup=False)


def _show(output: Output, folder: Path, removed: list[dict[str, Any]], *, changed: bool, rewritten: bool) -> None:
    if not removed:
        output.say(f"{folder} has none of these ids; nothing was changed")
        return
    columns = ["removed from", "rows", "bytes"]
    output.table("", columns, [[printable(one["from"]), str(one["rows"]), f"{one['bytes']:,}"] for one in removed])
    if not changed:
        output.say(
            f"{folder} itself has none of these ids; {derived.NAME}/, which may have had them, is made anew when needed"
        )
    elif rewritten:
        output.say("nothing that is kept has them any more; a process that has this open keeps them until it ends")
    else:
        output.say("generations before this one still have them: hotrow forget … --rewrite takes them out there, too")


def _forget_in_table(
    path: Path, options: argparse.Namespace, output: Output, clear: Callable[[], None]
) -> list[dict[str, Any]]:
    opened = view(path)
    ids = [parsed(text, opened.kind) for text in options.id]
    if options.rewrite:
        clear()
        with output.bar("rewriting", lambda facts: str(facts.get("file", ""))) as progress:
            found = forgetting.forget(path, ids, progress=progress)
        return [{"from": f"{_folder_of(path, one)}/{one.file}", "rows": one.rows, "bytes": one.bytes} for one in found]
    if is_sharded(path):
        raise DataError(
            f"{path} is a table in shards, to which nothing can be added here: `hotrow forget {path} ID --rewrite` "
            f"takes ids out of all that is kept, and `hotrow compact {path}` makes it one table"
        )
    table = load(path)
    receipt = table.forget(ids)
    if not receipt.removed:
        return []
    clear()
    table.save_delta()
    return _parts("the table", receipt.removed, receipt.bytes)


def _folder_of(path: Path, one: Removed) -> Path:
    """Where a generation is that has lost something, within the table's folder."""
    folder = path if one.shard is None else folders.shard_folder(path, one.shard)
    return folders.folder_of(folder, one.generation).relative_to(path)


def _forget_in_model(folder: Path, options: argparse.Namespace, clear: Callable[[], None]) -> list[dict[str, Any]]:
    model = open_model(folder)
    table = model.users if options.side == "user" else model.items
    pairs = len(model.pairs_in_order())
    receipt = model.forget([parsed(text, table.kind) for text in options.id], side=options.side)
    if receipt.removed:
        clear()
        model.save(folder)
    older = _remove_older(folder) if options.rewrite else []
    if not receipt.removed:
        return older
    pairs -= len(model.pairs_in_order())
    parts = _parts(f"{options.side}s", receipt.removed, receipt.bytes)
    return [*parts, _part("known pairs", pairs, 8 * pairs), *older]


def _remove_older(folder: Path) -> list[dict[str, Any]]:
    """What the model doesn't name any more goes, all of it: it may have what was forgotten."""
    removed: list[dict[str, Any]] = []
    with lock(folder):  # else what another save has written, and not named yet, would go too
        named = saving.read_description(folder)["generations"]  # the newest may be of a save that never ended
        for name, path in tables_of(folder).items():
            for old in [folders.folder_of(path, number) for number in folders.whole(path) if number != named[name]]:
                size = sum(file.stat().st_size for file in old.iterdir())
                rows = folders.read_manifest(old).rows
                folders.remove(old)
                removed.append(_part(f"{name}/{old.name}, all of it", rows, size))
            removed += _remove_older_in_shards(path, named[name], name)
            sync_folder(path)  # or they could be back after a crash
    return removed


def _remove_older_in_shards(path: Path, named: int, name: str) -> list[dict[str, Any]]:
    older = [number for number in folders.sharded(path) if number != named]
    if not older:
        return []
    rows, size = _in_shards(path)
    saves.remove(path, older)
    left_rows, left = _in_shards(path)
    if set(older) & set(folders.sharded(path)) or (left and named not in folders.sharded(path)):
        raise DataError(
            f"{path}: shards of older saves couldn't be removed, and may still have them; forget them once more"
        )
    return [_part(f"{name}/shard-…, all that was older", rows - left_rows, size - left)]


def _in_shards(path: Path) -> tuple[int, int]:
    """Rows and bytes of the generations of all shards."""
    shards = [folders.shard_folder(path, at) for at in folders.shards(path)]
    found = [folders.folder_of(shard, number) for shard in shards for number in folders.whole(shard)]
    files = [file.stat().st_size for one in found for file in one.iterdir()]
    return sum(folders.read_manifest(one).rows for one in found), sum(files)


def _forget_in_classifier(folder: Path, options: argparse.Namespace, clear: Callable[[], None]) -> list[dict[str, Any]]:
    from hotrow.apps.predict import open_classifier

    if options.column is None:
        raise DataError(
            f"{folder} holds a classifier, which has a table for each column: hotrow forget … --column NAME"
        )
    model = open_classifier(folder)
    table = model.table(options.column)
    receipt = table.forget([parsed(text, table.kind) for text in options.id])
    if not receipt.removed:
        return []
    clear()
    model.save(folder)
    return _parts(options.column, receipt.removed, receipt.bytes)


def _parts(name: str, rows: int, sizes: dict[str, int]) -> list[dict[str, Any]]:
    return [_part(f"{name}: {part}", rows, size) for part, size in sizes.items()]


def _part(where: str, rows: int, size: int) -> dict[str, Any]:
    return {"from": where, "rows": rows, "bytes": size}
