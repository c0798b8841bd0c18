"""What each part is worth, and what goes wrong without it: one change at a time."""

import math
import statistics

import torch
from matplotlib.figure import Figure

from splatting import metrics
from splatting.config import AblateConfig
from splatting.data import Views, load
from splatting.evaluate import load_gaussians
from splatting.render import Renderer
from trainloop import LabError, Run, Training, atomic_write, train_all

CHANGES: dict[str, tuple[str, list[str]]] = {
    "default": ("the default", []),
    "mcmc": ("MCMC instead of clone, split, prune", ["--mcmc"]),
    # Density control, part by part.
    "no-clone": ("small ones are not cloned", ["--without=clone"]),
    "no-split": ("large ones are not split", ["--without=split"]),
    "no-prune": ("transparent ones stay", ["--without=prune"]),
    "no-reset": ("opacities are never reset", ["--reset-every=0"]),
    # Where it begins; without density control that is all there is.
    "fixed": ("no density control", ["--fixed"]),
    "few": ("begins with 200 points", ["--points=200"]),
    "few-fixed": ("200 points, no density control", ["--fixed", "--points=200"]),
    "random": ("begins with random points", ["--init=random"]),
    "random-fixed": ("random points, no density control", ["--fixed", "--init=random"]),
    # Failures on purpose.
    "unsorted": ("not sorted by depth", ["--unsorted"]),
    "isotropic": ("balls only", ["--isotropic"]),
    "lr-means": ("centres learn 100 times as fast", ["--lr-means=0.04", "--lr-means-final=1"]),
    # Schedules, colour, loss, filter.
    "constant-lr": ("the centres' rate stays", ["--lr-means-final=1"]),
    "no-warm-up": ("all harmonics at once", ["--sh-every=1"]),
    "no-sh": ("harmonics of degree 0 only", ["--sh-degree=0"]),
    "l1": ("no SSIM in the loss", ["--ssim=0"]),
    "thin": ("pixel variance 0.05 instead of 0.3", ["--pixel-variance=0.05"]),
    "random-mcmc": ("random points, MCMC", ["--init=random", "--mcmc"]),
}


def ablate(config: AblateConfig) -> dict[str, float | int | None]:
    """Train each change and score it on validation views: test views are not for choosing."""
    config = Run.options("splatting", config, "ablate")
    unknown = sorted(set(config.only) - set(CHANGES))
    if unknown:
        raise LabError(f"--only knows {', '.join(CHANGES)}, not {', '.join(unknown)}")
    names = config.only or tuple(CHANGES)
    scene = load("tabletop", config.size)  # once, not in every process at the same time
    run = Run.open("splatting", config, "ablate")
    common = [f"--steps={config.steps}", f"--size={config.size}", "--turntable=0",
              f"--eval-every={config.steps}", f"--reset-every={max(1, config.steps // 4)}",
              f"--sh-every={max(1, config.steps // 10)}"]  # fmt: skip
    jobs = {}
    for name in names:
        own = CHANGES[name][1]
        taken = {option.split("=")[0] for option in own}
        shared = [option for option in common if option.split("=")[0] not in taken]
        for seed in range(config.seed, config.seed + config.seeds):
            jobs[f"{name}-{seed}"] = [*shared, *own, f"--seed={seed}"]
    done = train_all(run, jobs, config.workers)
    by_name = {
        name: [done[f"{name}-{config.seed + i}"] for i in range(config.seeds)] for name in names
    }
    table = ablation_table(by_name)
    atomic_write(run.folder / "ablation.md", lambda file: file.write(table.encode()))
    print("\n" + table)
    run.picture("ablation", draw_ablation(by_name, scene.val, scene.background))
    found = {f"psnr_{name}": mean(trainings, "val/psnr") for name, trainings in by_name.items()}
    run.log(config.steps, **found)
    return run.finish(trainings=sum(training.finished for training in done.values()))


def mean(trainings: list[Training], metric: str) -> float | None:
    """Over seeds; None where one of them has no such figure."""
    values = [training.metrics.get(metric) for training in trainings]
    return None if None in values else statistics.fmean(values)


def ablation_table(by_name: dict[str, list[Training]]) -> str:
    """Markdown: means over seeds on validation views, and the deviation of PSNR."""
    lines = ["| change | PSNR, dB | SSIM | depth error | Gaussians |", "|---|---|---|---|---|"]
    for name, trainings in by_name.items():
        cells = []
        for metric, digits in (("val/psnr", 2), ("val/ssim", 4), ("val/depth_error", 4)):
            value = mean(trainings, metric)
            cell = "broke off" if value is None else f"{value:.{digits}f}"
            if value is not None and metric == "val/psnr" and len(trainings) > 1:
                spread = statistics.stdev(training.metrics[metric] for training in trainings)
                cell += f" ± {spread:.2f}"
            cells.append(cell)
        count = mean(trainings, "gaussians")
        cells.append("" if count is None else f"{count:,.0f}")
        lines.append(f"| {CHANGES[name][0]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@torch.no_grad()
def draw_ablation(
    by_name: dict[str, list[Training]], views: Views, background: torch.Tensor
) -> Figure:
    """The same validation view after each training of the first seed, and the truth."""
    number = len(views) // 2
    truth, camera = views.image(number), views.cameras[number]
    panels = [(truth, "truth")]
    for name, trainings in by_name.items():
        path = trainings[0].folder / "last.pt"
        if not path.exists():
            continue
        gaussians, trained = load_gaussians(str(path))
        render = Renderer(
            pixel_variance=trained["pixel_variance"], by_depth=not trained["unsorted"]
        )
        image = render(gaussians, camera, background, trained["sh_degree"]).image.clamp(0, 1)
        panels.append((image, f"{CHANGES[name][0]}\n{metrics.psnr(image, truth):.1f} dB"))
    columns = min(7, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(2.2 * columns, 2.8 * rows), dpi=100, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (image, title) in zip(axes.flat, panels, strict=False):
        axis.imshow(image.numpy())
        axis.set_title(title, fontsize=8.5)
    return figure
