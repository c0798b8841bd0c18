"""Blending in plain torch: every Gaussian against every pixel. Slow, short, and obviously right."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from splatting.projection import ALPHA_MAX, ALPHA_MIN


def blend(
    means2d: Float[Tensor, "N 2"],
    conics: Float[Tensor, "N 3"],
    colours: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    order: Int64[Tensor, " N"],
    background: Float[Tensor, " 3"],
    width: int,
    height: int,
) -> Float[Tensor, "H W 3"]:
    """Front-to-back alpha blending (Kerbl 2023, eq. 3) with torch's own gradients.

        alpha_i = o_i exp(-1/2 d^T conic_i d),  C = sum_i c_i alpha_i T_i + T_N background,
        T_i = prod_{j < i} (1 - alpha_j)

    Args:
        order: indices from front to back.
    """
    y, x = torch.meshgrid(
        torch.arange(height, dtype=means2d.dtype, device=means2d.device) + 0.5,
        torch.arange(width, dtype=means2d.dtype, device=means2d.device) + 0.5,
        indexing="ij",
    )
    dx = x.reshape(-1, 1) - means2d[order, 0]  # (P, N)
    dy = y.reshape(-1, 1) - means2d[order, 1]
    a, b, c = conics[order].unbind(-1)
    power = -0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy
    alpha = (opacities[order] * power.exp()).clamp(max=ALPHA_MAX)
    alpha = torch.where(alpha < ALPHA_MIN, 0, alpha)
    through = torch.cumprod(1 - alpha, 1)  # T after each
    before = torch.cat([through.new_ones(len(through), 1), through], 1)  # T_0 = 1 .. T_N
    pixels = (alpha * before[:, :-1]) @ colours[order] + before[:, -1:] * background
    return pixels.reshape(height, width, 3)
