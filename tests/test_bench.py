"""`hotrow bench`: where a step's time goes. No test here depends on how long anything takes."""

from __future__ import annotations

import itertools
import json
import threading
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from test_cli import check_one_line
from test_house import KERNELS

import hotrow
from hotrow.apps import bench, phases
from hotrow.apps.cli import main
from hotrow.kernels import threads
from hotrow.table import index
from hotrow.table.optimizers import OPTIMIZERS

TINY = ["--rows", "2000", "--batch", "64", "--dim", "4"]
NO_PART_IN_A_STEP = {
    "hotrow.kernels.ranking",
    "hotrow.kernels.decimals",
    "hotrow.kernels.simd",
    "hotrow.kernels.__init__",
}
"""Kernels of models, and what only kernels call."""


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Few and short rounds, a small copy, 80 columns without colours."""
    monkeypatch.setattr(bench, "ROUNDS", 3)
    monkeypatch.setattr(bench, "SECONDS", 0.0)
    monkeypatch.setattr(bench, "COPIED", 1 << 16)
    for name in ("FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")


def counting():
    """A watch whose clock moves by one whenever it is read: each call that is timed takes 1."""
    return phases.Watch(itertools.count().__next__)


def small_table():
    table = hotrow.Table(4, seed=1)
    return table, table.find(np.arange(300), grow=True)


# --- the watch -------------------------------------------------------------------------------------------------------


def test_every_part_of_a_step_on_known_ids_is_seen_and_nothing_is_drawn():
    table, batch = small_table()
    with counting() as watch:
        phases.step(table, np.arange(200), np.ones((200, 4), np.float32))
    assert min(watch.taken[phase] for phase in ("find", "gather", "step")) >= 1
    assert watch.taken["first values"] == 0
    with counting() as watch:
        batch.merge(np.ones((300, 4), np.float32))
    assert watch.taken["merge"] >= 1
    assert sum(watch.taken.values()) == watch.taken["merge"]


def test_first_values_of_new_ids_are_a_part_of_their_own():
    table, _ = small_table()
    with counting() as watch:
        table.find(np.arange(1000, 1100), grow=True)
    assert watch.taken["first values"] == 1


def test_a_kernel_in_slices_on_many_threads_counts_once():
    hotrow.set_threads(3)
    table = hotrow.Table(64, initializer=hotrow.Zeros())
    batch = table.find(np.arange(9000), grow=True)
    with counting() as watch:
        table.lookup(batch)
    assert watch.taken["gather"] == 1


def test_what_another_thread_does_is_not_counted():
    table, batch = small_table()
    with counting() as watch:
        other = threading.Thread(target=table.lookup, args=(batch,))
        other.start()
        other.join()
    assert not any(watch.taken.values())


def test_a_step_that_is_watched_computes_the_same():
    watched, plain = (small_table()[0] for _ in range(2))
    ids, gradients = np.arange(150).repeat(2), np.random.default_rng(0).standard_normal((300, 4), np.float32)
    with phases.Watch():
        phases.step(watched, ids, gradients)
    phases.step(plain, ids, gradients)
    assert (watched.vectors() == plain.vectors()).all()


def test_afterwards_all_is_as_before_whatever_happened():
    run, module = threads.run, index.probing
    seen = []

    def fail():
        with phases.Watch():
            seen.extend([threads.run, index.probing])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert run not in seen
    assert module not in seen
    assert threads.run is run
    assert index.probing is module


def test_every_file_of_kernels_is_a_part_of_a_step_or_has_none_in_it():
    files = {"hotrow." + path.removesuffix(".py").replace("/", ".") for path in KERNELS}
    assert files - NO_PART_IN_A_STEP == set(phases._PHASE_OF)
    assert set(phases._PHASE_OF.values()) <= set(phases.PHASES)


# --- what is calculated ----------------------------------------------------------------------------------------------


def test_the_bytes_of_a_step_are_counted_one_by_one():
    ids, dim, slots = [7, 9, 7, 4, 9, 7], 3, 5
    counted = sum(8 for _ in ids)
    for _ in set(ids):
        counted += 64 + 2 * sum(4 for _ in range(dim + slots))
    for _ in ids:
        counted += 2 * sum(4 for _ in range(dim))
    traffic = phases.Traffic.of(ids=len(ids), distinct=len(set(ids)), dim=dim, slots=slots)
    assert traffic.total == counted


def test_a_split_is_of_the_steps_that_nothing_disturbed():
    usual = dict.fromkeys(phases.PHASES, 1.0)
    slow, quick = dict.fromkeys(phases.PHASES, 90.0), dict.fromkeys(phases.PHASES, 0.1)
    split = phases.Split.of([slow, usual, usual, quick, usual, usual])
    assert split.seconds == usual
    assert split.total == len(phases.PHASES)


def test_the_median_round_counts_and_the_limit_is_that_of_the_median_copy():
    rounds = [phases.Split({**dict.fromkeys(phases.PHASES, 0.0), "step": taken}) for taken in (3.0, 1.0, 2.0)]
    traffic = phases.Traffic.of(ids=10, distinct=5, dim=4, slots=8)
    measured = phases.Measured(rounds, [1.0, 100.0, 10.0], 10, 5, traffic)
    assert measured.split.total == 2.0
    assert measured.limit == traffic.total / 10.0


def test_drawn_rows_are_in_range_and_zipfs_low_ones_are_frequent():
    for zipf in (None, 1.05, 1.2, 2.0):
        drawn = phases.draw(1000, (3, 5000), zipf)
        assert drawn.shape == (3, 5000)
        assert drawn.dtype == np.int64
        assert 0 <= drawn.min() <= drawn.max() < 1000
        assert ((drawn == 0).mean() > 0.05) == (zipf is not None)


def test_a_table_is_filled_in_the_order_of_the_ids(monkeypatch):
    monkeypatch.setattr(phases, "CHUNK", 40)
    told, ids = [], np.arange(100)[::-1].copy()
    table = phases.fill(2, hotrow.SGD(), ids, told.append)
    assert told == [40, 80, 100]
    assert (table.ids() == ids).all()


# --- the command -----------------------------------------------------------------------------------------------------


def result(capfd, *arguments):
    assert main(["bench", *TINY, *arguments, "--json"]) == 0
    out = capfd.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


@pytest.mark.parametrize("ids", ["zipf", "uniform"])
def test_the_phases_add_up_to_the_step(capfd, ids):
    found = result(capfd, "--ids", ids)
    spent = found["milliseconds"]
    assert list(spent) == ["find", "gather", "merge", "step", "Python"]
    assert min(spent.values()) > 0
    assert sum(spent.values()) == pytest.approx(found["milliseconds_a_step"], rel=1e-9)
    assert (found["ids"], found["optimizer"], found["rounds"]) == (ids, "Adam", 3)
    assert sum(found["bytes"].values()) == found["bytes_a_step"]
    assert found["bytes"]["rows"] == 4 * 3 * 4 * found["distinct"]
    assert 1 <= found["distinct"] <= found["batch"] == 64


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_can_be_measured_by_its_name(capfd, name):
    assert result(capfd, "--optimizer", name)["optimizer"] == name


def test_words_of_an_optimizers_name_may_be_joined_as_elsewhere(capfd):
    for name in ("rowwise_adagrad", "row-wise-adagrad", "RowwiseAdagrad"):
        assert result(capfd, "--optimizer", name)["optimizer"] == "RowwiseAdagrad"


def test_people_see_a_table_with_bars_and_the_limit(capfd):
    assert main(["bench", *TINY]) == 0
    out = capfd.readouterr().out
    lines = {line.partition("  ")[0]: line for line in out.splitlines()}
    assert "100%" in lines["a step"]
    assert lines["a step"].count("█") == 40
    drawn = sum(lines[name].count("█") for name in ("find", "gather", "merge", "step", "Python"))
    assert abs(drawn - 40) <= 3
    for words in ("64 zipf ids on 2,000 rows", "Adam, D = 4", "The limit:", "ids/s", "rows/s", "GB/s"):
        assert words in out


def test_a_terminal_without_unicode_gets_what_it_can_show(capfd, monkeypatch):
    monkeypatch.setattr("rich.console.Console.encoding", "ascii")
    assert main(["bench", *TINY]) == 0
    out = capfd.readouterr().out
    assert out.isascii()
    assert "#" * 40 in out


def test_a_picture_has_a_part_for_each_phase_and_the_limit(capfd, tmp_path):
    path = tmp_path / "bench.svg"
    assert result(capfd, "--out", str(path))["out"] == str(path)
    texts = list(ET.fromstring(path.read_bytes()).itertext())
    assert {"find", "gather", "merge", "step", "Python", "a step", "the limit", "ms"} <= set(texts)
    assert main(["bench", *TINY, "--out", str(path)]) == 0  # over an older one
    assert f"written to {path}" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--optimizer", "sparkle"], ["'sparkle'", "--optimizer adam", *map(str.lower, OPTIMIZERS)]),
        (["--optimizer", "\x1b[2J" * 50], ["\\x1b[2J"]),
        (["--rows", "1000000000000"], ["1,000,000,000,000 rows", "GiB", "--rows "]),
        (["--batch", "1000000000000"], ["1,000,000,000,000", "GiB", "--batch 40000"]),
        (["--out", "nowhere/bench.svg"], ["nowhere/bench.svg", "folder"]),
        (["--out", "."], ["folder"]),
        (["--out", "thesis.txt"], ["thesis.txt"]),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_measured(capfd, monkeypatch, tmp_path, arguments, words):
    def measure(*_):
        raise AssertionError("too late")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "_measure", measure)
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["bench", *arguments]) == 1
    check_one_line(capfd.readouterr(), words)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("arguments", [["--rows", "0"], ["--ids", "normal"], ["--dim", "x"], ["now"]])
def test_wrong_usage_is_exit_code_2(capfd, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *arguments])
    assert stopped.value.code == 2


def test_ctrl_c_ends_it_and_leaves_nothing_replaced(capfd, monkeypatch, tmp_path):
    steps = itertools.count()
    step, run = phases.step, threads.run

    def interrupted(*arguments):
        if next(steps) == 6:
            raise KeyboardInterrupt
        step(*arguments)

    monkeypatch.setattr(phases, "step", interrupted)
    assert main(["bench", *TINY, "--out", str(tmp_path / "bench.svg")]) == 130
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "hotrow: stopped by Ctrl-C\n")
    assert threads.run is run
    assert not list(tmp_path.iterdir())
