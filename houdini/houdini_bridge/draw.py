"""From rows of the jitter table to pixels: 64 digits of a sheet at once, without a pixel loop.

A digit stays geometry until the very end. Pen and font alike are short segments, bent and placed
as points; then each pixel asks for its distance to the nearest one. A pen inks what is nearer than
half its width, a font what lies inside its outline, and a ramp of one pixel makes the edge smooth:
the share of a pixel that a level or upright edge covers, and nearly that of a slanted one.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from houdini_bridge.faces import Face

BOX = 20.0
"""Pixels of the larger side of a face before scale_x and scale_y: MNIST's."""
CELL, GRID = 28, 8
WAVES = 32  # of a warp, per component; enough for a field that looks Gaussian
PRESSURE = 0.10  # how much a pen's width varies along its way, as a share of the width (rms)
CHUNK = 4  # sprites at a time: their distances fit into a core's cache
FAR = 1e6  # square pixels: what is farther than this is not joined


def transform(points: Float[np.ndarray, "n P 2"], rows: np.ndarray) -> Float[np.ndarray, "n P 2"]:
    """Unit square -> pixels from the centre of mass: R(rotate) S(slant) diag(scale) BOX (q - 0.5).

    Args:
        points: of the faces, y down.
        rows: of the table, one for each face.
    """
    x = BOX * (points[..., 0] - 0.5) * rows["scale_x"][:, None]
    y = BOX * (points[..., 1] - 0.5) * rows["scale_y"][:, None]
    x = x - np.tan(np.radians(rows["slant_deg"]))[:, None] * y
    turn = np.radians(rows["rotate_deg"])[:, None]
    return np.stack([np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x], -1)


def warp(
    points: Float[np.ndarray, "n P 2"],
    amplitude: Float[np.ndarray, "n"],
    scale: Float[np.ndarray, "n"],
    waves: Float[np.ndarray, "n 2 K 3"],
) -> Float[np.ndarray, "n P 2"]:
    """A smooth random displacement of each point, in pixels.

    A Gaussian field by random Fourier features (Rahimi & Recht 2007): per component

        d(p) = amplitude sqrt(2 / K) sum_k cos(w_k . p / scale + phase_k),   w_k ~ N(0, I)

    whose mean square is amplitude^2 and whose correlation at distance r is exp(-r^2 / 2 scale^2).

    Args:
        waves: w_k (two standard normal numbers) and phase_k / 2 pi (uniform in 0..1), for x and y.
    """
    phase = (points / scale[:, None, None])[:, None] @ waves[..., :2].swapaxes(-1, -2)
    phase += 2 * np.pi * waves[:, :, None, :, 2]
    field = np.sqrt(2 / waves.shape[2]) * np.cos(phase, out=phase).sum(-1)  # (n, 2, P)
    return amplitude[:, None, None] * field.transpose(0, 2, 1)


def randomness(
    seeds: Int[np.ndarray, "n"],
) -> tuple[Float[np.ndarray, "n 2 K 3"], Float[np.ndarray, "n 3 2"], list[np.random.Generator]]:
    """Waves of the warp and of the pressure, and what makes the noise, from each row's seed."""
    generators = [np.random.default_rng(seed) for seed in seeds]
    waves, presses = np.empty((len(seeds), 2, WAVES, 3)), np.empty((len(seeds), 3, 2))
    for i, rng in enumerate(generators):
        waves[i, ..., :2] = rng.standard_normal((2, WAVES, 2))
        waves[i, ..., 2] = rng.random((2, WAVES))
        presses[i] = rng.random((3, 2)) * [3, 1]
    return waves, presses, generators


def pressure(waves: Float[np.ndarray, "n M 2"], segments: int) -> Float[np.ndarray, "n S"]:
    """The pen's width along its way, as a factor with mean 1: a few slow waves."""
    along = np.arange(segments) / 50.0  # about a digit's length
    phase = 2 * np.pi * (waves[:, :, :1] * along + waves[:, :, 1:])
    return 1 + PRESSURE * np.sqrt(2 / waves.shape[1]) * np.cos(phase).sum(1)


def distances(
    starts: Float32[np.ndarray, "n S 2"],
    ends: Float32[np.ndarray, "n S 2"],
    joined: Bool[np.ndarray, "n S"],
    size: int = CELL,
) -> Float32[np.ndarray, "n {size*size} S"]:
    """Square distance of every pixel's centre to every segment; FAR for those not joined.

    |p - a - t u|^2 = |p - a|^2 - t (2 (p - a).u - t |u|^2),  u = b - a,  t = (p - a).u / |u|^2
    held in 0..1: all that depends on both pixel and segment is two products of matrices.
    """
    pixel = _pixels(size)  # (size*size, 4): x, y, |p|^2, 1
    u = ends - starts
    length2 = np.maximum((u * u).sum(-1), 1e-6)
    one, zero = np.ones_like(length2), np.zeros_like(length2)
    dot = pixel @ np.stack([u[..., 0], u[..., 1], zero, -(starts * u).sum(-1)], 1)
    square = pixel @ np.stack(
        [-2 * starts[..., 0], -2 * starts[..., 1], one,
         np.where(joined, (starts * starts).sum(-1), FAR)], 1
    )  # fmt: skip
    length2 = length2[:, None]
    t = np.clip(dot / length2, 0, 1)
    dot *= 2
    dot -= t * length2
    dot *= t
    square -= dot
    return np.maximum(square, 0, out=square)


def _pixels(size: int) -> Float32[np.ndarray, "{size*size} 4"]:
    """x, y, x^2 + y^2, 1 of each pixel's centre, from the middle of the cell."""
    y, x = np.mgrid[:size, :size].reshape(2, -1) + 0.5 - size / 2
    return np.stack([x, y, x * x + y * y, np.ones_like(x)], 1).astype(np.float32)


def inside(
    starts: Float32[np.ndarray, "n S 2"],
    ends: Float32[np.ndarray, "n S 2"],
    joined: Bool[np.ndarray, "n S"],
    size: int = CELL,
) -> Bool[np.ndarray, "n {size*size}"]:
    """Whether a pixel's centre lies inside the outline: its winding number is not 0."""
    axis = (np.arange(size) + 0.5 - size / 2).astype(np.float32)
    (x0, y0), (x1, y1) = (np.moveaxis(p[:, None], -1, 0) for p in (starts, ends))  # (n, 1, S)
    row = axis[:, None]
    crossing = (y0 <= row).astype(np.int8) - (y1 <= row)  # +1: downwards in the picture
    crossing *= joined[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # a level segment crosses nothing
        at = x0 + (row - y0) / (y1 - y0) * (x1 - x0)
    at[crossing == 0] = -np.inf
    right = at[:, :, None] > axis[:, None]  # (n, row, column, S)
    winding = np.einsum("nrcs,nrs->nrc", right, crossing, dtype=np.int32)
    return (winding != 0).reshape(len(starts), -1)


def coverage(
    points: Float[np.ndarray, "n P 2"],
    joined: Bool[np.ndarray, "n P-1"],
    width: Float[np.ndarray, "n P-1"],
    filled: bool,
    size: int = CELL,
) -> Float32[np.ndarray, "n {size*size}"]:
    """Share of each pixel that is inked.

    Args:
        points: in pixels from the middle of the cell.
        width: of the pen at each segment; for a filled outline what its stems gain, in pixels.
    """
    points, half = points.astype(np.float32), (width / 2).astype(np.float32)
    starts, ends = points[:, :-1], points[:, 1:]
    square = distances(starts, ends, joined, size)
    if filled:
        away = np.sqrt(square.min(-1))
        depth = np.where(inside(starts, ends, joined, size), away, -away) + half[:, :1]
    else:
        depth = (half[:, None] - np.sqrt(square, out=square)).max(-1)
    return np.clip(depth + 0.5, 0, 1)


def blurred(
    images: Float32[np.ndarray, "n h w"], sigma: Float[np.ndarray, "n"]
) -> Float32[np.ndarray, "n h w"]:
    """Each image blurred by its own sigma (0: left as it is), black beyond the edges."""

    def kernel(size: int) -> np.ndarray:
        apart = np.arange(size)[:, None] - np.arange(size)
        weights = np.exp(-0.5 * (apart / np.maximum(sigma, 1e-3)[:, None, None]) ** 2)
        reach = np.arange(-size, size + 1)  # what a pixel far from any edge would sum up
        total = np.exp(-0.5 * (reach / np.maximum(sigma, 1e-3)[:, None]) ** 2).sum(1)
        return (weights / total[:, None, None]).astype(np.float32)

    return kernel(images.shape[1]) @ images @ kernel(images.shape[2])


def draw(
    rows: np.ndarray, faces: Sequence[Face], size: int = CELL
) -> UInt8[np.ndarray, "n {size} {size}"]:
    """The digits of the rows, white on black.

    Each depends on its own row alone: on neither the others in the batch nor their order.
    """
    images = np.zeros((len(rows), size * size), np.float32)
    noise = np.zeros((len(rows), size, size), np.float32)
    order = sorted(range(len(rows)), key=lambda i: (rows["source"][i], len(faces[i].points)))
    for source in ("font", "stroke"):
        same = [i for i in order if rows["source"][i] == source]
        for first in range(0, len(same), CHUNK):
            some = same[first : first + CHUNK]
            images[some], noise[some] = _draw_some(
                rows[some], [faces[i] for i in some], source == "font", size
            )
    images = blurred(images.reshape(-1, size, size), rows["blur_px"])
    images **= (1 / rows["contrast"])[:, None, None].astype(np.float32)
    images *= 1 + rows["noise"][:, None, None].astype(np.float32) * noise
    return np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)


def _draw_some(rows: np.ndarray, faces: list[Face], filled: bool, size: int) -> tuple:
    """Coverage (n, size*size) and standard normal noise (n, size, size) of a few rows."""
    most = max(len(face.points) for face in faces)
    points = np.full((len(faces), most, 2), 0.5)
    joined = np.zeros((len(faces), most - 1), bool)
    for i, face in enumerate(faces):
        points[i, : len(face.points)] = face.points
        joined[i, : len(face.joined)] = face.joined
    waves, presses, generators = randomness(rows["seed"])
    noise = np.stack([rng.standard_normal((size, size), np.float32) for rng in generators])

    points = transform(points, rows)
    moved = warp(points, rows["warp_px"], rows["warp_scale_px"], waves)
    real = np.arange(most) < np.array([len(face.points) for face in faces])[:, None]
    mean = (moved * real[..., None]).sum(1) / real.sum(1)[:, None]
    offset = np.stack([rows["offset_x_px"], rows["offset_y_px"]], -1)
    points = points + moved + (offset - mean)[:, None]
    width = np.repeat(rows["stroke_px"][:, None], most - 1, 1)
    if not filled:
        width = width * pressure(presses, most - 1)
    return coverage(points, joined, width, filled, size), noise


def tiled(images: UInt8[np.ndarray, "n h w"], grid: int = GRID) -> UInt8[np.ndarray, "H W"]:
    """A sheet of grid x grid cells, row-major from the top left."""
    _, h, w = images.shape
    return images.reshape(grid, grid, h, w).swapaxes(1, 2).reshape(grid * h, grid * w)
