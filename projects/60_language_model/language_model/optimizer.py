"""Muon by hand, and who updates which weights."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from language_model.config import Optimizer
from language_model.model import Gpt

# x -> a x + b x^3 + c x^5, which five times over takes any singular value of 0.01 .. 1 to about
# 0.7 .. 1.2: Jordan 2024, "Muon: an optimizer for hidden layers in neural networks".
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalised(matrices: Float[Tensor, "N r c"], steps: int = 5) -> Float[Tensor, "N r c"]:
    """U V^T of each matrix's U S V^T, roughly, by Newton-Schulz: products only, r <= c is cheapest.

    Singular values end between 0.6 and 1.3 instead of at 1, which serves as well (ibid.).
    """
    a, b, c = QUINTIC
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)  # none above 1
    for _ in range(steps):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal: every direction of a matrix moves by the same length.

    m <- mu m + g;  W <- (1 - lr wd) W - lr sqrt(max(1, rows / columns)) NewtonSchulz(g + mu m)

    Jordan 2024, with Nesterov's look ahead. Each parameter is a matrix or a stack of them; all of
    one shape go through Newton-Schulz at once.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                moving = state["momentum"].mul_(group["momentum"]).add_(parameter.grad)
                ahead = parameter.grad.add(moving, alpha=group["momentum"])
                rows, columns = parameter.shape[-2:]
                wide = ahead if rows <= columns else ahead.mT
                stack = wide.reshape(-1, *wide.shape[-2:])
                by_shape.setdefault(tuple(stack.shape[1:]), []).append((parameter, stack))
            for waiting in by_shape.values():
                directions = orthogonalised(torch.cat([stack for _, stack in waiting]))
                sizes = [len(stack) for _, stack in waiting]
                for (parameter, _), direction in zip(waiting, directions.split(sizes), strict=True):
                    rows, columns = parameter.shape[-2:]
                    upright = direction if rows <= columns else direction.mT
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(
                        upright.reshape(parameter.shape),
                        alpha=-group["lr"] * max(1, rows / columns) ** 0.5,
                    )


def make_optimizers(
    model: Gpt, kind: Optimizer, lr: float, lr_rest: float, weight_decay: float
) -> dict[str, torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW (Loshchilov & Hutter 2019) for all else, by name.

    Embeddings, the head, biases and gains are not decayed. Every group remembers the `peak` of its
    schedule.
    """
    matrices = [p for p in model.blocks.parameters() if p.ndim > 1 and p.requires_grad]
    inside = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
    groups = [{"params": rest, "weight_decay": 0.0}]
    found: dict[str, torch.optim.Optimizer] = {}
    if kind == "muon":
        found["muon"] = Muon(matrices, lr, weight_decay=weight_decay)
    elif matrices:
        groups.append({"params": matrices, "weight_decay": weight_decay})
    if groups[0]["params"] or len(groups) > 1:
        filled = [group for group in groups if group["params"]]
        found["adamw"] = torch.optim.AdamW(filled, lr_rest, (0.9, 0.95), fused=True)
    for optimizer in found.values():
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return found
