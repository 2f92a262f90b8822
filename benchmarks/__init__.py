"""Each peer beside hotrow, on the same ids, weights and gradients: `python -m benchmarks`, or `make bench`.

workload.py   what all sides are given: ids, first weights, batches, gradients
fit_child.py  one backend of Keras, in a process of its own
peers.py      the sides, behind one small face: torch, FBGEMM, a dict with NumPy, hotrow
harness.py    rounds that take turns, and the check that all sides compute the same numbers
step · lookup · fit · scaling · memory · startup    the benchmarks
machine.py    where it ran, and with which versions
report.py     tables for the terminal, JSON lines, docs/performance.md
"""
