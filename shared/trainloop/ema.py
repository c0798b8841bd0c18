"""An exponential moving average of a model's weights."""

import copy

import torch
from torch import Tensor, nn


class Ema:
    """`ema.model` trails `model`: theta' <- d theta' + (1 - d) theta (Polyak & Juditsky 1992).

    The decay warms up as min(decay, (1 + n) / (10 + n)) so that the average forgets the random
    initial weights. Floating-point buffers (BatchNorm's statistics) are averaged too, counters are
    copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0
        ours, theirs = self.model.state_dict(), model.state_dict()  # views, not copies
        floating = [name for name, value in ours.items() if value.is_floating_point()]
        self._average = [ours[name] for name in floating]
        self._source = [theirs[name] for name in floating]
        self._counters = [(ours[n], theirs[n]) for n in ours if n not in set(floating)]

    @torch.no_grad()
    def update(self) -> None:
        """Take one step towards the model; call it after the optimizer's."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._average, self._source, 1 - decay)
        for ours, theirs in self._counters:
            ours.copy_(theirs)

    def state_dict(self) -> dict[str, Tensor | int]:
        return {"updates": self.updates, **self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        self.updates = state["updates"]
        self.model.load_state_dict({k: v for k, v in state.items() if k != "updates"})
