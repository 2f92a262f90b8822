"""The card of a classifier: its figures are those of the report, and its code runs."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from test_card import run

from hotrow.apps.cli import main


@pytest.mark.enough("torch")
def test_a_classifier_has_a_card_whose_code_runs(tmp_path, monkeypatch):
    draw = np.random.default_rng(3)
    jobs = draw.choice(["cook", "smith"], 200)
    table = pa.table({"job|x": jobs, "age": draw.integers(20, 60, 200), "rich": [str(job == "smith") for job in jobs]})
    parquet.write_table(table, tmp_path / "people.parquet")
    asked = [str(tmp_path / "people.parquet"), "--label", "rich", "--epochs", "1", "--out", str(tmp_path / "model")]
    assert main(["train", *asked]) == 0
    text = (tmp_path / "model" / "README.md").read_text("utf-8")
    report = json.loads((tmp_path / "model" / "report.json").read_text("utf-8"))
    assert "A classifier into False, True" in text
    assert r"job\|x (discrete), age (number)" in text
    assert "to test: at random." in text
    assert f"| auc | {report['model']['auc']:.4f} | {report['logistic']['auc']:.4f} | 0.5000 |" in text
    run(text, tmp_path / "model", monkeypatch)
