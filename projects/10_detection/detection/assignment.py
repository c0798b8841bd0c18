"""Which points answer for which object: four answers, of the same signature.

Each takes (predictions, boxes, labels, ignore) as `assign` does, looks at all images at once, and
lets no image or padded row change what another gets. No gradient passes through.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from detection.boxes import area, pairwise_iou
from detection.model import Predictions


class Assignment(NamedTuple):
    """The object each point answers for; M objects an image, A points."""

    target: Int64[Tensor, "B A"]  # index of the object, -1 for background
    quality: Float[Tensor, "B A"]  # 0..1: the score a positive point should give; 0 for background
    ignored: Bool[Tensor, "B A"]  # background points in an ignored box: not to be punished


def assign(
    name: str,
    predictions: Predictions,
    boxes: Float[Tensor, "B M 4"],
    labels: Int64[Tensor, "B M"],
    ignore: Bool[Tensor, "B M"],
    top: int | None = None,
) -> Assignment:
    """The assignment called `name`, one of `ASSIGNMENTS`.

    Args:
        boxes: objects in pixels, padded; rows with label -1 do not exist. M may be 0.
        ignore: objects that are neither to be found nor to be punished when found.
        top: points for each object, or candidates a level, or IoUs that decide their number; None
            for the assignment's own default. "centre" has no use for it.
    """
    options = {} if top is None or name == "centre" else {"top": top}
    return ASSIGNMENTS[name](predictions, boxes, labels, ignore, **options)


@torch.no_grad()
def task_aligned_assignment(
    predictions: Predictions,
    boxes: Float[Tensor, "B M 4"],
    labels: Int64[Tensor, "B M"],
    ignore: Bool[Tensor, "B M"],
    *,
    top: int = 8,
    alpha: float | int = 0.5,
    beta: float | int = 6.0,
    reach: float | int = 1.5,
) -> Assignment:
    """Task-aligned assignment (TOOD, Feng 2021, section 3.2).

    The alignment t = p^alpha u^beta of a point with an object joins the probability p that it gives
    the object's class and the IoU u of its box. Each object takes its `top` most aligned points
    among those inside its box, or within `reach` strides of its centre (so that objects smaller
    than a cell have points too). A point wanted by several goes to the one it overlaps most. What
    the point's score should be is t, scaled per object so that its largest value is the object's
    largest IoU (eq. 4 and below).
    """
    inside = _inside(predictions.points, boxes)  # (B, M, A)
    near = _off_centre(predictions.points, boxes) < reach * predictions.strides
    candidate = _wanted(labels, ignore) & (inside | near)

    iou = pairwise_iou(boxes, predictions.boxes)  # (B, M, A)
    probability = _of_class(predictions.logits.sigmoid(), labels)  # (B, M, A)
    alignment = (probability**alpha * iou**beta).masked_fill(~candidate, -1.0)

    chosen = alignment.topk(min(top, alignment.shape[-1]), dim=-1).indices
    positive = torch.zeros_like(candidate).scatter(-1, chosen, True) & candidate
    target, positive = _resolve(positive, iou)

    alignment = torch.where(positive, alignment, 0.0)
    best_iou = torch.where(positive, iou, 0.0).amax(-1, keepdim=True)
    tiny = torch.finfo(alignment.dtype).tiny  # an IoU of 0.05 makes t 1e-8: no larger constant
    quality = alignment / alignment.amax(-1, keepdim=True).clamp(min=tiny) * best_iou
    return Assignment(target, quality.sum(dim=1), _ignored(target, inside, labels, ignore))


@torch.no_grad()
def centre_assignment(
    predictions: Predictions,
    boxes: Float[Tensor, "B M 4"],
    labels: Int64[Tensor, "B M"],
    ignore: Bool[Tensor, "B M"],
    *,
    radius: float | int = 1.5,
    limit: float | int = 4.0,
) -> Assignment:
    """Centre sampling on a level chosen by size (FCOS, Tian 2019, section 3.2).

    Fixed by geometry, whatever is predicted: an object takes the points inside its box and within
    `radius` strides of its centre (horizontally and vertically) whose farthest side is more than
    `limit` / 2 and at most `limit` strides away; the finest level also takes all that is nearer,
    the coarsest all that is farther. A point wanted by several goes to the smallest. Every positive
    has quality 1. An object that no point lies in has none.

    Args:
        limit: the paper's is 8, for five levels with strides up to 128 and images of 800 pixels.
            4 lets strides 8 and 16 share the objects of a small image: sides up to 32 pixels away
            are for the finer one.
    """
    strides = predictions.strides
    x, y = predictions.points.unbind(-1)
    x1, y1, x2, y2 = _sides(boxes)  # (B, M, 1)
    farthest = torch.stack([x - x1, y - y1, x2 - x, y2 - y]).amax(0)  # (B, M, A)
    at_least = (limit / 2 * strides).masked_fill(strides == strides.min(), 0.0)
    at_most = (limit * strides).masked_fill(strides == strides.max(), math.inf)
    fits = (farthest > at_least) & (farthest <= at_most)

    inside = _inside(predictions.points, boxes)
    near = _off_centre(predictions.points, boxes) < radius * strides
    candidate = _wanted(labels, ignore) & inside & near & fits
    target, positive = _resolve(candidate, -area(boxes)[..., None])
    quality = positive.any(dim=1).to(predictions.boxes.dtype)
    return Assignment(target, quality, _ignored(target, inside, labels, ignore))


@torch.no_grad()
def atss_assignment(
    predictions: Predictions,
    boxes: Float[Tensor, "B M 4"],
    labels: Int64[Tensor, "B M"],
    ignore: Bool[Tensor, "B M"],
    *,
    top: int = 9,
    scale: float | int = 3.0,
) -> Assignment:
    """Adaptive training sample selection (ATSS, Zhang 2020, algorithm 1).

    Every point stands for a square anchor around it. An object's candidates are the `top` points of
    each level nearest to its centre; it takes those inside its box whose anchor overlaps it by at
    least the mean plus the standard deviation of its candidates' IoUs: a threshold that finds the
    level by itself. A point wanted by several goes to the one its anchor overlaps most. Quality is
    the IoU of the predicted box with its object (as in GFL, Li 2020).

    Args:
        scale: side of an anchor in strides. The paper's is 8, with five levels. With two, mean plus
            deviation is more than any candidate's IoU once all anchors of a level hold the object:
            95% of the tabletop objects get no points at 8, 5% (the smallest) at 4, 1% at 3.
    """
    points, strides = predictions.points, predictions.strides
    half = scale / 2 * strides[:, None]
    anchors = torch.cat([points - half, points + half], dim=-1)  # (A, 4)
    overlap = pairwise_iou(boxes, anchors.expand(len(boxes), -1, -1))  # (B, M, A)

    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    distance = (points - centres[..., None, :]).square().sum(-1)  # squared: only its order counts
    nearest = []
    for stride in strides.unique():
        level = (strides == stride).nonzero()[:, 0]
        # Stable, as objects amid four points are common: the first of equals, on any device.
        order = distance[..., level].argsort(dim=-1, stable=True)
        nearest.append(level[order[..., :top]])
    nearest = torch.cat(nearest, dim=-1)  # (B, M, K)
    candidate = torch.zeros_like(overlap, dtype=torch.bool).scatter(-1, nearest, True)

    overlaps = overlap.gather(-1, nearest)
    mean = overlaps.mean(-1, keepdim=True)  # (B, M, 1)
    # With n - 1, as in the authors' code, but not torch's std: a lone candidate has no spread.
    variance = (overlaps - mean).square().sum(-1, keepdim=True) / max(nearest.shape[-1] - 1, 1)
    threshold = mean + variance.sqrt()

    inside = _inside(points, boxes)
    positive = _wanted(labels, ignore) & candidate & inside & (overlap >= threshold)
    target, positive = _resolve(positive, overlap)
    iou = pairwise_iou(boxes, predictions.boxes)
    quality = torch.where(positive, iou, 0.0).sum(dim=1)
    return Assignment(target, quality, _ignored(target, inside, labels, ignore))


@torch.no_grad()
def simota_assignment(
    predictions: Predictions,
    boxes: Float[Tensor, "B M 4"],
    labels: Int64[Tensor, "B M"],
    ignore: Bool[Tensor, "B M"],
    *,
    top: int = 10,
    radius: float | int = 2.5,
    weight: float | int = 3.0,
    outside: float | int = 1e4,
) -> Assignment:
    """SimOTA: the cheapest points, as many as the object seems to need (YOLOX, Ge 2021, eq. 1).

    A point costs an object its classification loss plus `weight` times its box loss, -log IoU.
    Candidates lie inside the object's box or within `radius` strides of its centre; those that are
    not both cost `outside` more. The object takes its k cheapest, k the sum of its `top` largest
    IoUs, rounded down, at least 1: many where boxes are good already. A point wanted by several
    goes to the one it costs least. Quality is the IoU of the predicted box with its object.

    Args:
        outside: more than all other costs. Not YOLOX's 1e5, beside which float32 has two decimals.
    """
    inside = _inside(predictions.points, boxes)  # (B, M, A)
    near = _off_centre(predictions.points, boxes) < radius * predictions.strides
    candidate = _wanted(labels, ignore) & (inside | near)

    iou = pairwise_iou(boxes, predictions.boxes)
    # Binary cross-entropy against a one-hot target is the sum of softplus(logit) over the classes,
    # less the logit of the right one: no tensor of B M A C is needed.
    logits = predictions.logits
    class_cost = F.softplus(logits).sum(-1)[:, None] - _of_class(logits, labels)
    cost = class_cost - weight * (iou + 1e-8).log() + outside * ~(inside & near)

    top = min(top, iou.shape[-1])
    count = torch.where(candidate, iou, 0.0).topk(top, dim=-1).values.sum(-1)
    count = count.int().clamp(min=1)[..., None]  # (B, M, 1): dynamic k, at most `top`
    cheapest = cost.masked_fill(~candidate, math.inf).topk(top, dim=-1, largest=False).indices
    chosen = torch.arange(top, device=cost.device) < count
    positive = torch.zeros_like(candidate).scatter(-1, cheapest, chosen) & candidate

    target, positive = _resolve(positive, -cost)
    quality = torch.where(positive, iou, 0.0).sum(dim=1)
    return Assignment(target, quality, _ignored(target, inside, labels, ignore))


ASSIGNMENTS = {
    "task-aligned": task_aligned_assignment,
    "atss": atss_assignment,
    "simota": simota_assignment,
    "centre": centre_assignment,
}


def hard(assignment: Assignment) -> Assignment:
    """The same, asking for a score of 1 at every positive point: what focal loss needs."""
    return assignment._replace(quality=(assignment.target >= 0).to(assignment.quality.dtype))


# --- What they share: (B, M, A) unless said otherwise --------------------------------------------


def _sides(boxes: Tensor) -> tuple[Tensor, ...]:
    """x1, y1, x2, y2 of (B, M, 1) each."""
    return tuple(side[..., None] for side in boxes.unbind(-1))


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Which points lie inside which boxes, edges excluded."""
    x, y = points.unbind(-1)
    x1, y1, x2, y2 = _sides(boxes)
    return (x > x1) & (x < x2) & (y > y1) & (y < y2)


def _off_centre(points: Tensor, boxes: Tensor) -> Tensor:
    """Distance of points from the boxes' centres: the larger of horizontal and vertical."""
    x, y = points.unbind(-1)
    x1, y1, x2, y2 = _sides(boxes)
    return torch.maximum((x - (x1 + x2) / 2).abs(), (y - (y1 + y2) / 2).abs())


def _wanted(labels: Tensor, ignore: Tensor) -> Tensor:
    """Objects to be found, (B, M, 1)."""
    return ((labels >= 0) & ~ignore)[..., None]


def _of_class(values: Tensor, labels: Tensor) -> Tensor:
    """Every point's value (B, A, C) for the class of every object."""
    classes = labels.clamp(min=0)[..., None].expand(-1, -1, values.shape[1])
    return values.transpose(1, 2).gather(1, classes)


def _resolve(positive: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """Give each point to the one object that wants it and has the highest score.

    Returns:
        target: (B, A), -1 where none wants the point. positive: (B, M, A), at most one a point.
    """
    score = torch.where(positive, score, -math.inf)
    # A row for the background, ahead of the objects, beaten by every score but -inf: the argmax has
    # something to choose from where there are no objects at all.
    score = F.pad(score, (0, 0, 1, 0), value=torch.finfo(score.dtype).min)
    target = score.argmax(dim=1) - 1
    objects = torch.arange(positive.shape[1], device=target.device)
    return target, target[:, None] == objects[:, None]


def _ignored(target: Tensor, inside: Tensor, labels: Tensor, ignore: Tensor) -> Tensor:
    """Background points in an ignored box, (B, A)."""
    return (inside & ((labels >= 0) & ignore)[..., None]).any(dim=1) & (target < 0)
