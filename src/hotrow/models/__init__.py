"""Models whose only parameters are embeddings, on `Table` alone: no framework is needed."""

from hotrow.models.retrieval import Retrieval

__all__ = ["Retrieval"]
