"""Shards that are killed, stopped or refused memory at any moment: the table ends as one that nothing happened to."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import doomed
import numpy as np
import pytest
from test_cluster import assert_same, ids_of

import hotrow

cluster = pytest.importorskip("hotrow.cluster")
pytest.importorskip("ray")
from hotrow.cluster import ending, own_link, server, starting  # noqa: E402 — after what they need
from hotrow.errors import ClusterError  # noqa: E402

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL here")]
DIM = 6
OPTIMIZERS = {"SGD": hotrow.SGD(0.1), "Adagrad": hotrow.Adagrad(0.1), "Adam": hotrow.Adam(0.01)}


class Pair:
    """A table in shards and its plain twin, which are given the same."""

    def __init__(self, table, kind, optimizer, seed):
        self.table, self.kind, self.random = table, kind, np.random.default_rng(seed)
        self.twin = hotrow.Table(DIM, optimizer=OPTIMIZERS[optimizer], ids=kind)
        table.restore(self.twin.state())

    def ids(self, count):
        return ids_of(self.kind, self.random.integers(0, 90, count).tolist())

    def vectors(self, count):
        return self.random.standard_normal((count, DIM)).astype(np.float32)

    def both(self, change):
        """What the change gives on each is the same."""
        here, there = change(self.table), change(self.twin)
        assert np.array_equal(here, there)

    def step(self, *, settings=True):
        """One of the changes that there are, most often a training step."""
        ids, vectors, which = self.ids(30), self.vectors(30), self.random.random()
        if which < 0.03 and settings:
            other = OPTIMIZERS[self.random.choice(list(OPTIMIZERS))]
            self.both(lambda table: table.set_optimizer(other))
        elif which < 0.1:
            self.both(lambda table: table.forget(ids[:5]).removed)
        elif which < 0.2:
            self.both(lambda table: table.set(ids, vectors))
        elif which < 0.3:
            self.both(lambda table: table.lookup(ids, unknown="zero"))
        else:

            def learn(table):
                batch = table.find(ids, grow=True)
                found = table.lookup(batch)
                table.update(batch, found * np.float32(0.1) + vectors)
                return found

            self.both(learn)


def resident():
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pids(table):
    """The process of each shard, as it lives now."""
    return [facts["pid"] for facts in table.shards_.call("facts")]


@pytest.fixture(scope="module")
def doomed_table(ray_local):
    """Two shards that may be told to die, and keep what they have every few changes."""
    import ray

    ray.cloudpickle.register_pickle_by_value(doomed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starting, "shard_class", lambda: doomed.Doomed)
        table = cluster.Table(DIM, shards=2, log=20_000)
    yield table
    table.close()


@pytest.mark.parametrize("instant", [one for one in doomed.INSTANTS if one != "saving"])
def test_a_shard_killed_at_any_instant_comes_back_with_all_changes_each_once(doomed_table, instant):
    pair = Pair(doomed_table, "string", "Adam", doomed.INSTANTS.index(instant))
    before = [link.revivals for link in doomed_table.shards_.links]
    for _ in range(10):
        pair.step()
    due = [doomed.doom(doomed_table.home, index, instant) for index in (0, 1)]
    if instant in {"replaying", "loaded"}:
        doomed_table.shards_.flush(kept=instant == "loaded")
        for pid in pids(doomed_table):
            os.kill(pid, signal.SIGKILL)
    if instant == "offered":
        doomed_table.restore(pair.twin.state())
    for _ in range(300):
        pair.step()
        if not any(path.exists() for path in due):
            break
    else:
        pytest.fail("it never came to this instant")
    for _ in range(10):
        pair.step()
    assert_same(doomed_table, pair.twin)
    after = [link.revivals for link in doomed_table.shards_.links]
    assert all(now > then for now, then in zip(after, before, strict=True))


def test_a_shard_killed_in_the_middle_of_a_save_saves_what_it_was(doomed_table, tmp_path):
    pair = Pair(doomed_table, "string", "Adagrad", 8)
    for delta in (False, True):
        for _ in range(20):
            pair.step(settings=False)  # another optimizer, and there would be no delta
        copy = hotrow.Table.from_state(pair.twin.state())
        dooms = [doomed.doom(doomed_table.home, index, "saving") for index in (0, 1)]
        save = doomed_table.save_delta if delta else doomed_table.save
        saving = save(**({} if delta else {"path": tmp_path}), wait=False)
        for _ in range(20):  # steps go on, and aren't in it
            pair.step(settings=False)
        saving.result(300)
        assert not any(path.exists() for path in dooms)
        assert_same(hotrow.load(tmp_path), copy)
    assert_same(doomed_table, pair.twin)


def killing(table, kills, seed, steps):
    """A thread that kills shards at random instants, some twice in a row, some two at once; an event that ends it."""
    ended, draw, done = threading.Event(), random.Random(seed), []

    def run():
        while len(done) < kills and not ended.wait(draw.uniform(0, 2)):
            for pid in draw.sample(pids(table), draw.choice([1, 1, 1, 2])):
                os.kill(pid, signal.SIGKILL)
                done.append(pid)
            before = len(steps)
            while draw.random() < 0.98 and len(steps) == before and not ended.wait(0.1):
                pass  # most come back first, and some are killed on their way

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended, done


def trained_while_killed(kind, optimizer, shards, kills, seed):
    """Train a table and its twin until so many shards have been killed; how many were."""
    table = cluster.Table(DIM, shards=shards, log=20_000 * shards, patience=600.0)
    try:
        pair = Pair(table, kind, optimizer, seed)
        steps = []
        thread, ended, done = killing(table, kills, seed, steps)
        try:
            while thread.is_alive() or len(steps) % 20:
                pair.step()
                steps.append(1)
        finally:
            ended.set()
            thread.join()
        assert_same(table, pair.twin)
        return len(done)
    finally:
        table.close()


def test_three_shards_killed_at_random_instants_leave_no_trace(ray_local):
    assert trained_while_killed("int64", "Adagrad", 2, 3, 1) >= 3


@pytest.mark.long
def test_sixty_shards_killed_at_random_instants_leave_no_trace(ray_local):
    killed = 0
    for seed, (kind, optimizer) in enumerate([("string", "Adam"), ("int64", "SGD"), ("uint64", "Adagrad")]):
        killed += trained_while_killed(kind, optimizer, 2 + seed % 2, 20, seed)
    assert killed >= 60


def test_a_change_that_fails_ends_the_shard_and_is_taken_by_the_next_life(doomed_table):
    pair = Pair(doomed_table, "int64", "Adam", 1)
    for _ in range(5):
        pair.step()
    due = doomed.doom(doomed_table.home, 0, "refusing")
    while due.exists():
        pair.step()
    for _ in range(5):
        pair.step()
    assert_same(doomed_table, pair.twin)


def test_a_change_that_no_life_can_take_is_an_error_and_is_taken_once_it_can_be(doomed_table):
    pair = Pair(doomed_table, "int64", "Adam", 2)
    for _ in range(5):
        pair.step()
    ids = pair.ids(30)
    for table in (pair.table, pair.twin):
        table.lookup(ids, grow=True)
    doomed_table.flush()
    always = doomed.doom(doomed_table.home, 0, "always")
    pair.both(lambda table: table.update(ids, np.ones((30, DIM))))
    with pytest.raises(ClusterError, match=r"can't take change .*no memory is left.*did nothing"):
        doomed_table.lookup(ids)
    always.unlink()
    pair.both(lambda table: table.lookup(ids))
    pair.both(lambda table: table.update(ids, np.ones((30, DIM))))
    assert_same(doomed_table, pair.twin)


def test_a_stopped_shard_holds_its_owner_up_with_bounded_memory_and_nobody_else(doomed_table):
    pair = Pair(doomed_table, "int64", "SGD", 3)
    ids = np.arange(2000)
    for table in (pair.table, pair.twin):
        table.lookup(ids, grow=True)
    doomed_table.flush()
    where = pair.table.shards_.spread(doomed_table.find(ids).keys, "int64")
    there = [ids[where.part(0)], ids[where.part(1)]]
    gradients = np.ones((1500, DIM), np.float32)
    stopped, taken, ended = pids(doomed_table)[1], [], threading.Event()
    big = np.resize(there[1], 1500)
    batch = doomed_table.find(big)  # what it asks for comes before it is stopped
    link, log = doomed_table.shards_.links[1], doomed_table.shards_.links[1].log
    link.log = 1 << 30  # else that is the bound

    def train():
        while not ended.is_set():
            doomed_table.update(batch, gradients)
            taken.append(1)

    os.kill(stopped, signal.SIGSTOP)
    try:
        thread = threading.Thread(target=train)
        thread.start()
        until = time.monotonic() + 60
        while link.under_way()[0] < own_link.WINDOW and time.monotonic() < until:
            time.sleep(0.02)
        held, memory = len(taken), resident()
        for _ in range(20):  # rows of the other shard can be read meanwhile
            assert np.array_equal(pair.table.lookup(there[0]), pair.twin.lookup(there[0]))
        time.sleep(1)
        changes, length = link.under_way()
        assert changes == own_link.WINDOW
        assert length <= own_link.WINDOW_BYTES + length // changes
        assert len(taken) <= held + 1
        assert resident() < memory + (64 << 20)
    finally:
        ended.set()
        os.kill(stopped, signal.SIGCONT)
        link.log = log
    thread.join(60)
    assert not thread.is_alive()
    for _ in taken:
        pair.twin.update(big, gradients)
    assert_same(doomed_table, pair.twin)


def test_a_shard_that_stays_away_is_an_error_after_a_patience_and_can_be_used_once_it_is_back(ray_local):
    table = cluster.Table(DIM, shards=2, patience=100.0)
    try:
        pair = Pair(table, "int64", "Adam", 4)
        for _ in range(5):
            pair.step()
        table.flush()
        for link in table.shards_.links:
            assert link.patience == 100.0
            link.patience = 2.0
        stopped = pids(table)[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            with pytest.raises(ClusterError, match=r"shard 1 of 2 .* has been away for 2 s"):
                table.lookup(np.arange(50))
            with pytest.raises(ClusterError, match="has been away for 2 s"):
                table.lookup(np.arange(50))
            size = len(table)
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert len(table) == size
        for link in table.shards_.links:
            link.patience = 100.0
        for _ in range(5):
            pair.step()
        assert_same(table, pair.twin)
    finally:
        table.close()


def test_a_reader_that_is_killed_changes_nothing(doomed_table):
    import ray

    pair = Pair(doomed_table, "int64", "Adam", 5)
    for _ in range(10):
        pair.step()
    doomed_table.flush()

    @ray.remote(num_cpus=0)
    class Reader:
        def pid(self):
            return os.getpid()

        def read(self, name):
            view = cluster.attach(name)
            while True:
                view.lookup(np.arange(50))

    reader = Reader.options(max_concurrency=2).remote()
    pid = ray.get(reader.pid.remote())
    reading = reader.read.remote(doomed_table.name)
    pulls = sum(facts["pulls"] for facts in doomed_table.shards_.call("facts"))
    while sum(facts["pulls"] for facts in doomed_table.shards_.call("facts")) < pulls + 4:
        pair.step()
    os.kill(pid, signal.SIGKILL)
    for _ in range(10):
        pair.step()
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(reading)
    assert_same(doomed_table, pair.twin)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may come in a __del__, and is lost
def test_ctrl_c_leaves_each_step_made_on_all_shards_or_on_none(doomed_table):
    pair = Pair(doomed_table, "int64", "Adam", 6)
    ids = np.arange(60)
    for table in (pair.table, pair.twin):
        table.lookup(ids, grow=True)
    caught, draw = 0, random.Random(6)
    for _ in range(40):
        gradients, before = pair.vectors(60), doomed_table.steps
        timer = threading.Timer(draw.uniform(0, 0.01), os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            doomed_table.update(ids, gradients)
            timer.join()
            time.sleep(0.01)
        except KeyboardInterrupt:
            caught += 1
        if doomed_table.steps > before:
            pair.twin.update(ids, gradients)
    assert caught
    assert_same(doomed_table, pair.twin)


def test_a_home_that_is_gone_is_an_error_that_says_so(ray_local, tmp_path):
    table = cluster.Table(DIM, shards=1, home=tmp_path / "home", log=2000)
    try:
        for _ in range(20):
            table.update(table.find(np.arange(50), grow=True), np.ones((50, DIM)))
        table.shards_.flush(kept=True)
        for record in table.home.glob("*/*.json"):
            record.unlink()
        os.kill(pids(table)[0], signal.SIGKILL)
        with pytest.raises(ClusterError, match=r"came back with 0 changes.*home has been changed.*cluster\.load"):
            table.lookup(np.arange(50))
        with pytest.raises(ClusterError, match="came back with 0 changes"):
            table.update(np.arange(50), np.ones((50, DIM)))
    finally:
        table.close()
    assert not list((tmp_path / "home").iterdir())


def fill(pair):
    """Steps until there is no room for one more."""
    for _ in range(1000):
        pair.table.update(pair.table.find(np.arange(50), grow=True), np.ones((50, DIM)))
        pair.twin.update(pair.twin.find(np.arange(50), grow=True), np.ones((50, DIM)))


@pytest.mark.long
def test_a_home_that_cannot_be_written_is_an_error_once_the_log_is_full_and_no_change_is_lost(ray_local, tmp_path):
    home = tmp_path / "home"
    table = cluster.Table(DIM, shards=1, home=home, log=20_000)
    try:
        pair, link = Pair(table, "int64", "Adam", 7), table.shards_.links[0]
        folder = table.home / "kept-000"
        table.shards_.flush(kept=True)
        moved = folder.rename(table.home / "elsewhere")
        folder.touch()  # a file in its place: no folder can be made
        link.patience = 10.0
        with pytest.raises(ClusterError, match=r"can't write to its home .*did nothing"):
            fill(pair)
        link.patience = 120.0
        folder.unlink()
        moved.rename(folder)
        for _ in range(10):
            pair.step()
        table.shards_.flush(kept=True)
        assert_same(table, pair.twin)
    finally:
        table.close()


def test_a_closed_table_says_so_and_leaves_nothing_behind(ray_local, tmp_path):
    table = cluster.Table(DIM, shards=2, home=tmp_path)
    table.lookup(np.arange(9), grow=True)
    home, secret = table.home, table.shards_.links[0].secret
    os.kill(pids(table)[0], signal.SIGKILL)
    table.lookup(np.arange(9))
    table.close()
    assert home.parent == tmp_path
    assert not home.exists()
    assert not list(Path(server._parent()).glob(f"{server._prefix(secret)}*"))
    with pytest.raises(ClusterError, match="this table was closed"):
        table.lookup(np.arange(9))
    table.close()  # once more does no harm


KILLED = """
import os, signal, sys
from hotrow import cluster
from hotrow.cluster.ending import make_home
from hotrow.cluster.server import Server
print(make_home(None, "killed"), make_home(sys.argv[1], "killed"), Server("s" * 32, 0, print)._folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_what_was_killed_left_goes_with_the_next_start_and_what_lives_stays(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "homes"], check=False, capture_output=True, text=True
    )
    left = [Path(path) for path in ended.stdout.split()]
    assert len(left) == 3
    for path in left:
        assert path.stat().st_mode & 0o777 == 0o700
    mine = tmp_path / "homes" / "somebody's"
    mine.mkdir()
    homes = [ending.make_home(given, "mine") for given in (None, tmp_path / "homes", None)]
    assert [path.exists() for path in left] == [False, False, True]
    socket = server.Server("m" * 32, 0, print)
    try:
        assert not left[2].exists()
        other = server.Server("o" * 32, 0, print)
        assert all(path.exists() for path in [*homes, mine, socket._folder])
        other._context.destroy(0)
    finally:
        socket._context.destroy(0)
        for one in ("m", "o"):
            server.remove_sockets(one * 32)
        ending.end([], "m" * 32, homes[0], os.getpid())
        ending.end([], "m" * 32, homes[2], os.getpid())


def test_a_shard_far_from_its_owner_makes_a_home_for_its_user_alone_and_leaves_nothing(tmp_path):
    home = tmp_path / "home"
    for _ in range(2):  # its lives
        ending.enter_home(home)
        (home / "kept-001").mkdir(exist_ok=True)
    (home / "kept-000").mkdir()
    assert home.stat().st_mode & 0o777 == 0o700
    ending.leave_home(home, 1)
    assert (home / "kept-000").exists()
    ending.leave_home(home, 0)
    assert not home.exists()


def test_a_fork_of_the_owner_is_refused_and_ends_nothing(ray_local):
    table = cluster.Table(DIM, shards=1)
    try:
        table.lookup(np.arange(9), grow=True)
        child = os.fork()
        if not child:  # this is the fork: it may only tell by its exit code
            code = 1
            try:
                table.lookup(np.arange(9))
            except ClusterError as error:
                code = 0 if "another process" in str(error) else 2
            table._end()
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert table.home.exists()
        assert table.lookup(np.arange(9)).any()
    finally:
        table.close()


def test_a_node_that_is_lost_takes_nothing_along(tmp_path):
    script = Path(__file__).with_name("lost_node.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, tmp_path], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-3:] == ["1", "lost", "equal"]


def part_saved(link, path):
    """A shard's part of a save, ordered as `save` does, and the change that it is."""
    fields = {"path": str(path), "steps": 0, "keep": 9, "delta": False}
    link.ready()
    change = link.plan("save", fields, [], answer=True)
    link.make(change)
    return change


@pytest.mark.parametrize(
    "lost", [pytest.param(False, id="unread"), pytest.param(True, id="lost", marks=pytest.mark.long)]
)
def test_a_save_whose_answer_nobody_has_read_when_the_shard_dies_is_answered(ray_local, tmp_path, lost):
    table = cluster.Table(DIM, shards=1, log=1)  # whatever it takes is kept at once
    try:
        table.lookup(np.arange(20), grow=True)
        table.flush()
        link = table.shards_.links[0]
        change = part_saved(link, tmp_path / "part")
        while ray_local.get(link.actor.facts.remote())["durable"] < change.number:
            time.sleep(0.05)
        if lost:
            link._changes.close(0)
            link._changes = link.open()
        os.kill(pids(table)[0], signal.SIGKILL)
        while not link.revivals:
            link.look()
        link.await_(lambda: link.answers[change.answer] is not None)
        told = link.answers[change.answer]
        if lost:
            assert "was lost" in told["error"]
        else:
            assert told["generation"] == 1
        assert table.lookup(np.arange(20)).any()
    finally:
        table.close()


def test_an_answer_that_was_lost_with_a_connection_is_an_error_after_a_patience(ray_local, tmp_path):
    table = cluster.Table(DIM, shards=1)
    try:
        table.lookup(np.arange(20), grow=True)
        table.flush()
        link = table.shards_.links[0]
        change = part_saved(link, tmp_path / "part")
        while ray_local.get(link.actor.facts.remote())["applied"] < change.number:
            time.sleep(0.05)
        link._changes.close(0)
        link._changes, link.patience = link.open(), 0.5
        until = time.monotonic() + 60
        while link.answered(change.answer) is None and time.monotonic() < until:
            time.sleep(0.05)
        assert "was lost" in link.answers[change.answer]["error"]
    finally:
        table.close()


def test_who_waits_for_a_shard_that_writes_does_not_run_out_of_patience(doomed_table, tmp_path):
    pair = Pair(doomed_table, "int64", "Adam", 9)
    pair.step()
    doomed_table.flush()
    slow = doomed_table.home / "slow"
    slow.touch()
    links = doomed_table.shards_.links
    try:
        for link in links:
            link.begin_keeping()
        saving = doomed_table.save(tmp_path / "t", wait=False)
        for link in links:
            link.patience = 2.0
        pair.both(lambda table: table.lookup(np.arange(20), unknown="zero"))
    finally:
        for link in links:
            link.patience = 120.0
        slow.unlink()
    saving.result(60)


@pytest.mark.parametrize("number", [np.float32(0.05), np.array(0.05), 1], ids=["float32", "array", "int"])
def test_an_optimizer_may_have_numbers_of_numpy(doomed_table, number):
    pair = Pair(doomed_table, "int64", "Adam", 10)
    pair.step()
    for table in (pair.table, pair.twin):
        table.set_optimizer(hotrow.SGD(number))
    for _ in range(3):
        pair.step(settings=False)
    assert_same(pair.table, pair.twin)


def test_a_change_that_cannot_be_sent_is_refused_before_it_is_one(doomed_table):
    pair = Pair(doomed_table, "int64", "Adam", 11)
    pair.step()
    with pytest.raises(TypeError, match="not JSON serializable"):
        doomed_table.shards_.plan_all(
            lambda _, link: link.plan("optimizer", {"optimizer": object(), "fresh": False}, [])
        )
    with pytest.raises((TypeError, OverflowError)):
        doomed_table.set_optimizer(hotrow.SGD(10**400))
    pair.step()
    assert_same(pair.table, pair.twin)
