"""Ways to look into a net: weights as pictures, confusion, why not a 7, neighbours."""

import numpy as np
from jaxtyping import Float, Float32, Int, Int64, UInt8

from playground.data import Labelled, unit
from playground.net import Net


def weight_pictures(net: Net) -> Float32[np.ndarray, "units 28 28"]:
    """The first layer's weights as images in [-1, 1], each scaled by its own largest weight.

    A unit adds up ink times weight: positive pixels speak for it, negative ones against it.
    """
    pictures = net.weights[0].T.reshape(-1, 28, 28)
    largest = np.abs(pictures).max((1, 2), keepdims=True)
    return pictures / np.maximum(largest, 1e-12)


def confusion(
    labels: Int[np.ndarray, " N"], answers: Int[np.ndarray, " N"]
) -> Int64[np.ndarray, "10 10"]:
    """How often each digit (row) got each answer (column)."""
    return np.bincount(labels * 10 + answers, minlength=100).reshape(10, 10)


def why_not(
    net: Net, image: UInt8[np.ndarray, " 784"], digit: int
) -> tuple[int, Float[np.ndarray, "28 28"]]:
    """The net's answer, and how each pixel would have to change for `digit` instead, in [-1, 1].

    Positive: ink here speaks for `digit`. Negative: ink here speaks against it. All zero where the
    answer is `digit` already. (`Net.input_gradient`, scaled by its largest pixel.)
    """
    x = unit(image[None])[0]
    answer = int(net.probabilities(x[None]).argmax())
    if answer == digit:
        return answer, np.zeros((28, 28), np.float32)
    gradient = net.input_gradient(x, digit, answer).reshape(28, 28)
    return answer, gradient / max(float(np.abs(gradient).max()), 1e-12)


class Neighbours:
    """Which samples are most like an image; made once for many images.

    |a - b|^2 = |a|^2 + |b|^2 - 2 a.b, so that all distances are one product of a matrix and a
    vector. Rounding makes them a little wrong: it only chooses the few that are then measured.
    """

    CHOSEN = 4  # times as many as are asked for

    def __init__(self, samples: Labelled) -> None:
        self.pixels = unit(samples.images)
        self.squares = np.einsum("ij,ij->i", self.pixels, self.pixels)

    def nearest(self, image: UInt8[np.ndarray, " 784"], count: int = 5) -> list[tuple[int, float]]:
        """(index, root mean square difference of 0..1) of the samples that differ least."""
        pixels = unit(image)
        rough = self.squares - 2 * (self.pixels @ pixels)
        chosen = rough.argsort(kind="stable")[: self.CHOSEN * count]
        distance = np.sqrt(((self.pixels[chosen] - pixels) ** 2).mean(1))
        order = distance.argsort(kind="stable")[:count]
        return [(int(chosen[place]), float(distance[place])) for place in order]
