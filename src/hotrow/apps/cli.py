"""The command `hotrow`: its words, and what each calls.

Exit codes: 0 done, 1 failed (one line on stderr says what to do), 2 wrong usage, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

from hotrow.apps import (
    card_arguments,
    cluster_arguments,
    clustered_arguments,
    export_arguments,
    import_arguments,
    map_arguments,
    serve_arguments,
    settings,
    similar_arguments,
)
from hotrow.apps.console import Output, printable
from hotrow.apps.lazily import lazily
from hotrow.errors import HotrowError
from hotrow.kernels.threads import set_threads


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    output = Output(as_json=options.json)
    try:
        if options.threads is not None:
            set_threads(options.threads)
        return int(options.run(options, output) or 0)
    except KeyboardInterrupt:
        output.errors.print("hotrow: stopped by Ctrl-C")
        return 130
    except BrokenPipeError:  # `hotrow … | head`: the reader has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (HotrowError, OSError, MemoryError) as error:
        output.errors.print(f"hotrow: {printable(str(error) or type(error).__name__)}", markup=False)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="hotrow", description="The embedding layer for discrete features: raw ids in, trained vectors out."
    )
    parser.add_argument("--version", action="version", version=f"hotrow {version('hotrow')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
    common.add_argument("--threads", type=settings.positive, metavar="N", help="threads to use (default: all)")
    _add_train(commands, common)
    _add_tune(commands, common)
    _add_evaluate(commands, common)
    similar_arguments.add(commands, common)
    _add_questions(commands, common)
    _add_predict(commands, common)
    map_arguments.add(commands, common)
    _add_care(commands, common)
    export_arguments.add(commands, common)
    import_arguments.add(commands, common)
    card_arguments.add(commands, common)
    _add_explain(commands, common)
    serve_arguments.add(commands, common)
    cluster_arguments.add(commands, common)
    _add_bench(commands, common)
    return parser


def _add_train(commands: Any, common: argparse.ArgumentParser) -> None:
    train = commands.add_parser(
        "train",
        parents=[common],
        help="train user and item vectors on a file of pairs, and measure them on held-out pairs",
        description="Train user and item vectors on a file of (user, item) pairs, ids as they are. Without a file: "
        "the packages of Debian and what they depend on, which come with hotrow. With --rating: predict how users rate "
        "items. With --label: a classifier of that column by all others. With --negatives: a classifier of pairs that "
        "happened and others that are drawn.",
        epilog="examples: hotrow train purchases.parquet --user CustomerID --item Description --out model/; "
        "hotrow train people.csv --label income; hotrow train apps.csv --user user --item app --negatives 2",
    )
    _add_pairs(train)
    train.add_argument("--rating", metavar="COLUMN", help="learn how much users like items: a column of numbers")
    for side in ("user", "item"):
        train.add_argument(
            f"--{side}-features",
            metavar="FILE",
            help=f"a table of {side}s: the column named as --{side}, or the first, has the ids, and the others are "
            "features; one in no pair is then placed by its features",
        )
    settings.add(train)
    train.add_argument(
        "--next", action="store_true", help="learn which item comes next, from each user's items by time"
    )
    _add_classifier(train)
    clustered_arguments.add(train)
    train.set_defaults(run=_train_what(train))


def _add_pairs(command: argparse.ArgumentParser) -> None:
    """What is read, how pairs are held out, and where the model goes."""
    command.add_argument("path", nargs="?", metavar="FILE", help="CSV, TSV, Parquet or Arrow IPC")
    command.add_argument("--user", metavar="COLUMN", help="the column of users")
    command.add_argument("--item", metavar="COLUMN", help="the column of items")
    command.add_argument(
        "--time", metavar="COLUMN", help="hold out each user's last item by this column, not a random 10 %%"
    )
    command.add_argument("--time-format", metavar="FORMAT", help="how times are written, e.g. '%%d/%%m/%%Y %%H:%%M'")
    command.add_argument(
        "--hold-out",
        choices=["last", "latest", "random"],
        help="each user's last item, the latest 10 %% of all pairs (these need --time), or a random 10 %%",
    )
    command.add_argument("--skip-bad-lines", action="store_true", help="skip and count lines of too few or many fields")
    command.add_argument("--out", default="model", metavar="DIR", help="where to write the model (default: model)")
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the split and of the training (default: 0)"
    )


def _check_pairs(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.hold_out in {"last", "latest"} and options.time is None:
        parser.error(f"--hold-out {options.hold_out} needs --time COLUMN")


def _add_classifier(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("a classifier (needs Keras); --bag, --discrete and --ignore are for features, too")
    group.add_argument("--label", metavar="COLUMN", help="the column to be predicted by the others")
    group.add_argument(
        "--negatives",
        type=settings.positive,
        metavar="N",
        help="no label: draw N other items for each pair of --user and --item",
    )
    for name, text in (
        ("bag", "is several ids a row, with SEP between them if it is text"),
        ("discrete", "is an id a row"),
        ("numeric", "is a number"),
        ("ignore", "is left out"),
    ):
        metavar = "COLUMN[=SEP]" if name == "bag" else "COLUMN"
        group.add_argument(f"--{name}", action="append", default=[], metavar=metavar, help=f"this column {text}")


def _train_what(parser: argparse.ArgumentParser):
    """What is asked for by the options: vectors of pairs, ratings, what comes next, or a classifier."""

    def run(options: argparse.Namespace, output: Output) -> int | None:
        wrong = _wrong_mixture(options) or clustered_arguments.wrong(options)
        if wrong:
            parser.error(wrong)
        kind = next((kind for kind, is_it in _KINDS.items() if is_it(options)), None)
        if kind is not None:
            app = import_module(f"hotrow.apps.{kind}")
            wrong = app.check_usage(options)
            if wrong:
                parser.error(wrong)
            return app.train(options, output)
        _check_pairs(parser, options)
        from hotrow.apps.train import train

        return train(options, output)

    return run


_KINDS: dict[str, Callable[[argparse.Namespace], bool]] = {
    "classify": lambda options: options.label is not None or options.negatives is not None,
    "next_item": lambda options: options.next,
    "rated": lambda options: options.rating is not None,
}
"""What trains something else than vectors of pairs, and when."""


def _wrong_mixture(options: argparse.Namespace) -> str | None:
    """What is wrong with options that are of different kinds of training, if anything."""
    if _KINDS["classify"](options):
        if options.rating is not None:
            return "--rating is for ratings, --label and --negatives for a classifier: leave one of them out"
        return "--next is no classifier: leave it out, or --label and --negatives" if options.next else None
    with_features = options.user_features is not None or options.item_features is not None
    names = ["numeric"] if with_features else ["bag", "discrete", "numeric", "ignore"]
    wrong = next((name for name in names if getattr(options, name)), None)
    return wrong and f"--{wrong} is for a classifier: hotrow train FILE --label COLUMN --{wrong} …"


def _add_tune(commands: Any, common: argparse.ArgumentParser) -> None:
    tune = commands.add_parser(
        "tune",
        parents=[common],
        help="search for settings of user and item vectors, then train with the best",
        description="Try settings of `hotrow train` on pairs that are held out of the training pairs, train with the "
        "best on all of these, and measure once on the pairs that `train` would hold out, which the search never sees. "
        "Settings that are given are kept. Ctrl-C ends the search, and what was best so far is trained.",
        epilog="example: hotrow tune purchases.parquet --user CustomerID --item Description --minutes 10 --out model/",
    )
    _add_pairs(tune)
    search = tune.add_argument_group("the search")
    search.add_argument("--trials", type=settings.positive, default=20, metavar="N", help="to make (default: 20)")
    search.add_argument("--minutes", type=settings.rate, metavar="M", help="end the search after so many")
    search.add_argument(
        "--metric", default="ndcg@20", metavar="NAME@K", help="to search by: recall, ndcg, … (default: ndcg@20)"
    )
    settings.add(tune)

    def run(options: argparse.Namespace, output: Output) -> int:
        _check_pairs(tune, options)
        from hotrow.apps.tune import tune as tune_

        return tune_(options, output)

    tune.set_defaults(run=run)


def _add_evaluate(commands: Any, common: argparse.ArgumentParser) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        parents=[common],
        help="measure a model on a file of pairs that it was not trained on",
        description="Rank all items for each user of a file of pairs, and count which of the pairs are found, beside "
        "popularity. Pairs that the model was trained on, and users that it doesn't know, are left out and counted.",
        epilog="example: hotrow evaluate model/ march.parquet --user CustomerID --item Description",
    )
    evaluate.add_argument("model", metavar="MODEL", help="the folder that `hotrow train` wrote")
    evaluate.add_argument("path", metavar="FILE", help="CSV, TSV, Parquet or Arrow IPC")
    evaluate.add_argument("--user", metavar="COLUMN", help="the column of users")
    evaluate.add_argument("--item", metavar="COLUMN", help="the column of items")
    evaluate.add_argument(
        "--skip-bad-lines", action="store_true", help="skip and count lines of too few or many fields"
    )
    evaluate.add_argument("--seed", type=int, default=0, metavar="N", help="of the intervals' bootstrap (default: 0)")
    evaluate.set_defaults(run=lazily("evaluate", "evaluate"))


def _add_questions(commands: Any, common: argparse.ArgumentParser) -> None:
    several = argparse.ArgumentParser(add_help=False)
    several.add_argument("model", metavar="MODEL", help="the folder that `hotrow train` wrote")
    several.add_argument("-k", type=settings.positive, default=10, metavar="N", help="how many (default: 10)")
    recommend = commands.add_parser(
        "recommend", parents=[common, several], help="items for a user, or after some items; known ones left out"
    )
    recommend.add_argument("id", metavar="USER", nargs="?", help="of a model of users and items")
    recommend.add_argument(
        "--after",
        metavar="ITEM",
        action="append",
        help="for somebody new: once for each item that they have, oldest first",
    )
    recommend.set_defaults(run=lazily("questions", "recommend"))
    lookup = commands.add_parser("lookup", parents=[common], help="the trained vector of an item or a user")
    lookup.add_argument("model", metavar="MODEL", help="the folder that `hotrow train` wrote, or that of a saved table")
    what = lookup.add_mutually_exclusive_group(required=True)
    what.add_argument("--item", metavar="ID")
    what.add_argument("--user", metavar="ID")
    what.add_argument("--id", metavar="ID", help="in a saved table, or in a --column of a classifier")
    lookup.add_argument("--column", metavar="COLUMN", help="of a classifier")
    lookup.set_defaults(run=lazily("questions", "lookup"))


def _add_predict(commands: Any, common: argparse.ArgumentParser) -> None:
    predict = commands.add_parser(
        "predict",
        parents=[common],
        help="the probability of each class, or the rating, for each row of a file",
        epilog="example: hotrow predict model/ people.csv --out predicted.csv",
    )
    predict.add_argument("model", metavar="MODEL", help="the folder of a classifier, or of a model of ratings")
    predict.add_argument("path", metavar="FILE", help="CSV, TSV, Parquet or Arrow IPC, with the columns of training")
    predict.add_argument("--out", metavar="FILE.csv", help="where to write (default: the terminal)")
    predict.set_defaults(run=lazily("predict", "predict"))


def _add_care(commands: Any, common: argparse.ArgumentParser) -> None:
    kept = argparse.ArgumentParser(add_help=False)
    kept.add_argument("model", metavar="MODEL", help="a model's folder, or that of a saved table")
    for name, text in (
        ("inspect", "what a model or a saved table holds: rows, bytes, how it was trained and measured"),
        ("verify", "read every byte of a model or a saved table against its checksums"),
    ):
        command = commands.add_parser(name, parents=[common, kept], help=text)
        command.set_defaults(run=lazily("care", name))
    command = commands.add_parser(
        "compact", parents=[common, kept], help="make one snapshot of a saved table and the deltas after it"
    )
    command.add_argument(
        "--keep", type=settings.positive, default=2, metavar="N", help="snapshots that stay (default: 2)"
    )
    command.set_defaults(run=lazily("forget", "compact"))
    _add_forget(commands, common, kept)


def _add_forget(commands: Any, *parents: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "forget",
        parents=parents,
        help="take ids out of a model or a saved table, and say what was removed from where",
        description="Take ids out: their vectors, what the optimizer keeps for them, their strings, and the pairs they "
        "are in. With --rewrite out of everything that is kept, so that no byte of them is left in its files.",
        epilog="examples: hotrow forget model/ ann --rewrite --receipt ann.json; hotrow forget items/ 17 23",
    )
    command.add_argument("id", metavar="ID", nargs="+")
    command.add_argument("--side", default="user", choices=["item", "user"], help="what they are (default: user)")
    command.add_argument("--column", metavar="COLUMN", help="of a classifier")
    command.add_argument("--rewrite", action="store_true", help="rewrite older generations, too")
    command.add_argument("--receipt", metavar="FILE", help="write what was removed as JSON; it names the ids")
    command.set_defaults(run=lazily("forget", "forget"))


def _add_explain(commands: Any, common: argparse.ArgumentParser) -> None:
    explain = commands.add_parser(
        "explain",
        parents=[common],
        help="what an embedding is, in a picture: a one-hot vector times the weights picks a row",
        description="Show in real numbers that a one-hot vector times the weights is a row of them, and with --step "
        "that a training step moves that row and no other.",
        epilog="example: hotrow explain --ids lantern,cup,mug --dim 4 --pick cup --step --svg explain.svg",
    )
    explain.add_argument("--values", type=settings.positive, metavar="N", help="how many ids: 0 to N - 1 (default: 5)")
    explain.add_argument("--ids", metavar="ID,ID,...", help="these strings in place of numbers")
    explain.add_argument("--dim", type=settings.positive, default=3, metavar="N", help="floats a vector (default: 3)")
    explain.add_argument("--pick", metavar="ID", help="the id to look up, or its position from 0 (default: 2)")
    explain.add_argument("--step", action="store_true", help="show what a training step does to the weights")
    explain.add_argument("--seed", type=int, default=0, metavar="N", help="of the weights (default: 0)")
    explain.add_argument("--svg", metavar="FILE", help="write the picture to a file as well")
    explain.add_argument("--lang", default="en", choices=["en", "zh"], help="English or Chinese words (default: en)")
    explain.set_defaults(run=lazily("explain", "explain"))


def _add_bench(commands: Any, common: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "bench",
        parents=[common],
        help="where the time of a training step goes on this machine, beside what its memory alone would take",
        description="Train a table of random ids for some ten seconds, and show what finding ids, gathering vectors, "
        "merging duplicates, stepping rows and Python take of a step, beside a copy of as many bytes.",
        epilog="examples: hotrow bench --dim 64 --out bench.svg; hotrow bench --batch 256",
    )
    command.add_argument(
        "--rows", type=settings.positive, default=1_000_000, metavar="N", help="of the table (default: 1000000)"
    )
    command.add_argument("--dim", type=settings.positive, default=32, metavar="N", help="floats a vector (default: 32)")
    command.add_argument("--optimizer", default="adam", metavar="NAME", help="as rowwise_adagrad (default: adam)")
    command.add_argument(
        "--batch", type=settings.positive, default=40_000, metavar="N", help="ids a step (default: 40000)"
    )
    command.add_argument(
        "--ids", default="zipf", choices=["zipf", "uniform"], help="some ids frequent, or none (default: zipf)"
    )
    command.add_argument("--out", metavar="FILE", help="write a picture as well, in SVG")
    command.set_defaults(run=lazily("bench", "bench"))


if __name__ == "__main__":
    sys.exit(main())
