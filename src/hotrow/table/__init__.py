"""Ids in, vectors out, gradients back: the stages, and `view` and `table`, which alone know their order."""
