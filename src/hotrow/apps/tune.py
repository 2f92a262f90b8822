"""`hotrow tune`: a search for settings on pairs held out of the training pairs, then what `hotrow train` does.

trial  ndcg@20  seconds  settings
    1   0.4821      3.1  as they are without options
    2   0.4410      6.0  --learning-rate 0.08 --l2 0.001 …
    3   0.4902      3.3  --l2 1e-05                          ← the best so far
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from hotrow.apps import settings
from hotrow.apps.console import Output, printable
from hotrow.apps.pairs import Dataset
from hotrow.apps.train import check_out, finish, read
from hotrow.models import tuning
from hotrow.models.evaluation import metric_and_k
from hotrow.models.retrieval import Retrieval

_ENDED = {
    "Ctrl-C": "ended by Ctrl-C; training goes on with the best so far",
    "time": "the time is over",
    "space": "there is nothing left to try",
}


def tune(options: argparse.Namespace, output: Output) -> int:
    """Read, split, search, train with the best, measure once, save. Ctrl-C in the search ends only that."""
    metric_and_k(options.metric)  # before a long file is read
    folder = check_out(Path(options.out))
    data = read(options, output)
    found = _search(options, data, output)
    command = command_line(options, found.settings)
    model = Retrieval(**found.settings, seed=options.seed)
    code = finish(model, data, folder, output, found.to_json() | {"command": command})
    output.say(f"{'to train it to the end' if code else 'the same model'}: {printable(command)}")
    return code


def _search(options: argparse.Namespace, data: Dataset, output: Output) -> tuning.Tuned:
    split, best = data.split, 0.0
    made = 0

    def told(trial: tuning.Trial) -> None:
        nonlocal best, made
        made += 1
        mark = "  ← the best so far" if made > 1 and trial.score > best else ""
        best = max(best, trial.score)
        shown = shlex.join(settings.words(trial.settings)) or "the defaults"
        output.say(f"{made:>5}  {trial.score:>{width}.4f}  {trial.seconds:>7.1f}  {shown}{mark}")

    width = max(6, len(options.metric))
    output.say(f"trial  {options.metric:>{width}}  seconds  settings")
    with output.bar("searching", _facts) as progress:
        found = tuning.tune(
            (split.train_user, split.train_item), times=split.train_time, way=split.way, trials=options.trials,
            minutes=options.minutes, metric=options.metric, seed=options.seed, progress=progress, on_trial=told,
            **settings.chosen(options),
        )  # fmt: skip
    _conclude(found, output)
    return found


def _conclude(found: tuning.Tuned, output: Output) -> None:
    if found.stopped:
        output.say(_ENDED[found.stopped])
    pairs = f"{found.validation['pairs']:,} pairs held out of the training pairs"
    if found.best is found.trials[0]:
        output.say(f"nothing was better than the defaults on {pairs}")
    else:
        low, high = found.gain
        sure = "" if low > 0 else ": it may be chance"
        output.say(f"the best is above the defaults by {low:+.4f} to {high:+.4f} (95 %) on {pairs}{sure}")
    output.say("it was chosen there; what follows is measured on pairs that the search has never seen")
    output.say()


def _facts(facts: dict[str, Any]) -> str:
    if not facts:
        return ""
    best = "" if facts["best"] is None else f"  best {facts['best']:.4f}"
    return f"trial {facts['trial']} of {facts['trials']}{best}"


def command_line(options: argparse.Namespace, found: dict[str, Any]) -> str:
    """The `hotrow train` that makes the model of these settings."""
    words = ["hotrow", "train", *([] if options.path is None else [options.path])]
    for flag in ("--user", "--item", "--time", "--time-format", "--hold-out"):
        value = getattr(options, flag[2:].replace("-", "_"))
        words += [] if value is None else [flag, value]
    words += ["--skip-bad-lines"] * options.skip_bad_lines
    words += settings.words(found)
    words += ["--seed", str(options.seed)] * (options.seed != 0)
    return shlex.join([*words, "--out", options.out])
