"""The networks: a lean U-Net for images, a perceptron for points in the plane.

Both take (x_t, t, label) and answer with a prediction in the shape of x_t. The label `classes`
means "none".
"""

import itertools
import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 2  # pixels a side that the U-Net's first layer takes together
GROUP = 8  # channels that GroupNorm takes together: with 8 it is 10 times as fast as with 4 (AVX2)
FREQUENCIES = 64  # sines and cosines of t
EMBEDDING = 128


def build(
    shape: tuple[int, ...], classes: int, widths: tuple[int, ...], time_scale: float = 1.0
) -> nn.Module:
    """The network for samples of that shape, (C, H, W) or (2,).

    In channels_last: convolutions on a CPU are faster in it.
    """
    if len(shape) == 1:
        return Perceptron(time_scale)
    unet = Unet(shape[0], classes, widths, time_scale)
    return unet.to(memory_format=torch.channels_last)


class Unet(nn.Module):
    """Images (B, C, H, W), worked on in patches of 2x2 pixels: 28x28 at 14x14, 7x7 and 4x4.

    Most of a usual U-Net's time goes into its full resolution, into details that a linear map of
    2x2 pixels carries as well. The way up adds what the way down left, where others concatenate:
    half the multiplications. Normalisation is per image, so what the network says of one does not
    depend on its neighbours in the batch.

    Args:
        channels: C.
        classes: labels are 0..classes-1.
        widths: channels at each resolution, multiples of 8.
        time_scale: what t is multiplied with first; the sines are made for 0..1000.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 10,
        widths: tuple[int, ...] = (32, 64, 96),
        time_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.condition = Condition(classes, time_scale)
        self.stem = nn.Conv2d(channels * PATCH**2, widths[0], 3, padding=1)
        steps = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(Residual(width) for width in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in steps)
        self.middle = Attention(widths[-1])
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in steps)
        self.up = nn.ModuleList(Residual(width) for width in widths)
        self.norm = group_norm(widths[0])
        self.head = zeroed(nn.Conv2d(widths[0], channels * PATCH**2, 3, padding=1))

    def forward(
        self, x: Float[Tensor, "B C H W"], t: Int64[Tensor, " B"], label: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B C H W"]:
        code = self.condition(t, label)  # (B, EMBEDDING)
        patches = F.pixel_unshuffle(x, PATCH).contiguous(memory_format=torch.channels_last)
        x = self.down[0](self.stem(patches), code)  # (B, widths[0], H/2, W/2)
        left = []
        for shrink, block in zip(self.shrink, self.down[1:], strict=True):
            left.append(x)
            x = block(shrink(x), code)
        x = self.up[-1](self.middle(x), code)
        for level in reversed(range(len(left))):
            # 7 becomes 4 and 4 must become 7 again: so to the size it had, not to twice its own.
            size = left[level].shape[2:]
            x = left[level] + F.interpolate(self.grow[level](x), size=size, mode="nearest")
            x = self.up[level](x, code)
        return F.pixel_shuffle(self.head(F.silu(self.norm(x))), PATCH)


class Condition(nn.Module):
    """t and label as one vector (B, EMBEDDING) that every block reads."""

    def __init__(self, classes: int, time_scale: float) -> None:
        super().__init__()
        self.time_scale = time_scale
        self.first = nn.Linear(FREQUENCIES, EMBEDDING)
        self.second = nn.Linear(EMBEDDING, EMBEDDING)
        self.label = nn.Embedding(classes + 1, EMBEDDING)  # the last one: no label

    def forward(
        self, t: Int64[Tensor, " B"], label: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B width"]:
        time = self.second(F.silu(self.first(sinusoids(t * self.time_scale, FREQUENCIES))))
        return F.silu(time + self.label(label))


def sinusoids(t: Float[Tensor, " B"], width: int) -> Float[Tensor, "B width"]:
    """sin and cos of t at frequencies from 1 down to 1/10,000: Vaswani 2017, section 3.5."""
    exponent = torch.arange(width // 2, device=t.device) / (width // 2)
    angle = t[:, None] * torch.exp(-math.log(10_000) * exponent)  # (B, width/2)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Residual(nn.Module):
    """Norm, SiLU, convolution, twice; t and label scale and shift the second norm (FiLM).

    The second convolution begins at 0, so that every block begins as the identity.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = group_norm(width), group_norm(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(width, width, 3, padding=1))
        self.film = nn.Linear(EMBEDDING, 2 * width)

    def forward(
        self, x: Float[Tensor, "B C H W"], code: Float[Tensor, "B width"]
    ) -> Float[Tensor, "B C H W"]:
        scale, shift = self.film(code)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
        h = self.conv1(F.silu(self.norm1(x)))
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return x + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Every place of the lowest resolution asks every other one: Vaswani 2017, eq. 1."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        B, C, H, W = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(B, H * W, C)
        qkv = self.qkv(tokens).view(B, H * W, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()  # (B, heads, H W, C/heads) each
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, H * W, C)
        return x + self.out(h).view(B, H, W, C).permute(0, 3, 1, 2)


def group_norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(width // GROUP, width)


def zeroed(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """The layer with all of its parameters 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Perceptron(nn.Module):
    """Points (B, 2): three layers of 128, with t in front of each and a residual around it."""

    def __init__(self, time_scale: float = 1.0) -> None:
        super().__init__()
        self.classes = 0
        self.condition = Condition(0, time_scale)
        self.stem = nn.Linear(2, EMBEDDING)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(EMBEDDING),
                nn.Linear(EMBEDDING, EMBEDDING),
                nn.SiLU(),
                nn.Linear(EMBEDDING, EMBEDDING),
            )
            for _ in range(3)
        )
        self.norm = nn.LayerNorm(EMBEDDING)
        self.head = zeroed(nn.Linear(EMBEDDING, 2))

    def forward(
        self, x: Float[Tensor, "B 2"], t: Int64[Tensor, " B"], label: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B 2"]:
        code = self.condition(t, label)
        x = self.stem(x)
        for layer in self.layers:
            x = x + layer(x + code)
        return self.head(F.silu(self.norm(x)))
