"""From strokes to what the net sees, as the makers of MNIST did it, with every step to look at.

LeCun et al. 1998, III-A: "normalized to fit in a 20x20 pixel box while preserving their aspect
ratio", "centered in a 28x28 image by computing the center of mass of the pixels". A net that was
trained on such images knows no others: who skips these steps gets wrong answers for good drawings.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

CANVAS = 280  # pixels of a side; ten to each of the net's
SIDE, BOX = 28, 20
Point = tuple[float | int, float | int]  # x, y
INK = 0.1  # darker than this counts as drawn


@dataclass(frozen=True)
class Stroke:
    """One move of the pen.

    Attributes:
        points: (x, y) from the top left corner, in canvas pixels (0..280).
        width: of the pen, in canvas pixels.
    """

    points: tuple[Point, ...]
    width: float | int


def add_segment(
    canvas: Float32[np.ndarray, "280 280"],
    start: Point,
    end: Point,
    width: float | int,
) -> None:
    """Draw a round-ended line into the canvas (0 paper, 1 ink), its edge smooth over one pixel."""
    reach = width / 2 + 1
    left, right = sorted((start[0], end[0]))
    top, bottom = sorted((start[1], end[1]))
    x0, x1 = max(0, int(left - reach)), min(CANVAS, int(right + reach) + 2)
    y0, y1 = max(0, int(top - reach)), min(CANVAS, int(bottom + reach) + 2)
    if x0 >= x1 or y0 >= y1:
        return
    # Pixel centres, seen from the start: a row and a column, in float32, as a mouse may send a
    # thousand segments a second.
    x = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - start[0])
    y = np.arange(y0, y1, dtype=np.float32)[:, None] + np.float32(0.5 - start[1])
    dx, dy = float(end[0] - start[0]), float(end[1] - start[1])
    length2 = dx * dx + dy * dy
    if length2 > 0:
        along = x * (dx / length2) + y * (dy / length2)  # 0 at the start, 1 at the end
        along = np.minimum(np.maximum(along, 0, out=along), 1, out=along)
        x, y = x - along * dx, y - along * dy  # seen from the nearest point of the line
    distance = np.sqrt(x * x + y * y)
    ink = np.minimum(width / 2 + 0.5 - distance, 1)
    part = canvas[y0:y1, x0:x1]
    np.maximum(part, ink, out=part)


def rasterise(strokes: list[Stroke]) -> Float32[np.ndarray, "280 280"]:
    """The canvas with all strokes on it."""
    canvas = np.zeros((CANVAS, CANVAS), np.float32)
    for stroke in strokes:
        points = stroke.points
        for start, end in zip(points[:1] + points, points, strict=False):
            add_segment(canvas, start, end, stroke.width)
    return canvas


@dataclass(frozen=True)
class Prepared:
    """A drawing on its way into the net.

    Attributes:
        box: top, bottom, left, right of the ink on the canvas (the last ones excluded).
        cropped: that part of the canvas.
        scaled: at most 20x20, its longer side 20.
        boxed: that box in the middle of 28x28.
        centre: row and column of the ink's centre of mass in `boxed`, in pixels.
        image: moved by whole pixels so that this centre is in the middle: what the net sees.
    """

    box: tuple[int, int, int, int]
    cropped: Float32[np.ndarray, "h w"]
    scaled: Float32[np.ndarray, "h2 w2"]
    boxed: Float32[np.ndarray, "28 28"]
    centre: tuple[float, float]
    image: Float32[np.ndarray, "28 28"]


def prepare(canvas: Float32[np.ndarray, "280 280"]) -> Prepared | None:
    """All steps; None for an empty canvas."""
    drawn = canvas > INK
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    if len(rows) == 0:
        return None
    box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    cropped = canvas[box[0] : box[1], box[2] : box[3]]
    height, width = cropped.shape
    scale = BOX / max(height, width)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    scaled = np.clip(resample(cropped.shape[0], height) @ cropped, 0, 1)
    scaled = np.clip(scaled @ resample(cropped.shape[1], width).T, 0, 1)
    boxed = _placed(scaled, (SIDE - height) // 2, (SIDE - width) // 2)
    total = boxed.sum()
    centre = (
        float(boxed.sum(1) @ np.arange(SIDE) / total),
        float(boxed.sum(0) @ np.arange(SIDE) / total),
    )
    middle = (SIDE - 1) / 2
    top = (SIDE - height) // 2 + round(middle - centre[0])
    left = (SIDE - width) // 2 + round(middle - centre[1])
    return Prepared(box, cropped, scaled, boxed, centre, _placed(scaled, top, left))


def shrunk(canvas: Float32[np.ndarray, "280 280"]) -> Float32[np.ndarray, "28 28"]:
    """The whole canvas ten times smaller, as it lies: what is left if the steps are skipped."""
    rows = canvas.reshape(SIDE, 10, CANVAS).mean(1)
    return rows.reshape(SIDE, SIDE, 10).mean(2)


def as_bytes(image: Float32[np.ndarray, "28 28"]) -> UInt8[np.ndarray, " 784"]:
    """A row of 0..255, as data sets hold it."""
    return np.rint(image * 255).astype(np.uint8).reshape(-1)


def resample(before: int, after: int) -> Float32[np.ndarray, "after before"]:
    """The matrix that resizes one axis; rows sum to 1.

    Smaller: each new pixel is the mean of the stretch of old ones that it covers, with shares at
    the ends. Larger: linear interpolation (the same thing, of stretches one old pixel long).
    """
    ratio = before / after
    reach = max(ratio, 1.0)  # old pixels that a new one looks at
    middles = (np.arange(after) + 0.5) * ratio
    low, high = middles - reach / 2, middles + reach / 2
    edges = np.arange(before + 1)
    covered = np.minimum(edges[1:], high[:, None]) - np.maximum(edges[:-1], low[:, None])
    np.maximum(covered, 0, out=covered)
    return (covered / covered.sum(1, keepdims=True)).astype(np.float32)


def _placed(ink: np.ndarray, top: int, left: int) -> Float32[np.ndarray, "28 28"]:
    """The ink on an empty image; what would stick out is moved back in."""
    height, width = ink.shape
    top, left = min(max(top, 0), SIDE - height), min(max(left, 0), SIDE - width)
    image = np.zeros((SIDE, SIDE), np.float32)
    image[top : top + height, left : left + width] = ink
    return image
