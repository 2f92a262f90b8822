"""Costs that were measured on the developers' machine, by `python -m benchmarks.simulate`: kept in `measured.json`."""

from __future__ import annotations

import json
from pathlib import Path

from hotrow.cluster.planning.costs import Costs

FILE = Path(__file__).with_name("measured.json")

MEASURED = Costs.from_json(json.loads(FILE.read_text("utf-8")))
"""What `hotrow cluster plan` reckons with, if it isn't told to measure."""
