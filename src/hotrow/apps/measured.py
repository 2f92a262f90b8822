"""How a model of user and item vectors did on held-out pairs, for people: what `Retrieval.report` says, on a screen.

            model        95 %  popularity        95 %
recall@20  0.6464  .641–.652       0.2792  .273–.285        how sure, if other users of the kind had been asked

of the held-out pairs whose item is …   items   pairs  model  popularity
among the most popular                     12   9,162  0.812       0.790
"""

from __future__ import annotations

from typing import Any

from hotrow.apps.console import Output

_LEFT_TO_JSON = ("precision", "mrr")  # ten lines for each k would be a wall
_ITEMS = {
    "head": "most popular, a third of the training pairs",
    "middle": "less popular, a third",
    "tail": "least popular, a third",
    "new": "in no training pair",
}


def show_metrics(output: Output, report: dict[str, Any]) -> None:
    """The model's metrics beside those of popularity: over all, by how popular the items are, and for cold users."""
    names = [name for name in report["model"] if not name.startswith(_LEFT_TO_JSON)]
    sides = ("model", "popularity")
    if "intervals" not in report:  # of a model that was trained before there were any
        output.table("", ["", *sides], [[name, *(f"{report[side][name]:.4f}" for side in sides)] for name in names])
        return
    bounds = report["intervals"]
    rows = [
        [name, *(cell for side in sides for cell in (f"{report[side][name]:.4f}", _span(bounds[side][name])))]
        for name in names
    ]
    output.table("", ["", "model", "95 %", "popularity", "95 %"], rows)
    key = max((name for name in names if name.startswith("recall@")), key=lambda name: int(name.partition("@")[2]))
    low, high = bounds["difference"][key]
    if low <= 0 <= high:
        output.say(f"which of the two is better in {key} is not certain: the difference is {low:+.4f} to {high:+.4f}")
    output.say()
    _show_buckets(output, report["buckets"], key)
    output.say()
    _show_others(output, report, key)


def show_left_out(output: Output, measured: dict[str, Any]) -> None:
    """What was measured of the pairs that were given, and what not, and why."""
    output.say(f"{measured['pairs']:,} pairs of {measured['users']:,} users measured")
    if measured["known"]:
        output.say(f"{measured['known']:,} not measured: the model was trained on them")
    if measured["strangers"]:
        output.say(f"{measured['strangers']:,} not measured: of users that the model doesn't know")
    output.say()


def _show_buckets(output: Output, buckets: list[dict[str, Any]], key: str) -> None:
    rows = [
        [
            _ITEMS[bucket["bucket"]],
            f"{bucket['items']:,}" if bucket["items"] else "",
            f"{bucket['pairs']:,}",
            *("" if bucket[side][key] is None else f"{bucket[side][key]:.4f}" for side in ("model", "popularity")),
        ]
        for bucket in buckets
    ]
    title = f"{key} of held-out pairs by item"
    output.table("", [title, "items", "held out", "model", "popularity"], rows)


def _show_others(output: Output, report: dict[str, Any], key: str) -> None:
    cold, k = report["cold_users"], key.partition("@")[2]
    if cold["users"]:
        figures = f"{cold['model'][key]:.4f}, popularity {cold['popularity'][key]:.4f}"
        output.say(f"{key} of the {cold['users']:,} users with at most {cold['at_most']} training pairs: {figures}")
    shares = [f"{report['coverage'][side][f'coverage@{k}']:.1%}" for side in ("model", "popularity")]
    output.say(f"{shares[0]} of the items are among somebody's first {k}; by popularity {shares[1]}")


def _span(bounds: list[float]) -> str:
    low, high = (f"{bound:.3f}".removeprefix("0") for bound in bounds)
    return f"{low}–{high}"
