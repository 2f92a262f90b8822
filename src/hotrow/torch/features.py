"""Many features in one module."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import torch

from hotrow.bridges.torch_features import Column, look
from hotrow.errors import ArgumentError
from hotrow.torch import arguments
from hotrow.torch.base import Module, outside_graphs


class Features(torch.nn.ModuleDict):
    """Embedding and EmbeddingBag modules by the names of their columns, which are looked up side by side.

    It takes a dict of columns, ids (batch,) for an Embedding and bags without offsets for an EmbeddingBag, and gives
    float32 (batch, sum of dims), in the order of the modules. One call for all columns costs less than one for each.
    Raises, with nothing changed, ArgumentError for a column that is missing, of another form or of another length, and
    for ids that a table refuses what the table raises.

    >>> import hotrow
    >>> from hotrow.torch import Embedding, EmbeddingBag, Features
    >>> features = Features({"user": Embedding(None, 4), "tags": EmbeddingBag(None, 3)})
    >>> features({"user": ["ann", "bob"], "tags": [["red", "small"], []]}).shape
    torch.Size([2, 7])
    """

    def __init__(self, modules: Mapping[str, Module]) -> None:
        _check(modules)
        super().__init__()
        self._modules.update(modules)  # add_module refuses what is an attribute of each module: "type", "items"

    @outside_graphs
    def forward(self, columns: Mapping[str, Any]) -> Any:
        """Vectors float32 (batch, sum of dims), on the device of the first column's ids."""
        modules: dict[str, Any] = dict(self.items())
        if not isinstance(columns, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(f"expected a dict of columns, {list(modules)}; got a {type(columns).__name__}")
        missing = [name for name in modules if name not in columns]
        if missing:
            raise ArgumentError(f"expected a column {missing[0]!r} for the feature of that name; got {list(columns)}")
        host = {name: arguments.to_host(columns[name]) for name in modules}
        sizes = {name: _count(name, module, host[name][0]) for name, module in modules.items()}
        if len(set(sizes.values())) > 1:
            raise ArgumentError(f"columns must have one id, or one bag, for each example; got {sizes}")
        ends = list(accumulate(module.embedding_dim for module in modules.values()))
        looked = [
            Column(
                module.gradients,
                module.filler(host[name][0]),
                slice(end - module.embedding_dim, end),
                module.scale_grad_by_freq,
            )
            for (name, module), end in zip(modules.items(), ends, strict=True)
        ]
        first = next(iter(modules))
        return modules[first].out(look(looked, sizes[first]), host[first][1])


def _check(modules: Any) -> None:
    if not isinstance(modules, Mapping):
        raise ArgumentError(
            "features must be a dict, such as {'user': hotrow.torch.Embedding(None, 16)}; got a "
            f"{type(modules).__name__}"
        )
    if not modules:
        raise ArgumentError("expected at least one feature: Features({'user': hotrow.torch.Embedding(None, 16)})")
    for name, module in modules.items():  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(name, str) or not name or "." in name:  # of which torch makes the names in a state_dict
            raise ArgumentError(
                f"the name of a feature must be a string, not empty and with no dot in it; got {name!r}. Rename the "
                "column: features({'user_id': columns['user.id']})"
            )
        if not isinstance(module, Module):
            raise ArgumentError(
                f"feature {name!r} must be a hotrow.torch.Embedding or EmbeddingBag; got {type(module).__name__}"  # pyright: ignore[reportUnknownArgumentType]
            )


def _count(name: str, module: Any, ids: Any) -> int:
    """How many examples a column has; ArgumentError, with its name, for one of another form."""
    if isinstance(ids, str) or not hasattr(ids, "__len__"):
        raise ArgumentError(f"column {name!r}: expected a list, array or tensor of ids; got a {type(ids).__name__}")
    try:
        return module.count(ids)
    except ArgumentError as error:
        raise ArgumentError(f"column {name!r}: {error}") from None
