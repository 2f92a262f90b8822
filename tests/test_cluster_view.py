"""What `hotrow cluster status` draws and refuses, of shards as they may be: no Ray is needed."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.cells import cell_len
from rich.console import Console

from hotrow.apps.cli import main
from hotrow.apps.cluster import to_json
from hotrow.apps.cluster_view import Seen, brief, duration, lines, view
from hotrow.cluster.status import Rates, ShardStatus, TableStatus, Told, _rates
from hotrow.serve import shards_text

TOLD = Told(
    dim=32, ids="string", optimizer={"name": "Adam"}, rows=602_166, bytes=256_100_000,
    bytes_of={"rows": 231_000_000, "index": 7_850_000, "strings": 17_250_000}, steps=18_211, pulls=20_000,
    pushes=18_211, rows_pulled=400_000_000, rows_pushed=390_000_000, bytes_in=52_000_000_000, bytes_out=51_000_000_000,
    seconds_busy=310.0, seconds_up=900.0, heard=18_400, applied=18_398, durable=18_000, waiting=1, started=1.6e9,
    clock=1.6e9 + 900, kept=1.6e9 + 858, incarnation="a" * 32, node="f" * 56, pid=4777,
)  # fmt: skip
RATES = Rates(pulls=24.9, pushes=24.9, rows_pulled=1.2e6, rows_pushed=640_000.0, bytes_in=83e6, bytes_out=154e6,
              busy=0.34)  # fmt: skip
UP = ShardStatus(0, "up", TOLD, 0.0, RATES, restarts=0, node="f" * 56, address="10.0.0.11", pid=4777)
SILENT = ShardStatus(1, "silent", TOLD, 72.0, None, restarts=2, node="e" * 56, address="10.0.0.12", pid=4778)
STARTING = ShardStatus(2, "starting")
DEAD = ShardStatus(3, "dead", problem="it has died, and Ray doesn't start it again: no \x1b[2Jreason")
TABLE = TableStatus("clicks", (UP, SILENT, STARTING, DEAD))
EVEN = TableStatus("even", (UP, replace(UP, index=1, told=replace(TOLD, rows=301_083), rates=replace(RATES, busy=1.0))))


def drawn(*tables, width=80, encoding="utf-8"):
    """The lines of a view, at a width."""
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    console = Console(file=file, width=width, force_terminal=True, color_system=None, highlight=False)
    console.print(view(Seen("10.0.0.1:6379", tables, 1.6e9, 2.0), console))
    file.seek(0)
    return file.read().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120, 150, 200])
def test_a_shard_is_a_line_at_any_width_and_what_has_no_room_is_named(width):
    text = drawn(TABLE, width=width)
    assert max(map(cell_len, text)) <= width
    shards = [line.split() for line in text if " of 4  " in line]
    assert [" ".join(shard[:4]) for shard in shards] == ["1 of 4 up", "2 of 4 silent", "3 of 4 starting", "4 of 4 dead"]
    assert [shard[4] for shard in shards] == ["602,166", "602,166", "–", "–"]
    whole = " ".join(" ".join(text).split())
    header = next(line for line in text if line.lstrip().startswith("shard "))
    for name in ("pulls/s", "busy", "lag", "not on disk", "pid", "node"):
        assert (name in header) != (name in whole.partition("shows also:")[2])
    assert ("shows also" in whole) == (width < 200)


def test_what_is_wrong_with_a_shard_is_said_in_words():
    whole = "\n".join(drawn(TABLE, width=170))
    assert "clicks: 1,204,332 rows on the 2 of 4 shards that have answered, D 32" in whole
    assert "2 of 4: no answer for 1 min; process 4778 on 10.0.0.12 is stopped, stuck or very busy" in whole
    assert "3 of 4: Ray starts it, or waits for a node with a processor that is free" in whole
    assert "4 of 4: it has died, and Ray doesn't start it again: no \\x1b[2Jreason" in whole
    assert "\x1b[2J" not in whole


def test_how_even_shards_are_is_drawn_and_said():
    text = drawn(EVEN, width=200)
    first, second = (line for line in text if " of 2  " in line)
    assert first.count("█") == 8 + 2  # all rows, and busy .34 of the time: two cells and some of the third
    assert second.count("█") == 4 + 8
    assert any("the fullest shard has 1.33 × the mean of rows" in line for line in text)
    assert any("the busiest is busy 100% of the time, the mean 67%" in line for line in text)


def test_a_terminal_without_unicode_gets_bars_it_can_show():
    text = drawn(replace(EVEN, shards=(replace(UP, rates=None),)), width=200, encoding="utf-8")
    assert any("█" in line for line in text)
    file = io.TextIOWrapper(io.BytesIO(), "ascii", errors="replace")
    console = Console(file=file, width=200, color_system=None, highlight=False)
    console.print(view(Seen("10.0.0.1:6379", [EVEN], 1.6e9), console))
    file.seek(0)
    assert "########" in file.read()


def test_a_name_can_not_move_the_cursor():
    odd = replace(TABLE, name="a\x1b[2Jb")
    assert "\x1b[2J" not in "\n".join([*drawn(odd), *lines(Seen("", [odd], 0.0))])


def test_no_table_is_said_with_what_makes_one():
    assert "hotrow train FILE --cluster 10.0.0.1:6379" in "\n".join(drawn(width=170))
    assert lines(Seen("10.0.0.1:6379", [], 0.0))[0].endswith("they end with the process that made them")


def test_a_line_of_a_file_has_all_columns_and_what_is_wrong():
    first, *_, last = lines(Seen("", [TABLE], 0.0))
    assert "  clicks  1 of 4  up  rows 602,166  MB 256.1  pulls/s 24.9  pushes/s 24.9  rows/s out 1.2 M  " in first
    assert "  MB/s out 154  MB/s in 83.0  busy 34%  lag 2  not on disk 398  kept 42 s  waiting 1  restarts 0  " in first
    assert "  4 of 4  dead  " in last
    assert "Ray doesn't start it again" in last


def test_json_has_what_is_known_and_null_for_what_is_not():
    told = to_json(Seen("10.0.0.1:6379", [TABLE], 1.6e9))
    table = told["tables"][0]
    assert (table["rows"], table["steps"]) == (2 * TOLD.rows, TOLD.steps)
    up, silent, starting, dead = table["shards"]
    assert (up["told"]["lag"], up["told"]["not_on_disk"], up["rates"]["busy"]) == (2, 398, 0.34)
    assert (silent["state"], silent["seconds"], silent["rates"]) == ("silent", 72.0, None)
    assert (starting["told"], starting["pid"]) == (None, None)
    assert dead["problem"] == DEAD.problem


# --- rates -----------------------------------------------------------------------------------------------------------


def test_rates_are_by_the_clock_of_the_shard():
    later = replace(TOLD, pulls=20_050, bytes_in=TOLD.bytes_in + 1000, seconds_busy=311.0, seconds_up=902.0)
    rates = _rates(TOLD, later)
    assert (rates.pulls, rates.pushes, rates.bytes_in, rates.busy) == (25.0, 0.0, 500.0, 0.5)


def test_counts_of_a_shard_that_was_started_anew_are_those_since_its_start():
    anew = replace(TOLD, incarnation="b" * 32, seconds_up=4.0, **dict.fromkeys(("pulls", "pushes", "rows_pulled"), 8),
                   rows_pushed=0, bytes_in=0, bytes_out=0, seconds_busy=6.0)  # fmt: skip
    rates = _rates(TOLD, anew)
    assert (rates.pulls, rates.bytes_in, rates.busy) == (2.0, 0.0, 1.0)


def test_two_looks_at_one_instant_give_no_rates():
    assert _rates(TOLD, TOLD) is None


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_are_named_as_prometheus_wants_and_read_by_its_own_parser():
    odd = TableStatus('a"b\\c\nd', (UP,))
    families = {family.name: family for family in text_string_to_metric_families(shards_text([TABLE, odd]))}
    assert all(name.startswith(("hotrow_shard_", "hotrow_cluster_")) for name in families)
    for family in families.values():
        assert family.documentation
        assert family.type in {"counter", "gauge"}
        for sample in family.samples:
            assert sample.name == family.name + ("_total" if family.type == "counter" else "")
    up = {
        (sample.labels["table"], sample.labels["shard"]): sample.value for sample in families["hotrow_shard_up"].samples
    }
    assert up == {("clicks", "1 of 4"): 1, ("clicks", "2 of 4"): 0, ("clicks", "3 of 4"): 0, ("clicks", "4 of 4"): 0,
                  ('a"b\\c\nd', "1 of 1"): 1}  # fmt: skip
    assert [sample.value for sample in families["hotrow_shard_lag_changes"].samples] == [2, 2]
    sizes = {sample.labels["part"]: sample.value for sample in families["hotrow_shard_bytes"].samples}
    assert sizes == TOLD.bytes_of


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--watch", "1", "--once"], "not allowed with"),
        (["--prometheus", "--port", "9105"], "not allowed with"),
        (["--prometheus", "--json"], "leave --json out"),
        (["--host", "0.0.0.0"], "hotrow cluster status --port 9105"),
        (["--watch", "0"], "a number above 0"),
        (["--cluster", "nowhere"], "the HOST:PORT of its head"),
        (["--cluster", "ray://10.0.0.1:10001"], "the HOST:PORT of its head"),
        (["--cluster", "local"], "expected auto"),
        (["--port", "70000"], "a port from 0 to 65535"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_wrong_usage_is_told_with_what_would_be_right(capfd, arguments, words):
    with pytest.raises(SystemExit) as ended:
        main(["cluster", "status", *arguments])
    assert ended.value.code == 2
    assert words in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("module", "extra", "more"),
    [("ray", "ray", []), ("prometheus_client", "serve", ["--prometheus"])],
    ids=["ray", "serve"],
)
def test_an_extra_that_is_missing_is_named_with_the_way_to_install_it(monkeypatch, capfd, module, extra, more):
    for name in ("hotrow.serve.shards", "hotrow.serve.measures", "hotrow.serve.desk", "prometheus_client"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["cluster", "status", *more]) == 1
    assert f'pip install "hotrow[{extra}]"' in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.04, "0.0"), (24.94, "24.9"), (1234, "1,234"), (12_340, "12.3 k"), (1.2e6, "1.2 M"), (3e9, "3.0 G")],
)
def test_numbers_are_brief(number, text):
    assert brief(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (90, "2 min"), (7200, "2 h"), (4 * 86_400, "4 d")]
)
def test_times_are_brief(seconds, text):
    assert duration(seconds) == text
