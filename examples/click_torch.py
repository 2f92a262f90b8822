"""A click model in PyTorch, on the packages of Debian, or on a CSV that has a column `item`: click_torch.py FILE.csv.

Beside each row, a click, stands the same row with an item that was drawn; on held-out rows the two have to be told
apart. The baseline is how often an item was clicked.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from pyarrow import csv
from torch.nn.functional import binary_cross_entropy_with_logits

import hotrow
from hotrow.data import debian_packages, debian_pairs

torch.manual_seed(0)
rng = np.random.default_rng(0)
if len(sys.argv) > 1:
    options = csv.ParseOptions(delimiter="\t" if "\t" in Path(sys.argv[1]).read_text("utf-8") else ",")
    item, table = "item", csv.read_csv(sys.argv[1], parse_options=options)
    table = table.select([name for name in table.column_names if name != "cnt"])  # a count is no feature
else:
    item, packages = "dependency", debian_packages().select(["package", "section"])
    table = debian_pairs().join(packages, "package")
data = {name: table[name].to_numpy() for name in table.column_names}
test, train = np.split(rng.permutation(table.num_rows), [table.num_rows // 10])
items, count = np.unique(data[item][train], return_counts=True)


def beside_drawn(rows):
    """The columns of these clicks, then the same with drawn items."""
    columns = {name: np.tile(column[rows], 2) for name, column in data.items()}
    columns[item][len(rows) :] = rng.choice(items, len(rows))
    return columns


def auc(scores):
    """How often a click's score is above a drawn one's; of equal ones, half count."""
    clicked, drawn = scores[: len(test)], np.sort(scores[len(test) :])
    return sum(np.searchsorted(drawn, clicked, side).mean() for side in ("left", "right")) / 2 / len(drawn)


embed = torch.nn.ModuleDict({name: hotrow.torch.Embedding(None, 16, initializer=hotrow.Normal(0.05)) for name in data})
net = torch.nn.Sequential(torch.nn.Linear(16 * len(data), 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
optimizer = torch.optim.Adam([*embed.parameters(), *net.parameters()], lr=5e-3)
hotrow.torch.follow(embed, optimizer)
for part in np.array_split(np.tile(train, 3), len(train) * 3 // 2048):  # three times through the clicks
    scores = net(torch.cat([embed[name](column) for name, column in beside_drawn(part).items()], 1))[:, 0]
    optimizer.zero_grad()
    binary_cross_entropy_with_logits(scores, torch.tensor([1.0, 0.0]).repeat_interleave(len(part))).backward()
    optimizer.step()

columns = beside_drawn(test)
with torch.no_grad():
    scores = net(torch.cat([embed.eval()[name](column) for name, column in columns.items()], 1))[:, 0].numpy()
popular = dict(zip(items.tolist(), count.tolist(), strict=True))
print(f"AUC of {len(test):,} held-out clicks, hotrow: {auc(scores):.4f}")
print(f"the same, how popular an item is: {auc(np.array([popular.get(one, 0) for one in columns[item]])):.4f}")
