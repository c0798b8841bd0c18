"""The mathematics as pictures: covariance, Jacobian, blending, what density control sees."""

import math

import numpy as np
import torch
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure

from splatting.camera import Camera
from splatting.config import ExplainConfig, TrainConfig
from splatting.data import Scene, load
from splatting.density import Adaptive, Rows
from splatting.evaluate import scores
from splatting.gaussians import from_points, rotations
from splatting.projection import covariances2d, project
from splatting.render import Renderer
from splatting.train import make_optimizer
from trainloop import atomic_write

INK, ACCENT = "0.25", "C3"
STEPS = 300  # of a training without density control, before the picture of what it would see


def explain(config: ExplainConfig) -> None:
    """Write four pictures."""
    config.out.mkdir(parents=True, exist_ok=True)
    figures = {
        "covariance": draw_covariance(),
        "jacobian": draw_jacobian(),
        "blending": draw_blending(),
        "density": draw_density(load("tabletop", 128, points=1000)),
    }
    for name, figure in figures.items():
        path = config.out / f"{name}.png"
        atomic_write(path, lambda file, figure=figure: figure.savefig(file, format="png"))
        print(path)


def ellipse(a: float, b: float, c: float) -> tuple[float, float, float]:
    """Width and height (of one deviation either way) and angle in degrees of [[a, b], [b, c]]."""
    values, vectors = np.linalg.eigh([[a, b], [b, c]])
    wide, high = 2 * np.sqrt(values[::-1])
    return wide, high, math.degrees(math.atan2(vectors[1, 1], vectors[0, 1]))


def draw_covariance() -> Figure:
    """Sigma = R S S^T R^T (Kerbl 2023, eq. 6): unit ball, scaled, turned, seen from above."""
    scales = torch.tensor([1.6, 0.5, 0.3])
    angle = math.radians(35)
    turn = rotations(torch.tensor([[math.cos(angle / 2), 0, 0, math.sin(angle / 2)]]))[0]
    steps = {
        "unit ball": torch.eye(3),
        "$S$: scales 1.6, 0.5": torch.diag(scales),
        "$RS$: and turned by 35°": turn @ torch.diag(scales),
    }
    cloud = torch.randn(700, 3, generator=torch.Generator().manual_seed(0))
    figure = Figure(figsize=(9.6, 2.9), dpi=110, layout="constrained")
    for axis, (title, half) in zip(figure.subplots(1, 3), steps.items(), strict=True):
        covariance = half @ half.T
        points = cloud @ half.T
        axis.scatter(points[:, 0], points[:, 1], s=3, color="C0", alpha=0.35, linewidths=0)
        for k in range(2):
            x, y = half[0, k].item(), half[1, k].item()
            axis.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": ACCENT})
        wide, high, tilt = ellipse(*(covariance[i, j].item() for i, j in ((0, 0), (0, 1), (1, 1))))
        for deviations in (1, 2):
            _outline(axis, 0.0, 0.0, deviations * wide, deviations * high, tilt, INK)
        sigma = ", ".join(f"{covariance[i, j]:.2f}" for i, j in ((0, 0), (0, 1), (1, 1)))
        axis.set_title(
            f"{title}\n$\\Sigma_{{xx}}, \\Sigma_{{xy}}, \\Sigma_{{yy}}$ = {sigma}", fontsize=10
        )
        axis.set_xlim(-4, 4)
        axis.set_ylim(-3, 3)
        axis.set_aspect("equal")
    return figure


def _outline(axis, x: float, y: float, wide: float, high: float, tilt: float, colour) -> None:
    axis.add_collection(EllipseCollection(
        [wide], [high], [tilt], units="xy", offsets=[(x, y)], offset_transform=axis.transData,
        facecolors="none", edgecolors=[colour], linewidths=1.4,
    ))  # fmt: skip


def draw_jacobian() -> Figure:
    """Points of a Gaussian through the true projection, against EWA's ellipse: far and near."""
    camera = Camera(torch.eye(4), 140.0, 140.0, 64.0, 64.0, 128, 128)
    half = torch.diag(torch.tensor([0.25, 0.12, 0.45]))
    cloud = torch.randn(6000, 3, generator=torch.Generator().manual_seed(1)) @ half.T
    figure = Figure(figsize=(9.6, 3.9), dpi=110, layout="constrained")
    for axis, depth in zip(figure.subplots(1, 3), (6.0, 2.5, 1.4), strict=True):
        centre = torch.tensor([[0.16 * depth, 0.1 * depth, depth]])
        points = centre + cloud
        points = points[points[:, 2] > 0.1]
        pixels = 140 * points[:, :2] / points[:, 2:] + 64
        a, b, c = covariances2d(half[None], centre, camera, 1e-6)[0].tolist()
        x, y = (140 * centre[0, :2] / depth + 64).tolist()
        axis.scatter(pixels[:, 0], pixels[:, 1], s=2, color="C0", alpha=0.25, linewidths=0)
        for deviations in (1, 2):
            wide, high, tilt = ellipse(a, b, c)
            _outline(axis, x, y, deviations * wide, deviations * high, tilt, ACCENT)
        axis.plot([x], [y], "+", color=ACCENT)
        axis.set_xlim(0, 128)
        axis.set_ylim(128, 0)
        axis.set_aspect("equal")
        axis.set_title(f"depth {depth:g}: {depth / 0.45:.0f} deviations away", fontsize=10)
        axis.set_xlabel("x, px")
    figure.axes[0].set_ylabel("y, px")
    figure.supxlabel(
        "dots: points of the Gaussian, each projected; "
        "ellipses: 1 and 2 deviations of $J W \\Sigma W^T J^T$",
        fontsize=9,
    )
    return figure


def draw_blending() -> Figure:
    """Four Gaussians along one ray: alpha, T, weight, and the slope of the colour by each alpha."""
    alpha = torch.tensor([0.35, 0.6, 0.25, 0.8], requires_grad=True)
    shade = torch.tensor([0.9, 0.2, 0.7, 0.4])  # one channel
    background = 0.1
    through = torch.cat([torch.ones(1), torch.cumprod(1 - alpha, 0)])
    weights = alpha * through[:-1]
    colour = (weights * shade).sum() + through[-1] * background
    (slope,) = torch.autograd.grad(colour, alpha)
    at = np.arange(1, 5)
    figure = Figure(figsize=(9.6, 3.2), dpi=110, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.bar(at, alpha.detach(), color=[str(s) for s in shade.tolist()], edgecolor=INK)
    left.set_title("$\\alpha_i$, each as bright as $c_i$", fontsize=10)
    middle.step(np.arange(0.5, 5.5), through.detach(), where="post", color="C0", label="$T_i$")
    middle.bar(at, weights.detach(), color="C1", alpha=0.8, label="$\\alpha_i T_i$")
    middle.legend(fontsize=9)
    middle.set_title(f"what reaches the eye: $C$ = {colour.item():.3f}", fontsize=10)
    right.bar(at, slope, color=["C2" if s > 0 else ACCENT for s in slope.tolist()])
    right.axhline(0, color=INK, linewidth=0.8)
    right.set_title("$\\partial C/\\partial\\alpha_i = T_i\\,(c_i - S_i)$", fontsize=10)
    for axis in (left, middle):
        axis.set_ylim(0, 1.05)
    for axis in (left, middle, right):
        axis.set_xticks(at)
        axis.set_xlabel("Gaussian, front to back")
    return figure


def draw_density(scene: Scene) -> Figure:
    """A training view after STEPS without density control, and the pull on each centre then."""
    torch.manual_seed(0)
    options = TrainConfig(points=len(scene.points), max_gaussians=len(scene.points))
    gaussians = from_points(scene.points, scene.rgb)
    optimizer = make_optimizer(gaussians)
    optimizer.param_groups[0]["lr"] = options.lr_means * scene.extent
    density = Adaptive(Rows(gaussians, optimizer), options, scene.extent)
    render = Renderer()
    for step in range(STEPS + len(scene.train)):
        number = step % len(scene.train)
        camera = scene.train.cameras[number]
        rendering = render(gaussians, camera, scene.background, 0)
        optimizer.zero_grad()
        (rendering.image - scene.train.image(number)).abs().mean().backward()
        if step < STEPS:
            optimizer.step()
        else:  # one pass over all views, in which nothing moves
            density.before_step(step, rendering, camera)
    number = 25
    camera, truth = scene.train.cameras[number], scene.train.image(number)
    with torch.no_grad():
        image = render(gaussians, camera, scene.background, 0).image.clamp(0, 1)
        seen = project(gaussians, camera, 0)
    pull = density.mean_pull()[seen.index].numpy()
    figure = Figure(figsize=(11.6, 3.8), dpi=110, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    found = scores(gaussians, scene.val, scene.background, render, 0)
    left.imshow(image.numpy())
    left.set_title(f"{len(gaussians):,} Gaussians, {found['psnr']:.1f} dB", fontsize=10)
    middle.imshow((5 * (image - truth).abs().mean(-1)).clamp(max=1), cmap="magma")
    middle.set_title("difference from the truth x 5", fontsize=10)
    right.imshow(truth.numpy(), alpha=0.25)
    rank = pull.argsort()
    dots = right.scatter(
        *seen.means2d[rank].detach().T.numpy(), c=pull[rank] / options.grad_threshold, s=10,
        cmap="viridis", vmin=0, vmax=3, linewidths=0,
    )  # fmt: skip
    share = (pull > options.grad_threshold).mean()
    right.set_title(f"pull on the centres: {share:.0%} above threshold", fontsize=10)
    figure.colorbar(dots, ax=right, label="pull / threshold", shrink=0.85)
    for axis in (left, middle, right):
        axis.set_xlim(-0.5, camera.width - 0.5)
        axis.set_ylim(camera.height - 0.5, -0.5)
        axis.set_xticks([])
        axis.set_yticks([])
    return figure
