"""Synthetic digits beside MNIST's: figures of how they look, and a picture."""

import numpy as np
from jaxtyping import Float, Int64, UInt8
from matplotlib.figure import Figure

STATISTICS = {
    "ink": "mean brightness of all pixels, 0 to 255",
    "stroke_px": "width of the strokes: twice the ink's area over the length of its edge",
    "slant_deg": "shear that second moments give; positive: the top leans right",
    "height_px": "of the box around what is brighter than 5%",
    "width_px": "of the same box",
    "centre_x_px": "centre of mass from the middle of the image, to the right",
    "centre_y_px": "the same, downwards",
    "grey_px": "pixels between 5% and 95% brightness",
    "white_px": "pixels brighter than 95%",
}


def statistics(images: UInt8[np.ndarray, "N h w"]) -> dict[str, Float[np.ndarray, "N"]]:
    """A value for each image of each of `STATISTICS`; NaN for one without ink."""
    v = images.astype(np.float32) / 255
    _, h, w = v.shape
    y, x = (np.mgrid[:h, :w] + 0.5 - np.array([h, w])[:, None, None] / 2).astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = v.sum((1, 2))
        centre_x, centre_y = ((v * axis).sum((1, 2)) / area for axis in (x, y))
        dx, dy = x - centre_x[:, None, None], y - centre_y[:, None, None]
        slant = np.arctan(-(v * dx * dy).sum((1, 2)) / (v * dy * dy).sum((1, 2)))
        down, right = (np.diff(v, axis=axis, append=0) for axis in (1, 2))
        edge = np.hypot(down, right).sum((1, 2))
        stroke = 2 * area / edge
    on = v > 0.05
    found = (
        255 * area / (h * w), stroke, np.degrees(slant), extent(on.any(2)), extent(on.any(1)),
        centre_x, centre_y, (on & (v < 0.95)).sum((1, 2)), (v >= 0.95).sum((1, 2)),
    )  # fmt: skip
    return {name: np.asarray(value, float) for name, value in zip(STATISTICS, found, strict=True)}


def extent(on: np.ndarray) -> np.ndarray:
    """How far the first and the last True of each row are apart, both included; 0 without one."""
    length = on.shape[1]
    span = length - on.argmax(1) - on[:, ::-1].argmax(1)
    return np.where(on.any(1), span, 0)


def comparison(sets: dict[str, UInt8[np.ndarray, "_ h w"]]) -> dict[str, float]:
    """Mean and spread of each statistic of each set: `mnist/stroke_px`, `mnist/stroke_px_std`."""
    found = {}
    for name, images in sets.items():
        for key, values in statistics(images).items():
            found[f"{name}/{key}"] = float(np.nanmean(values))
            found[f"{name}/{key}_std"] = float(np.nanstd(values))
    return found


def draw_rows(
    rows: dict[str, tuple[UInt8[np.ndarray, "_ h w"], Int64[np.ndarray, "_"]]], columns: int = 24
) -> Figure:
    """For each digit a row of the first images of each set, one set under the other.

    Where a set has fewer than `columns` of a digit, the rest of its row is black.
    """
    lines, names = [], []
    for digit in range(10):
        for name, (images, labels) in rows.items():
            some = images[labels == digit][:columns]
            missing = ((0, columns - len(some)), (0, 0), (0, 0))
            lines.append(np.concatenate(np.pad(some, missing), axis=1))
            names.append(name)
        if digit < 9:
            lines.append(np.full((6, lines[0].shape[1]), 90, np.uint8))
    side, whole = lines[0].shape[0], np.concatenate(lines)
    high, wide = (pixels * 0.36 / side for pixels in whole.shape)  # inches
    figure = Figure(figsize=(wide + 0.8, high + 0.25), dpi=100, layout="compressed")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    axes = figure.subplots(1, 1)
    axes.imshow(whole, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    step = side * len(rows) + 6
    ticks = [digit * step + (i + 0.5) * side for digit in range(10) for i in range(len(rows))]
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set_xticks([])
    axes.tick_params(length=0)
    return figure
