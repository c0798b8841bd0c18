"""The pictures of a study: curves, what was picked, a map of the pool, certainty against truth."""

import io
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy import ndarray
from PIL import Image

from active_learning.scenes import Frames
from active_learning.statistics import Curves

STYLE = {"random": ("0.35", "o"), "non-empty": ("C2", "s"), "entropy": ("C1", "^")}
"""Colours and markers that a strategy has in every picture; others take the next colours."""
SHEET_COLUMNS = 15
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
"""The t that 95% lie within, for 2, 3 .. 11 values; more are treated as 11."""


def style(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each strategy."""
    free = iter(["C0", "C3", "C4", "C5", "C6", "C8", "C9", "navy", "olive", "teal", "coral",
                 "purple", "black"])  # fmt: skip
    return {name: STYLE.get(name) or (next(free), "D") for name in names}


def draw_curves(curves: dict[str, Curves], title: str, most: int = 7) -> Figure:
    """AP50 over labelled frames and over labelled boxes; bands are 95% intervals of the mean.

    Of more than `most` strategies the two controls and the best are drawn with colour.
    """
    ranked = sorted(curves, key=lambda name: -curves[name].ap50[:, -1].mean())
    drawn = [n for n in ranked if n in STYLE]
    drawn += [n for n in ranked if n not in STYLE][: most - len(drawn)]
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, unit in zip(axes, ("frames", "boxes"), strict=True):
        for name, (colour, marker) in style(ranked).items():
            c = curves[name]
            cost, mean = c.cost(unit).mean(0), c.ap50.mean(0)
            if name not in drawn:
                axis.plot(cost, mean, color="0.8", lw=1, zorder=1)
                continue
            if len(c.seeds) > 1:
                count = len(c.seeds)
                quantile = STUDENT[min(count, len(STUDENT) + 1) - 2]
                half = quantile * c.ap50.std(0, ddof=1) / np.sqrt(count)
                axis.fill_between(cost, mean - half, mean + half, color=colour, alpha=0.15, lw=0)
            axis.plot(cost, mean, color=colour, marker=marker, ms=5, label=name)
        axis.set_xlabel(f"labelled {unit}")
        axis.grid(alpha=0.25)
    top = max(float(c.ap50.mean(0).max()) for c in curves.values())
    axes[0].set_ylim(0, min(1.0, 1.25 * max(top, 0.01)))
    axes[0].set_ylabel("AP50 on frames held out")
    axes[0].set_title("what a frame costs", fontsize=10)
    axes[1].set_title("what a box costs", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def draw_sheet(
    pool: Frames, rounds: dict[str, list[list[int]]], title: str, most: int = SHEET_COLUMNS
) -> Figure:
    """What was picked: a row for each strategy and round, the first frames of the batch."""
    rows = [
        (f"{name}, {at}" if len(batches) > 1 else name, batch)
        for name, batches in rounds.items()
        for at, batch in enumerate(batches, 1)
    ]
    size = pool.images.shape[-1]
    columns = min(most, max(len(batch) for _, batch in rows))
    figure = Figure(figsize=(1.6 + 0.62 * columns, 0.45 + 0.62 * len(rows)))
    left, top = 1.5 / figure.get_figwidth(), 1 - 0.4 / figure.get_figheight()
    axis = figure.add_axes((left, 0.01, 0.99 - left, top - 0.01))
    gap = 3
    canvas = np.full((len(rows) * (size + gap), columns * (size + gap), 3), 255, np.uint8)
    for row, (_, batch) in enumerate(rows):
        for column, frame in enumerate(batch[:columns]):
            image = pool.images[frame].permute(1, 2, 0).numpy()
            y, x = row * (size + gap), column * (size + gap)
            canvas[y : y + size, x : x + size] = image
            for box, label in zip(pool.boxes[frame], pool.labels[frame], strict=True):
                if label >= 0:
                    draw_box(
                        axis, box.numpy() + np.array([x, y, x, y]), f"C{int(label) % 10}", lw=1.0
                    )
    axis.imshow(canvas, interpolation="nearest")
    axis.set(xticks=[], yticks=[size / 2 + r * (size + gap) for r in range(len(rows))])
    axis.set_yticklabels([name for name, _ in rows], fontsize=9)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.text(left, 1 - 0.25 / figure.get_figheight(), title, fontsize=10)
    return figure


def draw_box(axis: Axes, box: Float[ndarray, " 4"], colour: str, lw: float = 1.4) -> None:
    """One box (xyxy in pixels) on an axis that shows the image."""
    x1, y1, x2, y2 = box - 0.5  # imshow puts the centre of pixel 0 at 0
    axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, lw=lw))


def draw_classes(pool: Frames, rounds: dict[str, list[list[int]]]) -> Figure:
    """Objects of each class in what each strategy picked, and how many of its frames are empty."""
    names = list(rounds)
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 1))
    width = 0.8 / len(names)
    for i, (name, (colour, _)) in enumerate(style(names).items()):
        picked = [frame for batch in rounds[name] for frame in batch]
        labels = pool.labels[picked]
        count = np.bincount(labels[labels >= 0].numpy(), minlength=len(pool.classes))
        at = np.arange(len(count)) + (i - (len(names) - 1) / 2) * width
        left.bar(at, count, width, color=colour, label=name)
        empty = float((labels < 0).all(1).float().mean())
        right.barh(len(names) - 1 - i, 100 * empty, color=colour)
    shown = pool.labels[pool.labels >= 0].numpy()
    share = np.bincount(shown, minlength=len(pool.classes)) / max(len(shown), 1)
    several = np.mean([sum(map(len, batches)) for batches in rounds.values()])
    expected = share * len(shown) / len(pool) * several
    left.plot(np.arange(len(share)), expected, "k_", ms=18, label="as in the pool")
    left.set_xticks(range(len(share)), pool.classes, fontsize=9)
    left.set(xlabel="class", ylabel="objects picked")
    left.legend(frameon=False, fontsize=9)
    right.set_yticks(range(len(names)), names[::-1], fontsize=9)
    right.axvline(100 * float((pool.objects == 0).float().mean()), color="k", lw=1)
    right.set(xlabel="empty frames picked (%)", xlim=(0, 100))
    return figure


def draw_certainty(
    uncertainty: Float[ndarray, " N"],
    errors: Float[ndarray, " N"],
    correlation: float,
    said: Float[ndarray, " b"],
    true: Float[ndarray, " b"],
    count: Int64[ndarray, " b"],
    calibration: float,
) -> Figure:
    """Left: are uncertain frames those with errors? Right: is what the net is sure of right?"""
    figure = Figure(figsize=(9.5, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = np.unique(np.quantile(uncertainty, np.linspace(0, 1, 11)))
    place = np.clip(np.searchsorted(edges, uncertainty, "right") - 1, 0, len(edges) - 2)
    rng = np.random.default_rng(0)
    left.scatter(uncertainty, errors + rng.uniform(-0.2, 0.2, len(errors)), s=6, alpha=0.25,
                 color="C0", lw=0)  # fmt: skip
    bins = [b for b in range(len(edges) - 1) if (place == b).any()]
    middle = [uncertainty[place == b].mean() for b in bins]
    left.plot(middle, [errors[place == b].mean() for b in bins], "k.-", label="mean of a tenth")
    left.set(xlabel="uncertainty: sum of entropies (nats)", ylabel="missed or false objects")
    left.set_title(f"frames held out, rank correlation {correlation:.2f}", fontsize=10)
    left.legend(frameon=False, fontsize=9)
    right.plot([0, 1], [0, 1], color="0.6", lw=1)
    right.plot(said, true, "C1o-")
    for x, y, n in zip(said, true, count, strict=True):
        right.annotate(str(n), (x, y), (4, -10), textcoords="offset points", fontsize=7)
    right.set(xlabel="score of a detection", ylabel="share that is right", xlim=(0, 1))
    right.set_ylim(-0.03, 1.03)
    right.set_title(f"calibration error {calibration:.3f}", fontsize=10)
    for axis in (left, right):
        axis.grid(alpha=0.25)
    return figure


def draw_map(
    at: Float[ndarray, "N 2"],
    objects: Int64[ndarray, " N"],
    first: list[int],
    rounds: dict[str, list[list[int]]],
    shown: int,
) -> Figure:
    """The pool in the plane, a panel for each strategy, with what is picked after some rounds."""
    figure = Figure(figsize=(3.5 * len(rounds), 3.9), layout="constrained")
    for axis, (name, (colour, _)) in zip(
        np.atleast_1d(figure.subplots(1, len(rounds))), style(list(rounds)).items(), strict=True
    ):
        full = objects > 0
        axis.scatter(*at[~full].T, s=5, color="0.85", lw=0)
        axis.scatter(*at[full].T, s=5, color="0.65", lw=0)
        axis.scatter(*at[first].T, s=12, facecolor="none", edgecolor="k", lw=0.6)
        batches = rounds[name][:shown]
        for batch, newer in pairwise([*batches, []]):
            latest = not newer
            axis.scatter(*at[batch].T, s=16 if latest else 9, color=colour,
                         alpha=1.0 if latest else 0.45, lw=0.5 if latest else 0,
                         edgecolor="k")  # fmt: skip
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"{name}, round {shown}", fontsize=10)
    figure.supxlabel(
        "light grey: empty frames   grey: frames with digits   black rings: labelled at first",
        fontsize=8,
    )
    return figure


def write_gif(figures: list[Figure], seconds: float = 1.2) -> bytes:
    """The figures one after the other, for ever; the last one stays twice as long."""
    images = []
    for figure in figures:
        figure.set_dpi(80)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        images.append(image.quantize(64, dither=Image.Dither.NONE))
    out = io.BytesIO()
    durations = [int(1000 * seconds)] * (len(images) - 1) + [int(2500 * seconds)]
    images[0].save(out, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return out.getvalue()
