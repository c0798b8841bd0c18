"""Embeddings of the last few tokens together: memory that costs a look-up instead of a product."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

PRIME = 0x9E3779B1  # of multiplicative hashing: 2^32 over the golden ratio, made prime


class NgramEmbedding(nn.Module):
    """The sum of a row for each n-gram of 2 .. `longest` tokens that ends at a position.

    Rows are shared by what hashes alike (Pagnoni 2024, Byte Latent Transformer, sec. 3.2.1). A
    character says little, its left neighbours turn it into a piece of a word: a transformer
    spends its first layer to find that out. Gradients are sparse: a step touches few rows of many,
    and filling, measuring and updating all of them would take a third of its time.
    """

    def __init__(self, longest: int, buckets: int, width: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.table = nn.Embedding((longest - 1) * buckets, width)
        power, powers = 1, []
        for _ in range(longest):
            powers.append(power)
            power = power * PRIME & 0xFFFFFFFF
        self.register_buffer("powers", torch.tensor(powers), persistent=False)
        first = torch.arange(longest - 1) * buckets  # each length has rows of its own
        self.register_buffer("first", first, persistent=False)

    def forward(self, tokens: Int64[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        """Sums over n; before the first token a sequence counts as tokens -1."""
        sparse = tokens.device.type != "mps"  # which knows no sparse tensors
        rows = self.rows(tokens)
        found = F.embedding_bag(rows.flatten(0, 1), self.table.weight, mode="sum", sparse=sparse)
        return found.unflatten(0, rows.shape[:2])

    def rows(self, tokens: Int64[Tensor, "B T"]) -> Int64[Tensor, "B T N"]:
        """Where in the table the 2-gram, 3-gram, ... is that ends at each position."""
        reach = len(self.powers) - 1
        pasts = F.pad(tokens + 1, (reach, 0)).unfold(1, reach + 1, 1).flip(2)  # (B, T, reach + 1)
        codes = (pasts * self.powers).cumsum(2)[..., 1:]  # of the last 2, 3, ... tokens
        # The low bits of a product depend on low bits only: take the row from the high ones.
        return ((codes * PRIME & 0xFFFFFFFF) >> 8) % self.buckets + self.first
