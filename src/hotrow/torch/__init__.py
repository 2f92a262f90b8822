"""hotrow in PyTorch: ids in as they are, rows trained with the model.

    Embedding       `torch.nn.Embedding`'s own signature, and any id
    EmbeddingBag    `torch.nn.EmbeddingBag`'s own signature, and any id
    Features        many of them by the names of their columns, looked up side by side
    follow          the tables of a model are trained as its optimizer trains the rest
    from_embedding  a table of a trained layer of torch's own
    Snapshots       saves tables, model and optimizer of one step while training goes on, to go on from

`hotrow.torch` loads on first use, and torch with it. See docs/torch.md.
"""

from __future__ import annotations

from importlib import import_module

from hotrow.errors import MissingExtraError

try:
    import_module("torch")
except ImportError as error:
    raise MissingExtraError(f'hotrow.torch needs PyTorch ({error}): pip install "hotrow[torch]"') from error

from hotrow.torch.bringing import from_embedding
from hotrow.torch.features import Features
from hotrow.torch.following import follow
from hotrow.torch.modules import Embedding, EmbeddingBag
from hotrow.torch.snapshots import Snapshots

__all__ = ["Embedding", "EmbeddingBag", "Features", "Snapshots", "follow", "from_embedding"]
