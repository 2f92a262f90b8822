"""Models. `Retrieval` has only embeddings and is on `Table` alone; `Classifier` has a small net above, and needs Keras.

Keras loads when a classifier is fitted or loaded.
"""

from hotrow.models.classify import Classifier
from hotrow.models.retrieval import Retrieval

__all__ = ["Classifier", "Retrieval"]
