"""What a set of curves allows to say: costs, areas, paired intervals, and the sentence."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64
from numpy import ndarray

DRAWS = 4_000  # of the bootstrap


@dataclass(frozen=True)
class Curves:
    """One strategy: S seeds, R rounds, the first training included."""

    seeds: tuple[int, ...]
    frames: Float[ndarray, "S R"]  # labelled
    boxes: Float[ndarray, "S R"]  # labelled
    ap50: Float[ndarray, "S R"]

    def take(self, seeds: tuple[int, ...]) -> "Curves":
        """Some of the seeds, in that order."""
        rows = [self.seeds.index(seed) for seed in seeds]
        return Curves(seeds, self.frames[rows], self.boxes[rows], self.ap50[rows])

    def cost(self, unit: str) -> Float[ndarray, "S R"]:
        """Labelled `frames` or `boxes`."""
        return {"frames": self.frames, "boxes": self.boxes}[unit]


class Estimate(NamedTuple):
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """Strategy a against b, paired by seed, at the cost of `unit`."""

    unit: str
    target: float  # AP50
    ratio: Estimate  # what a needs of the unit over what b needs for the target
    area: Estimate  # a's mean AP50 over the costs that both cover, less b's
    wins: float  # share of seeds in which a's area is the larger one
    seeds: int


def pair(a: Curves, b: Curves) -> tuple[Curves, Curves]:
    """The seeds that both have."""
    shared = tuple(seed for seed in a.seeds if seed in b.seeds)
    return a.take(shared), b.take(shared)


def compare_curves(
    a: Curves, b: Curves, unit: str, target: float = 0.0, seed: int = 0
) -> Comparison:
    """Ratio of costs, difference of areas, share of seeds won; intervals by the paired bootstrap.

    What is drawn with replacement are seeds, the same for both: what a seed's first frames do to
    both of a pair cancels. Percentile intervals of few seeds are too narrow: claims need ten.

    Where b misses the target in a draw its cost is that of its last round, less than the truth:
    a's saving is then understated. Where a misses it, its cost is infinite.

    Args:
        unit: `frames` or `boxes`.
        target: AP50; 0: what the weaker of the two ends with (`default_target`).
    """
    a, b = pair(a, b)
    count = len(a.seeds)
    target = target or default_target(a, b)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(count, size=(DRAWS, count))
    weights = np.stack([np.bincount(row, minlength=count) for row in drawn]) / count  # (draws, S)
    weights = np.vstack([np.full(count, 1 / count), weights])  # first all seeds, once each

    cost_a, cost_b = (reach(weights @ c.cost(unit), weights @ c.ap50, target) for c in (a, b))
    last_b = (weights @ b.cost(unit))[:, -1]
    ratios = cost_a / np.where(np.isfinite(cost_b), cost_b, last_b)
    gains = areas(a, b, unit)
    means = weights @ gains
    return Comparison(
        unit,
        target,
        estimate(ratios),
        estimate(means),
        float((gains > 0).mean()),
        count,
    )


def default_target(a: Curves, b: Curves) -> float:
    """The next hundredth below the lower of the two mean AP50s after the last round.

    Much less would say little: where a curve rises slowly, 95% of its end may be where it began.
    """
    end = min(c.ap50[:, -1].mean() for c in (a, b))
    return max(0.01, math.floor(100 * end - 1e-6) / 100)


def estimate(values: Float[ndarray, " D"]) -> Estimate:
    """The first value, that of all seeds, and the middle 95% of the others."""
    # Not np.percentile, which makes NaN of infinite neighbours.
    ordered = np.sort(values[1:])
    low, high = (ordered[round(q * (len(ordered) - 1))] for q in (0.025, 0.975))
    return Estimate(float(values[0]), float(low), float(high))


def reach(
    cost: Float[ndarray, "D R"], ap50: Float[ndarray, "D R"], target: float
) -> Float[ndarray, " D"]:
    """The cost at which each of D curves first reaches the target, straight between its points.

    The first point's where it is there from the start, infinite where it never gets there.
    """
    reached = ap50 >= target
    at = reached.argmax(1)
    row, before = np.arange(len(cost)), np.maximum(at - 1, 0)
    low, high = ap50[row, before], ap50[row, at]
    part = np.divide(target - low, high - low, out=np.zeros_like(low), where=high > low)
    found = cost[row, before] + part.clip(0) * (cost[row, at] - cost[row, before])
    return np.where(reached.any(1), np.where(at == 0, cost[:, 0], found), np.inf)


def areas(a: Curves, b: Curves, unit: str) -> Float[ndarray, " S"]:
    """For each seed: mean AP50 of a less that of b over the costs that both curves cover."""
    gains = []
    for s in range(len(a.seeds)):
        costs = [c.cost(unit)[s] for c in (a, b)]
        low, high = max(c[0] for c in costs), min(c[-1] for c in costs)
        grid = np.linspace(low, high, 200)
        ours, theirs = (
            np.interp(grid, cost, c.ap50[s]).mean() for cost, c in zip(costs, (a, b), strict=True)
        )
        gains.append(ours - theirs)
    return np.array(gains)


def sentence(a: str, b: str, found: Comparison) -> str:
    """What the interval of the ratio allows to say."""
    ratio = found.ratio
    if not math.isfinite(ratio.value):
        return f"{a} does not reach AP50 {found.target:.2f}: no ratio of its {found.unit} to {b}'s"
    said = "not shown"
    if ratio.high < 1:
        said = f"fewer {found.unit}"
    elif ratio.low > 1:
        said = f"more {found.unit}"
    high = f"{ratio.high:.2f}" if math.isfinite(ratio.high) else "never"
    return (
        f"{a} needs {ratio.value:.2f}x the {found.unit} of {b} for AP50 {found.target:.2f} "
        f"[{ratio.low:.2f}, {high}]: {said}"
    )


def verdict(name: str, per_frame: list[Comparison], per_box: list[Comparison]) -> str:
    """The conclusion about a strategy, from its comparisons with random and with non-empty."""
    frames, boxes = ([c.ratio.high < 1 for c in found] for found in (per_frame, per_box))
    if all(boxes):
        return f"{name} saves boxes against both controls: it chooses what is worth labelling."
    if all(frames):
        return (
            f"{name} saves frames against both controls, but not boxes: it chooses frames with "
            "more objects, which cost more to label."
        )
    if frames[0]:
        return (
            f"{name} saves frames against random and not against frames that are merely not "
            "empty: nothing shown for uncertainty itself."
        )
    return f"Nothing shown for {name}: label at random, or run more seeds."


def spearman(a: Float[ndarray, " n"], b: Float[ndarray, " n"]) -> float:
    """Correlation of ranks, equal values sharing their mean rank; NaN where one is constant."""

    def ranks(values: ndarray) -> ndarray:
        _, place, count = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(count) - (count - 1) / 2)[place]

    x, y = (ranks(v) - ranks(v).mean() for v in (a, b))
    scale = math.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale else math.nan


def reliability(
    scores: Float[ndarray, " n"], right: Int64[ndarray, " n"], bins: int = 10
) -> tuple[Float[ndarray, " b"], Float[ndarray, " b"], Int64[ndarray, " b"], float]:
    """Of each bin that is not empty: mean score, share right, number; and the calibration error.

    ECE: the mean distance of the first two, by number (Guo 2017, eq. 3).
    """
    place = np.minimum((scores * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    used = count > 0
    said, true = (
        np.bincount(place, v, minlength=bins)[used] / count[used] for v in (scores, right)
    )
    error = float((np.abs(said - true) * count[used]).sum() / max(count.sum(), 1))
    return said, true, count[used], error
