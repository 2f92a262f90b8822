"""Sides of the benchmark `quality` in a process of their own: prints a JSON list, an outcome for each setting.

python -m benchmarks.quality_child '{"protocol": "ml75", "side": "popularity", "seed": 0, "settings": [{}],
                                     "validation": false, "quick": false, "threads": 2}'

Of several settings the process is the same, so that its peak memory is only that of one if there is one.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import hotrow
from benchmarks.protocols import PROTOCOLS
from benchmarks.quality_sides import SIDES


def main(
    protocol: str, side: str, seed: int, settings: list[dict[str, Any]], validation: bool, quick: bool, threads: int
) -> list[dict[str, Any]]:
    """{"metrics", "seconds", "peak"} of each setting; the peak of the process, after training and ranking, in MiB."""
    hotrow.set_threads(threads)
    chosen = PROTOCOLS[protocol]
    cut = chosen.cut(0, validation)  # one split, or pairs that one seed tests on would choose settings of another's
    outcomes: list[dict[str, Any]] = []
    for setting in settings:
        seconds, best = SIDES[side](chosen, cut, seed, setting, quick)
        outcomes.append({"metrics": chosen.measure(best, cut), "seconds": seconds, "peak": peak()})
    return outcomes


def peak() -> float:
    """The most memory that this process has had, in MiB; 0 where the system has no /proc.

    Not getrusage's: on Linux that of a child begins with what its parent had.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text("utf-8")) if status.exists() else None
    return int(found[1]) / 2**10 if found else 0.0


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
