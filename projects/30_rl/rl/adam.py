"""Adam (Kingma 2015) over one flat vector.

Networks of ten small tensors spend their time on calls, not on arithmetic: with all parameters in
one vector a step is a dozen operations, whatever the network. torch.optim also imports torch's
compiler when the first optimiser is made. Sixteen iterations of PPO took 11 CPU seconds with it and
2.7 without, both under the profiler.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Adam:
    """Moves parameters and gradients into a vector each and steps on these.

    Attributes:
        flat: (P,) the parameters; each one of them is a view of a part.
        gradient: (P,) theirs.
        lr: may be set before each step.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, eps: float = 1e-8,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:  # fmt: skip
        parameters = list(parameters)
        self.lr, self.eps, self.betas, self.count = lr, eps, betas, 0
        self.flat = torch.cat([p.detach().ravel() for p in parameters])
        self.gradient = torch.zeros_like(self.flat)
        self.mean, self.square = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        sizes = [p.numel() for p in parameters]
        for p, part, grad in zip(
            parameters, self.flat.split(sizes), self.gradient.split(sizes), strict=True
        ):
            p.data, p.grad = part.view_as(p), grad.view_as(p)

    def zero_grad(self) -> None:
        """To zero, not to None: they must stay where they are."""
        self.gradient.zero_()

    @torch.no_grad()
    def step(self, max_norm: float = math.inf) -> Float[Tensor, ""]:
        """One step down; a gradient longer than `max_norm` is cut to it. Returns its length."""
        norm = self.gradient.norm()
        if max_norm < math.inf:
            self.gradient.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        self.count += 1
        first, second = self.betas
        self.mean.lerp_(self.gradient, 1 - first)
        self.square.mul_(second).addcmul_(self.gradient, self.gradient, value=1 - second)
        root = (self.square.sqrt() / math.sqrt(1 - second**self.count)).add_(self.eps)
        self.flat.addcdiv_(self.mean, root, value=-self.lr / (1 - first**self.count))
        return norm

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean.clone(), "square": self.square.clone(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean.copy_(state["mean"])
        self.square.copy_(state["square"])
        self.count = state["count"]
