"""Draws what the files hold as seen from the front: the cards, and beside them the points.

No renderer and no browser: cards are copied into an image one by one, far ones first, as an
orthographic camera on +z would see them.
"""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from houdini_bridge.results.cloud import SRGB, Cloud
from houdini_bridge.results.npz import Results
from trainloop import atomic_write

PIXELS = 1400
"""Of the cards' panel, along the longer side."""
BACKGROUND = 0.16  # Houdini's dark viewport, so that black cards and dark colours both show


def preview(path: Path, results: Results, cloud: Cloud) -> None:
    """Write the picture as a PNG."""
    pixels, extent = cards(results, cloud)
    height, width = pixels.shape
    figure = Figure(figsize=(16, 1.8 + 7.4 * height / width), dpi=120, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12, wspace=0.02)
    left, right = figure.subplots(1, 2)
    left.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="antialiased")
    left.set_title("cards: the image of each prediction", fontsize=14)
    _points(right, cloud, extent)
    wrong = int((cloud["correct"] == 0).sum())
    title = f"points: predicted class; ringed: wrong ({wrong:,} of {len(cloud):,})"
    right.set_title(title, fontsize=14)
    for axes in (left, right):
        axes.set(xlabel="x", aspect="equal", xlim=extent[:2], ylim=extent[2:])
        axes.set_facecolor(str(BACKGROUND))
    left.set_ylabel("y")
    handles = [Line2D([], [], marker="o", ls="", ms=9, color=tuple(colour)) for colour in SRGB]
    legend = figure.legend(handles, [" "] * len(handles), loc="outside lower center", ncols=5)
    for text, name in zip(legend.get_texts(), cloud.class_names, strict=True):
        text.set(parse_math=False, text=name, fontsize=13)  # a name may hold a $
    with warnings.catch_warnings():
        # matplotlib's font lacks some scripts and draws boxes there; the files have the name
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        atomic_write(path, lambda file: figure.savefig(file, format="png"))


def cards(
    results: Results, cloud: Cloud
) -> tuple[UInt8[np.ndarray, "H W"], tuple[float, float, float, float]]:
    """The cards as an image.

    Returns:
        The image, 0 (black) to 255, row 0 at the top, and the (left, right, bottom, top) that it
        covers, in the units of P.
    """
    positions, side = cloud["P"].astype(np.float64), float(cloud["pscale"][0])
    low, high = positions[:, :2].min(0) - side, positions[:, :2].max(0) + side
    scale = PIXELS / (high - low).max()
    width, height = np.ceil((high - low) * scale).astype(int)
    pixels = np.full((height, width), round(255 * BACKGROUND), np.uint8)
    across = max(1, round(side * scale))
    corners = (positions[:, :2] - side / 2 - low) * scale
    left = np.clip(corners[:, 0].round().astype(int), 0, width - across)
    top = np.clip((height - across - corners[:, 1]).round().astype(int), 0, height - across)
    for number in np.argsort(positions[:, 2], kind="stable"):  # far to near
        card = _card(results, int(number), across)
        pixels[top[number] : top[number] + across, left[number] : left[number] + across] = card
    right, upper = low + np.array([width, height]) / scale
    return pixels, (float(low[0]), float(right), float(low[1]), float(upper))


def _card(results: Results, number: int, across: int) -> UInt8[np.ndarray, "H W"]:
    """An image of the atlas, resized."""
    row, column = divmod(number, results.atlas_columns)
    cell = results.atlas_cell
    image = results.atlas[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
    return np.asarray(Image.fromarray(image).resize((across, across), Image.Resampling.BOX))


def _points(axes: Axes, cloud: Cloud, extent: tuple[float, float, float, float]) -> None:
    order = np.argsort(cloud["P"][:, 2], kind="stable")
    colours: Float[np.ndarray, "N 3"] = SRGB[cloud["pred"][order]]
    x, y = cloud["P"][order, 0], cloud["P"][order, 1]
    area = float(np.clip(2e4 / len(cloud), 1.5, 120))
    axes.scatter(x, y, s=area, c=colours, linewidths=0)
    wrong = cloud["correct"][order] == 0
    axes.scatter(
        x[wrong], y[wrong], s=area + 14, facecolors="none", edgecolors="white", linewidths=0.8
    )
