"""One file for each framework: the only importers of TensorFlow, torch and JAX."""
