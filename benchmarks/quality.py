"""How well hotrow recommends, and in what time: published protocols, beside `implicit`'s ALS and BPR, and popularity.

Of each side: its metrics, the seconds of its training and its peak memory, in a process of its own, with three seeds.
Settings of implicit and of `hotrow, tuned` are searched for on the validation cut, and shown; `hotrow, no option` has
none. The split is one; seeds are those of training. The metrics are
compared with ranx's before anything is measured, if that is installed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from statistics import mean
from typing import Any

from benchmarks import evaluator, harness
from benchmarks.harness import Result
from benchmarks.protocols import PROTOCOLS
from benchmarks.quality_sides import ALS, CURVES, OURS, TUNED_SIDE, searched, taking_part
from benchmarks.workload import Sizes

log = logging.getLogger("benchmarks")

SEEDS = 3
LEAST: dict[str, dict[str, float]] = {
    "gowalla": {"recall@20": 18.2, "ndcg@20": 15.3},
    "ml75": {"ndcg@10": 44.2, "precision@10": 38.8},
    "tfrs": {"top@10": 2.2, "top@100": 23.3},
    "beauty": {"recall@10": 6.53, "ndcg@10": 3.84},
}
"""What hotrow must reach with settings that were searched for, in percent."""
MOST = {"gowalla": 300.0}
"""Seconds of training that it may take."""
DRAWN = ("gowalla", "ml75")
"""The protocols with a curve of quality against time."""
_LOWER = "max − min"

Outcome = dict[str, Any]


def run(sizes: Sizes) -> Iterator[Result]:
    """All protocols whose files are there."""
    yield Result(evaluator.check(), {}, "", "", 0)
    for name, protocol in PROTOCOLS.items():
        if (name == "made_up") != sizes.quick:
            continue
        if missing := protocol.missing():
            log.warning("%s is left out: there is no %s", protocol.title, ", ".join(map(str, missing)))
            continue
        yield from _measured(name, sizes)


def _measured(name: str, sizes: Sizes) -> Iterator[Result]:
    settings: dict[str, dict[str, Any]] = {}
    for side, tried in searched(name).items():
        settings[side], said = _best(name, side, tried, sizes)
        yield Result(said, {}, "", "", 0)
    outcomes = dict[str, list[Outcome]]()
    for side in taking_part(name):
        log.info("quality: %s, %s", PROTOCOLS[name].title, side)
        seeds = range(1 if sizes.quick else SEEDS)
        outcomes[side] = [_child(name, side, seed, [settings.get(side, {})], sizes)[0] for seed in seeds]
    yield from results(name, outcomes, held=not sizes.quick)
    if name in DRAWN or sizes.quick:
        curve = list(_curve(name, settings, sizes))
        yield from curve
        yield from _caught_up(name, outcomes[ALS], curve, held=not sizes.quick)


def results(name: str, outcomes: dict[str, list[Outcome]], *, held: bool) -> Iterator[Result]:
    """The tables of a protocol, of side → the outcomes of its seeds."""
    title = PROTOCOLS[name].title
    last_of_ours = TUNED_SIDE if TUNED_SIDE in outcomes else OURS
    for metric in PROTOCOLS[name].metrics:
        for side, seeds in outcomes.items():
            values = [100 * outcome["metrics"][metric] for outcome in seeds]
            wanted = LEAST.get(name, {}).get(metric) if held and side == last_of_ours else None
            table = f"{title}: mean of {len(values)} seeds"
            shown = metric.upper() if metric.startswith("ndcg") else metric.capitalize()
            yield Result(table, {"": shown}, side, "%", mean(values), values, least=wanted)
            yield Result(table, {"": f"{shown}, {_LOWER}"}, side, "%", max(values) - min(values))
    for what, unit in (("seconds", "s"), ("peak", "MiB")):
        table = {"seconds": f"{title}: training", "peak": f"{title}: peak memory of the process"}[what]
        for side, seeds in outcomes.items():
            values = [outcome[what] for outcome in seeds]
            most = MOST.get(name) if held and what == "seconds" and side == last_of_ours else None
            yield Result(table, {"": f"mean of {len(values)} seeds"}, side, unit, mean(values), values, most=most)


def _best(name: str, side: str, tried: list[dict[str, Any]], sizes: Sizes) -> tuple[dict[str, Any], str]:
    """The best setting of a side on the validation cut, by the protocol's first metric, and what to say about it."""
    metric = PROTOCOLS[name].metrics[0]
    tried = tried[:2] if sizes.quick else tried
    log.info("quality: %s, %d settings of %s on the validation cut", PROTOCOLS[name].title, len(tried), side)
    outcomes = _child(name, side, 0, tried, sizes, validation=True)
    values = [100 * outcome["metrics"][metric] for outcome in outcomes]
    best = max(range(len(tried)), key=values.__getitem__)
    keys = dict.fromkeys(key for one in tried for key in one)
    grid = ", ".join(
        f"{key} {' | '.join(f'{value:g}' for value in dict.fromkeys(one[key] for one in tried if key in one))}"
        for key in keys
    )
    return tried[best], (
        f"{PROTOCOLS[name].title}: of {side} {len(tried)} settings were tried on the validation cut ({grid}), whose "
        f"{metric} went from {min(values):.2f} to {max(values):.2f} %. Chosen: {_said(tried[best])}."
    )


def _said(setting: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in setting.items())


def _curve(name: str, settings: dict[str, dict[str, Any]], sizes: Sizes) -> Iterator[Result]:
    """Seconds and quality along what CURVES varies: a row a point, of one seed."""
    metric = PROTOCOLS[name].metrics[-1] if name == "gowalla" else PROTOCOLS[name].metrics[0]
    for side, points in CURVES.items():
        for point in points[:2] if sizes.quick else points:
            setting = {**settings.get(side, {}), **point}
            (outcome,) = _child(name, side, 0, [setting], sizes)
            case = {"side": side, "with": _said(point)}
            table = f"{PROTOCOLS[name].title}: {metric} against seconds of training"
            yield Result(table, case, "training, s", "one seed", outcome["seconds"])
            yield Result(table, case, f"{metric}, %", "one seed", 100 * outcome["metrics"][metric])


def _caught_up(name: str, peer: list[Outcome], curve: list[Result], *, held: bool) -> Iterator[Result]:
    """The seconds of the peer, and of the first point of our curve that is as good."""
    points = [result for result in curve if result.case["side"] == OURS]
    seconds, values = ([result.best for result in points[i::2]] for i in (0, 1))
    metric = points[1].side.partition(",")[0]
    wanted = 100 * mean(outcome["metrics"][metric] for outcome in peer)
    most = mean(outcome["seconds"] for outcome in peer)
    there = [s for s, value in zip(seconds, values, strict=True) if value >= wanted]
    table, case = f"{PROTOCOLS[name].title}: training until {metric} is {wanted:.2f} %, the best of {ALS}", {"": "s"}
    yield Result(table, case, ALS, "s", most)
    yield Result(table, case, OURS, "s", min(there, default=math.inf), most=most if held else None)


def _child(
    name: str, side: str, seed: int, settings: list[dict[str, Any]], sizes: Sizes, *, validation: bool = False
) -> list[Outcome]:
    case = {"protocol": name, "side": side, "seed": seed, "settings": settings, "validation": validation}
    return harness.in_a_child("benchmarks.quality_child", {**case, "quick": sizes.quick, "threads": sizes.threads})
