"""How the digits vary: the distributions that the rows of the jitter table are drawn from.

They were set by looking at MNIST's *training* images beside ours, by the means and spreads that
`train` prints for both, and by what a net trained on ours got wrong there; never by test images.
"""

from collections.abc import Mapping

import numpy as np

from houdini_bridge.draw import BOX, randomness, transform, warp
from houdini_bridge.faces import Face

FONT_SHARE = 0.15
"""Printed digits among the written ones: a little of what nobody's hand does."""


def sample(
    seed: int, digit: int, frame: int, rows: np.ndarray, faces: Mapping[tuple[str, int], Face]
) -> None:
    """Fill the rows of one sheet in place, from (seed, digit, frame) alone.

    Args:
        rows: of `table.DTYPE`, one for each cell.
        faces: as `faces.all_faces` gives them.
    """
    rng, n = np.random.default_rng([seed, digit, frame]), len(rows)
    rows["digit"], rows["frame"], rows["cell"] = digit, frame, np.arange(n)
    is_pen = rng.random(n) >= FONT_SHARE
    for source, here in (("stroke", is_pen), ("font", ~is_pen)):
        known = [face for face in faces.values() if (face.digit, face.source) == (digit, source)]
        weights = np.array([face.weight for face in known])
        picked = rng.choice([face.name for face in known], n, p=weights / weights.sum())
        rows["source"][here], rows["face"][here] = source, picked[here]

    def normal(mean, std, low, high) -> np.ndarray:
        return np.clip(rng.normal(mean, std, n), low, high)

    # Writers lean their digits by some ten degrees, most to the right; italics lean by themselves.
    rows["slant_deg"] = np.where(is_pen, normal(8, 14, -32, 45), normal(4, 8, -20, 30))
    rows["rotate_deg"] = normal(0, 5, -15, 15)
    pen = np.exp(normal(np.log(2.4), 0.3, np.log(1.2), np.log(5)))
    rows["stroke_px"] = np.where(is_pen, pen, normal(0.2, 0.5, -0.6, 1.5))
    rows["warp_px"] = normal(1.2, 0.4, 0, 2.5)
    rows["warp_scale_px"] = normal(6.5, 1.5, 4.5, 12)
    rows["blur_px"] = normal(0.2, 0.1, 0, 0.6)
    rows["noise"] = np.abs(normal(0, 0.03, -0.2, 0.2))
    rows["contrast"] = np.exp(normal(0.1, 0.2, -0.4, 0.6))
    rows["seed"] = rng.integers(2**31, size=n)
    # MNIST moves the centre of mass by whole pixels to the centre of pixel (14, 14), which lies
    # half a pixel right of and below the cell's centre.
    rows["offset_x_px"], rows["offset_y_px"] = rng.random((2, n))

    # MNIST fits every digit into a box of 20 pixels, pen included, as it was written: after slant,
    # rotation and warp, which changes with the size, so once without it and once with it.
    aspect = np.exp(normal(0, 0.2, -0.5, 0.5))
    rows["scale_x"], rows["scale_y"] = aspect**0.5, aspect**-0.5
    ends = np.stack([faces[name, digit].extremes for name in rows["face"]])
    waves, _, _ = randomness(rows["seed"])
    for bent in (False, True):
        points = transform(ends, rows)
        if bent:
            points = points + warp(points, rows["warp_px"], rows["warp_scale_px"], waves)
        # a pixel less: the pen's edges fade over half a pixel on each side
        fit = (BOX - 1 - np.maximum(rows["stroke_px"], 0)) / np.ptp(points, axis=1).max(1)
        rows["scale_x"] *= fit
        rows["scale_y"] *= fit
