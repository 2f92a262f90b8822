"""`hotrow cluster plan`: bytes by arithmetic, steps in simulated time. Nothing starts Ray, and nothing is timed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hotrow
from hotrow.apps.cli import main
from hotrow.cluster.planning.costs import Cost, Costs, distinct, exponent
from hotrow.cluster.planning.events import Cores, Event, Inbox, Link, Process, Turn, World, carry, every
from hotrow.cluster.planning.measured import MEASURED
from hotrow.cluster.planning.plan import FULL, Bytes, for_memory, plan
from hotrow.cluster.planning.simulation import Machine, Setup, simulate
from hotrow.errors import ArgumentError

NOTHING = Cost()
FREE = Costs("nowhere", *[NOTHING] * 5, 0.0, 0.0, 0.0, NOTHING, NOTHING, NOTHING, 0.0)
"""Where nothing costs anything; tests put back one thing at a time."""
FAST = Machine(network=1e18, price=2.0)


def ends_of(jobs: list[tuple[float, float]], cores: int) -> list[float]:
    """When jobs (begin, seconds) on so many cores end."""
    world, found = World(), [0.0] * len(jobs)
    shared = Cores(world, cores)

    def job(i: int, begin: float, seconds: float) -> Process:
        yield shared.use(seconds)
        found[i] = world.now

    for i, (begin, seconds) in enumerate(jobs):
        world.after(begin, lambda i=i, begin=begin, seconds=seconds: world.start(job(i, begin, seconds)) and None)
    end = world.start(_until(world, lambda: all(found)))
    world.run(end)
    return found


def _until(world: World, is_so: Callable[[], bool], every: float = 0.01) -> Process:
    while not is_so():
        yield _later(world, every)


def _later(world: World, seconds: float = 0.01) -> Event:
    event = Event()
    world.after(seconds, event.fire)
    return event


def naive_ends(jobs: list[tuple[float, float]], cores: int, tick: float = 1e-3) -> list[float]:
    """The same in small steps of time."""
    left, found, now = [seconds for _, seconds in jobs], [0.0] * len(jobs), 0.0
    while not all(found):
        active = [i for i, (begin, _) in enumerate(jobs) if begin <= now and not found[i]]
        for i in active:
            left[i] -= tick * min(1.0, cores / len(active))
            if left[i] <= 1e-9:
                found[i] = now + tick
        now += tick
    return found


@given(
    jobs=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60)), min_size=1, max_size=8),
    cores=st.integers(1, 3),
)
def test_jobs_share_cores_evenly_as_small_steps_of_time_say(jobs: list[tuple[int, int]], cores: int) -> None:
    seconds = [(begin / 100, work / 100) for begin, work in jobs]
    assert np.allclose(ends_of(seconds, cores), naive_ends(seconds, cores), atol=0.03)


def test_cores_count_what_they_worked() -> None:
    world = World()
    cores = Cores(world, 2)
    world.run(every([cores.use(1.0), cores.use(2.0), cores.use(3.0)]))
    assert cores.busy == pytest.approx(6.0)
    assert world.now == pytest.approx(3.5)  # 3 jobs at 2/3 until 1.5, then two at full speed


def test_a_queue_of_random_jobs_is_as_long_as_queueing_theory_says() -> None:
    """M/M/1 with a shared core: a job takes 1 / (μ − λ) on average."""
    rng, world = np.random.default_rng(0), World()
    cores, taken = Cores(world, 1), list[float]()

    def job(begin: float, seconds: float) -> Process:
        yield cores.use(seconds)
        taken.append(world.now - begin)

    def arrive(i: int) -> None:
        world.start(job(world.now, rng.exponential(1 / 2.0)))
        if i:
            world.after(rng.exponential(1 / 1.0), lambda: arrive(i - 1))

    arrive(20_000)
    world.run(world.start(_until(world, lambda: len(taken) == 20_001, 1.0)))
    assert np.mean(taken) == pytest.approx(1 / (2.0 - 1.0), rel=0.05)


def test_messages_go_one_after_the_other_and_the_slower_end_counts() -> None:
    world = World()
    out, fast, slow = Link(100.0), Link(1000.0), Link(10.0)
    world.run(every([carry(world, out, fast, 100, 0.5), carry(world, out, slow, 100, 0.5)]))
    assert world.now == pytest.approx(1.0 + 10.0 + 0.5)  # the second begins when the first is out
    assert (out.busy, fast.busy, slow.busy) == pytest.approx((2.0, 0.1, 10.0))


def test_a_turn_goes_to_who_has_waited_longest_and_an_inbox_keeps_the_order() -> None:
    world, turn, inbox, order = World(), Turn(), Inbox(), list[Any]()

    def one(name: str) -> Process:
        yield turn.take()
        order.append(name)
        inbox.put(name)
        yield _later(world)
        turn.give_back()

    def reader() -> Process:
        first = yield inbox.get()
        return [first, (yield inbox.get()), (yield inbox.get())]

    read = world.start(reader())
    world.run(every([*(world.start(one(name)) for name in "abc"), read]))
    assert order == list("abc") == read.value


def test_processes_that_wait_for_one_another_are_an_error_and_no_endless_loop() -> None:
    world = World()
    with pytest.raises(RuntimeError, match="wait for one another"):
        world.run(world.start(iter_forever(Inbox())))


def iter_forever(inbox: Inbox) -> Process:
    yield inbox.get()


# --- distinct ids ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipf", [None, 0.0, 0.8, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("rows", [50, 20_000])
def test_distinct_ids_are_as_many_as_drawing_them_gives(rows: int, zipf: float | None) -> None:
    chances = np.arange(1.0, rows + 1) ** -(zipf or 0.0)
    chances /= chances.sum()
    rng, n = np.random.default_rng(1), 3_000
    drawn = [len(np.unique(rng.choice(rows, n, p=chances))) for _ in range(20)]
    assert distinct(n, rows, zipf) == pytest.approx(np.mean(drawn), rel=0.02)


@settings(max_examples=20)
@given(zipf=st.floats(0.3, 2.5), ids=st.integers(500, 50_000), rows=st.integers(1_000, 10**9))
def test_the_exponent_is_found_from_how_many_are_distinct(zipf: float, ids: int, rows: int) -> None:
    seen = distinct(ids, rows, zipf)
    assert distinct(ids, rows, exponent(ids, rows, seen)) == pytest.approx(seen, rel=1e-6)


def test_an_exponent_that_is_none_is_refused() -> None:
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(ArgumentError, match="exponent"):
            distinct(10, 10, wrong)


# --- steps -----------------------------------------------------------------------------------------------------------


def test_a_step_in_which_one_part_costs_takes_as_long_as_that_part() -> None:
    setup = Setup(
        batch=1_000, rows=10**6, unique=800, dim=8, slots=16, shards=4, threads=1, latency=0.0, machine=FAST, owner=FAST
    )
    second = Cost(0.0, 1e-3)
    for part, items in {"dedupe": 1_000, "split": 800, "group": 1_000, "fill": 1_000, "merge": 1_000}.items():
        told = simulate(setup, replace(FREE, **{part: second}))
        assert told.seconds == pytest.approx(1e-3 * items)
        assert told.limit == "the owner's thread"
        assert told.busy["the owner's thread"] == pytest.approx(1.0)
    for part in ("fetch", "step"):  # four shards share 800 rows: the one that has drawn most is waited for
        told = simulate(setup, replace(FREE, **{part: second}))
        assert 0.2 <= told.seconds <= 0.26
        assert told.limit == "the busiest shard"


def test_a_push_holds_up_the_next_pull_of_its_shard_alone() -> None:
    setup = Setup(batch=100, unique=100, shards=1, threads=1, latency=0.0, machine=FAST, owner=FAST)
    both = replace(FREE, fetch=Cost(1.0), step=Cost(2.0), dedupe=Cost(0.5))
    assert simulate(setup, both).seconds == pytest.approx(3.0)  # the owner's half second fits beside the push
    assert simulate(setup, replace(both, dedupe=Cost(4.0))).seconds == pytest.approx(5.0)


def test_on_one_machine_shards_and_owner_share_the_cores() -> None:
    costs = replace(FREE, fetch=Cost(1.0), step=Cost(1.0))
    apart = Setup(batch=100, unique=100, shards=4, latency=0.0, machine=FAST, owner=FAST)
    assert simulate(apart, costs).seconds == pytest.approx(2.0, rel=0.01)
    assert simulate(replace(apart, together=True, owner=Machine(cores=2)), costs).seconds == pytest.approx(4.0)


def test_the_network_of_the_owner_carries_keys_vectors_and_gradients() -> None:
    machine = Machine(network=1e6)
    setup = Setup(batch=1_000, unique=1_000, dim=32, shards=100, machine=machine, owner=machine, latency=0.0)
    told = simulate(setup, FREE)
    assert told.seconds == pytest.approx(1_000 * (8 + 4 * 32 + 8 + 4 * 32) / 1e6, rel=0.05)
    assert told.limit.startswith("the owner's network")


def test_steps_under_way_overlap_what_workers_do() -> None:
    setup = Setup(batch=100, unique=10, shards=2, dense=8.0, workers=4, blocks=8, latency=0.0, owner=FAST)
    setup = replace(setup, machine=replace(FAST, cores=1))
    costs = replace(FREE, dedupe=Cost(1.0))
    assert simulate(setup, costs).seconds == pytest.approx(3.0)  # 2 of the dense part each, 1 of the owner
    assert simulate(replace(setup, staleness=1), costs).seconds == pytest.approx(2.0, rel=0.02)
    assert simulate(replace(setup, blocks=6), costs).seconds == pytest.approx(1.0 + 8.0 / 3)  # somebody has two of six


@pytest.mark.parametrize("staleness", [0, 2, *(pytest.param(far, marks=pytest.mark.long) for far in (8, 50))])
def test_nothing_is_busier_than_there_is_time(staleness: int) -> None:
    setup = Setup(batch=4_000_000, rows=10**12, zipf=0.6, shards=99, staleness=staleness)
    assert max(simulate(setup, MEASURED).busy.values()) <= 1


def test_stragglers_are_waited_for_and_more_shards_have_more_of_them() -> None:
    costs = replace(FREE, fetch=Cost(1.0))
    setup = Setup(batch=100, unique=100, latency=0.0, stragglers=0.05, times=10.0, machine=FAST, owner=FAST)
    few, many = (simulate(replace(setup, shards=n), costs, steps=200).seconds for n in (1, 20))
    assert few == pytest.approx(1 + 9 * 0.05, rel=0.2)
    assert many == pytest.approx(1 + 9 * (1 - 0.95**20), rel=0.2)


def test_the_same_seed_gives_the_same_steps() -> None:
    setup = Setup(shards=3, stragglers=0.1, times=3)
    assert simulate(setup, MEASURED) == simulate(setup, MEASURED)
    assert simulate(setup, MEASURED) != simulate(setup, MEASURED, seed=1)


@pytest.mark.parametrize(
    "wrong",
    [{"shards": 0}, {"batch": 0}, {"staleness": -1}, {"stragglers": 2.0}, {"times": 0.5}, {"dense": -1.0}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_setup_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        simulate(replace(Setup(), **wrong), FREE)


def test_costs_go_through_json() -> None:
    assert Costs.from_json(json.loads(json.dumps(asdict(MEASURED)))) == MEASURED


# --- plans -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 1_000, 300_000])
def test_bytes_of_the_index_are_those_that_a_table_says(rows: int) -> None:
    table = hotrow.Table(4, ids="int64")
    table.find(np.arange(rows), grow=True)
    part = Bytes.of(rows, 4, table.optimizer.slots(4))
    table._index.settle()
    assert part.index * rows == pytest.approx(table.stats()["bytes_of"]["index"])
    assert (part.weights + part.slots) * rows == table.stats()["bytes_of"]["rows"]


@given(rows=st.integers(1, 10**12), memory=st.floats(1e9, 1e12), per_machine=st.integers(1, 16))
def test_shards_hold_their_rows_in_the_memory_that_they_may_take(rows: int, memory: float, per_machine: int) -> None:
    setup = Setup(rows=rows, machine=Machine(memory=memory), per_machine=per_machine)
    shards = for_memory(setup)
    row = Bytes.of(rows / shards, setup.dim, setup.slots)
    assert row.memory * rows / shards * per_machine <= FULL * memory
    assert rows / shards < 2**31


def test_more_shards_are_taken_until_the_rate_is_reached_and_no_more_than_help() -> None:
    costs = replace(FREE, fetch=Cost(0.0, 1e-5))
    setup = Setup(batch=1_000, rows=10**6, unique=1_000, latency=0.0, machine=FAST, owner=FAST)
    enough = plan(setup, costs, ids_per_second=1.6e6)
    assert enough.enough
    assert 16 <= enough.shards <= 27
    assert enough.price == 2.0 * (enough.shards + 1)
    held = replace(costs, dedupe=Cost(1e-3))
    never = plan(setup, held, ids_per_second=1.6e6)
    assert never.enough is False
    assert never.simulated.limit == "the owner's thread"
    assert never.shards <= 256


def test_a_plan_without_a_rate_is_what_memory_needs() -> None:
    setup = Setup(rows=10**9, machine=Machine(memory=64e9))
    made = plan(setup, MEASURED, string=20)
    assert made.shards == for_memory(setup, 20) > for_memory(setup)
    assert made.enough is made.price is None
    assert made.disk == pytest.approx(made.memory + 8 * 10**9)
    with pytest.raises(ArgumentError, match="disk"):
        plan(setup, MEASURED, disk=0)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_says_what_is_needed_and_what_is_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cluster", "plan", "--rows", "10e9", "--ids-per-second", "1e6", "--zipf", "1.1", "--price", "2"]) == 0
    said = capsys.readouterr().out
    assert "10,000,000,000 rows of D = 32 with Adam" in said
    assert "Enough for 1,000,000 ids/s" in said
    assert "an hour, of all machines" in said


def test_the_command_as_json_has_all_that_it_shows(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    picture = tmp_path / "busy.svg"
    options = ["--rows", "1000000", "--optimizer", "rowwise_adagrad", "--strings", "12", "--stragglers", "0.01:5"]
    assert main(["cluster", "plan", *options, "--workers", "2", "--dense", "10", "--out", str(picture), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["optimizer"] == "RowwiseAdagrad"
    assert told["bytes_of"]["strings"] == 28
    assert told["shards"] == 1
    assert told["enough"] is None
    assert "the workers" in told["busy"]
    assert picture.read_text("utf-8").startswith("<svg")


def test_the_command_says_when_no_number_of_shards_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cluster", "plan", "--rows", "1e6", "--ids-per-second", "1e12", "--batch", "1000"]) == 0
    assert "NOT enough" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong",
    [["--stragglers", "often"], ["--optimizer", "magic"], ["--rows", "1e30"]],
    ids=lambda wrong: wrong[0][2:],
)
def test_what_the_command_cannot_take_is_said_in_one_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cluster", "plan", "--rows", "1000", *wrong]) == 1
    assert wrong[0].lstrip("-") in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["cluster", "plan", "--rows", "many"])
