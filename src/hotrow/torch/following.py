"""Tables that step when a torch optimizer does, and as it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from hotrow.bridges.torch_modules import Gradients, Part
from hotrow.errors import ArgumentError
from hotrow.kernels import threads
from hotrow.torch.optimizers import Plan, check, translate


def follow(model: Any, optimizer: Any) -> None:
    """Train the tables of all hotrow modules in a model as `optimizer` trains the rest: when it steps, and like it.

    The optimizer must have the model's parameters. `emb.follow(optimizer)` is the same for one module. Raises
    ArgumentError if there is no such module, or for an optimizer that a table can't follow.

    >>> import torch, hotrow
    >>> model = torch.nn.Sequential(hotrow.torch.Embedding(None, 4), torch.nn.Linear(4, 1))
    >>> optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
    >>> hotrow.torch.follow(model, optimizer)
    >>> model(["lantern", "cup"]).sum().backward()
    >>> optimizer.step()
    >>> model[0].table.steps
    1
    """
    found = [
        module.gradients for module in model.modules() if isinstance(getattr(module, "gradients", None), Gradients)
    ]
    if not found:
        raise ArgumentError(f"there is no hotrow.torch module in this {type(model).__name__}; expected one to follow")
    for gradients in dict.fromkeys(found):
        begin(gradients, optimizer)


def begin(gradients: Gradients, optimizer: Any) -> None:
    """Let a table step with this optimizer from now on, and with no other."""
    check(optimizer, explicit=gradients.explicit)
    place = _place(gradients, optimizer)
    if not gradients.explicit:
        plan, table = translate(optimizer, optimizer.param_groups[place]), gradients.table
        if table.steps and type(table.optimizer) is not type(plan.optimizer) and table.optimizer.slots(table.dim):
            raise ArgumentError(
                f"this table was trained by {table.optimizer!r}, and can't go on as {type(optimizer).__name__}: a row "
                "has slots for one optimizer. To begin anew with the vectors as they are: "
                f"emb.table.set_optimizer({plan.optimizer!r}), then follow"
            )
        table.set_optimizer(plan.optimizer)
    if gradients.follower is not None:
        gradients.follower.members.pop(gradients, None)
    follower = _followers.get(optimizer)
    if follower is None:
        follower = _followers[optimizer] = Follower(optimizer)
    follower.members[gradients] = _Member(gradients, place)
    gradients.follower = follower


def _place(gradients: Gradients, optimizer: Any) -> int:
    """Which of the optimizer's groups has the table's hook."""
    for place, group in enumerate(optimizer.param_groups):
        if any(parameter is gradients.hook for parameter in group["params"]):
            return place
    raise ArgumentError(
        f"this {type(optimizer).__name__} doesn't have the embedding's parameter, by which it is told; expected "
        f"torch.optim.{type(optimizer).__name__}(model.parameters(), …) of a model that has the embedding"
    )


@dataclass
class _Member:
    """A table that follows. place: of its group, whose dict is another after the optimizer's load_state_dict."""

    gradients: Gradients
    place: int
    rate: float = 0.0
    numbers: tuple[Any, ...] = ()
    plan: Plan | None = None

    def refresh(self, optimizer: Any) -> None:
        """Take the numbers that the group has now."""
        if self.gradients.explicit:
            return
        group = optimizer.param_groups[self.place]
        self.rate = float(group["lr"])
        numbers = tuple(value for name, value in group.items() if name not in _OTHERS)
        if self.plan is None or numbers != self.numbers:
            self.plan, self.numbers = translate(optimizer, group), numbers
        if self.gradients.table.optimizer != self.plan.optimizer:
            self.gradients.table.set_optimizer(self.plan.optimizer)

    def step(self, part: Part) -> None:
        """One step of the table."""
        if self.plan is None:
            self.gradients.step(part, None)
            return
        rate, plan = self.rate, self.plan
        if plan.lr_decay:
            rate /= 1 + self.gradients.table.steps * plan.lr_decay
        self.gradients.step(part, rate, plan.l2, maximize=plan.maximize)


_OTHERS = {"params", "lr", "initial_lr"}


class Follower:
    """The tables that step with one optimizer. It stays as long as the optimizer does."""

    def __init__(self, optimizer: Any) -> None:
        self.members: dict[Gradients, _Member] = {}
        self._held: list[tuple[_Member, Any]] | None = None
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Read the hooks' gradients and hide them, so that the optimizer doesn't take hooks for weights."""
        for member in self.members.values():
            member.gradients.finish()
            member.refresh(optimizer)
        self._held = None
        if any(argument is not None for argument in (*args[1:], *kwargs.values())):  # args[0] is the optimizer
            return  # a closure: gradients will come within the step
        self._held = [(member, member.gradients.hook.grad) for member in self.members.values()]
        for member, _ in self._held:
            member.gradients.hook.grad = None

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Step the tables, unless a GradScaler has made this optimizer skip its step."""
        held, self._held = self._held, None
        if held is None:
            held = [(member, member.gradients.hook.grad) for member in self.members.values()]
        for member, grad in held:
            member.gradients.hook.grad = grad
        found = getattr(optimizer, "found_inf", None)  # of one that scales within its own kernel, with fused=True
        if found is not None and float(found) > 0:
            return
        scale = getattr(optimizer, "grad_scale", None)
        over = 1.0 if scale is None else float(scale)
        threads.each(lambda one: _step(*one, over), held)


def _step(member: _Member, grad: Any, over: float) -> None:
    member.gradients.finish()
    part = member.gradients.scaled(None if grad is None else float(grad) / over)
    if part is not None:
        member.step(part)


_followers: WeakKeyDictionary[torch.optim.Optimizer, Follower] = WeakKeyDictionary()
