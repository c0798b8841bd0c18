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
    spends its first layer to find that out.
    """

    def __init__(self, longest: int, buckets: int, width: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.tables = nn.ModuleList(nn.Embedding(buckets, width) for _ in range(longest - 1))

    def forward(self, tokens: Int64[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        """Sums over n; before the first token a sequence counts as tokens -1."""
        total = torch.zeros((), device=tokens.device)
        code = tokens + 1
        for distance, table in enumerate(self.tables, start=1):
            earlier = F.pad(tokens + 1, (distance, 0))[:, : tokens.shape[1]]
            code = (code * PRIME + earlier) & 0xFFFFFFFF
            # The low bits of a product depend on low bits only: take the row from the high ones.
            total = total + table(((code * PRIME & 0xFFFFFFFF) >> 8) % self.buckets)
        return total
