"""A GPT: pre-norm decoder with switches from GPT-2 (Radford 2019) to what replaced its parts."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from language_model.config import Activation, Norm, Positions
from language_model.ngram_embedding import NgramEmbedding


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What it takes to build the network anew; plain values, kept in every checkpoint.

    Attributes:
        block: the longest context in tokens.
        tied: the head's matrix is the token embedding (Press & Wolf 2017).
        bias: biases in linear layers, gains and biases in norms.
        ngrams: longest n-gram of tokens that has an embedding of its own; 1: single tokens only.
        buckets: rows that the n-grams of one length share.
    """

    vocabulary: int
    block: int
    layers: int
    heads: int
    width: int
    positions: Positions = "rotary"
    norm: Norm = "layer"
    activation: Activation = "relu2"
    qk_norm: bool = True
    tied: bool = False
    bias: bool = False
    ngrams: int = 1
    buckets: int = 0
    dropout: float = 0.0


class Gpt(nn.Module):
    """Logits of the next token at every position."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token = nn.Embedding(shape.vocabulary, shape.width)
        several = shape.ngrams > 1
        self.ngram = NgramEmbedding(shape.ngrams, shape.buckets, shape.width) if several else None
        learned = shape.positions == "learned"
        self.position = nn.Embedding(shape.block, shape.width) if learned else None
        self.rotation = None if learned else Rotation(shape.width // shape.heads, shape.block)
        self.dropout = nn.Dropout(shape.dropout)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = make_norm(shape, shape.width)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        if shape.tied:
            self.head.weight = self.token.weight
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        """GPT-2's where the head is tied; else what adds to the residual stream starts at 0."""
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02 if self.shape.tied else 0.1)
        elif isinstance(module, nn.Linear | Stacked):
            std = 0.02 if self.shape.tied else 0.5 / math.sqrt(module.weight.shape[-1])
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, Block):
            for out in (module.attention.out, module.mlp.out):
                if self.shape.tied:
                    nn.init.normal_(out.weight, std=0.02 / math.sqrt(2 * self.shape.layers))
                else:
                    nn.init.zeros_(out.weight)
        elif module is self and not self.shape.tied:
            nn.init.zeros_(self.head.weight)

    def forward(
        self, tokens: Int64[Tensor, "B T"], cache: "Cache | None" = None
    ) -> Float[Tensor, "B T V"]:
        """Logits after each token; with a cache the tokens follow those that it has seen.

        Raises:
            ValueError: cached and new tokens together are more than the block.
        """
        seen = cache.length if cache else 0
        end = seen + tokens.shape[1]
        if end > self.shape.block:
            raise ValueError(f"{end} tokens do not fit into a context of {self.shape.block}")
        x = self.token(tokens)  # (B, T, C)
        if self.ngram is not None:
            known = torch.cat((cache.tokens, tokens), 1) if cache else tokens
            x = x + self.ngram(known)[:, -tokens.shape[1] :]
        if self.position is not None:
            x = x + self.position.weight[seen:end]
        turn = None if self.rotation is None else self.rotation(seen, end)
        x = self.dropout(x)
        for index, block in enumerate(self.blocks):
            x = block(x, turn, cache.layer(index) if cache else None)
        if cache:
            cache.advance(tokens)
        return self.head(self.norm(x))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = make_norm(shape, shape.width), make_norm(shape, shape.width)
        self.attention, self.mlp = Attention(shape), Mlp(shape)

    def forward(self, x: Tensor, turn: Tensor | None, cache: "LayerCache | None") -> Tensor:
        x = x + self.attention(self.norm_1(x), turn, cache)
        return x + self.mlp(self.norm_2(x))


class Attention(nn.Module):
    """Causal self-attention of `heads` heads (Vaswani 2017, sec. 3.2)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.dropped = shape.heads, shape.dropout
        self.qkv = Stacked(3, shape.width, shape.width, shape.bias)
        self.out = nn.Linear(shape.width, shape.width, bias=shape.bias)
        size = shape.width // shape.heads
        self.qk_norm = make_norm(shape, size, affine=False) if shape.qk_norm else nn.Identity()
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, turn: Tensor | None, cache: "LayerCache | None") -> Tensor:
        q, k, v = self.project(x, turn)
        if cache:
            k, v = cache.append(k, v)
        # Tokens that follow a cache come one at a time, or first: then all or none is in the past.
        causal = q.shape[2] > 1
        if causal and q.shape[2] != k.shape[2]:
            raise ValueError("several tokens at once may only start a cache")
        dropped = self.dropped if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, dropout_p=dropped)
        return self.dropout(self.out(y.transpose(1, 2).flatten(2)))  # (B, T, C)

    def project(self, x: Tensor, turn: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, H, T, C / H)."""
        qkv = self.qkv(x).unflatten(2, (3, self.heads, -1))  # (B, T, 3, H, C / H)
        qk, v = qkv[:, :, :2], qkv[:, :, 2]
        qk = self.qk_norm(qk)
        if turn is not None:
            qk = rotate(qk, turn)
        q, k = qk.unbind(2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def weights(self, x: Tensor, turn: Tensor | None) -> Float[Tensor, "B H T T"]:
        """What each position looks at, for pictures; `forward` never holds this matrix."""
        q, k, _ = self.project(x, turn)
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        return scores.masked_fill(future, -torch.inf).softmax(-1)


class Mlp(nn.Module):
    """Four times as wide inside."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.up = nn.Linear(shape.width, 4 * shape.width, bias=shape.bias)
        self.out = nn.Linear(4 * shape.width, shape.width, bias=shape.bias)
        self.activation = shape.activation
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x)
        # GPT-2's gelu is the approximation by tanh; relu2: So 2021 (Primer), sec. 4.
        h = F.gelu(h, approximate="tanh") if self.activation == "gelu" else squared_relu(h)
        return self.dropout(self.out(h))


class Stacked(nn.Module):
    """Several linear layers of one input as a stack of matrices, so that Muon sees each alone."""

    def __init__(self, count: int, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(count * outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.flatten(0, 1), self.bias)


class SquaredRelu(torch.autograd.Function):
    """relu(x)^2; autograd's own backward of the two steps takes twice as long."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        rectified = x.relu()
        context.save_for_backward(rectified)
        return rectified.square()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (rectified,) = context.saved_tensors
        return (gradient * rectified).mul_(2)


def squared_relu(x: Tensor) -> Tensor:
    return SquaredRelu.apply(x) if torch.is_grad_enabled() else x.relu().square_()


def make_norm(shape: Shape, width: int, affine: bool = True) -> nn.Module:
    """LayerNorm (Ba 2016) or RMSNorm (Zhang & Sennrich 2019), with gains where there are biases."""
    affine = affine and shape.bias
    if shape.norm == "layer":
        return nn.LayerNorm(width, 1e-5, elementwise_affine=affine)
    return nn.RMSNorm(width, 1e-5, elementwise_affine=affine)


class Rotation(nn.Module):
    """Rotary positions (Su 2021, eq. 34): position m turns pair i of d / 2 by m base^(-2i/d)."""

    def __init__(self, size: int, block: int, base: float = 10_000.0) -> None:
        super().__init__()
        speed = base ** (-torch.arange(0, size, 2) / size)
        angle = torch.arange(block)[:, None] * speed  # (block, size / 2)
        turns = torch.polar(torch.ones_like(angle), angle)[:, None, None]
        self.register_buffer("turns", turns, persistent=False)

    def forward(self, start: int, end: int) -> Tensor:
        """Unit complex numbers (T, 1, 1, size / 2) of positions start .. end - 1."""
        return self.turns[start:end]


def rotate(x: Float[Tensor, "B T two H D"], turn: Tensor) -> Float[Tensor, "B T two H D"]:
    """Turn each pair of neighbouring features: a product of complex numbers, one pass on a CPU."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn).flatten(-2).type_as(x)


def store_by_columns(model: Gpt) -> Gpt:
    """Keep the blocks' widening matrices in memory column by column; values stay as they are.

    A single position takes as long as fetching the weights. MKL's product of such a matrix and a
    vector takes 0.19 instead of 0.35 ms (1,536 x 384, Zen 3), with many positions the same time.
    To sample from, not to train: rounding differs.
    """
    for block in model.blocks:
        for weight in (block.attention.qkv.weight, block.mlp.up.weight):
            rows = weight.data.flatten(0, -2)
            weight.data = rows.t().contiguous().t().view(weight.shape)
    return model


class LayerCache:
    """Keys and values of one layer, written in place."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values, self.length = keys, values, 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep new keys and values (B, H, T, D); returns all of them."""
        end = self.length + k.shape[2]
        self.keys.narrow(2, self.length, k.shape[2]).copy_(k)
        self.values.narrow(2, self.length, k.shape[2]).copy_(v)
        self.length = end
        return self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end)


class Cache:
    """What a token leaves behind for those that follow: its keys and values in every layer."""

    def __init__(self, model: Gpt, batch: int = 1) -> None:
        shape, like = model.shape, model.head.weight
        size = (batch, shape.heads, shape.block, shape.width // shape.heads)
        self._layers = [
            LayerCache(like.new_empty(size), like.new_empty(size)) for _ in range(shape.layers)
        ]
        self._keep = shape.ngrams - 1  # tokens that an n-gram reaches back
        self.tokens = torch.empty((batch, 0), dtype=torch.long, device=like.device)
        self.length = 0

    def layer(self, index: int) -> LayerCache:
        return self._layers[index]

    def advance(self, tokens: Tensor) -> None:
        """Count tokens that went through all layers, and keep what the next n-grams begin with."""
        self.length += tokens.shape[1]
        kept = torch.cat((self.tokens, tokens), 1)
        self.tokens = kept[:, max(0, kept.shape[1] - self._keep) :]
