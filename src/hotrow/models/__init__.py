"""Models. `Retrieval` has only embeddings and is on `Table` alone; `Classifier` has a small net above, and needs Keras.

`tune` searches for settings of a Retrieval. Keras loads when a classifier is fitted or loaded.
"""

from hotrow.models.classify import Classifier
from hotrow.models.retrieval import Retrieval
from hotrow.models.tuning import tune

__all__ = ["Classifier", "Retrieval", "tune"]
