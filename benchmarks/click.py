"""A training step of a click model in PyTorch, 26 features: hotrow.torch beside nn.EmbeddingBag and SparseAdam.

Both have the same net, first weights and batches, and lazy Adam for the rows. hotrow is given raw ids, torch rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

import hotrow
from benchmarks import harness, machine
from benchmarks.harness import Result, Side
from benchmarks.workload import STREAMS, Sizes, batches, raw_ids

log = logging.getLogger("benchmarks")

FEATURES, BATCH, DIM, RATE = 26, 8192, 16, 1e-3
ROWS = 1_000_000
LEAST = 3.0
"""How many times as long torch's step must take."""
_BYTES_A_ROW = 2 * 3 * 4 * DIM + 100  # weights and two slots of each side, and the index
OURS = "hotrow.torch, raw ids"
THEIRS = "nn.EmbeddingBag(sparse=True) + SparseAdam, ready-made rows"


class ClickModel(torch.nn.Module):
    """A vector for each feature, and a small net on top of them."""

    def __init__(self, columns: list[torch.nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        ours = isinstance(columns[0], hotrow.torch.Embedding)
        named = {f"c{i}": column for i, column in enumerate(columns)}
        self.columns = hotrow.torch.Features(named) if ours else torch.nn.ModuleDict(named)
        width = DIM * len(columns)
        self.net = torch.nn.Sequential(torch.nn.Linear(width, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))

    def forward(self, ids: list[torch.Tensor]) -> torch.Tensor:
        """Ids of each feature, to logits (batch,)."""
        given = dict(zip(self.columns, ids, strict=True))
        if isinstance(self.columns, hotrow.torch.Features):
            return self.net(self.columns(given))[:, 0]
        return self.net(torch.cat([self.columns[name](one) for name, one in given.items()], 1))[:, 0]


def run(sizes: Sizes) -> Iterator[Result]:
    """Few distinct ids a batch, and many."""
    rows, size = (500, 64) if sizes.quick else (ROWS, BATCH)
    while not machine.fits(FEATURES * rows * _BYTES_A_ROW, f"click with {rows:,} rows a feature") and rows > 1000:
        rows //= 2
    before = torch.get_num_threads()
    torch.set_num_threads(sizes.threads)
    hotrow.set_threads(sizes.threads)
    for stream in STREAMS:
        log.info("click: %s ids, %s rows a feature", stream, f"{rows:,}")
        yield from _race(sizes, stream, rows, size)
    torch.set_num_threads(before)


def _race(sizes: Sizes, stream: str, rows: int, size: int) -> Iterator[Result]:
    drawn = batches(stream, rows, FEATURES * size, 10)
    theirs = [[torch.from_numpy(column.copy()) for column in one.reshape(FEATURES, size)] for one in drawn]
    ids = torch.from_numpy(raw_ids(rows))
    ours = [[ids[column] for column in one] for one in theirs]
    clicked = torch.from_numpy((np.random.default_rng(5).random(size) < 0.5).astype(np.float32))
    models = _ours(ids.numpy()), _theirs(rows)
    sides = {
        OURS: _side(*models[0], ours, clicked),
        THEIRS: _side(*models[1], [[column[:, None] for column in one] for one in theirs], clicked),
    }
    difference = _check(models[0][0], models[1][0], sides, ours, theirs)
    medians = harness.race(sides, sizes.rounds, min(sizes.steps, 10))
    case = {"ids": stream, "rows a feature": f"{rows:,}", "batch": size}
    title = f"a training step of a click model, {FEATURES} features of D = {DIM}"
    yield from harness.results(
        title, case, medians, least={THEIRS: None if sizes.quick else LEAST}, differences={THEIRS: difference}
    )


def _first(rows: int, feature: int) -> np.ndarray:
    return np.random.default_rng(feature).standard_normal((rows, DIM), np.float32)


def _ours(ids: np.ndarray) -> tuple[ClickModel, list[torch.optim.Optimizer]]:
    model = ClickModel([hotrow.torch.Embedding(None, DIM) for _ in range(FEATURES)])
    for feature, column in enumerate(model.columns.values()):
        column.table.set(ids, _first(len(ids), feature))
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    hotrow.torch.follow(model, optimizer)
    return model, [optimizer]


def _theirs(rows: int) -> tuple[ClickModel, list[torch.optim.Optimizer]]:
    model = ClickModel([torch.nn.EmbeddingBag(rows, DIM, mode="sum", sparse=True) for _ in range(FEATURES)])
    for feature, column in enumerate(model.columns.values()):
        with torch.no_grad():
            column.weight.copy_(torch.from_numpy(_first(rows, feature)))
    sparse = torch.optim.SparseAdam(list(model.columns.parameters()), RATE)
    return model, [sparse, torch.optim.Adam(model.net.parameters(), RATE)]


def _side(
    model: ClickModel, optimizers: list[torch.optim.Optimizer], given: list[list[torch.Tensor]], clicked: torch.Tensor
) -> Side:
    def step(i: int) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        binary_cross_entropy_with_logits(model(given[i % len(given)]), clicked).backward()
        for optimizer in optimizers:
            optimizer.step()

    return step


def _check(
    ours: ClickModel,
    theirs: ClickModel,
    sides: dict[str, Side],
    ids: list[list[torch.Tensor]],
    rows: list[list[torch.Tensor]],
) -> float:
    """The largest difference of any logit after a few steps; UnequalError where it isn't rounding."""
    for i in range(3):
        for side in sides.values():
            side(i)
    with torch.no_grad():
        difference = float((ours(ids[0]) - theirs([column[:, None] for column in rows[0]])).abs().max())
    if not difference <= 1e-3:
        raise harness.UnequalError(f"logits are {difference:.3g} apart after three steps; at most 0.001 is allowed")
    return difference
