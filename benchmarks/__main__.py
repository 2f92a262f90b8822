"""`python -m benchmarks [names] [--quick] [--rounds N] [--json PATH]`."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from benchmarks import machine, report
from benchmarks.workload import QUICK, Sizes


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmarks, show their tables, keep their results; name the targets that were missed."""
    given = _parse(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    for name in ("benchmarks", "hotrow"):  # the peers say more than one wants to read
        logging.getLogger(name).setLevel(logging.INFO)
    machine.be_a_good_neighbour()
    sizes = QUICK if given.quick else Sizes()
    sizes = replace(sizes, rounds=given.rounds or sizes.rounds)
    facts = machine.facts(sizes.threads)
    print(" · ".join(f"{key} {value}" for key, value in facts.items()))
    kept = []
    for name in given.names or report.ORDER:
        results = list(import_module(f"benchmarks.{name}").run(sizes))
        report.show(results)
        kept += results
        if results and not (given.quick or given.json):
            _write(report.RESULTS / f"{name}.jsonl", report.to_lines(facts, results))
            report.write_page()
    if given.json:
        _write(given.json, report.to_lines(facts, kept))
    for result in kept:
        if result.holds is False:
            print(f"missed: {result.table}, {result.case}, {result.side}: {report.cell(result)}")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(report.ORDER)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether all sides agree, no times to quote")
    parser.add_argument("--rounds", type=int, help="rounds of each side")
    parser.add_argument("--json", type=Path, metavar="PATH", help="results there, not to benchmarks/results and docs/")
    given = parser.parse_args(arguments)
    for name in given.names:
        if name not in report.ORDER:
            parser.error(f"no benchmark is called {name!r}; there are {', '.join(report.ORDER)}")
    return given


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
