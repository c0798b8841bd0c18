"""Watch a script train: what goes through its model, and every step of its optimiser.

All by PyTorch's hooks, so that a check need not care how the loop is written.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

MOODY = (nn.Dropout, nn.BatchNorm1d)  # the layers of these scripts that heed `training`


class Unmended(Exception):
    """The script does not behave; the message says how, not which line is to blame."""


def demand(condition: bool, message: str) -> None:
    """Raise Unmended(message) unless the condition holds."""
    if not condition:
        raise Unmended(message)


@dataclass(frozen=True)
class Pass:
    """One forward pass through the model."""

    inputs: Tensor
    modes: set[bool]
    """What `training` was in the layers that heed it; in the model itself, if none does."""


@dataclass(frozen=True)
class Step:
    """One step of the optimiser, as it was about to be made."""

    inputs: Tensor
    """All that went through the model, with gradients on, since the step before."""
    passes: list[Pass]
    lr: float
    length: float
    """Length of the gradient that the optimiser was about to use, over all parameters."""
    ratio: float
    """`length` over the length of the gradient there should be; nan if no loss was given."""
    angle: float
    """Between the two gradients, in degrees; nan likewise."""
    error: float
    """Length of the difference of the two, over that of the gradient there should be; likewise."""


@dataclass
class Record:
    """What was seen of a training."""

    steps: list[Step] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)
    """All of them, those without gradients too."""
    result: object = None
    """What train() returned."""


@contextmanager
def watch(
    model: nn.Module, loss: Callable[[nn.Module, Tensor], Tensor] | None = None
) -> Iterator[Record]:
    """Record passes through `model` and steps of any optimiser while the context lasts.

    Args:
        model: the model that the script is to train.
        loss: the right loss of (model, inputs of a step); the gradient of every step is compared
            with that of this. For models without dropout only.
    """
    record, since, computing = Record(), [], False

    def on_pass(module: nn.Module, args: tuple) -> None:
        if computing or not args:
            return
        modes = {m.training for m in module.modules() if isinstance(m, MOODY)}
        record.passes.append(Pass(args[0].detach().clone(), modes or {module.training}))
        if torch.is_grad_enabled():
            since.append(record.passes[-1])

    def on_step(optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        nonlocal computing
        demand(bool(since), "the optimiser steps, and nothing went through the model before")
        inputs = torch.cat([one.inputs for one in since])
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        used = flat(parameters, [p.grad for p in parameters])
        right = torch.full_like(used, torch.nan)
        if loss is not None:
            computing = True
            value = loss(model, inputs)
            grads = torch.autograd.grad(value, parameters, allow_unused=True)
            right = flat(parameters, grads)
            computing = False
        length, scale = used.norm().item(), right.norm().item() + 1e-12
        error = (used - right).norm().item() / scale
        lr = optimizer.param_groups[0]["lr"]
        cosine = (used @ right / (length * scale + 1e-12)).clamp(-1, 1)
        angle = cosine.acos().rad2deg().item()
        record.steps.append(Step(inputs, list(since), lr, length, length / scale, angle, error))
        since.clear()

    hooks = [model.register_forward_pre_hook(on_pass), register_optimizer_step_pre_hook(on_step)]
    try:
        yield record
    finally:
        for hook in hooks:
            hook.remove()


def follow(
    train: Callable,
    model: nn.Module,
    inputs: Tensor,
    *others: Tensor,
    loss: Callable[[nn.Module, Tensor], Tensor] | None = None,
    **options: int,
) -> Record:
    """Watch `train(model, inputs, *others, **options)`, and see that it is a training.

    Raises Unmended if nothing steps, examples are left out, or no parameter moves.
    """
    stored = inputs.clone()
    before = [p.detach().clone() for p in model.parameters()]
    with watch(model, loss) as record:
        record.result = train(model, inputs, *others, **options)
    demand(bool(record.steps), "train() makes no step: no optimiser, or nothing that it optimises")
    used = len(rows_of(torch.cat([step.inputs for step in record.steps]), stored).unique())
    demand(used > 0.8 * len(stored), f"train() uses {used} of the {len(stored)} examples it gets")
    pairs = zip(before, model.parameters(), strict=True)
    moved = any(not torch.equal(a, b) for a, b in pairs)
    demand(moved, "train() leaves the parameters as they are")
    return record


def follow_gradients(
    train: Callable,
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    **options: int,
) -> Record:
    """Follow two epochs; each step's gradient must be that of the mean loss over its examples.

    Args:
        loss: of (outputs, targets), a mean over the examples.
        options: further arguments of `train`.
    """

    def right(model: nn.Module, x: Tensor) -> Tensor:
        return loss(model(x), targets[rows_of(x, inputs)])

    record = follow(train, model, inputs, targets, loss=right, epochs=2, **options)
    for number, step in enumerate(record.steps, 1):
        demand(step.length > 0, f"step {number} is made without any gradient")
        demand(
            step.error < 1e-3,
            f"step {number}: the gradient should be that of the mean loss over the step's "
            f"{len(step.inputs)} examples; it is {step.ratio:.2f} times as long and "
            f"{step.angle:.0f} degrees off in direction",
        )
    return record


def flat(parameters: list[Tensor], gradients: list[Tensor | None] | tuple) -> Tensor:
    """All gradients in one vector, zeros where there is none."""
    pairs = zip(parameters, gradients, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs])


def rows_of(inputs: Tensor, table: Tensor) -> Tensor:
    """For each input the row of `table` that lies nearest."""
    return torch.cdist(inputs.flatten(1), table.flatten(1)).argmin(dim=1)


def parameters_behind(output: Tensor) -> list[Tensor]:
    """All tensors that require a gradient and that `output` was computed from, by its graph."""
    found, seen, todo = [], set(), [output.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        todo += [parent for parent, _ in node.next_functions]
    return found
