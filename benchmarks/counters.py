"""The processor's own counters, by `perf stat`, where there is one and the machine lets it count."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

EVENTS = ("instructions", "cycles", "cache-misses", "dTLB-load-misses")
_ATTACH = 0.3  # seconds until perf has begun to count


def available() -> tuple[list[str], str]:
    """The events that are counted here, and why the others aren't: a clause, empty if all are."""
    try:
        done = subprocess.run([*_perf(EVENTS), "true"], capture_output=True, text=True, check=False)
    except OSError:
        return [], "perf isn't installed here (linux-perf in Debian)"
    counted = parse(done.stderr)
    missing = [event for event in EVENTS if event not in counted]
    return list(counted), f"on this machine perf stat doesn't count {', '.join(missing)}" if missing else ""


def count(events: Sequence[str], work: Callable[[], None]) -> dict[str, float]:
    """How often each event happens in this process, on all of its threads, while `work` runs."""
    command = [*_perf(events), "-p", str(os.getpid())]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as perf:
        time.sleep(_ATTACH)
        try:
            work()
        finally:
            perf.send_signal(signal.SIGINT)
        _, text = perf.communicate()
    return parse(text)


def _perf(events: Sequence[str]) -> list[str]:
    return ["perf", "stat", "-x", ",", "-e", ",".join(events)]


def parse(text: str) -> dict[str, float]:
    """Event → count, of what `perf stat -x ,` prints: a line for each, with the count, its unit, the event, and more.

    >>> parse("120,,instructions:u,9,100.00,,")
    {'instructions': 120.0}
    """
    fields = [line.split(",") for line in text.splitlines()]
    return {
        parts[2].partition(":")[0]: float(parts[0])
        for parts in fields
        if len(parts) > 2 and parts[0].replace(".", "", 1).isdigit()
    }
