"""Muon by hand, and who updates which weights."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from language_model.config import Optimizer
from language_model.model import Gpt

# x -> a x + b x^3 + c x^5, which five times over takes any singular value of 0.01 .. 1 to about
# 0.7 .. 1.2: Jordan 2024, "Muon: an optimizer for hidden layers in neural networks".
QUINTIC = (3.4445, -4.7750, 2.0315)
EPSILON = 1e-10  # below any root of a second moment


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


class RowAdam(torch.optim.Optimizer):
    """Adam's step length for tables of which a step touches few rows, and of those alone.

    v_i <- beta v_i + (1 - beta) mean(g_i^2);  row_i <- row_i - lr g_i / sqrt(v_i / (1 - beta^n_i))

    for each row i that has a gradient, with n_i the steps that touched it: Kingma & Ba 2015 without
    momentum and with one second moment for a row, so that what is remembered is two numbers a row
    and an untouched row costs nothing. Gradients are sparse, or dense with rows of 0.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, beta: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update the rows that have a gradient."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is None:
                    continue
                state = self.state[table]
                if not state:
                    state["square"] = table.new_zeros(len(table))
                    state["touched"] = table.new_zeros(len(table))
                rows, gradient = touched_rows(table.grad)  # (K,), (K, C)
                touched = state["touched"][rows] + 1
                square = state["square"][rows].lerp(gradient.square().mean(1), 1 - group["beta"])
                state["touched"][rows], state["square"][rows] = touched, square
                root = (square / (1 - group["beta"] ** touched)).sqrt() + EPSILON
                table.index_add_(0, rows, gradient / root[:, None], alpha=-group["lr"])


def touched_rows(
    gradient: Float[Tensor, "N C"],
) -> tuple[Int64[Tensor, " K"], Float[Tensor, "K C"]]:
    """Which rows of a table have a gradient, each once, and that gradient."""
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        return gradient.indices()[0], gradient.values()
    rows = gradient.any(1).nonzero()[:, 0]
    return rows, gradient[rows]


@torch.no_grad()
def clip(parameters: Iterable[nn.Parameter], limit: float) -> Float[Tensor, ""]:
    """Cut all gradients together to the norm `limit`; 0: never. Returns the norm before.

    `torch.nn.utils.clip_grad_norm_` for gradients of which some are sparse: those are coalesced,
    since a row that several positions share counts by the sum of what they say.
    """
    values = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
        values.append(parameter.grad.values() if parameter.grad.is_sparse else parameter.grad)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(values)))
    if limit:
        torch._foreach_mul_(values, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


def make_optimizers(
    model: Gpt,
    kind: Optimizer,
    lr: float,
    lr_rest: float,
    weight_decay: float,
    lr_rows: float = 0.0,
) -> dict[str, torch.optim.Optimizer]:
    """Muon for the blocks' matrices, RowAdam for the n-grams' table, AdamW (Loshchilov & Hutter
    2019) for all else, by name.

    Embeddings, the head, biases and gains are not decayed. Every group remembers the `peak` of its
    schedule.
    """
    matrices = [p for p in model.blocks.parameters() if p.ndim > 1 and p.requires_grad]
    tables = [] if model.ngram is None else [model.ngram.table.weight]
    inside = {id(p) for p in (*matrices, *tables)}
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
    if tables:
        found["rows"] = RowAdam(tables, lr_rows)
    for optimizer in found.values():
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return found
