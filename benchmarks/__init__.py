"""Each peer beside hotrow, on the same ids, weights and gradients: `python -m benchmarks`, or `make bench`.

workload.py   what all sides are given: ids, first weights, batches, gradients
peers.py      the sides, behind one small face: torch, FBGEMM, a dict with NumPy, hotrow
tf_peers.py   TensorFlow's sides
tfra.py       TensorFlow Recommenders Addons, in a Python of its own: tfra_child.py, `make bench-tfra`
harness.py    rounds that take turns, and the check that all sides compute the same numbers
step · small · lookup · raw · strings · insert     the benchmarks beside them
fit · features · click · jax_step · retrieval      those of whole models; the first two in fit_child and features_child
growth · scaling · memory · startup                those of hotrow alone
cluster · simulate                                 those of tables on shards, and of the simulator in docs/scale.md
machine.py    where it ran, and with which versions
report.py     tables for the terminal, JSON lines, docs/performance.md
"""
