"""Low-rank adapters: fine-tune two thin matrices beside each frozen one (Hu 2021)."""

import math

import torch
from torch import Tensor, nn

from language_model.model import Gpt, Stacked


class Lora(nn.Module):
    """W x + (alpha / r) B A x, with W frozen, A (r, inputs) random, B (outputs, r) zero: eq. 3.

    Args:
        base: a linear layer, or several in a stack; its weight and bias stop learning.
        rank: r, at least 1.
        alpha: of the factor; 2 r is usual, so that a learning rate serves all ranks.
    """

    def __init__(self, base: nn.Linear | Stacked, rank: int, alpha: float = 0.0) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        inputs = base.weight.shape[-1]
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.down = nn.Parameter(torch.empty(rank, inputs, **like))
        self.up = nn.Parameter(torch.zeros(base.weight.numel() // inputs, rank, **like))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.scale = (alpha or 2 * rank) / rank

    @property
    def weight(self) -> Tensor:
        """Of the frozen layer."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * (x @ self.down.mT @ self.up.mT)

    @torch.no_grad()
    def merged(self) -> nn.Linear | Stacked:
        """The layer with what the adapters learned added to its weight: W + (alpha / r) B A."""
        change = self.scale * (self.up @ self.down)
        self.base.weight += change.view_as(self.base.weight)
        return self.base.requires_grad_(True)


PLACES = (("attention", "qkv"), ("attention", "out"), ("mlp", "up"), ("mlp", "out"))


def add_lora(model: Gpt, rank: int) -> Gpt:
    """Freeze the model and put adapters beside every matrix of its blocks; in place."""
    model.requires_grad_(False)
    for block in model.blocks:
        for part, name in PLACES:
            holder = getattr(block, part)
            setattr(holder, name, Lora(getattr(holder, name), rank))
    return model


def merge_lora(model: Gpt) -> Gpt:
    """Add the adapters to the weights and drop them; in place."""
    for block in model.blocks:
        for part, name in PLACES:
            layer = getattr(getattr(block, part), name)
            if isinstance(layer, Lora):
                setattr(getattr(block, part), name, layer.merged())
    return model.requires_grad_(True)


class Adapters:
    """What a checkpoint holds of a model with LoRA: the adapters, and not the frozen weights."""

    def __init__(self, model: Gpt) -> None:
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}

    def state_dict(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """KeyError where the adapters are others."""
        if state.keys() != self._parameters.keys():
            raise KeyError("adapters of another shape")
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(state[name])
