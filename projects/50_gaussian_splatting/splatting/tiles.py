"""Blending in tiles: compiled, on all of torch's threads, with the gradient derived by hand.

Gaussians are binned into tiles of 8x8 pixels, front to back, and each tile blends its own list for
its 64 pixels at once: eight AVX lanes, no branch in the inner loop. `reference.blend` defines what
comes out; a test holds image and gradients together to 1e-5.

The gradient
------------
A pixel is C = sum_i c_i alpha_i T_i + T_N B. Let g be dLoss/dC, and S_i what is seen from just
behind Gaussian i:

    S_N = B,   S_{i-1} = c_i alpha_i + (1 - alpha_i) S_i,   C = S_0

since C = (what is in front) + T_i (c_i alpha_i + (1 - alpha_i) S_i). Then

    dC/dc_i = alpha_i T_i                dC/dalpha_i = T_i (c_i - S_i)

so going back to front one scalar per pixel, s = g . S_i, is all that must be carried along, and
T_i = T_{i+1} / (1 - alpha_i) is recovered on the way. From alpha = o exp(p) with
p = -1/2 (a dx^2 + c dy^2) - b dx dy and dx = x - mean_x:

    dalpha/do = alpha / o        dalpha/dp = alpha         (0 where alpha was capped or dropped)
    dp/dmean_x = a dx + b dy     dp/dmean_y = b dx + c dy
    dp/da = -dx^2 / 2            dp/db = -dx dy            dp/dc = -dy^2 / 2

With q = g . dC/dalpha * alpha, the sums over a tile's pixels of q, q dx, q dy, q dx^2, q dx dy and
q dy^2 give all of them. Each (tile, Gaussian) pair has a row of its own for its sums; the rows are
added up afterwards in one fixed order. So threads never meet, and the result does not depend on
how many there are.
"""

from collections.abc import Callable
from inspect import unwrap
from math import gcd
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float, Int64
from numba import njit, prange
from torch import Tensor

from splatting.projection import ALPHA_MAX, ALPHA_MIN

TILE = 8
PIXELS = TILE * TILE
# Nothing is drawn behind this transmittance. What is left out changes a colour by as much and a
# gradient by up to as much over 1 - alpha, that is 1e-6.
OPAQUE = np.float32(1e-8)
CAP, FLOOR = np.float32(ALPHA_MAX), np.float32(ALPHA_MIN)
ONE, ZERO, HALF = np.float32(1), np.float32(0), np.float32(0.5)
COLUMNS = np.tile(np.arange(TILE, dtype=np.float32), TILE)  # of a tile's pixels
ROWS = np.repeat(np.arange(TILE, dtype=np.float32), TILE)

# NaN and infinity keep their meaning (a run must see them); sums may be reordered into lanes.
FAST = {"reassoc", "contract", "nsz", "arcp"}

# numba's exp is a call for each number here; a polynomial for exp(x / 8), squared three times, is
# eight multiplications for eight numbers. On [-6, 0] its relative error is below 3e-6, and
# exp(-6) < 1/255: what is farther out is dropped anyway.
LOWEST = np.float32(-6)
_E = np.polynomial.Chebyshev.interpolate(np.exp, 5, [-0.75, 0.0])
E0, E1, E2, E3, E4, E5 = _E.convert(kind=np.polynomial.Polynomial).coef.astype(np.float32)
EIGHTH = np.float32(1 / 8)


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """numba's njit, kept on disk; of the bare function, for in tests jaxtyping wraps every one."""
    return lambda function: njit(cache=True, **options)(unwrap(function))


@compiled(fastmath=FAST)
def exponential(x):
    """exp(x) in float32 for x <= 0; below -6 it stays exp(-6)."""
    t = max(x, LOWEST) * EIGHTH
    e = E0 + t * (E1 + t * (E2 + t * (E3 + t * (E4 + t * E5))))
    e *= e
    e *= e
    return e * e


@compiled()
def _zeros():
    return np.zeros(PIXELS, np.float32)


@compiled()
def pixel_span(splat, row):
    """The tile columns [first, last] of a row of tiles in which a splat reaches ALPHA_MIN.

    `splat` is a row of `splats`: mean x, y, conic a, b, c, opacity, red, green, blue. The splat is
    drawn inside a x^2 + 2 b x y + c y^2 <= reach. The leftmost and the rightmost point of that
    ellipse within the row's band of pixel centres have a closed form. Empty if first > last.
    """
    a, b, c = np.float64(splat[2]), np.float64(splat[3]), np.float64(splat[4])
    reach = 2 * np.log(np.float64(splat[5]) / ALPHA_MIN) + 1e-3  # slack for float32's rounding
    determinant = a * c - b * b
    if not (reach > 0 and determinant > 0):
        return 0, -1
    wide, high = np.sqrt(reach * c / determinant), np.sqrt(reach * a / determinant)
    low = max(row * TILE + 0.5 - splat[1], -high)
    top = min(row * TILE + TILE - 0.5 - splat[1], high)
    if low > top:
        return 0, -1
    slope, schur = -b / a, c - b * b / a
    y = min(max(-b / c * wide, low), top)  # where the ellipse is farthest to the right
    right = slope * y + np.sqrt(max(0.0, (reach - schur * y * y) / a))
    y = min(max(b / c * wide, low), top)
    left = slope * y - np.sqrt(max(0.0, (reach - schur * y * y) / a))
    first = np.ceil(max(splat[0] + left - 0.5, -1e6))  # pixels, by their centres
    last = np.floor(min(splat[0] + right - 0.5, 1e6))
    if first > last:
        return 0, -1
    return np.int64(np.floor(first / TILE)), np.int64(np.floor(last / TILE))


@compiled()
def bin_splats(splats, order, across, down):
    """Which splats each tile must blend: a counting sort, which keeps the order.

    Returns:
        starts: (tiles + 1,) where each tile's list begins in `ids`.
        ids: (pairs,) rows of `splats`, front to back within a tile.
    """
    starts = np.zeros(across * down + 1, np.int64)
    free, ids = starts, np.empty(0, np.int32)
    for fill in (False, True):  # count, then put each in its place
        for index in order:
            splat = splats[index]
            reach = 2 * np.log(max(np.float64(splat[5]), 1e-9) / ALPHA_MIN) + 1e-3
            determinant = np.float64(splat[2]) * splat[4] - np.float64(splat[3]) ** 2
            if not (reach > 0 and determinant > 0 and np.isfinite(splat[0] + splat[1])):
                continue
            high = np.sqrt(reach * splat[2] / determinant)
            above = max(0.0, np.floor((splat[1] - high - 0.5) / TILE))
            below = min(down - 1.0, np.floor((splat[1] + high - 0.5) / TILE))
            for row in range(np.int64(above), np.int64(below) + 1):
                first, last = pixel_span(splat, row)
                for column in range(max(first, 0), min(last, across - 1) + 1):
                    tile = row * across + column
                    if fill:
                        ids[free[tile]] = index
                        free[tile] += 1
                    else:
                        starts[tile + 1] += 1
        if not fill:
            starts = np.cumsum(starts)
            free, ids = starts.copy(), np.empty(starts[-1], np.int32)
    return starts, ids


@compiled(parallel=True, fastmath=FAST)
def blend_forward(splats, starts, ids, background, across, stride, image, through, ends):
    """Fill image (H, W, 3), through (tiles, 64) and ends (tiles, 64).

    `through` is what is left of the light behind the last splat, `ends` how many splats of the
    tile's list were looked at before the pixel was opaque.
    """
    height, width = image.shape[:2]
    tiles = len(starts) - 1
    for turn in prange(tiles):
        tile = (turn * stride) % tiles
        left, top = (tile % across) * TILE, (tile // across) * TILE
        red, green, blue = _zeros(), _zeros(), _zeros()
        light = np.ones(PIXELS, np.float32)
        end = np.zeros(PIXELS, np.int32)
        for i in range(PIXELS):  # those beyond the picture's edge are done
            if left + COLUMNS[i] >= width or top + ROWS[i] >= height:
                light[i] = ZERO
        for k in range(starts[tile], starts[tile + 1]):
            x, y, a, b, c, o, r, g, u = splats[ids[k]]
            x, y = np.float32(left) + HALF - x, np.float32(top) + HALF - y
            a, c = -HALF * a, -HALF * c
            seen = np.int32(k - starts[tile] + 1)
            for i in range(PIXELS):
                dx, dy = COLUMNS[i] + x, ROWS[i] + y
                alpha = o * exponential(dx * (a * dx - b * dy) + c * dy * dy)
                alpha = min(alpha, CAP)
                alive = light[i] > OPAQUE
                alpha = alpha if (alpha >= FLOOR) & alive else ZERO
                weight = alpha * light[i]
                red[i] += weight * r
                green[i] += weight * g
                blue[i] += weight * u
                light[i] -= weight
                end[i] = seen if alive else end[i]
            if seen % 8 == 0:
                most = ZERO
                for i in range(PIXELS):
                    most = max(most, light[i])
                if most <= OPAQUE:
                    break
        for i in range(PIXELS):
            row, column = top + i // TILE, left + i % TILE
            if row < height and column < width:
                image[row, column, 0] = red[i] + light[i] * background[0]
                image[row, column, 1] = green[i] + light[i] * background[1]
                image[row, column, 2] = blue[i] + light[i] * background[2]
            through[tile, i] = light[i]
            ends[tile, i] = end[i]


@compiled(parallel=True, fastmath=FAST)
def blend_backward(splats, starts, ids, background, across, stride, through, ends, grad, pairs):
    """Fill pairs (pairs, 9) with each (tile, splat) pair's sums, from grad (H, W, 3) = dLoss/dC.

    The columns are those of `splats`. See the module's text for the formulas.
    """
    height, width = grad.shape[:2]
    tiles = len(starts) - 1
    for turn in prange(tiles):
        tile = (turn * stride) % tiles
        left, top = (tile % across) * TILE, (tile // across) * TILE
        g_red, g_green, g_blue, light, behind = _zeros(), _zeros(), _zeros(), _zeros(), _zeros()
        end = np.empty(PIXELS, np.int32)
        most = 0
        for i in range(PIXELS):
            row, column = top + i // TILE, left + i % TILE
            if row < height and column < width:
                g_red[i], g_green[i], g_blue[i] = grad[row, column]
            light[i], end[i] = through[tile, i], ends[tile, i]
            behind[i] = (  # s = g . S_N
                g_red[i] * background[0] + g_green[i] * background[1] + g_blue[i] * background[2]
            )
            most = max(most, end[i])
        for k in range(starts[tile] + most - 1, starts[tile] - 1, -1):
            x, y, a, b, c, o, r, g, u = splats[ids[k]]
            x, y = np.float32(left) + HALF - x, np.float32(top) + HALF - y
            half_a, half_c = -HALF * a, -HALF * c
            seen = np.int32(k - starts[tile] + 1)
            q0, qx, qy, qxx, qxy, qyy = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
            d_red, d_green, d_blue = ZERO, ZERO, ZERO
            for i in range(PIXELS):
                dx, dy = COLUMNS[i] + x, ROWS[i] + y
                raw = o * exponential(dx * (half_a * dx - b * dy) + half_c * dy * dy)
                alpha = min(raw, CAP)
                alpha = alpha if (alpha >= FLOOR) & (seen <= end[i]) else ZERO
                light[i] = light[i] / (ONE - alpha)  # T_i
                weight = alpha * light[i]
                d_red += weight * g_red[i]
                d_green += weight * g_green[i]
                d_blue += weight * g_blue[i]
                own = r * g_red[i] + g * g_green[i] + u * g_blue[i]
                slope = light[i] * (own - behind[i])  # dLoss/dalpha
                behind[i] += alpha * (own - behind[i])  # s of the next one in front
                q = alpha * slope if raw <= CAP else ZERO
                q0 += q
                qx += q * dx
                qy += q * dy
                qxx += q * dx * dx
                qxy += q * dx * dy
                qyy += q * dy * dy
            pairs[k, 0] = a * qx + b * qy
            pairs[k, 1] = b * qx + c * qy
            pairs[k, 2] = -HALF * qxx
            pairs[k, 3] = -qxy
            pairs[k, 4] = -HALF * qyy
            pairs[k, 5] = q0 / o
            pairs[k, 6], pairs[k, 7], pairs[k, 8] = d_red, d_green, d_blue


@compiled()
def add_pairs(ids, pairs, total):
    """Add each pair's row to its splat's, in the order of the pairs."""
    for k in range(len(ids)):
        row = ids[k]
        for j in range(9):
            total[row, j] += pairs[k, j]


class Blend(torch.autograd.Function):
    """The kernels, as torch sees them."""

    @staticmethod
    def forward(ctx, means2d, conics, colours, opacities, order, background, width, height):
        across, down = -(-width // TILE), -(-height // TILE)
        tiles = across * down
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        splats = torch.cat([means2d, conics, opacities[:, None], colours], 1).detach().numpy()
        starts, ids = bin_splats(splats, order.numpy(), across, down)
        image = np.empty((height, width, 3), np.float32)
        through = np.empty((tiles, PIXELS), np.float32)
        ends = np.empty((tiles, PIXELS), np.int32)
        ctx.kept = (splats, starts, ids, background.detach().numpy(), across, _stride(tiles),
                    through, ends)  # fmt: skip
        blend_forward(*ctx.kept[:6], image, through, ends)
        return torch.from_numpy(image)

    @staticmethod
    def backward(ctx, grad):
        splats, _, ids, *_, across, _, through, _ = ctx.kept
        grad = np.ascontiguousarray(grad.numpy())
        pairs = np.zeros((len(ids), 9), np.float32)
        blend_backward(*ctx.kept, grad, pairs)
        total = np.zeros_like(splats)
        add_pairs(ids, pairs, total)
        total = torch.from_numpy(total)
        background = None
        if ctx.needs_input_grad[5]:  # dC/dB = T_N
            rows, columns = np.indices(grad.shape[:2])
            tile = rows // TILE * across + columns // TILE
            left = through[tile, rows % TILE * TILE + columns % TILE]
            background = torch.from_numpy(np.einsum("hwc,hw->c", grad, left))
        return (total[:, :2], total[:, 2:5], total[:, 6:], total[:, 5], None, background, None,
                None)  # fmt: skip


def _stride(tiles: int) -> int:
    """A step coprime to `tiles`, so that each thread's share is spread over the whole picture."""
    stride = max(1, round(0.618 * tiles))
    while gcd(stride, tiles) != 1:
        stride += 1
    return stride


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
    """What `reference.blend` gives, in float32 on the CPU."""
    return Blend.apply(means2d, conics, colours, opacities, order, background, width, height)
