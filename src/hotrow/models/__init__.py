"""Models. `Retrieval` and `Ratings` have only embeddings, on `Table` alone; `Classifier` has a small net above.

`tune` searches for settings of a Retrieval. Keras loads when a classifier is fitted or loaded.
"""

from hotrow.models.classify import Classifier
from hotrow.models.ratings import Ratings
from hotrow.models.retrieval import Retrieval
from hotrow.models.tuning import tune

__all__ = ["Classifier", "Ratings", "Retrieval", "tune"]
