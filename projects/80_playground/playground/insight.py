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


def nearest(
    samples: Labelled, image: UInt8[np.ndarray, " 784"], count: int = 5
) -> list[tuple[int, float]]:
    """Which samples differ least from the image: (index, root mean square difference of 0..1)."""
    if len(samples.labels) == 0:
        return []
    difference = unit(samples.images)
    difference -= unit(image)
    distance = np.sqrt(np.einsum("ij,ij->i", difference, difference) / image.size)
    order = np.argsort(distance, kind="stable")[:count]
    return [(int(index), float(distance[index])) for index in order]
