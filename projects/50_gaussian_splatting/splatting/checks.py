"""What a finished run holds itself to: both rasterisers agree, and the .ply is what was trained."""

from pathlib import Path

import torch

from splatting import reference, tiles
from splatting.camera import Camera
from splatting.gaussians import Gaussians
from splatting.ply import read_ply
from splatting.projection import PIXEL_VARIANCE, project

WINDOW = 48  # pixels: the reference needs memory for every Gaussian in every pixel


def backend_difference(
    gaussians: Gaussians, camera: Camera, degree: int, pixel_variance: float = PIXEL_VARIANCE
) -> float:
    """Largest difference of tiles from the reference (in float64) in the middle of a picture.

    Of the image, and of the gradients of a random weighting of its pixels by centres, conics,
    colours and opacities, each over its largest value where that is above 1.
    """
    with torch.no_grad():
        seen = project(gaussians, camera, degree, pixel_variance)
        corner = torch.tensor([camera.width - WINDOW, camera.height - WINDOW]) // 2
        inputs = (seen.means2d - corner.clamp(min=0), seen.conics, seen.colours, seen.opacities)
    weights = torch.rand(WINDOW, WINDOW, 3, generator=torch.Generator().manual_seed(0)) - 0.3
    found = []
    for blend, dtype in ((tiles.blend, torch.float32), (reference.blend, torch.float64)):
        tensors = [tensor.to(dtype).requires_grad_() for tensor in inputs]
        background = torch.tensor([0.2, 0.5, 0.3], dtype=dtype)
        image = blend(*tensors, seen.order(), background, WINDOW, WINDOW)
        gradients = torch.autograd.grad((image * weights).sum(), tensors)
        found.append([image.detach(), *gradients])
    return max(
        float((fast - slow).abs().max()) / max(1.0, float(slow.abs().max()))
        for fast, slow in zip(*found, strict=True)
    )


def ply_is_exact(path: Path, gaussians: Gaussians) -> bool:
    """Whether the file holds the very bits of the Gaussians (of balls: of what is drawn)."""
    again = read_ply(path).tensors()
    expected = gaussians.tensors()
    if gaussians.isotropic:
        expected = {**expected, "log_scales": gaussians.scales().detach().log()}
    return all(torch.equal(again[name], tensor.cpu()) for name, tensor in expected.items())
