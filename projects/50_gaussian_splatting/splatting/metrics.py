"""How alike two pictures are: PSNR, SSIM, and LPIPS where its weights are at hand."""

import math
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

WINDOW, SIGMA = 11, 1.5  # pixels (Wang 2004, section III.B)
K1, K2 = 0.01, 0.03


def psnr(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1]; infinite where they are equal."""
    error = float((image.double() - truth.double()).square().mean())
    return -10 * math.log10(error) if error > 0 else math.inf


@cache
def _window(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(length - 10, length): row i weighs positions i .. i + 10 by a Gaussian."""
    offsets = torch.arange(WINDOW, dtype=dtype, device=device) - WINDOW // 2
    weights = (-offsets.square() / (2 * SIGMA**2)).exp()
    rows = torch.arange(length - WINDOW + 1, device=device)[:, None]
    band = torch.zeros(len(rows), length, dtype=dtype, device=device)
    columns = rows + torch.arange(WINDOW, device=device)
    return band.scatter_(1, columns, (weights / weights.sum()).expand(len(rows), -1))


def ssim(image: Float[Tensor, "H W C"], truth: Float[Tensor, "H W C"]) -> Float[Tensor, ""]:
    """Structural similarity (Wang 2004, eq. 13) of pictures in [0, 1], mean over windows.

    Only windows that lie wholly inside count. The blur is a product with a banded matrix from
    either side, which on a CPU is quicker than a convolution of one channel.

    Args:
        image, truth: at least 11 pixels either way.
    """
    x, y = image.permute(2, 0, 1), truth.permute(2, 0, 1)
    down = _window(x.shape[1], x.dtype, x.device)
    across = _window(x.shape[2], x.dtype, x.device).T
    mean_x, mean_y, xx, yy, xy = down @ torch.stack([x, y, x * x, y * y, x * y]) @ across
    variance_x, variance_y = xx - mean_x * mean_x, yy - mean_y * mean_y
    covariance = xy - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x * mean_x + mean_y * mean_y + c1) * (variance_x + variance_y + c2)
    return (above / below).mean()


@cache
def _lpips() -> torch.nn.Module | None:
    """LPIPS on AlexNet, if the package `lpips` and torchvision's weights are both on this disk."""
    checkpoints = Path(torch.hub.get_dir()) / "checkpoints"
    if find_spec("lpips") is None or not list(checkpoints.glob("alexnet-*.pth")):
        return None
    import lpips

    return lpips.LPIPS(net="alex", verbose=False).eval()


@torch.no_grad()
def lpips(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float | None:
    """Learned perceptual distance (Zhang 2018), or None where its weights are not."""
    network = _lpips()
    if network is None:
        return None
    x, y = (2 * t.cpu().permute(2, 0, 1)[None] - 1 for t in (image, truth))
    return float(network(x, y))
