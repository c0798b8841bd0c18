"""COCO's average precision by hand, for frames without crowds or ignored regions."""

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


def average_precision(
    boxes: Float64[ndarray, "N D 4"],
    scores: Float64[ndarray, "N D"],
    labels: Int64[ndarray, "N D"],
    true_boxes: Float64[ndarray, "N M 4"],
    true_labels: Int64[ndarray, "N M"],
    classes: int,
    thresholds: Float64[ndarray, " T"] = IOU_THRESHOLDS,
) -> Float64[ndarray, "T {classes}"]:
    """AP of each class at each IoU; NaN where a class has no object to find.

    As pycocotools' COCOeval with at most 100 detections an image (D must not be more).

    Args:
        boxes: of D detections in each of N frames, xyxy in pixels.
        true_labels: -1 in empty slots.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    boxes, scores, labels = (
        np.take_along_axis(part, order.reshape(*order.shape, *[1] * (part.ndim - 2)), 1)
        for part in (boxes, scores, labels)
    )
    correct = match(boxes, labels, true_boxes, true_labels, thresholds)  # (T, N, D)
    precision = np.full((len(thresholds), classes), np.nan)
    best_first = np.argsort(-scores.ravel(), kind="stable")
    for k in range(classes):
        to_find = int((true_labels == k).sum())
        if to_find == 0:
            continue
        ranked = best_first[labels.ravel()[best_first] == k]
        for t in range(len(thresholds)):
            precision[t, k] = precision_at_recalls(correct[t].ravel()[ranked], to_find).mean()
    return precision


def match(
    boxes: Float64[ndarray, "N D 4"],
    labels: Int64[ndarray, "N D"],
    true_boxes: Float64[ndarray, "N M 4"],
    true_labels: Int64[ndarray, "N M"],
    thresholds: Float64[ndarray, " T"],
) -> Bool[ndarray, "T N D"]:
    """Which detections find an object of their class that none before them found.

    Detections of a frame lie best first. Each takes, of the objects that are left and overlap
    enough, the one with the largest IoU; of equals the last, as pycocotools does. All frames take
    their turns side by side.
    """
    overlap = pairwise_iou(boxes, true_boxes)  # (N, D, M)
    overlap[labels[:, :, None] != true_labels[:, None]] = -1.0
    frames, detections, objects = overlap.shape
    left = np.ones((len(thresholds), frames, objects), bool)
    correct = np.zeros((len(thresholds), frames, detections), bool)
    for d in range(detections if objects else 0):
        possible = left & (overlap[:, d] >= thresholds[:, None, None])
        wanted = np.where(possible, overlap[:, d], -1.0)[..., ::-1]
        best = objects - 1 - wanted.argmax(-1)  # (T, N)
        correct[..., d] = possible.any(-1)
        t, n = np.nonzero(correct[..., d])
        left[t, n, best[t, n]] = False
    return correct


def precision_at_recalls(correct: Bool[ndarray, " n"], to_find: int) -> Float64[ndarray, "101"]:
    """The best precision at each recall or a higher one (Everingham 2010), 0 where not reached."""
    rank = np.flatnonzero(correct) + 1  # how many detections it takes to the 1st, 2nd .. hit
    hits = np.arange(1, len(rank) + 1)
    interpolated = np.maximum.accumulate((hits / rank)[::-1])[::-1]
    return np.append(interpolated, 0.0)[np.searchsorted(hits / to_find, RECALLS)]


def pairwise_iou(
    a: Float64[ndarray, "*b n 4"], b: Float64[ndarray, "*b m 4"]
) -> Float64[ndarray, "*b n m"]:
    """Intersection over union of every box of `a` with every box of `b`; 0 for empty boxes."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clip(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
