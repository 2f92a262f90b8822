"""Models. `Retrieval`, `NextItem` and `Ratings` have only embeddings, on `Table` alone; `Classifier` has a net above.

`tune` searches for settings of a Retrieval; `open_folder` opens whatever is in a folder, to be asked. Keras loads when
a classifier is fitted or loaded.
"""

from hotrow.models.classify import Classifier
from hotrow.models.folders import Folder, open_folder
from hotrow.models.next_item import NextItem
from hotrow.models.ratings import Ratings
from hotrow.models.retrieval import Retrieval
from hotrow.models.sides import Vectors
from hotrow.models.tuning import tune

__all__ = ["Classifier", "Folder", "NextItem", "Ratings", "Retrieval", "Vectors", "open_folder", "tune"]
