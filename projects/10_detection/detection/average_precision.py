"""COCO's average precision by hand: what pycocotools' COCOeval says of boxes, in NumPy.

Detections are taken best first; each finds at most one truth of its image and class, and each truth
is found once. So detections of different images or classes never meet, and the best one of *every*
image and class can look for its truth at the same time, then the second of each, and so on: a loop
of at most 100 turns, whatever the number of images.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Smallest and largest area in square pixels, both included."""
MOST = (1, 10, 100)
"""How many detections of an image and class count."""


class Found(NamedTuple):
    """n detections, of all images, in any order."""

    images: Int64[ndarray, " n"]  # which image
    labels: Int64[ndarray, " n"]  # which class, 0..K-1
    boxes: Float64[ndarray, "n 4"]  # xyxy in pixels
    scores: Float64[ndarray, " n"]


class Truths(NamedTuple):
    """G objects to find, of all images, in any order."""

    images: Int64[ndarray, " G"]
    labels: Int64[ndarray, " G"]
    boxes: Float64[ndarray, "G 4"]  # xyxy in pixels
    areas: Float64[ndarray, " G"]  # square pixels, for `AREAS`; in COCO's files that of the mask
    crowd: Bool[ndarray, " G"]  # need not be found, and may be found any number of times


@dataclass(frozen=True)
class Evaluation:
    """COCO's figures, and what they are made of.

    T IoU thresholds (`IOU_THRESHOLDS`), R recalls (`RECALLS`), K classes, A ranges of area
    (`AREAS`), M limits on the number of detections (`MOST`); as in COCOeval, but NaN, not -1, where
    a class has no truth to find.
    """

    precision: Float64[ndarray, "T R K A M"]
    """The best precision at this recall or a higher one; 0 at recalls that are not reached."""
    recall: Float64[ndarray, "T K A M"]
    """Share of the truths that are found."""
    match: Int64[ndarray, "A T n"]
    """The truth that each detection finds, -1 for none."""
    ignored: Bool[ndarray, "A T n"]
    """Detections that are neither right nor wrong: of a crowd, of another area, or too many."""

    def figures(self) -> dict[str, float | None]:
        """The 12 figures that COCO reports, in 0..1; None where there is nothing to find."""
        small, medium, large = 1, 2, 3
        parts = {
            "ap": self.precision[:, :, :, 0, -1],
            "ap50": self.precision[0, :, :, 0, -1],
            "ap75": self.precision[5, :, :, 0, -1],
            "ap_small": self.precision[:, :, :, small, -1],
            "ap_medium": self.precision[:, :, :, medium, -1],
            "ap_large": self.precision[:, :, :, large, -1],
            "ar_1": self.recall[:, :, 0, 0],
            "ar_10": self.recall[:, :, 0, 1],
            "ar_100": self.recall[:, :, 0, 2],
            "ar_small": self.recall[:, :, small, -1],
            "ar_medium": self.recall[:, :, medium, -1],
            "ar_large": self.recall[:, :, large, -1],
        }
        return {name: mean_of_defined(part) for name, part in parts.items()}

    def class_figures(self) -> list[float | None]:
        """AP@[.5:.95] of each class; None where it has nothing to find."""
        return [
            mean_of_defined(self.precision[:, :, k, 0, -1]) for k in range(self.precision.shape[2])
        ]


def evaluate_boxes(found: Found, truths: Truths, classes: int) -> Evaluation:
    """Hold detections against the truth as COCOeval does with `iouType="bbox"`.

    Equal to pycocotools 2.0 within 1e-9, ties of scores and of IoUs included (it breaks them by
    position: earlier detections first, later truths first), for boxes whose corners come from
    float32 or integers; it works on (x, y, width, height), where other corners may be rounded.

    Args:
        classes: K; every label must be below it.
    """
    rank = rank_in_class(found)
    pairs = near_pairs(found, truths, rank, IOU_THRESHOLDS[0])
    pairs = Pairs(*(part[pairs.turn < MOST[-1]] for part in pairs))
    found_area = box_area(found.boxes)
    best_first = np.lexsort((found.images, -found.scores))

    n, K, A, T = len(found.scores), classes, len(AREAS), len(IOU_THRESHOLDS)
    evaluation = Evaluation(
        precision=np.full((T, len(RECALLS), K, A, len(MOST)), np.nan),
        recall=np.full((T, K, A, len(MOST)), np.nan),
        match=np.full((A, T, n), -1),
        ignored=np.zeros((A, T, n), dtype=bool),
    )
    for a, (low, high) in enumerate(AREAS.values()):
        ignore = truths.crowd | (truths.areas < low) | (truths.areas > high)  # (G,)
        outside = (found_area < low) | (found_area > high)  # (n,)
        match = match_pairs(pairs, n, ignore, truths.crowd, IOU_THRESHOLDS)  # (T, n)
        ignored = np.where(match >= 0, np.append(ignore, False)[match], outside)  # [-1]: appended
        ignored |= rank >= MOST[-1]
        evaluation.match[a], evaluation.ignored[a] = match, ignored
        for k in range(K):
            to_find = int((~ignore & (truths.labels == k)).sum())
            if to_find == 0:
                continue
            of_class = best_first[found.labels[best_first] == k]
            for m, most in enumerate(MOST):
                ranked = of_class[rank[of_class] < most]
                for t in range(T):
                    correct = match[t, ranked][~ignored[t, ranked]] >= 0
                    evaluation.precision[t, :, k, a, m] = precision_at_recalls(correct, to_find)
                    evaluation.recall[t, k, a, m] = correct.sum() / to_find
    return evaluation


def precision_at_recalls(correct: Bool[ndarray, " n"], to_find: int) -> Float64[ndarray, "101"]:
    """Interpolated precision at `RECALLS`; its mean is the average precision (Everingham 2010).

    Recall only rises, and precision does not fall, where a detection is correct: the others matter
    by their number alone.

    Args:
        correct: which detections are, best first.
        to_find: number of truths, at least 1.
    """
    rank = np.flatnonzero(correct) + 1  # how many detections it takes to the 1st, 2nd .. hit
    hits = np.arange(1, len(rank) + 1)
    interpolated = np.maximum.accumulate((hits / rank)[::-1])[::-1]  # best from here on
    return np.append(interpolated, 0.0)[np.searchsorted(hits / to_find, RECALLS)]


# --- Matching ------------------------------------------------------------------------------------


def rank_in_class(found: Found) -> Int64[ndarray, " n"]:
    """Place of each detection within its image and class, 0 for the best; of equals the earlier."""
    order = np.lexsort((-found.scores, found.labels, found.images))
    place = np.arange(len(order))
    labels, images = found.labels[order], found.images[order]
    new = (np.diff(labels, prepend=-1) != 0) | (np.diff(images, prepend=-1) != 0)
    rank = np.empty_like(order)
    rank[order] = place - np.maximum.accumulate(np.where(new, place, 0))
    return rank


class Pairs(NamedTuple):
    """P pairs of a detection and a truth that it may find."""

    detection: Int64[ndarray, " P"]
    truth: Int64[ndarray, " P"]
    iou: Float64[ndarray, " P"]
    turn: Int64[ndarray, " P"]  # the detection's `rank_in_class`: the best one looks first


def match_boxes(found: Found, truths: Truths, threshold: float = 0.5) -> Int64[ndarray, " n"]:
    """The truth that each detection finds, -1 for none: at one IoU threshold and of any area."""
    rank = rank_in_class(found)
    pairs = near_pairs(found, truths, rank, threshold)
    thresholds = np.array([threshold])
    return match_pairs(pairs, len(rank), truths.crowd, truths.crowd, thresholds)[0]


def near_pairs(found: Found, truths: Truths, rank: Int64[ndarray, " n"], threshold: float) -> Pairs:
    """Detections and truths of one image and class whose IoU is at least `threshold`."""
    classes = 1 + max(found.labels.max(initial=0), truths.labels.max(initial=0))
    detection, truth = equal_pairs(
        found.images * classes + found.labels, truths.images * classes + truths.labels
    )
    iou = box_iou(found.boxes[detection], truths.boxes[truth], truths.crowd[truth])
    near = iou >= threshold
    return Pairs(detection[near], truth[near], iou[near], rank[detection[near]])


def match_pairs(
    pairs: Pairs,
    detections: int,
    ignore: Bool[ndarray, " G"],
    crowd: Bool[ndarray, " G"],
    thresholds: Float64[ndarray, " T"],
) -> Int64[ndarray, "T {detections}"]:
    """The truth that each detection finds at each IoU threshold, -1 for none.

    In its turn a detection takes, of the truths that are left and overlap enough, the one with the
    largest IoU; one that is ignored only if there is no other. A crowd is never used up.

    Args:
        detections: how many there are, n.
        ignore: truths that need not be found; those of a crowd among them.
    """
    match = np.full((len(thresholds), detections), -1)
    left = np.ones((len(ignore), len(thresholds)), dtype=bool)
    # The pairs of a detection from the least wanted to the most wanted one.
    order = np.lexsort((pairs.truth, pairs.iou, ~ignore[pairs.truth], pairs.detection, pairs.turn))
    pairs = Pairs(*(part[order] for part in pairs))
    turns = np.flatnonzero(np.diff(pairs.turn, prepend=-1, append=-1))
    for start, stop in pairwise(turns):
        detection, truth, iou, _ = (part[start:stop] for part in pairs)
        possible = (left[truth] | crowd[truth, None]) & (iou[:, None] >= thresholds)  # (p, T)
        place = np.where(possible, np.arange(stop - start)[:, None], -1)
        first = np.flatnonzero(np.diff(detection, prepend=-1))  # pair of each detection
        wanted = np.maximum.reduceat(place, first, axis=0)  # (detections of this turn, T)
        row, t = np.nonzero(wanted >= 0)
        taken = truth[wanted[row, t]]
        match[t, detection[first[row]]] = taken
        left[taken, t] = False
    return match


def equal_pairs(
    a: Int64[ndarray, " n"], b: Int64[ndarray, " m"]
) -> tuple[Int64[ndarray, " P"], Int64[ndarray, " P"]]:
    """All (i, j) with a[i] == b[j], without a table of n x m."""
    order = np.argsort(b, kind="stable")
    first, last = (np.searchsorted(b[order], a, side) for side in ("left", "right"))
    count = last - first
    i = np.repeat(np.arange(len(a)), count)
    nth = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)  # 0, 1 .. for each i
    return i, order[first[i] + nth]


# --- Boxes ---------------------------------------------------------------------------------------


def box_area(boxes: Float64[ndarray, "*n 4"]) -> Float64[ndarray, "*n"]:
    """Area in square pixels of xyxy boxes."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(
    found: Float64[ndarray, "*n 4"], truth: Float64[ndarray, "*n 4"], crowd: Bool[ndarray, "*n"]
) -> Float64[ndarray, "*n"]:
    """IoU of corresponding boxes, in [0, 1]; 0 where they do not overlap.

    Of a crowd the union is the detection alone: what lies within it is a hit, however small. Not
    `boxes.pairwise_iou`: in double and by pycocotools' arithmetic, so that an IoU of just a
    threshold is on the same side of it.
    """
    low = np.maximum(found[..., :2], truth[..., :2])
    high = np.minimum(found[..., 2:], truth[..., 2:])
    intersection = (high - low).clip(min=0).prod(-1)
    area = box_area(found)
    union = np.where(crowd, area, area + box_area(truth) - intersection)
    return np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)


def mean_of_defined(values: Float64[ndarray, "..."]) -> float | None:
    """Mean of what is not NaN; None where all is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None
