"""Drawings of what `train` and `evaluate` find."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from fashion_mnist.calibration import Reliability
from fashion_mnist.data import CLASSES, Labelled
from fashion_mnist.metrics import confusion_matrix

COLOURS = [f"C{k}" for k in range(10)]
"""One a class: Tableau's ten, which Houdini's points get, too."""


def confusion(labels: Int64[Tensor, " N"], predicted: Int64[Tensor, " N"]) -> Figure:
    """Counts; shaded by the share of their row, the right ones left white."""
    matrix = confusion_matrix(labels, predicted).numpy()
    share = matrix / matrix.sum(1, keepdims=True).clip(min=1)
    np.fill_diagonal(share, 0)
    figure = Figure(figsize=(7.2, 6.4), layout="constrained")
    axis = figure.subplots()
    axis.imshow(share, cmap="Reds", vmin=0, vmax=max(share.max(), 1e-9))
    for row, column in np.ndindex(matrix.shape):
        if matrix[row, column]:
            dark = share[row, column] > 0.6 * share.max()
            axis.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center",
                      fontsize=9, color="white" if dark else "black",
                      fontweight="bold" if row == column else None)  # fmt: skip
    axis.set_xticks(range(10), CLASSES, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(10), CLASSES)
    axis.set(xlabel="predicted", ylabel="true")
    axis.set_title(f"{matrix.trace():,} of {matrix.sum():,} right", fontsize=11)
    return figure


def reliability_diagrams(found: dict[str, Reliability]) -> Figure:
    """Accuracy against confidence in each bin, and how many predictions are in it."""
    figure = Figure(figsize=(4.6 * len(found), 4.9), layout="constrained")
    rows = figure.subplots(
        2, len(found), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1]
    )
    for (name, bins), above, below in zip(found.items(), *rows, strict=True):
        left, width = bins.edges[:-1].numpy(), 1 / len(bins.count)
        filled = bins.count.numpy() > 0
        accuracy, confidence = bins.accuracy.numpy(), bins.confidence.numpy()
        above.bar(left[filled], accuracy[filled], width, align="edge", color="C0", alpha=0.85,
                  edgecolor="white", label="accuracy")  # fmt: skip
        above.plot(confidence[filled], confidence[filled], "o", color="C3", ms=4,
                   label="mean confidence")  # fmt: skip
        above.plot([0, 1], [0, 1], "--", color="black", linewidth=0.8)
        above.set_title(f"{name}: ECE {bins.ece:.2%}", fontsize=11)
        below.bar(left, bins.count.numpy(), width, align="edge", color="C7", edgecolor="white")
        below.set(yscale="log", xlabel="confidence", xlim=(0, 1))
    rows[0][0].set(ylabel="accuracy", ylim=(0, 1))
    rows[1][0].set_ylabel("images")
    rows[0][0].legend(frameon=False, fontsize=9)
    return figure


def grid(images: UInt8[Tensor, "N 1 h w"], titles: Sequence[str], columns: int = 6) -> Figure:
    """Images in rows, black on white, each with its title (of up to two lines) above it."""
    count, _, height, width = images.shape
    if count == 0:
        figure = Figure(figsize=(4, 1))
        figure.text(0.5, 0.5, "none", ha="center", va="center")
        return figure
    rows, title, gap = -(-count // columns), 14, 8  # pixels left free for a title, between images
    canvas = torch.zeros(rows * (height + title), columns * (width + gap), dtype=torch.uint8)
    scale = 1.45 / (width + gap)  # inches a pixel
    figure = Figure(figsize=(canvas.shape[1] * scale, canvas.shape[0] * scale))
    axis = figure.add_axes((0, 0, 1, 1))
    for index, (image, text) in enumerate(zip(images, titles, strict=True)):
        top = index // columns * (height + title) + title
        left = index % columns * (width + gap) + gap // 2
        canvas[top : top + height, left : left + width] = image[0]
        axis.text(left + width / 2, top - 1.5, text, ha="center", fontsize=8, linespacing=1.1)
    axis.imshow(canvas.numpy(), cmap="gray_r", vmin=0, vmax=255)
    axis.axis("off")
    return figure


def mistakes(data: Labelled, probabilities: Float[Tensor, "N 10"], count: int = 24) -> Figure:
    """The wrong answers that the model was surest of: what it said, and what it is labelled."""
    confidence, predicted = probabilities.max(1)
    wrong = (predicted != data.labels).nonzero()[:, 0]
    chosen = wrong[confidence[wrong].argsort(descending=True, stable=True)[:count]]
    titles = [
        f"{CLASSES[guess]} {sure:.0%}\nlabel: {CLASSES[label]}"
        for guess, sure, label in zip(
            predicted[chosen].tolist(), confidence[chosen].tolist(),
            data.labels[chosen].tolist(), strict=True,
        )
    ]  # fmt: skip
    return grid(data.images[chosen], titles)


def embedding_maps(
    maps: dict[str, Float[np.ndarray, "N 2"]], labels: Int64[Tensor, " N"],
    predicted: Int64[Tensor, " N"],
) -> Figure:  # fmt: skip
    """Embeddings as points, coloured by their true class; wrong answers are ringed."""
    figure = Figure(figsize=(6.2 * len(maps), 6.6), layout="constrained")
    wrong = (labels != predicted).numpy()
    for (name, places), axis in zip(maps.items(), figure.subplots(1, len(maps), squeeze=False)[0],
                                    strict=True):  # fmt: skip
        axis.scatter(*places.T, s=5, c=[COLOURS[k] for k in labels.tolist()], linewidths=0)
        axis.scatter(*places[wrong].T, s=22, facecolors="none", edgecolors="black", linewidths=0.5)
        axis.set_title(name, fontsize=12)
        axis.set(xticks=[], yticks=[])
        for k, text in enumerate(CLASSES):
            if (labels == k).any():
                x, y = np.median(places[(labels == k).numpy()], axis=0)
                axis.text(x, y, text, ha="center", va="center", fontsize=10,
                          bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": COLOURS[k],
                                "alpha": 0.8})  # fmt: skip
    figure.supxlabel("coloured by true class; ringed: wrong", fontsize=10)
    return figure


def heat_maps(
    images: UInt8[Tensor, "N 1 h w"], heat: Float[Tensor, "N h w"], titles: Sequence[str]
) -> Figure:
    """Each image beside itself under its Grad-CAM, 0 (transparent) to 1 (red)."""
    columns = 4
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(3.3 * columns, 2.05 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)  # walked through twice
    for axis in axes:
        axis.axis("off")
    for axis, image, warm, text in zip(axes, images[:, 0], heat, titles, strict=False):
        paper = 1 - image.numpy() / 255
        plain = np.repeat(paper[:, :, None], 3, axis=2)
        red = np.array([0.85, 0.1, 0.05])
        share = 0.75 * warm.numpy()[:, :, None]
        seen = plain * (1 - share) + red * share
        between = np.ones((len(paper), 2, 3))
        axis.imshow(np.concatenate([plain, between, seen.clip(0, 1)], axis=1))  # rounding
        axis.set_title(text, fontsize=9)
    return figure
