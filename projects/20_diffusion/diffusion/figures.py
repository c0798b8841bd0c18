"""Pictures and films of processes, samples and what went into them."""

from io import BytesIO
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from diffusion.config import Plan, Schedule
from diffusion.data import Data, scaled, to_pixels
from diffusion.evaluate import ByTime, Scored, by_time
from diffusion.process import Process, make_process
from diffusion.quality import nearest_neighbours
from diffusion.samplers import State
from diffusion.sampling import Trained, generate, trajectory
from trainloop import Run, atomic_write

REACH = 2.2  # of the axes of points in the plane
GREY = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}


# --- images in rows ------------------------------------------------------------------------------


def tiled(
    images: UInt8[Tensor, "N C H W"], columns: int, gap: int = 1
) -> UInt8[np.ndarray, "h w ..."]:
    """Images in rows of so many, mid-grey between them; (h, w) or (h, w, 3)."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    canvas = torch.full(
        (channels, rows * (height + gap) - gap, columns * (width + gap) - gap),
        128,
        dtype=torch.uint8,
    )
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        canvas[:, top : top + height, left : left + width] = image
    return canvas[0].numpy() if channels == 1 else canvas.permute(1, 2, 0).numpy()


def show(axis, images: UInt8[Tensor, "N C H W"], columns: int) -> None:
    """Tiled images on an axis without ticks."""
    axis.imshow(tiled(images, columns), **GREY)
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_visible(False)


def draw_rows(rows: dict[str, UInt8[Tensor, "N C H W"]], title: str = "") -> Figure:
    """One row of images for each name, which stands in front of it."""
    first = next(iter(rows.values()))
    count, _, height, width = first.shape
    tile = min(0.55, 9 / count)
    # Fixed margins: layout="constrained" does not see names that stand upright beside an axis.
    names = 0.15 + 0.075 * max(len(line) for name in rows for line in name.splitlines())
    across = names + count * tile + 0.05  # inches
    above = 0.3 if title else 0.03
    down = above + len(rows) * tile * height / width * 1.08
    margins = {"left": names / across, "right": 1 - 0.05 / across, "bottom": 0.03 / down,
               "top": 1 - above / down, "hspace": 0.06}  # fmt: skip
    figure = Figure(figsize=(across, down))
    axes = figure.subplots(len(rows), squeeze=False, gridspec_kw=margins)[:, 0]
    for axis, (name, images) in zip(axes, rows.items(), strict=True):
        show(axis, images, count)
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def draw_tiles(images: UInt8[Tensor, "N C H W"], columns: int, title: str) -> Figure:
    """Images in rows of so many under one title."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(6, 6 * rows / columns + 0.35), layout="constrained")
    show(figure.subplots(), images, columns)
    figure.suptitle(title, fontsize=10)
    return figure


def draw_forward(
    processes: dict[str, Process], x_0: Float[Tensor, "C H W"], columns: int = 11
) -> Figure:
    """The same image and noise at evenly spaced times, a row for each process."""
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
    rows = {}
    for name, process in processes.items():
        t = torch.linspace(0, process.T, columns).round().long()
        noisy = process.add_noise(*(part.expand(columns, -1, -1, -1) for part in (x_0, eps)), t)
        rows[name] = to_pixels(noisy / process.signal.hypot(process.noise)[t].view(-1, 1, 1, 1))
    return draw_rows(rows, "t = 0 to T: what the network sees of one image")


def draw_neighbours(samples: Float[Tensor, "N C H W"], data: Data, count: int = 14) -> Figure:
    """Samples above the training images that are nearest to them."""
    training = scaled(data.train.samples, "symmetric")
    found = nearest_neighbours(samples[:count], training)
    nearest = data.train.samples[found.indices[:, 0]]
    rows = {"sample": to_pixels(samples[:count]), "nearest training\nimage": nearest}
    return draw_rows(rows, "nearest by the squared difference of pixels: copies?")


def draw_by_time(found: ByTime, T: int) -> Figure:
    """Loss and length of the gradient over t."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axis, values, name in zip(
        figure.subplots(1, 2),
        (found.loss, found.gradient),
        ("squared error of the prediction", "norm of its gradient"),
        strict=True,
    ):
        axis.plot(found.times, values, marker=".")
        axis.set_yscale("log")
        axis.set_xlim(0, T)
        axis.set_xlabel("t")
        axis.set_title(name, fontsize=10)
        axis.grid(alpha=0.25, which="both")
    return figure


# --- films ---------------------------------------------------------------------------------------


def film(frames: list[Image.Image], milliseconds: int = 60, hold: int = 1500) -> bytes:
    """A GIF that stands still at its last frame for a while and begins again."""
    buffer = BytesIO()
    durations = [milliseconds] * (len(frames) - 1) + [hold]
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0
    )
    return buffer.getvalue()


def reverse_film(trained: Trained, plan: Plan, rows: int = 2, seed: int = 0) -> bytes:
    """Samples becoming: x_t on the left, the x_0 that the network believes in on the right.

    In few colours, since noise does not compress.
    """
    columns = len(trained.classes) or 10
    zoom = max(1, 28 // trained.shape[1])
    frames = []
    for state in trajectory(trained, plan, trained.labels(rows * columns), seed):
        sides = [
            tiled(to_pixels(side, trained.config.pixels), columns) for side in (state.x, state.x_0)
        ]
        gap = np.full_like(sides[0][:, :6], 255)
        image = Image.fromarray(np.concatenate([sides[0], gap, sides[1]], axis=1)).quantize(8)
        frames.append(image.resize((image.width * zoom, image.height * zoom), 0))
    return film(frames, milliseconds=120)


# --- points in the plane -------------------------------------------------------------------------


def draw_points(points: dict[str, Float[Tensor, "N 2"]]) -> Figure:
    """Clouds of points side by side, each under its name."""
    figure = Figure(figsize=(3.4 * len(points), 3.6), layout="constrained")
    for axis, (name, cloud) in zip(figure.subplots(1, len(points)), points.items(), strict=True):
        axis.scatter(*cloud.T.numpy(), s=2, alpha=0.5, linewidths=0)
        axis.set_title(name, fontsize=10)
        _square(axis)
    return figure


def draw_forward_points(process: Process, points: Float[Tensor, "N 2"], columns: int = 6) -> Figure:
    """A cloud of points becoming noise."""
    eps = torch.randn(points.shape, generator=torch.Generator().manual_seed(0))
    clouds = {}
    for t in torch.linspace(0, process.T, columns).round().long().tolist():
        clouds[f"t = {t}"] = process.add_noise(points, eps, torch.full((len(points),), t))
    return draw_points(clouds)


@torch.no_grad()
def field_film(trained: Trained, plan: Plan, frames: int = 40, seed: int = 0) -> bytes:
    """The velocity of the probability flow over the plane, and points that follow it.

    Drawn on the straight line y = x / (a + s): an arrow at y is what the network says of
    x_0 - eps there, the way to go as t falls.
    """
    states = list(trajectory(trained, plan, trained.labels(800), seed))
    side = torch.linspace(-REACH, REACH, 19)
    grid = torch.cartesian_prod(side, side).to(trained.device)  # (361, 2)
    pictures = []
    for index in torch.linspace(0, len(states) - 1, frames).round().long().unique().tolist():
        state = states[index]
        t = max(1, state.t)
        pictures.append(_field(trained, state, t, grid))
    return film(pictures, milliseconds=90)


def _field(trained: Trained, state: State, t: int, grid: Float[Tensor, "M 2"]) -> Image.Image:
    process = trained.process
    scale = (process.signal[t] + process.noise[t]).float()
    times = torch.full((len(grid),), t, device=grid.device)
    prediction = trained.model(grid * scale, times, torch.zeros_like(times))
    pair = process.solve(trained.config.prediction, prediction, grid * scale, times)
    arrows = (pair.x_0 - pair.eps).cpu()
    arrows = arrows / arrows.norm(dim=1, keepdim=True).clamp(min=1.0)
    figure = Figure(figsize=(4.2, 4.4), layout="constrained", dpi=75)
    axis = figure.subplots()
    points = (state.x / (process.signal[state.t] + process.noise[state.t])).cpu()
    axis.quiver(*grid.cpu().T.numpy(), *arrows.T.numpy(), color="0.6", scale=22, width=0.004)
    axis.scatter(*points.T.numpy(), s=4, color="C0", linewidths=0)
    axis.set_title(f"t = {state.t}", fontsize=10)
    _square(axis)
    return rendered(figure)


def _square(axis) -> None:
    axis.set_xlim(-REACH, REACH)
    axis.set_ylim(-REACH, REACH)
    axis.set_aspect("equal")
    axis.set_xticks([])
    axis.set_yticks([])


def rendered(figure: Figure) -> Image.Image:
    """A figure as an image of few colours, as a film wants it."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB").quantize(32)


# --- what a training leaves ----------------------------------------------------------------------


def draw_average(
    averaged: Trained, raw: Trained, plan: Plan, count: int = 14, seed: int = 0
) -> Figure:
    """The same noise through the averaged weights and through those of the last step."""
    labels = averaged.labels(count)
    rows = {
        name: to_pixels(generate(trained, plan, labels, seed), trained.config.pixels)
        for name, trained in (("averaged", averaged), ("as they are", raw))
    }
    return draw_rows(rows, f"the same noise through both kinds of weights ({plan})")


def draw_all(
    run: Run, trained: Trained, raw: Trained, data: Data, plan: Plan, scored: Scored
) -> None:
    """Every picture and film of a run, into its folder.

    Args:
        trained: with the averaged weights; `raw` with those of the last step.
    """
    run.picture("by_time", draw_by_time(by_time(trained, data), trained.process.T))
    if len(trained.shape) == 1:
        test = data.test.samples[: len(scored.samples)]
        p = scored.figures["p_value"]
        run.picture("samples", draw_points({"test": test, f"samples, p = {p:.3f}": scored.samples}))
        run.picture("forward", draw_forward_points(trained.process, test))
        save_film(run, "field", field_film(trained, plan))
        return
    title = f"{plan}"
    if "fd" in scored.figures:
        title += f": Frechet distance {scored.figures['fd']:.1f} ({len(scored.samples):,} samples)"
    columns = len(trained.classes) or 10
    run.picture("samples", draw_tiles(to_pixels(scored.samples[: 10 * columns]), columns, title))
    named = {name: make_process(name, trained.process.T) for name in get_args(Schedule)}
    run.picture("forward", draw_forward(named, scaled(data.test.samples[0], "symmetric")))
    run.picture("neighbours", draw_neighbours(scored.samples, data))
    run.picture("average", draw_average(trained, raw, plan))
    save_film(run, "reverse", reverse_film(trained, plan))


def save_film(run: Run, name: str, content: bytes) -> None:
    """NAME.gif in the run's folder, whole or not at all."""
    atomic_write(run.folder / f"{name}.gif", lambda file: file.write(content))
