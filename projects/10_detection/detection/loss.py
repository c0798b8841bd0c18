"""Which points answer for which object, and what a wrong answer costs."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from detection.boxes import generalised_iou, pairwise_iou
from detection.model import Predictions


class Assignment(NamedTuple):
    """The object each point answers for; M objects an image, A points."""

    target: Int64[Tensor, "B A"]  # index of the object, -1 for background
    quality: Float[Tensor, "B A"]  # 0..1: the score a positive point should give; 0 for background
    ignored: Bool[Tensor, "B A"]  # background points in an ignored box: not to be punished


@torch.no_grad()
def task_aligned_assignment(
    predictions: Predictions,
    boxes: Float[Tensor, "B M 4"],
    labels: Int64[Tensor, "B M"],
    ignore: Bool[Tensor, "B M"],
    *,
    top: int = 8,
    alpha: float = 0.5,
    beta: float = 6.0,
    reach: float = 1.5,
) -> Assignment:
    """Task-aligned assignment (TOOD, Feng 2021, section 3.2).

    The alignment t = p^alpha u^beta of a point with an object joins the probability p that it gives
    the object's class and the IoU u of its box. Each object takes its `top` most aligned points
    among those inside its box, or within `reach` strides of its centre (so that objects smaller
    than a cell have points too). A point wanted by several goes to the one it overlaps most. What
    the point's score should be is t, scaled per object so that its largest value is the object's
    largest IoU (eq. 4 and below).

    Args:
        boxes: objects in pixels, padded; rows with label -1 do not exist.
        ignore: objects that are neither to be found nor to be punished when found.
    """
    x, y = predictions.points[:, 0], predictions.points[:, 1]
    x1, y1, x2, y2 = (side[..., None] for side in boxes.unbind(-1))  # (B, M, 1)
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)  # (B, M, A)
    distance = torch.maximum((x - (x1 + x2) / 2).abs(), (y - (y1 + y2) / 2).abs())
    exists = (labels >= 0)[..., None]
    real = exists & ~ignore[..., None]
    candidate = real & (inside | (distance < reach * predictions.strides))

    iou = pairwise_iou(boxes, predictions.boxes)  # (B, M, A)
    classes = labels.clamp(min=0)[..., None].expand(-1, -1, predictions.logits.shape[1])
    probability = predictions.logits.sigmoid().transpose(1, 2).gather(1, classes)  # (B, M, A)
    alignment = (probability**alpha * iou**beta).masked_fill(~candidate, -1.0)

    chosen = alignment.topk(min(top, alignment.shape[-1]), dim=-1).indices
    positive = torch.zeros_like(candidate).scatter(-1, chosen, True) & candidate
    owner = torch.where(positive, iou, -1.0).argmax(dim=1)  # (B, A)
    positive &= F.one_hot(owner, boxes.shape[1]).transpose(1, 2).bool()

    alignment = torch.where(positive, alignment, 0.0)
    best_iou = torch.where(positive, iou, 0.0).amax(-1, keepdim=True)
    tiny = torch.finfo(alignment.dtype).tiny  # an IoU of 0.05 makes t 1e-8: no larger constant
    quality = alignment / alignment.amax(-1, keepdim=True).clamp(min=tiny) * best_iou
    is_positive = positive.any(dim=1)
    return Assignment(
        target=torch.where(is_positive, owner, -1),
        quality=quality.sum(dim=1),
        ignored=(inside & exists & ignore[..., None]).any(dim=1) & ~is_positive,
    )


def detection_loss(
    predictions: Predictions,
    assignment: Assignment,
    boxes: Float[Tensor, "B M 4"],
    labels: Int64[Tensor, "B M"],
    normaliser: Float[Tensor, ""],
    *,
    box_weight: float = 2.0,
    gamma: float = 0.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Classification and (weighted) box loss, both divided by `normaliser`.

    Classification is binary cross-entropy against the quality as a soft label, times
    |quality - probability|^gamma (quality focal loss, Li 2020, eq. 4; gamma 0 is plain BCE). The
    box loss is 1 - GIoU of positive points, weighted by their quality: points that answer well are
    the ones whose boxes will be shown.

    Args:
        normaliser: the sum of qualities of a batch, at least 1. Dividing by images instead would
            let crowded images dominate.
    """
    positive = assignment.target >= 0
    image, point = positive.nonzero(as_tuple=True)
    target = assignment.target[image, point]
    quality = assignment.quality[image, point]

    wanted = torch.zeros_like(predictions.logits)
    wanted[image, point, labels[image, target]] = quality
    per_point = F.binary_cross_entropy_with_logits(predictions.logits, wanted, reduction="none")
    if gamma > 0:
        per_point = per_point * (wanted - predictions.logits.sigmoid()).abs() ** gamma
    classification = per_point.sum(-1).masked_fill(assignment.ignored, 0.0).sum() / normaliser

    giou = generalised_iou(predictions.boxes[image, point], boxes[image, target])
    box = (quality * (1 - giou)).sum() / normaliser
    return classification, box_weight * box
