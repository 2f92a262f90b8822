"""How the tables of a cluster are, on a real Ray: shards that are up, hung, killed and dead, and who looks at them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import running

import hotrow
from hotrow.apps.cli import main
from hotrow.errors import ArgumentError
from hotrow.serve import shards_app, shards_text
from hotrow.serve.program import Server

pytest.importorskip("ray")
pytest.importorskip("zmq")

from hotrow import cluster

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP here"),
]
IDS = np.arange(200)
DIM = 4


@contextmanager
def opened(name, shards):
    """A table of that name that has taken a step."""
    table = cluster.Table(DIM, shards=shards, name=name, optimizer=hotrow.Adagrad(0.1), initializer=hotrow.Zeros())
    try:
        step(table)
        yield table
    finally:
        table.close()


def step(table):
    """All ids are asked for, and moved."""
    batch = table.find(IDS, grow=True)
    table.lookup(batch)
    table.update(batch, np.ones((len(IDS), DIM), np.float32))
    table.flush()


@pytest.fixture(scope="module")
def lamps(ray_local):
    """A table in two shards."""
    with opened("lamps", 2) as table:
        yield table


@pytest.fixture
def watcher(ray_local):
    return cluster.Watcher(patience=10.0)


def of(watcher, name):
    """What a look says of one table; those of other tests may be there, too."""
    return next((table for table in watcher.look() if table.name == name), None)


def until(true):
    """What `true` returns once it is something, within a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = true()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it never was")


def a_shard(watcher, name, index, state):
    """That shard, once it is in this state."""

    def seen():
        shard = of(watcher, name).shards[index]
        return shard if shard.state == state else None

    return until(seen)


@contextmanager
def stopped(pid):
    """Within, a process does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# --- what is seen ----------------------------------------------------------------------------------------------------


def test_a_look_says_what_each_shard_holds_and_where_it_lives(ray_local, watcher, lamps):
    seen, stats = of(watcher, "lamps"), lamps.stats()
    assert seen.rows == len(lamps) == len(IDS)
    assert seen.bytes_of == stats["bytes_of"]
    assert seen.steps == lamps.steps
    assert [shard.index for shard in seen.shards] == [0, 1]
    assert {shard.state for shard in seen.shards} == {"up"}
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray_local.nodes()}
    for shard, link in zip(seen.shards, lamps.shards_.links, strict=True):
        told = shard.told
        assert (told.dim, told.ids, told.optimizer) == (DIM, "int64", stats["optimizer"])
        assert told.bytes == sum(told.bytes_of.values())
        assert (told.heard, told.applied, told.durable) == (link.sent, link.sent, link.durable)
        assert (told.lag, told.waiting) == (0, 0)
        assert told.pid == shard.pid != os.getpid()
        assert nodes[shard.node] == shard.address
        assert shard.seconds == 0.0
        assert shard.restarts == 0
    assert len({shard.pid for shard in seen.shards}) == 2


def test_two_looks_give_rates_of_what_was_done_between_them(watcher, lamps):
    first = of(watcher, "lamps")
    assert all(shard.rates is None for shard in first.shards)
    for _ in range(3):
        step(lamps)
    second = of(watcher, "lamps")
    for before, now in zip(first.shards, second.shards, strict=True):
        seconds = now.told.seconds_up - before.told.seconds_up
        assert seconds > 0
        assert now.rates.pushes * seconds == pytest.approx(3)
        assert now.rates.rows_pushed * seconds == pytest.approx(3 * now.told.rows)
        assert now.rates.bytes_in * seconds == pytest.approx(now.told.bytes_in - before.told.bytes_in)
        assert now.told.bytes_in - before.told.bytes_in > 3 * now.told.rows * (8 + 4 * DIM)  # keys and gradients
        assert now.told.bytes_out - before.told.bytes_out > 3 * now.told.rows * 4 * DIM  # vectors
        assert 0 < now.rates.busy <= 1
    third = of(watcher, "lamps")
    assert all(shard.rates.pulls == shard.rates.pushes == 0 for shard in third.shards)


def test_what_a_shard_has_on_disk_is_told_apart_from_what_it_has(watcher, lamps):
    step(lamps)
    lamps.shards_.flush(kept=True)
    seen = of(watcher, "lamps")
    assert [shard.told.not_on_disk for shard in seen.shards] == [0, 0]
    assert all(0 <= shard.told.seconds_since_keep < 600 for shard in seen.shards)
    step(lamps)
    assert all(shard.told.not_on_disk > 0 for shard in of(watcher, "lamps").shards)


def test_a_request_that_waits_for_a_change_is_counted_as_lag(watcher, lamps):
    link = lamps.shards_.links[0]
    asked = link.ask("pull", {"numbers": True, "vectors": False, "after": link.sent + 1}, [np.zeros(0, np.uint64)])
    shard = until(lambda: next((one for one in of(watcher, "lamps").shards if one.told.waiting), None))
    assert (shard.index, shard.told.lag) == (0, 1)
    step(lamps)
    link.wait(asked)
    assert [(one.told.waiting, one.told.lag) for one in of(watcher, "lamps").shards] == [(0, 0), (0, 0)]


def test_actors_that_are_no_shards_are_none(ray_local, watcher, lamps):
    class Other:
        def ready(self):
            return True

    names = ("lamps", "lamps/3 of 2", "lamps/0 of 1", "lamps/a of b", "/1 of 1")
    others = [ray_local.remote(Other).options(name=name, namespace="hotrow", num_cpus=0).remote() for name in names]
    others.append(ray_local.remote(Other).options(name="other/1 of 1", namespace="elsewhere", num_cpus=0).remote())
    try:
        ray_local.get([each.ready.remote() for each in others])
        names = {table.name for table in watcher.look()}
        assert "lamps" in names
        assert not names & {"", "other"}
        assert len(of(watcher, "lamps").shards) == 2
    finally:
        for each in others:
            ray_local.kill(each)


# --- shards that aren't up -------------------------------------------------------------------------------------------


def test_a_stopped_shard_is_silent_is_asked_once_and_is_up_again_when_it_goes_on(lamps):
    watcher = cluster.Watcher(patience=0.5)
    a_shard(watcher, "lamps", 1, "up")
    first = a_shard(watcher, "lamps", 0, "up")
    with stopped(first.pid):
        for _ in range(3):
            silent, other = a_shard(watcher, "lamps", 0, "silent"), of(watcher, "lamps").shards[1]
            assert silent.told == first.told
            assert silent.seconds > 0
            assert silent.rates is None
            assert (silent.pid, silent.node) == (first.pid, first.node)
        under_way = {seen.asked for seen in watcher._seen.values() if seen.id == id_of(lamps, 0)}
        watcher.look()
        assert under_way == {seen.asked for seen in watcher._seen.values() if seen.id == id_of(lamps, 0)} != {None}
        assert other.told is not None
    again = a_shard(watcher, "lamps", 0, "up")
    assert again.told.incarnation == first.told.incarnation
    assert again.told.seconds_up > first.told.seconds_up


def id_of(table, index):
    return table.shards_.links[index].actor._actor_id.hex()


def test_a_killed_shard_is_started_again_and_its_counts_begin_at_0_without_negative_rates(watcher):
    with opened("killed", 2) as table:
        for _ in range(3):
            step(table)
        before = of(watcher, "killed").shards[1]
        os.kill(before.pid, signal.SIGKILL)
        states = set()

        def back():
            shard = of(watcher, "killed").shards[1]
            states.add(shard.state)
            for rate in vars(shard.rates).values() if shard.rates else ():
                assert rate >= 0
            return shard if shard.told.incarnation != before.told.incarnation else None

        after = until(back)
        assert states <= {"up", "restarting", "silent"}
        assert (after.state, after.restarts) == ("up", 1)
        assert after.pid != before.pid
        assert after.told.pushes == after.told.rows == 0 < before.told.pushes
        assert after.rates.pushes == 0
        assert (table.lookup(IDS) < 0).all()  # its owner sees that it is another one, and sends it what it lacks
        replayed = of(watcher, "killed").shards[1]
        assert (replayed.told.rows, replayed.told.applied) == (before.told.rows, before.told.applied)
        assert replayed.rates.pushes > 0


def test_a_shard_that_ray_does_not_start_again_is_dead_and_says_why(ray_local, watcher):
    with opened("dead", 2) as table:
        last = of(watcher, "dead").shards[0]
        ray_local.kill(table.shards_.links[0].actor)
        dead = a_shard(watcher, "dead", 0, "dead")
        assert "ray.kill" in dead.problem
        assert dead.told == last.told
        assert of(watcher, "dead").shards[1].alive
        unknown = of(cluster.Watcher(), "dead").shards[0]  # it was dead before this one came
        assert (unknown.state, unknown.told, unknown.pid) == ("dead", None, None)
        assert of(cluster.Watcher(), "dead").rows == len(IDS) - last.told.rows
        with suppress(Exception):
            table.close()


def test_a_table_that_is_closed_is_gone_and_another_of_its_name_is_another(watcher):
    with opened("again", 1):
        old = of(watcher, "again").shards[0]
    until(lambda: of(watcher, "again") is None)
    with opened("again", 1):
        new = a_shard(watcher, "again", 0, "up")
        assert new.told.incarnation != old.told.incarnation
        assert new.rates is None


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_look_from_another_process_is_one_object_of_json(ray_local, lamps):
    address = ray_local.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "hotrow", "cluster", "status", "--cluster", address, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    told = json.loads(done.stdout)
    assert told["cluster"] == address
    table = next(table for table in told["tables"] if table["name"] == "lamps")
    assert (table["rows"], table["dim"], table["ids"]) == (len(IDS), DIM, "int64")
    assert table["bytes"] == sum(table["bytes_of"].values()) == lamps.stats()["bytes"]
    for shard in table["shards"]:
        assert shard["state"] == "up"
        assert shard["rates"]["pushes"] == 0
        assert shard["told"]["lag"] == 0
    assert sum(shard["told"]["rows"] for shard in table["shards"]) == len(IDS)


def test_no_cluster_is_said_with_how_to_start_one(tmp_path):
    command = [sys.executable, "-m", "hotrow", "cluster", "status", "--cluster", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no Ray cluster answers at '127.0.0.1:1'" in done.stderr
    assert "ray start --head" in done.stderr


def test_once_shows_a_line_a_shard_and_ends(capfd, lamps):
    assert main(["cluster", "status", "--once"]) == 0
    out = capfd.readouterr().out
    assert f"lamps: {len(IDS)} rows, D {DIM}, int64 ids, Adagrad, step {lamps.steps:,};" in out
    assert "the fullest shard has " in out
    rows = [line.split() for line in out.partition("lamps:")[2].splitlines() if " of 2 " in line][:2]
    assert [row[:4] for row in rows] == [["1", "of", "2", "up"], ["2", "of", "2", "up"]]
    assert sum(int(row[4]) for row in rows) == len(IDS)


def test_without_a_terminal_each_look_is_lines_or_json_that_stay_until_ctrl_c(capfd, lamps):
    for more in ([], ["--json"]):
        with interrupted_after(3.0):
            assert main(["cluster", "status", "--watch", "0.5", *more]) == 0
        lines = capfd.readouterr().out.splitlines()
        if more:
            looks = [json.loads(line) for line in lines]
            assert len(looks) > 1
            assert looks[0]["time"] < looks[-1]["time"]
        else:
            mine = [line for line in lines if "  lamps  1 of 2  up  rows " in line]
            assert len(mine) > 1
            assert "pulls/s –" in mine[0]
            assert "pulls/s 0" in mine[-1]


@contextmanager
def interrupted_after(seconds):
    """Within, somebody presses Ctrl-C after so long."""
    timer = threading.Timer(seconds, signal.raise_signal, [signal.SIGINT])
    timer.start()
    yield
    timer.join()


@contextmanager
def a_terminal(monkeypatch, columns=100):
    """A terminal, of which this process is on the inside; yields `wait(text)`, what is shown up to it, and `press`."""
    import fcntl
    import pty
    import struct
    import termios

    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = bytearray()

    def read():
        with suppress(OSError):  # nobody is inside any more
            while some := os.read(outside, 1 << 16):
                shown.extend(some)

    reader = threading.Thread(target=read, daemon=True)
    before = termios.tcgetattr(inside)
    with os.fdopen(os.dup(inside), "r") as stdin, os.fdopen(os.dup(inside), "w") as stdout:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        reader.start()
        yield shown, lambda key: os.write(outside, key)
        assert termios.tcgetattr(inside) == before  # as it was: it shows again what is typed
        monkeypatch.undo()
    os.close(inside)
    reader.join(60)
    os.close(outside)


@pytest.mark.parametrize("key", [b"q", "Ctrl-C"], ids=str)
def test_on_a_terminal_it_refreshes_in_place_until_q_or_ctrl_c(monkeypatch, lamps, key):
    with a_terminal(monkeypatch) as (shown, press):
        looks = []

        def look_on():
            with suppress(AssertionError):
                until(lambda: shown.count(b"pulls/s") > 2)
            looks.append(shown.count(b"pulls/s"))
            signal.raise_signal(signal.SIGINT) if key == "Ctrl-C" else press(key)

        person = threading.Thread(target=look_on)
        person.start()
        assert main(["cluster", "status", "--watch", "0.3"]) == 0
        person.join()
    text = shown.decode()
    assert looks[0] > 2
    assert "\x1b[1A" in text  # up, to write over what was there
    assert "q ends it" in text
    assert "1 of 2" in text
    assert "\x1b[?25h" in text  # the cursor is back


# --- for Prometheus --------------------------------------------------------------------------------------------------


def samples(text):
    """{(name, table, shard): value} of what Prometheus' own parser finds in a text."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if "table" in sample.labels and "part" not in sample.labels:
                found[sample.name, sample.labels["table"], sample.labels["shard"]] = sample.value
    return found


def test_the_metrics_are_those_of_a_look_in_prometheus_own_format(capfd, watcher, lamps):
    seen = of(watcher, "lamps")
    assert main(["cluster", "status", "--prometheus"]) == 0
    found = samples(capfd.readouterr().out)
    for i, shard in enumerate(seen.shards):
        told = shard.told
        mine = {name.removeprefix("hotrow_shard_"): value for (name, table, which), value in found.items()
                if (table, which) == ("lamps", f"{i + 1} of 2")}  # fmt: skip
        assert mine["up"] == mine["info"] == 1
        assert mine["rows"] == told.rows
        assert mine["pulls_total"] == told.pulls
        assert mine["pushed_rows_total"] == told.rows_pushed
        assert mine["received_bytes_total"] == told.bytes_in
        assert mine["busy_seconds_total"] >= told.seconds_busy
        assert mine["applied_changes"] == told.applied
        assert mine["start_time_seconds"] == told.started
        assert mine["restarts_total"] == 0


def test_a_silent_shard_is_down_and_nothing_out_of_date_is_told_of_it(lamps):
    watcher = cluster.Watcher(patience=0.5)
    pid = a_shard(watcher, "lamps", 0, "up").pid
    with stopped(pid):
        a_shard(watcher, "lamps", 0, "silent")
        found = samples(shards_text(watcher.look()))
    names = {name for name, table, which in found if (table, which) == ("lamps", "1 of 2")}
    assert found["hotrow_shard_up", "lamps", "1 of 2"] == 0
    assert names == {"hotrow_shard_up", "hotrow_shard_info", "hotrow_shard_restarts_total"}
    assert found["hotrow_shard_up", "lamps", "2 of 2"] == 1
    a_shard(watcher, "lamps", 0, "up")


def test_each_scrape_over_http_is_a_look(lamps, watcher):
    with running(shards_app(watcher.look, hosts=["127.0.0.1"])) as client:
        pushes = []
        for _ in range(2):
            answer = client.get("/metrics")
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            pushes.append(samples(answer.text)["hotrow_shard_pushes_total", "lamps", "1 of 2"])
            step(lamps)
        assert pushes[1] == pushes[0] + 1
        assert 'hotrow_requests_total{path="/metrics",status="200"} 2.0' in client.get("/metrics").text
        assert client.get("/").status_code == 404
        assert client.post("/metrics").status_code == 405
        assert client.get("/metrics", headers={"host": "elsewhere.example"}).status_code == 421


def test_a_cluster_that_does_not_answer_is_no_metrics_and_no_end_of_the_server():
    def look():
        raise hotrow.errors.ClusterError("the head is gone")

    with running(shards_app(look, hosts=["127.0.0.1"])) as client:
        for _ in range(2):
            answer = client.get("/metrics")
            assert (answer.status_code, answer.json()["error"]["message"]) == (503, "the head is gone")


def test_others_reach_the_metrics_with_a_token_alone(watcher):
    with pytest.raises(ArgumentError, match="--token-file"):
        Server(shards_app(watcher.look), "0.0.0.0", 0)
    with running(shards_app(list, token="a-token-of-many-letters")) as client:
        assert client.get("/metrics").status_code == 401
        right = {"authorization": "Bearer a-token-of-many-letters", "host": "shards.example"}
        assert client.get("/metrics", headers=right).status_code == 200
