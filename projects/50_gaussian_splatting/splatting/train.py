"""Fit Gaussians to posed views: the whole loop, top to bottom."""

import time

import torch

from splatting import metrics
from splatting.checks import backend_difference, ply_is_exact
from splatting.config import TrainConfig
from splatting.data import load
from splatting.density import Rows, strategy
from splatting.evaluate import scores
from splatting.figures import draw_progress, draw_views, save_gif, turntable
from splatting.gaussians import PARAMETERS, Gaussians, from_points
from splatting.ply import write_ply
from splatting.projection import project
from splatting.render import Renderer
from trainloop import Batches, Run, check, pick_device

# Adam's learning rates (Kerbl 2023); that of the centres has an option and a schedule of its own.
LEARNING_RATES = {
    "quaternions": 1e-3,
    "log_scales": 5e-3,
    "opacity_logits": 5e-2,
    "sh0": 2.5e-3,
    "sh_rest": 2.5e-3 / 20,
}


def train(config: TrainConfig) -> dict[str, float | int | None]:
    """Train on one view a step, look at validation views on the way, test once at the end.

    Raises:
        LabError: data that does not fit together, nothing to see, nothing left after pruning.
    """
    config = Run.options("splatting", config)
    render = Renderer(
        backend=config.backend, pixel_variance=config.pixel_variance, by_depth=not config.unsorted
    )
    render.check(pick_device(config.device))  # before seconds are spent on the scene
    scene = load(config.data, config.size, config.points, config.init)
    run = Run.open("splatting", config)
    views, background = scene.train.to(run.device), scene.background.to(run.device)
    val, test = scene.val.to(run.device), scene.test.to(run.device)

    gaussians = from_points(scene.points, scene.rgb, isotropic=config.isotropic).to(run.device)
    optimizer = make_optimizer(gaussians)
    density = strategy(Rows(gaussians, optimizer), config, scene.extent)
    batches = Batches(len(views), 1, config.seed)
    check(
        any(len(project(gaussians, camera, 0).index) for camera in views.cameras),
        f"no view of {config.data} sees a single Gaussian: cameras and points do not match",
    )

    start = run.resume(gaussians=gaussians, optimizer=optimizer, density=density)
    began = time.perf_counter()
    for step in run.steps(start):
        lr_means = config.lr_means * scene.extent * config.lr_means_final ** (step / run.total)
        optimizer.param_groups[0]["lr"] = lr_means
        degree = min(config.sh_degree, step // config.sh_every)
        number = int(batches.at(step))
        camera, truth = views.cameras[number], views.image(number)

        rendering = render(gaussians, camera, background, degree)
        loss_l1 = (rendering.image - truth).abs().mean()
        loss_ssim = 1 - metrics.ssim(rendering.image, truth)
        loss = (1 - config.ssim) * loss_l1 + config.ssim * loss_ssim  # Kerbl 2023, eq. 7
        optimizer.zero_grad()
        (loss + density.regulariser()).backward()
        density.before_step(step, rendering, camera)
        optimizer.step()
        density.after_step(step, lr_means)

        run.log(step, loss=loss, loss_l1=loss_l1, gaussians=len(gaussians))
        if run.due(step, config.eval_every):
            found = scores(gaussians, val, background, render, degree)
            run.log(step, **{f"val/{name}": value for name, value in found.items()})
            run.save(step, metric=found["psnr"])
    milliseconds = 1000 * (time.perf_counter() - began) / max(1, run.total - start)

    found = scores(gaussians, test, background, render, config.sh_degree)
    if run.is_main:
        write_ply(run.folder / "splats.ply", gaussians)
        found["ply_exact"] = float(ply_is_exact(run.folder / "splats.ply", gaussians))
    if config.backend == "tiles":
        found["backend_difference"] = backend_difference(
            gaussians, test.cameras[0], config.sh_degree, config.pixel_variance
        )
    run.log(run.total, **{f"test/{name}": value for name, value in found.items()})
    if run.is_main:
        seen = (gaussians, test, background, render, config.sh_degree)
        run.picture("held_out", draw_views(*seen))
        if (figure := draw_progress(run.folder / "metrics.jsonl")) is not None:
            run.picture("progress", figure)
        if config.turntable:
            frames = turntable(gaussians, views, *seen[2:], config.turntable)
            save_gif(run.folder / "turntable.gif", frames)
    return run.finish(**{"gaussians": len(gaussians), "ms_per_step": round(milliseconds, 2)})


def make_optimizer(gaussians: Gaussians) -> torch.optim.Adam:
    """Adam with a group for each parameter, the centres' first; epsilon as in Kerbl 2023."""
    groups = [
        {"params": [getattr(gaussians, name)], "lr": LEARNING_RATES.get(name, 0.0), "name": name}
        for name in PARAMETERS
    ]
    return torch.optim.Adam(groups, eps=1e-15, fused=True)


if __name__ == "__main__":
    from splatting.cli import train as command

    command()
