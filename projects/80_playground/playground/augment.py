"""Noise that makes a net harder to fool: specks, shifts, turns, other pens."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

SIDE = 28


@dataclass(frozen=True)
class Augment:
    """How much of each; all 0 changes nothing."""

    noise: float = 0.0
    """Share of the pixels that get a random grey."""
    shift: float = 0.0
    """Furthest move in pixels, each way."""
    rotate: float = 0.0
    """Furthest turn in degrees, each way."""
    width: float = 0.0
    """How far strokes grow or shrink: 1 is a whole pixel on each side."""

    def __bool__(self) -> bool:
        return any((self.noise, self.shift, self.rotate, self.width))


def augmented(
    images: UInt8[np.ndarray, "B 784"], how: Augment, rng: np.random.Generator
) -> UInt8[np.ndarray, "B 784"]:
    """Copies of the images, each with its own draws; the same ones where all is 0."""
    if not how:
        return images
    if how.rotate or how.shift:
        images = _moved(images, how, rng)
    if how.width:
        images = _thickened(images, how.width, rng)
    if how.noise:
        specks = rng.random(images.shape, np.float32) < how.noise
        images = np.where(specks, rng.integers(0, 256, images.shape, np.uint8), images)
    return images


def _moved(images: np.ndarray, how: Augment, rng: np.random.Generator) -> np.ndarray:
    """Turned about the centre and shifted, in one bilinear look-up."""
    count = len(images)
    angle = np.deg2rad(rng.uniform(-how.rotate, how.rotate, (count, 1, 1)).astype(np.float32))
    move = rng.uniform(-how.shift, how.shift, (2, count, 1, 1)).astype(np.float32)
    centre = np.float32((SIDE - 1) / 2)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) - centre  # (28, 28) each
    y, x = y - move[0], x - move[1]  # (B, 28, 28): where an output pixel looks
    cos, sin = np.cos(angle), np.sin(angle)
    from_x = cos * x + sin * y + centre
    from_y = cos * y - sin * x + centre
    # A frame of paper all around: what lies outside the image is read from it.
    framed = np.pad(images.reshape(-1, SIDE, SIDE), ((0, 0), (1, 2), (1, 2))).reshape(count, -1)
    from_x = np.clip(from_x + 1, 0, SIDE + 1)
    from_y = np.clip(from_y + 1, 0, SIDE + 1)
    left, top = from_x.astype(np.intp), from_y.astype(np.intp)
    right, below = from_x - left, from_y - top  # weights of the neighbours
    corner = (top * (SIDE + 3) + left).reshape(count, -1)
    grey = 0.0
    for step, weight in (
        (0, (1 - right) * (1 - below)),
        (1, right * (1 - below)),
        (SIDE + 3, (1 - right) * below),
        (SIDE + 4, right * below),
    ):
        grey = grey + np.take_along_axis(framed, corner + step, 1) * weight.reshape(count, -1)
    return np.rint(grey).astype(np.uint8)


def _thickened(images: np.ndarray, most: float, rng: np.random.Generator) -> np.ndarray:
    """Blended with the largest (thicker) or smallest (thinner) of each pixel and its neighbours."""
    amount = rng.uniform(-most, most, (len(images), 1, 1)).astype(np.float32)
    framed = np.pad(images.reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
    middle = framed[:, 1:-1, 1:-1]
    cross = [framed[:, :-2, 1:-1], framed[:, 2:, 1:-1], framed[:, 1:-1, :-2], framed[:, 1:-1, 2:]]
    grown, shrunk = middle, middle
    for neighbour in cross:
        grown, shrunk = np.maximum(grown, neighbour), np.minimum(shrunk, neighbour)
    target = np.where(amount > 0, grown, shrunk).astype(np.float32)
    blended = middle + np.abs(amount) * (target - middle)
    return np.rint(blended).astype(np.uint8).reshape(len(images), -1)
