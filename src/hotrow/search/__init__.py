"""The nearest vectors: exactly, or by an index of millions; by metadata; as word vectors are asked."""
