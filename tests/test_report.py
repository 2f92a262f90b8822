"""docs/performance.md: what the benchmarks have found, written and drawn by `benchmarks/report.py` alone."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

report = pytest.importorskip("benchmarks.report", reason="this is no checkout")
counters = pytest.importorskip("benchmarks.counters")
Result = report.Result

FACTS = {"cores": 2}


def step(dim, side, best, unit="ms", **more):
    return Result("A step", {"D": dim, "ids": "zipf"}, side, unit, best, **more)


PHASES = [
    Result("What a phase is.", {}, "", "", 0),
    step(16, "the limit", 1.0),
    step(16, "a step", 3.0, ratio=3.0, most=2.0),
    step(16, "find", 1.0),
    step(16, "Python", 2.0),
    step(64, "a step", 9.5, ratio=1.9, most=2.0),
    step(64, "find", 9.5),
    Result("Python's share", {"D": 16}, "256 ids", "%", 80.0),
]
SWEEP = [
    Result("By rows", {"rows": rows}, side, "ms", best)
    for rows, best in (("10", 1.0), ("20", 2.0))
    for side in ("hotrow", "<torch>")
]


def words(svg):
    return list(ET.fromstring(svg).itertext())


def test_the_page_and_its_pictures_are_what_the_report_writes(tmp_path):
    report.write_page(page=tmp_path / "performance.md")
    again = "write them with `python -m benchmarks.report`"
    assert (tmp_path / "performance.md").read_text("utf-8") == report.PAGE.read_text("utf-8"), again
    for picture in (tmp_path / report.FOLDER).iterdir():
        kept = report.PAGE.parent / report.FOLDER / picture.name
        assert picture.read_text("utf-8") == kept.read_text("utf-8"), again


def test_every_picture_that_is_kept_stands_on_the_page():
    page = report.PAGE.read_text("utf-8")
    for picture in (report.PAGE.parent / report.FOLDER).glob("*.svg"):
        assert f"({report.FOLDER}/{picture.name})" in page


def test_a_result_without_a_side_is_a_sentence():
    text, _ = report.to_markdown("phases", FACTS, PHASES)
    assert "\nWhat a phase is.\n" in text
    assert "**What a phase is.**" not in text


def test_phases_are_parts_of_bars_and_the_limit_is_a_mark():
    text, pictures = report.to_markdown("phases", FACTS, PHASES)
    assert list(pictures) == ["phases-1.svg"]
    assert f"![A step, ms]({report.FOLDER}/phases-1.svg)" in text
    assert "| 16 | zipf | 1.00 | 3.00 (3.00×) ✗ | 1.00 | 2.00 |" in text
    assert "| 64 | zipf | – | 9.50 (1.90×) ✓ | 9.50 | – |" in text
    found = words(pictures["phases-1.svg"])
    assert {"D = 16, zipf", "D = 64, zipf", "find", "Python", "the limit", "3.00", "9.50"} <= set(found)
    assert "a step" not in found


def test_a_sweep_is_lines_over_what_changes():
    text, pictures = report.to_markdown("sweeps", FACTS, SWEEP)
    assert "| 20 | 2.00 | 2.00 |" in text
    found = words(pictures["sweeps-1.svg"])
    assert {"By rows", "rows", "10", "20", "hotrow", "<torch>", "ms"} <= set(found)


def test_other_benchmarks_are_tables_alone():
    text, pictures = report.to_markdown("step", FACTS, SWEEP)
    assert not pictures
    assert "![" not in text


def test_results_survive_being_written(tmp_path):
    facts, results = report.from_lines(report.to_lines(FACTS, PHASES))
    assert (facts, results) == (FACTS, PHASES)


def test_what_perf_counts_is_read_and_what_it_does_not_is_left_out():
    text = (
        "120,,instructions:u,9,100.00,,\n"
        "56.03,msec,task-clock,9,100.00,,\n"
        "<not supported>,,cycles,0,100.00,,\n"
        "<not counted>,,cache-misses,0,0.00,,\n\n"
    )
    assert counters.parse(text) == {"instructions": 120.0, "task-clock": 56.03}


def test_where_there_is_no_perf_it_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert counters.available() == ([], "perf isn't installed here (linux-perf in Debian)")


@pytest.mark.compiled
def test_the_phases_of_a_measured_step_add_up_to_it():
    phases, workload = (pytest.importorskip(f"benchmarks.{name}") for name in ("phases", "workload"))
    found = {}
    for result in phases.run(workload.QUICK):
        if result.unit in {"ms", "µs"}:
            found.setdefault((result.table, *result.case.values()), {})[result.side] = result.best
    assert len(found) >= 8  # two optimizers, two sizes of batches, two streams
    for sides in found.values():
        parts = [sides[phase] for phase in ("find", "gather", "merge", "step", "Python")]
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(sides["a step"])
