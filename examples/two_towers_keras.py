"""Retrieval with two towers in Keras: what else does a Debian package depend on? One dependency is held out.

One tower sees a package by its section, its tags and its other dependencies; the other sees a dependency. The baseline
is how many packages need a dependency.
"""

import keras
import numpy as np
from keras import layers, ops

import hotrow
from hotrow.data import debian_packages
from hotrow.keras import Bag, Features, Id

DIM, BATCH, EPOCHS, K = 64, 1024, 3, 20
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
packages = [p for p in debian_packages().to_pylist() if len(p["depends"]) > 1]
rng.shuffle(packages)
tests, packages = packages[:3000], packages[3000:]
held_out = [p["depends"].pop(rng.integers(len(p["depends"]))) for p in tests]
pairs = [(p, d) for p in packages + tests for d in p["depends"]]
rng.shuffle(pairs)


def columns(of, without):
    """What the first tower sees of packages, but for the dependency that is asked for."""
    others = [[d for d in p["depends"] if d != hidden] for p, hidden in zip(of, without, strict=True)]
    return {"section": [p["section"] for p in of], "tags": [p["tags"] for p in of], "others": others}


names, number, popular = np.unique([d for _, d in pairs], return_inverse=True, return_counts=True)
log_share = np.log(popular / len(pairs)).astype(np.float32)


def among_the_batch(y_true, scores):
    """Tell each package's dependency from those of the others in the batch (Yi et al. 2019, equation 6)."""
    y = ops.reshape(ops.cast(y_true, "int32"), (-1,))
    same = ops.logical_xor(y[:, None] == y, ops.eye(ops.shape(y)[0], dtype="bool"))  # the same one again is no mistake
    scores = ops.where(same, -1e9, scores - ops.take(log_share, y))
    return -ops.diagonal(ops.log_softmax(scores, axis=-1))


package = Features({"section": Id(16), "tags": Bag(32), "others": Bag(DIM, "sqrtn")}, output_mode="concat")
dependency = Features({"dependency": Id(DIM)}, output_mode="concat")
package_in, dependency_in = package.inputs(), dependency.inputs()
left, right = layers.Dense(DIM)(layers.Dense(128, "relu")(package(package_in))), dependency(dependency_in)
model = hotrow.keras.Model(package_in | dependency_in, ops.matmul(left, ops.transpose(right)))
model.compile(keras.optimizers.Adam(3e-3), among_the_batch)
model.fit(columns(*zip(*pairs, strict=True)) | {"dependency": names[number]}, number, BATCH, EPOCHS, verbose=2)

towers = hotrow.keras.Model(package_in, left), hotrow.keras.Model(dependency_in, right)
queries = towers[0].predict(columns(tests, held_out), verbose=0)
scores = queries @ towers[1].predict({"dependency": names}, verbose=0).T
place = {name: i for i, name in enumerate(names.tolist())}
for name, each in ("two towers", scores), ("popularity", np.tile(popular.astype(np.float32), (len(tests), 1))):
    for row, p in zip(each, tests, strict=True):
        row[[place[d] for d in p["depends"]]] = -np.inf  # known already
    hits = [place.get(d) in row for d, row in zip(held_out, np.argpartition(-each, K)[:, :K], strict=True)]
    print(f"{name:10} recall@{K} {np.mean(hits):.3f} of {len(tests):,} held-out dependencies")
