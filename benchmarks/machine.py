"""Where a benchmark ran, and with which versions."""

from __future__ import annotations

import datetime as dt
import logging
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

log = logging.getLogger("benchmarks")

_PACKAGES = (
    *("hotrow", "numpy", "numba", "llvmlite", "pyarrow"),
    *("torch", "fbgemm-gpu-cpu", "keras", "tensorflow", "jax", "implicit", "usearch"),
)
_THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def facts(threads: int) -> dict[str, object]:
    """What a reader needs to judge the numbers; nothing that names the machine."""
    memory = _gib(r"MemTotal:\s+(\d+)")
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "CPU": _cpu(),
        "cores": os.cpu_count(),
        "memory": f"{memory:.0f} GiB" if memory else "unknown",
        "system": f"{platform.system()} {platform.machine()}",
        "huge pages": _first_match(_THP, r"\[(\w+)\]") or "unknown",
        "Python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "threads a side": threads,
        "OpenMP": _openmp(),
        "load at the start": _load(),
    }


def fits(needed: int, what: str) -> bool:
    """Whether so many bytes can be taken without swapping; if not, it is said what is left out."""
    gib = _gib(r"MemAvailable:\s+(\d+)")
    if gib is None or needed < 0.9 * gib * 2**30:
        return True
    log.warning("%s is left out: it needs %.0f GiB of memory, and %.0f are free", what, needed / 2**30, gib)
    return False


def be_a_good_neighbour() -> None:
    """Let the peers' OpenMP threads sleep while they wait, unless the user has chosen.

    By default they spin. On a machine that does anything else a spinning thread takes the core from the one it waits
    for, and a step of a peer takes up to fifty times as long; alone on the machine the difference is small. To be
    called before a peer is imported. GOMP_SPINCOUNT=300000 in the environment is the peers' default.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["OMP_WAIT_POLICY"] = "passive"


def _openmp() -> str:
    chosen = {name: os.environ[name] for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if name in os.environ}
    return " ".join(f"{name}={value}" for name, value in chosen.items()) or "default"


def _load() -> float | str:
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else "unknown"


def _cpu() -> str:
    return _first_match(Path("/proc/cpuinfo"), r"model name\s*:\s*(.+)") or platform.processor() or platform.machine()


def _gib(pattern: str) -> float | None:
    found = _first_match(Path("/proc/meminfo"), pattern)
    return int(found) / 2**20 if found else None


def _first_match(path: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, path.read_text("utf-8"))
    except OSError:
        return None
    return found[1].strip() if found else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
