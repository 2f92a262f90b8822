"""`hotrow train --cluster`: the same model and the same metrics as one process, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from hotrow.apps import cli, clustered_arguments, fitting
from hotrow.cluster.connecting import ray_module
from hotrow.models import NextItem, Ratings, Retrieval
from hotrow.store import snapshot

pytest_plugins = ["ray_local"]
pytestmark = [
    pytest.mark.compiled,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # of its own settings
]

COLUMNS = ["--user", "user", "--item", "item"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A file of users with items of their own group, at different times, rated."""
    random = np.random.default_rng(5)
    lines = ["user,item,when,stars"]
    for when in range(3000):
        user = random.integers(200)
        item = random.integers(12) * 9 + user % 9
        lines.append(f"u{user},{item},{when},{1 + (user + item) % 5}")
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *words):
    """The exit code, what is printed as JSON, and what is said."""
    code = cli.main([*map(str, words), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def train_both_ways(capsys, *words, cluster=()):
    """The reports, without what is of the hour and of the cluster, and the cluster's part."""
    code, alone, _ = run(capsys, "train", *words, "--out", "alone")
    assert code == 0
    code, apart, err = run(capsys, "train", *words, "--out", "apart", "--cluster", "local", *cluster)
    assert code == 0, err
    told = apart.pop("cluster")
    for report in (alone, apart):
        report.pop("seconds")
    assert apart == alone
    return told


def same_tables(kind, *sides):
    alone, apart = kind.load("alone"), kind.load("apart")
    for side in sides:
        one, other = getattr(alone, side).state(), getattr(apart, side).state()
        assert one.config == other.config
        assert one.keys.tobytes() == other.keys.tobytes()
        assert one.weights.tobytes() == other.weights.tobytes()
        assert {name: slot.tobytes() for name, slot in one.slots.items()} == {
            name: slot.tobytes() for name, slot in other.slots.items()
        }


def actors():
    """The names of hotrow's actors that live."""
    return {one["name"] for one in ray_module().util.list_named_actors(all_namespaces=True) if "/" in one["name"]}


@pytest.fixture
def before(ray_local):
    """The actors that were there before, of other tests' tables."""
    return actors()


def test_shards_and_workers_make_the_same_model_and_the_same_metrics(pairs, here, capsys, before):
    (here / "shared").mkdir()
    words = [pairs, *COLUMNS, "--time", "when", "--dim", 8, "--epochs", 3]
    told = train_both_ways(capsys, *words, cluster=["--shards", 2, "--workers", 2, "--home", here / "shared"])
    assert list((here / "shared").iterdir()) == []  # what shards kept there to come back from is gone
    same_tables(Retrieval, "users", "items")
    assert (told["shards"], told["workers"], told["staleness"]) == (2, 2, 0)
    assert told["rates"]["rows_read_per_second"] > 0
    assert told["rates"]["rows_pushed_per_second"] > 0
    assert snapshot.verify("apart/users") == []
    assert actors() <= before
    code, asked, _ = run(capsys, "recommend", "apart", "u1")
    assert code == 0
    assert asked == run(capsys, "recommend", "alone", "u1")[1]


@pytest.mark.usefixtures("ray_local")
def test_features_have_tables_on_shards_as_well(pairs, here, capsys):
    (here / "items.csv").write_text("item,tag\n" + "".join(f"{item},{item % 9}\n" for item in range(108)))
    words = [pairs, *COLUMNS, "--item-features", "items.csv", "--dim", 8, "--epochs", 2]
    train_both_ways(capsys, *words, cluster=["--shards", 1, "--workers", 1])
    same_tables(Retrieval, "users", "items")
    alone, apart = (Retrieval.load(name).features["item"]["tag"].state() for name in ("alone", "apart"))
    assert alone.weights.tobytes() == apart.weights.tobytes()


@pytest.mark.usefixtures("ray_local", "here")
def test_ratings_and_next_items_have_their_tables_on_shards(pairs, capsys):
    words = [pairs, *COLUMNS, "--rating", "stars", "--dim", 4, "--epochs", 1]
    assert train_both_ways(capsys, *words, cluster=["--shards", 1])["workers"] == 0
    same_tables(Ratings, "users", "items")
    for name in ("alone", "apart"):
        Path(name).rename(f"{name} of ratings")
    train_both_ways(
        capsys, pairs, *COLUMNS, "--time", "when", "--next", "--dim", 4, "--epochs", 1, cluster=["--shards", 1]
    )
    same_tables(NextItem, "items")


@pytest.mark.long
@pytest.mark.usefixtures("ray_local", "here")
def test_bounded_staleness_is_another_model_and_the_report_says_so(pairs, capsys):
    words = [pairs, *COLUMNS, "--dim", 8, "--epochs", 3, "--cluster", "local", "--staleness", 2]
    code, report, _ = run(capsys, "train", *words)
    assert code == 0
    assert report["cluster"]["staleness"] == 2
    assert report["model"]["recall@20"] > report["popularity"]["recall@20"]


@pytest.mark.usefixtures("here")
def test_ctrl_c_keeps_the_model_so_far_and_ends_the_actors(pairs, capsys, monkeypatch, before):
    def pressed(self, progress):
        def advance(done, total, facts):
            if done == 3:
                os.kill(os.getpid(), signal.SIGINT)

        return advance

    monkeypatch.setattr(fitting.Course, "beside", pressed)
    code, _, err = run(capsys, "train", pairs, *COLUMNS, "--dim", 8, "--cluster", "local", "--staleness", 2)
    assert code == 130, err
    assert "the model so far is in model" in err
    model = Retrieval.load("model")
    assert model.users.steps == 3
    assert len(model.recommend(["u1"], k=2)[0][0]) == 2
    assert actors() <= before


def test_more_shards_than_cpus_are_refused_with_the_count(pairs, here, capsys, before):
    code, _, err = run(capsys, "train", pairs, *COLUMNS, "--cluster", "local", "--shards", 50)
    assert code == 1
    assert "2 tables of 50 shards each, and 2 workers, take 102 CPUs, and" in err
    assert "--shards" in err
    assert not (here / "model").exists()
    assert actors() <= before


@pytest.mark.usefixtures("ray_local", "here")
def test_an_error_in_the_file_is_that_of_one_process(capsys, tmp_path):
    (tmp_path / "bad.csv").write_text("user,item\nann,tea\nalone\n")
    alone = run(capsys, "train", "bad.csv", *COLUMNS)
    assert alone[0] == 1
    assert run(capsys, "train", "bad.csv", *COLUMNS, "--cluster", "local") == alone


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cluster", "ray://head:10001"], "Ray's client"),
        (["--cluster", "head"], "HOST:PORT"),
        (["--cluster", "head:0"], "HOST:PORT"),
        (["--shards", "2"], "--shards is of a cluster: give --cluster local"),
        (["--staleness", "1"], "--staleness is of a cluster"),
        (["--cluster", "local", "--staleness", "-1"], "from 0 on"),
        (["--cluster", "local", "--workers", "0"], "from 1 on"),
        (["--cluster", "local", "--next", "--time", "when", "--workers", "2"], "leave --workers out"),
        (["--cluster", "local", "--rating", "stars", "--staleness", "2"], "leave --staleness out"),
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(given),
)
def test_options_that_cannot_be_meant_are_wrong_usage(here, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "pairs.csv", *COLUMNS, *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_addresses_are_taken_apart():
    assert clustered_arguments.host_and_port("[::1]:6379") == ("::1", 6379)
    assert clustered_arguments.host_and_port("auto") is None


@pytest.fixture
def elsewhere(monkeypatch):
    """As if this process were connected to no Ray."""
    monkeypatch.setattr(ray_module(), "is_initialized", lambda: False)


@pytest.mark.usefixtures("elsewhere")
def test_where_nobody_answers_it_is_said_at_once(pairs, here, capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code, _, err = run(capsys, "train", pairs, *COLUMNS, "--cluster", f"127.0.0.1:{port}")
    assert code == 1
    assert f"no Ray cluster answers at '127.0.0.1:{port}'" in err
    assert "ray start --head" in err


@pytest.mark.usefixtures("elsewhere")
def test_where_something_else_listens_it_is_said_at_once(pairs, here, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        port = server.getsockname()[1]
        code, _, err = run(capsys, "train", pairs, *COLUMNS, "--cluster", f"127.0.0.1:{port}")
        thread.join()
    assert code == 1
    assert "something else than Ray listens there" in err
