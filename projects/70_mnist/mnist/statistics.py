"""How sure a mean over a few seeds is: Student's t."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Interval(NamedTuple):
    """A mean and the interval that holds the true one with 95% confidence."""

    mean: float
    low: float
    high: float


def interval(values: Sequence[float | int], confidence: float = 0.95) -> Interval:
    """Of the mean of at least two independent values: mean -+ t s / sqrt(n) (Student 1908).

    For paired trainings give it the differences, seed by seed: what a seed does to both of a pair
    cancels.
    """
    count, mean = len(values), statistics.fmean(values)
    half = t_quantile((1 + confidence) / 2, count - 1) * statistics.stdev(values) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def t_quantile(probability: float, freedom: int) -> float:
    """The t that Student's distribution stays below with a probability in [0.5, 1); by bisection.

    Args:
        freedom: degrees of freedom, at least 1.
    """
    low, high = 0.0, 1.0
    while t_below(high, freedom) < probability:
        high *= 2
    for _ in range(80):  # halves the bracket to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if t_below(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def t_below(t: float, freedom: int) -> float:
    """P(T < t) for t >= 0 and whole degrees of freedom (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    theta = math.atan2(t, math.sqrt(freedom))
    sine, squared = math.sin(theta), math.cos(theta) ** 2
    odd = freedom % 2
    term = math.cos(theta) if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):  # cos + 2/3 cos^3 + ..., or 1 + 1/2 cos^2 + ...
        total += term
        term *= squared * k / (k + 1)
    if not odd:
        return 0.5 + sine * total / 2
    return 0.5 + (theta + sine * total) / math.pi
