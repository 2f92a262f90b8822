"""The command line, end to end, as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import hotrow
from hotrow.apps.cli import main
from hotrow.models import Retrieval

pytestmark = pytest.mark.compiled
DATA = Path(os.environ.get("HOTROW_DATA") or Path(__file__).parents[1] / ".." / "shared" / "data")


@pytest.fixture(scope="module")
def purchases(tmp_path_factory):
    """Two kinds of customers, who buy from two shelves: 80 customers, 24 items, nulls and repetitions."""
    rng = np.random.default_rng(0)
    lines = ["customer,item,when"]
    for customer in range(80):
        shelf = "KITCHEN" if customer % 2 else "GARDEN"
        for day, item in enumerate(rng.permutation(12)[:8]):
            lines += [f"{1000 + customer},{shelf} THING {item},2011-01-{day + 1:02d}"] * (1 + item % 2)
    lines += [",GARDEN THING 1,2011-01-01", "1001,,2011-01-02"]
    path = tmp_path_factory.mktemp("data") / "purchases.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def model(purchases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    arguments = ["--user", "customer", "--item", "item", "--time", "when", "--out", str(folder)]
    assert main(["train", str(purchases), *arguments, "--epochs", "60", "--dim", "16"]) == 0
    return folder


def run_json(capfd, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    out = capfd.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_training_reports_the_model_beside_popularity(capfd, purchases, tmp_path):
    arguments = "--user", "customer", "--item", "item", "--epochs", "40", "--dim", "16", "--out", tmp_path / "m"
    report = run_json(capfd, "train", purchases, *arguments)
    metrics = {"recall@10", "recall@20", "ndcg@10", "ndcg@20"}
    assert metrics <= set(report["model"])
    assert set(report["model"]) == set(report["popularity"])
    assert report["model"]["recall@10"] > report["popularity"]["recall@10"]
    assert report["seconds"] > 0
    assert report["rows"]["read"] == purchases.read_text().count("\n") - 1


def test_people_see_nulls_kinds_and_metrics(capfd, purchases, tmp_path):
    arguments = ["--user", "customer", "--item", "item", "--epochs", "5", "--out", str(tmp_path / "m")]
    assert main(["train", str(purchases), *arguments]) == 0
    out = capfd.readouterr().out
    for words in ("customer", "1 in customer", "int64", "recall@20", "popularity", "held out"):
        assert words in out


def test_similar_items_come_from_the_same_shelf(capfd, model):
    found = run_json(capfd, "similar", model, "KITCHEN THING 3", "-k", "5")["similar"]
    assert len(found) == 5
    assert sum(f["id"].startswith("KITCHEN") for f in found) >= 4
    assert found[0]["cosine"] >= found[-1]["cosine"]


def test_recommended_items_are_new_to_the_user_and_of_its_kind(capfd, model, purchases):
    found = [f["id"] for f in run_json(capfd, "recommend", model, "1001", "-k", "3")["recommended"]]
    lines = [line.split(",") for line in purchases.read_text().splitlines()]
    times = {item: day for user, item, day in lines if user == "1001" and item}
    held_out = max(times, key=times.__getitem__)
    assert len(found) == 3
    assert not (set(found) & (set(times) - {held_out}))
    assert all(name.startswith("KITCHEN") for name in found)


def test_a_vector_is_the_one_of_the_table(capfd, model):
    result = run_json(capfd, "lookup", model, "--item", "GARDEN THING 2")
    items = hotrow.load(model / "items")
    assert result["vector"] == items.lookup("GARDEN THING 2").astype(float).tolist()
    assert run_json(capfd, "lookup", model, "--user", "1003")["id"] == 1003
    assert run_json(capfd, "lookup", model / "items", "--id", "GARDEN THING 2")["vector"] == result["vector"]


def test_inspect_tells_rows_and_metrics(capfd, model):
    facts = run_json(capfd, "inspect", model)
    assert facts["tables"]["users"]["rows"] == 80
    assert facts["tables"]["items"]["rows"] == 24
    assert facts["tables"]["users"]["ids"] == "int64"
    assert facts["report"]["model"]["recall@10"] > 0
    assert main(["inspect", str(model)]) == 0
    assert "80" in capfd.readouterr().out


def test_verify_finds_a_flipped_bit(capfd, model, tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", model, copy], check=True)
    assert main(["verify", str(copy)]) == 0
    victim = next(copy.glob("items/generation-*/weights.safetensors"))
    data = bytearray(victim.read_bytes())
    data[-5] ^= 4
    victim.write_bytes(data)
    assert main(["verify", str(copy)]) == 1
    assert "weights.safetensors" in capfd.readouterr().err


def check_one_line(captured, words):
    """A command that failed has said why on one line, and nothing else."""
    assert captured.err.startswith("hotrow: ")
    assert captured.err.count("\n") == 1
    assert not captured.out
    for word in words:
        assert word in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "FILE", "--user", "custmer", "--item", "item"], ["custmer", "customer", "item", "when"]),
        (["train", "nowhere.csv", "--user", "a", "--item", "b"], ["nowhere.csv"]),
        (["similar", "MODEL", "KITCHEN THING 99"], ["KITCHEN THING 99", "KITCHEN THING 9"]),
        (["recommend", "MODEL", "77"], ["77"]),
        (["recommend", "MODEL", "abc"], ["integers", "'abc'"]),
        (["lookup", "MODEL", "--item", "nothing"], ["nothing"]),
        (["similar", "nowhere", "x"], ["nowhere", "hotrow train"]),
        (["inspect", "."], ["hotrow train"]),
    ],
)
def test_what_cannot_be_done_is_one_line_that_says_what_to_do(
    capfd, monkeypatch, tmp_path, purchases, model, arguments, words
):
    monkeypatch.chdir(tmp_path)
    known = {"FILE": str(purchases), "MODEL": str(model)}
    assert main([known.get(a, a) for a in arguments]) == 1
    check_one_line(capfd.readouterr(), words)


@pytest.mark.parametrize("arguments", [[], ["fly"], ["train", "--dim", "0"], ["similar", "m"], ["lookup", "m"]])
def test_wrong_usage_is_exit_code_2(arguments, capfd):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_a_folder_that_holds_something_else_is_not_written_to(capfd, purchases, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    arguments = ["--user", "customer", "--item", "item", "--out", str(tmp_path)]
    assert main(["train", str(purchases), *arguments]) == 1
    assert str(tmp_path) in capfd.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_training_again_over_a_model_is_a_new_generation(capfd, purchases, tmp_path):
    for seed in ("0", "1", "2"):
        arguments = [
            "--user",
            "customer",
            "--item",
            "item",
            "--out",
            str(tmp_path / "m"),
            "--epochs",
            "2",
            "--seed",
            seed,
        ]
        assert main(["train", str(purchases), *arguments]) == 0
    capfd.readouterr()
    assert run_json(capfd, "inspect", tmp_path / "m")["tables"]["items"]["generations"] == [2, 3]


def test_ctrl_c_leaves_the_model_so_far(purchases, tmp_path):
    folder = tmp_path / "m"
    command = [sys.executable, "-m", "hotrow", "train", purchases, "--user", "customer", "--item", "item"]
    process = subprocess.Popen([*command, "--epochs", "1000000", "--out", folder], stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(8)  # into training: imports, compiled code and reading take about two
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.stderr.close()
    assert len(hotrow.load(folder / "items")) == 24
    assert main(["similar", str(folder), "KITCHEN THING 3"]) == 0


def test_hostile_ids_cannot_move_the_cursor(capfd, tmp_path):
    path = tmp_path / "hostile.tsv"
    names = ["\x1b[2J", "[red]markup[/red]", "<script>", "\u202etxt", "a" * 300]
    path.write_text("user\titem\n" + "".join(f"u{i}\t{name}\n" for i in range(12) for name in names), "utf-8")
    folder = str(tmp_path / "m")
    assert main(["train", str(path), "--user", "user", "--item", "item", "--out", folder, "--epochs", "2"]) == 0
    assert main(["similar", folder, "<script>"]) == 0
    out = capfd.readouterr().out
    assert "\x1b[2J" not in out
    assert "\u202e" not in out
    assert "[red]markup[/red]" in out


@pytest.mark.skipif(not (DATA / "online_retail").is_dir(), reason=f"no data at {DATA}; set HOTROW_DATA")
def test_online_retail_counts_its_nulls(capfd, tmp_path):
    path = DATA / "online_retail" / "online_retail.parquet"
    arguments = "--user", "CustomerID", "--item", "Description", "--out", tmp_path / "m", "--epochs", "1"
    report = run_json(capfd, "train", path, *arguments)
    assert report["rows"]["read"] == 541909
    assert report["rows"]["nulls"]["CustomerID"] == 135080


@pytest.mark.skipif(not (DATA / "ml100k").is_dir(), reason=f"no data at {DATA}; set HOTROW_DATA")
def test_movielens_is_read_by_its_short_column_names(capfd, tmp_path):
    path = DATA / "ml100k" / "ml-100k.inter"
    arguments = "--user", "user_id", "--item", "item_id", "--time", "timestamp", "--out", tmp_path / "m"
    report = run_json(capfd, "train", path, *arguments, "--epochs", "1")
    assert report["rows"]["read"] == 100000
    assert report["rows"]["held_out"] == 943


def test_somebody_new_is_recommended_what_goes_with_their_items(tmp_path, capsys):
    users = [f"u{user}" for user in range(40) for _ in range(4)]
    drawn = [(user, i) for user in range(40) for i in np.random.default_rng(user).permutation(8)[:4]]
    model = Retrieval(8, epochs=10).fit((users, [f"{'tea' if user % 2 else 'ink'} {i}" for user, i in drawn]))
    model.save(tmp_path)
    assert main(["recommend", str(tmp_path), "--after", "tea 1", "--after", "tea 2", "-k", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["id"][:3] for entry in found["recommended"]] == ["tea", "tea"]
    assert main(["recommend", str(tmp_path), "--after", "tea 99"]) == 1
    assert "tea 99" in capsys.readouterr().err


def test_the_report_has_the_course_of_the_training(tmp_path, purchases):
    assert main(["train", str(purchases), "--user", "customer", "--item", "item", "--out", str(tmp_path)]) == 0
    course = json.loads((tmp_path / "report.json").read_text())["course"]
    done = [point["done"] for point in course]
    assert done == sorted(set(done))
    assert 2 <= len(course) <= 401
    assert course[-1]["epoch"] == max(point["epoch"] for point in course)
    assert course[-1]["loss"] < course[0]["loss"]
    assert set(course[0]) == {"done", "epoch", "loss"}
