"""Which samples a step trains on, looked up by the step's number."""

import torch
from jaxtyping import Int64
from torch import Tensor


class Batches:
    """Epochs of shuffled indices, cut into batches of one size, addressed by step.

    The batch of a step depends on (count, batch_size, seed, step) alone, so a run that was stopped
    and resumed sees what the uninterrupted one saw, without any state to save. Epochs follow each
    other without a gap: a batch may hold the end of one and the beginning of the next.

    Args:
        count: number of samples, at least 1.
        batch_size: samples a step, over all processes, at least 1; may exceed `count`.
        seed: of the shuffles.
    """

    def __init__(self, count: int, batch_size: int, seed: int = 0) -> None:
        if count < 1 or batch_size < 1:
            raise ValueError(f"cannot make batches of {batch_size} from {count} samples")
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self._orders: dict[int, Tensor] = {}  # of the current epoch, and of the next at its end

    def at(self, step: int) -> Int64[Tensor, " B"]:
        """Indices of the samples of step 1, 2, ..."""
        first = (step - 1) * self.batch_size
        epochs = range(first // self.count, (first + self.batch_size - 1) // self.count + 1)
        self._orders = {epoch: self._order(epoch) for epoch in epochs}
        order = (
            torch.cat([self._orders[epoch] for epoch in epochs])
            if len(epochs) > 1
            else (self._orders[epochs[0]])
        )
        offset = first - epochs[0] * self.count
        return order[offset : offset + self.batch_size]

    def _order(self, epoch: int) -> Tensor:
        if epoch in self._orders:
            return self._orders[epoch]
        generator = torch.Generator().manual_seed(mix(self.seed, epoch))
        return torch.randperm(self.count, generator=generator)


def mix(seed: int, step: int) -> int:
    """One well-spread 32-bit seed from two small numbers (the finaliser of splitmix64).

    torch's CPU generator reads only the low 32 bits of its seed, and neighbouring seeds must not
    give related streams.
    """
    mask = 0xFFFFFFFFFFFFFFFF
    z = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 0x2545F4914F6CDD1D) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) & 0xFFFFFFFF
