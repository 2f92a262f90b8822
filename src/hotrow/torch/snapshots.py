"""What a training loop needs to go on after a crash: tables, modules, optimizers and the step, all of one step."""

from __future__ import annotations

import copy
from os import PathLike
from typing import Any

import torch

from hotrow.bridges import generators
from hotrow.errors import ArgumentError, CorruptError
from hotrow.store.beside import Beside, Told
from hotrow.store.checkpoint import Arrays, Checkpoint, Checkpoints
from hotrow.store.description import Description
from hotrow.store.strict_json import natural
from hotrow.table.table import Table
from hotrow.torch.base import Module
from hotrow.torch.plain import decode, dtype_of, encode, to_array, to_tensor


class Snapshots(Told):
    """Saves what a loop needs to go on: a model with its tables, and whatever else has a state_dict, of one step.

    path      a folder for this alone: older checkpoints are removed from it
    model     a torch.nn.Module, with hotrow modules in it
    stateful  optimizers, learning rate schedulers, a GradScaler: what has state_dict and load_state_dict
    keep      how many checkpoints stay
    deltas    how many may follow one before the next whole one, which write only the rows that have changed; `keep`
              counts whole ones, and those after them stay too

    ArgumentError for what can't be saved.

    >>> import torch, hotrow
    >>> model = torch.nn.Sequential(hotrow.torch.Embedding(None, 4), torch.nn.Linear(4, 1))
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> hotrow.torch.follow(model, optimizer)
    >>> snapshots = hotrow.torch.Snapshots("run", model, optimizer)
    >>> for step in range(snapshots.restore(), 10):         # 0 where nothing was saved yet
    ...     optimizer.zero_grad()
    ...     model(["lantern", "cup"]).sum().backward()
    ...     optimizer.step()
    ...     if step % 4 == 3:
    ...         _ = snapshots.save(step + 1, wait=False)    # threads write while training goes on
    >>> snapshots.save(10)                                  # the end; this one waits
    True
    >>> snapshots.restore()
    10
    """

    def __init__(self, path: str | PathLike[str], model: Any, *stateful: Any, keep: int = 2, deltas: int = 0) -> None:
        if not isinstance(model, torch.nn.Module):
            raise ArgumentError(f"got a {type(model).__name__} as the model; expected a torch.nn.Module")
        for one in stateful:
            if not (hasattr(one, "state_dict") and hasattr(one, "load_state_dict")):
                raise ArgumentError(
                    f"a {type(one).__name__} has no state_dict; expected "
                    "hotrow.torch.Snapshots(path, model, optimizer, scheduler)"
                )
        self._model, self._stateful = model, stateful
        self._beside = Beside(Checkpoints(path, keep=keep, deltas=deltas))
        _tensors(model)

    def save(self, step: int, *, wait: bool = True) -> bool:
        """Save all of it as it is now, between two steps: gradients that wait for one aren't in it.

        step  how many steps are done: what `restore` will return
        wait  False: everything is copied or cut at once, and threads write while training goes on

        Returns whether it was begun: with wait=False one is left out, and counted in `skipped`, if another is still
        being written. If one that is written beside training fails, those before stay whole, the log has a warning, and
        `error` is what went wrong, until one succeeds. With wait=True the error is raised.
        """
        if not natural(step):
            raise ArgumentError(f"step = {step!r}: expected how many steps are done, a whole number from 0 on")
        if not wait and self._beside.is_busy():
            self._beside.skip()
            return False
        self._beside.wait()
        arrays: Arrays = {}
        others = [
            {"type": type(one).__name__, "state": encode(one.state_dict(), arrays, f"{i}.{type(one).__name__}")}
            for i, one in enumerate(self._stateful)
        ]
        tensors = _tensors(self._model)
        arrays |= {f"model.{name}": to_array(tensor, name) for name, tensor in tensors.items()}
        facts = {"kind": "torch", "step": step, "others": others}
        self._beside.begin(_tables(self._model), arrays | generators.capture(), facts)
        if wait and self._beside.latest is not None:
            self._beside.latest.result()
        return True

    def wait(self) -> None:
        """Until nothing is being written; see `error` then."""
        self._beside.wait()

    def restore(self, number: int | None = None) -> int:
        """Make all of it what it was at the newest checkpoint, or at this number; return the step to go on with.

        0 if there is none yet, so that one program begins and goes on. The global random generators of Python, NumPy
        and torch (on the CPU) go on from where they were, too.

        CorruptError for one that is damaged: another is never taken in its place. ArgumentError for another model or
        other optimizers. Nothing has changed then.
        """
        self._beside.wait()
        where, tables = str(self._beside.checkpoints.root), _tables(self._model)

        def fits(described: Description) -> list[Any]:
            self._check_fits(described, where)
            return [table.path for table in tables]

        found = self._beside.checkpoints.read(number, fits=fits)
        if found is None:
            return 0
        self._put_back(found, tables, where)
        self._beside.checkpoints.go_on_from(found.number, tables)
        return found.facts["step"]

    def _check_fits(self, described: Description, where: str) -> None:
        facts = described.facts
        if facts.get("kind") != "torch":
            raise ArgumentError(f"{where}: has a checkpoint of {facts.get('kind')!s:.20}, expected one of torch")
        others = facts.get("others")
        if not natural(facts.get("step")) or not isinstance(others, list):
            raise CorruptError(f"{where}: checkpoint {described.number} doesn't say of which step it is, and of what")
        types: list[Any] = [one.get("type") if isinstance(one, dict) else None for one in others]
        if types != [type(one).__name__ for one in self._stateful]:
            raise ArgumentError(
                f"{where}: was saved with {', '.join(map(str, types)) or 'nothing'} beside the model; expected these "
                "in this order: hotrow.torch.Snapshots(path, model, optimizer, scheduler)"
            )
        own = {f"model.{name}": tensor for name, tensor in _tensors(self._model).items()}
        saved = {name: shape for name, (_, shape) in described.arrays.items() if name.startswith("model.")}
        wrong = next((name for name in own if saved.get(name) != tuple(own[name].shape)), None)
        if wrong is not None or own.keys() != saved.keys() or len(described.tables) != len(_tables(self._model)):
            what = wrong or next(iter(sorted(saved.keys() - own.keys())), "the number of tables")
            raise ArgumentError(f"{where}: is of another model, for {what} isn't the same; expected the one trained")

    def _put_back(self, found: Checkpoint, tables: list[Table], where: str) -> None:
        """First all checks, then all of it."""
        for i, (table, saved) in enumerate(zip(tables, found.tables, strict=True)):
            if saved.dim != table.dim or (table.kind or saved.kind) != (saved.kind or table.kind):
                raise ArgumentError(
                    f"{where}: table {i + 1} has vectors of {saved.dim} floats for {saved.kind} ids, this model's has "
                    f"{table.dim} floats for {table.kind} ids; expected the model that was trained"
                )
        generators.check(found.arrays, where)
        states = [decode(one.get("state"), found.arrays, where) for one in found.facts["others"]]
        self._load_states(states, where)
        with torch.no_grad():
            for name, tensor in _tensors(self._model).items():
                tensor.copy_(to_tensor(found.arrays[f"model.{name}"], dtype_of(tensor)))
        for table in tables:
            saved = found.tables.pop(0)  # so that its memory is given back
            kind = table.kind
            table.restore(saved.state())
            table.kind = table.kind or kind
            if saved.saved is not None:
                table.follow_from(saved.saved)
        generators.put_back(found.arrays)

    def _load_states(self, states: list[Any], where: str) -> None:
        """What goes beside the model; all as it was, if one of them refuses its state."""
        before = [copy.deepcopy(one.state_dict()) for one in self._stateful]
        try:
            for one, state in zip(self._stateful, states, strict=True):
                one.load_state_dict(state)
        except Exception as error:
            for one, state in zip(self._stateful, before, strict=True):
                one.load_state_dict(state)
            raise ArgumentError(f"{where}: is of other optimizers or schedulers than these: {error}") from error


def _tables(model: Any) -> list[Table]:
    return list(dict.fromkeys(module.table for module in model.modules() if isinstance(module, Module)))


def _tensors(model: Any) -> dict[str, Any]:
    """What a state_dict has but tables, which would be copied into it: each tensor once, under its first name."""
    seen = {id(module.hook) for module in model.modules() if isinstance(module, Module)}
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        if type(module).get_extra_state is not torch.nn.Module.get_extra_state:
            raise ArgumentError(
                f"{path or 'the model'} ({type(module).__name__}) has an extra state, which may be anything; expected "
                "parameters and buffers alone"
            )
        buffers = {n: b for n, b in module._buffers.items() if n not in module._non_persistent_buffers_set}
        for name, tensor in (module._parameters | buffers).items():
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                found[f"{path}.{name}" if path else name] = tensor
    return found
