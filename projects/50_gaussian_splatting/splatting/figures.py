"""Pictures of views, of progress, and round the scene."""

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from splatting import metrics
from splatting.camera import Camera, look_at
from splatting.data import Views
from splatting.gaussians import Gaussians
from splatting.render import Renderer
from trainloop import atomic_write
from trainloop.curves import read_metrics

ERROR_SCALE = 5.0  # differences are drawn this many times as bright


@torch.no_grad()
def draw_views(
    gaussians: Gaussians,
    views: Views,
    background: Tensor,
    render: Renderer,
    degree: int,
    most: int = 8,
) -> Figure:
    """Up to `most` views, a column each: rendered, true, and their difference."""
    count = min(most, len(views))
    figure = Figure(figsize=(1.75 * count + 0.3, 5.6), dpi=110, layout="constrained")
    axes = figure.subplots(3, count, squeeze=False, subplot_kw={"xticks": [], "yticks": []})
    for column in range(count):
        truth = views.image(column)
        image = render(gaussians, views.cameras[column], background, degree).image.clamp(0, 1)
        error = (ERROR_SCALE * (image - truth).abs().mean(-1)).clamp(max=1)
        axes[0, column].imshow(image.cpu().numpy())
        axes[1, column].imshow(truth.cpu().numpy())
        axes[2, column].imshow(error.cpu().numpy(), cmap="magma", vmin=0, vmax=1)
        axes[0, column].set_title(f"{metrics.psnr(image, truth):.1f} dB", fontsize=10)
    for row, label in enumerate(("rendered", "truth", f"difference x {ERROR_SCALE:g}")):
        axes[row, 0].set_ylabel(label, fontsize=10)
    return figure


def draw_progress(path: Path) -> Figure | None:
    """PSNR of validation views and number of Gaussians over the steps, from metrics.jsonl."""
    curves = read_metrics(path)
    if "val/psnr" not in curves:
        return None
    figure = Figure(figsize=(6.4, 3.4), dpi=110, layout="constrained")
    left = figure.subplots()
    left.plot(*curves["val/psnr"], marker=".", color="C0")
    left.set_xlabel("step")
    left.set_ylabel("PSNR of validation views, dB", color="C0")
    left.grid(alpha=0.25)
    if "gaussians" in curves:
        right = left.twinx()
        right.plot(*curves["gaussians"], color="C1", linewidth=1)
        right.set_ylabel("Gaussians", color="C1")
        right.set_ylim(bottom=0)
    return figure


def save_gif(path: Path, frames: list[np.ndarray], milliseconds: int = 80) -> None:
    """Frames (H, W, 3) uint8 as an endless GIF of one palette, without dithering's flicker."""
    # The palette of a few frames side by side serves all of them; without k-means the median cut
    # spends it on large areas, and a small yellow ball comes out orange.
    sample = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 6)]))
    palette = sample.quantize(255, Image.Quantize.MEDIANCUT, kmeans=4)
    images = [
        Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames
    ]
    buffer = BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=milliseconds,
                   loop=0, optimize=True)  # fmt: skip
    atomic_write(path, lambda file: file.write(buffer.getvalue()))


def surroundings(views: Views) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    """What the cameras look at (the point nearest to all their axes), and which way is up."""
    places = torch.stack([camera.position for camera in views.cameras]).cpu()
    axes = torch.stack([camera.rotation[2] for camera in views.cameras]).cpu()
    rights = torch.stack([camera.rotation[0] for camera in views.cameras]).cpu()
    seen_up = -torch.stack([camera.rotation[1] for camera in views.cameras]).cpu().mean(0)
    off = torch.eye(3) - axes[:, :, None] * axes[:, None, :]  # what is perpendicular to each axis
    middle = torch.linalg.lstsq(off.sum(0), (off @ places[:, :, None]).sum(0)).solution[:, 0]
    # Cameras are tilted, but seldom rolled: what is perpendicular to their right sides is the
    # vertical, where the mean of their own ups leans to whoever is tilted most.
    up = torch.linalg.eigh(rights.T @ rights).eigenvectors[:, 0]
    return middle, up * torch.sign(up @ seen_up)


def orbit(views: Views, count: int, size: int) -> list[Camera]:
    """Cameras once round the middle, at the given ones' mean height and distance."""
    middle, up = surroundings(views)
    arms = torch.stack([camera.position for camera in views.cameras]).cpu() - middle
    heights = arms @ up
    height = float(heights.mean())
    radius = float((arms - heights[:, None] * up).norm(dim=1).mean())
    side = torch.linalg.cross(up, torch.tensor([1.0, 0.3, 0.1]))
    side = torch.nn.functional.normalize(side, dim=0)
    ahead = torch.linalg.cross(up, side)
    first = views.cameras[0]
    scale = size / max(first.width, first.height)
    found = []
    for i in range(count):
        angle = 2 * math.pi * i / count
        place = middle + height * up + radius * (math.cos(angle) * side + math.sin(angle) * ahead)
        found.append(Camera(look_at(place, middle, up), first.fx * scale, first.fy * scale,
                            size / 2, size / 2, size, size))  # fmt: skip
    return found


@torch.no_grad()
def turntable(
    gaussians: Gaussians,
    views: Views,
    background: Tensor,
    render: Renderer,
    degree: int,
    count: int,
    size: int = 160,
) -> list[np.ndarray]:
    """Frames of a round trip."""
    frames = []
    for camera in orbit(views, count, size):
        image = render(gaussians, camera.to(background.device), background, degree).image
        frames.append((image.clamp(0, 1) * 255 + 0.5).byte().cpu().numpy())
    return frames
