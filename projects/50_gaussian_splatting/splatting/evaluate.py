"""What a set of Gaussians is worth on views that it was not trained on."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splatting import metrics
from splatting.config import EvaluateConfig, TrainConfig
from splatting.data import Views, load
from splatting.gaussians import Gaussians
from splatting.ply import read_ply
from splatting.render import Renderer
from trainloop import atomic_write, check, latest_checkpoint, load_checkpoint


@torch.no_grad()
def scores(
    gaussians: Gaussians, views: Views, background: Tensor, render: Renderer, degree: int
) -> dict[str, float]:
    """Means over the views.

    Returns:
        psnr (dB), ssim, and where they can be had: depth_error (mean absolute difference from the
        true depth, in scene units, where there is something) and lpips.
    """
    found: dict[str, list[float]] = {}
    for number, camera in enumerate(views.cameras):
        image = render(gaussians, camera, background, degree).image.clamp(0, 1)
        truth = views.image(number)
        found.setdefault("psnr", []).append(metrics.psnr(image, truth))
        found.setdefault("ssim", []).append(float(metrics.ssim(image, truth)))
        if (distance := metrics.lpips(image, truth)) is not None:
            found.setdefault("lpips", []).append(distance)
        if views.depths is not None and render.backend != "gsplat":
            depth, _ = render.depth_and_alpha(gaussians, camera)
            true = views.depths[number].to(depth.device)
            error = (depth - true).abs()[true > 0].mean()
            found.setdefault("depth_error", []).append(float(error))
    return {name: sum(values) / len(values) for name, values in found.items()}


def load_gaussians(model: str) -> tuple[Gaussians, dict[str, Any]]:
    """From a checkpoint or a .ply; what is left out is the newest run's best.

    Returns:
        the Gaussians, and the options of the training they come from ({} for a .ply).

    Raises:
        LabError: the file is missing, damaged, or holds something else.
    """
    if model.endswith(".ply"):
        return read_ply(Path(model)), {}
    saved = load_checkpoint(model or latest_checkpoint("splatting"), "splatting")
    check(saved["command"] == "train", f"{model} is of `{saved['command']}`, not of `train`")
    config, weights = saved["config"], saved["states"]["gaussians"]
    return Gaussians(config["isotropic"], **weights), config


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Print the scores of a split, and draw its views beside the truth."""
    from splatting.figures import draw_views

    gaussians, trained = load_gaussians(config.model)
    options = TrainConfig(**{**trained, "resume": False, "device": "cpu", "backend": "tiles"})
    scene = load(config.data or options.data, options.size, options.points)
    views = scene.val if config.split == "val" else scene.test
    render = Renderer(pixel_variance=options.pixel_variance, by_depth=not options.unsorted)
    found = scores(gaussians, views, scene.background, render, options.sh_degree)
    for name, value in found.items():
        print(f"{config.split + '/' + name:<18} {value:.4f}")
    print(f"{len(gaussians):,} Gaussians, {len(views)} views")
    figure = draw_views(gaussians, views, scene.background, render, options.sh_degree)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(config.out, lambda file: figure.savefig(file, format="png"))
    print(f"pictures: {config.out}")
    return found
