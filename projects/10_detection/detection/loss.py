"""What a wrong answer costs: losses of class, box and centerness."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from detection.assignment import Assignment
from detection.boxes import (
    EPSILON,
    complete_iou,
    distance_iou,
    elementwise_iou,
    generalised_iou,
)
from detection.model import Predictions

# --- Classification: logits against the wanted scores, entry by entry ----------------------------


def binary_cross_entropy(
    logits: Float[Tensor, "*n"], target: Float[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    """Binary cross-entropy against a target in 0..1."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def focal(
    logits: Float[Tensor, "*n"],
    target: Float[Tensor, "*n"],
    alpha: float | int = 0.25,
    gamma: float | int = 2.0,
) -> Float[Tensor, "*n"]:
    """Focal loss (Lin 2017, eq. 5): what is right already weighs (1 - p_t)^gamma of the rest.

    Args:
        target: 0 or 1; the paper has no others (`assignment.hard` makes them).
        alpha: weight of positives; negatives have 1 - alpha.
    """
    alpha_t = alpha * target + (1 - alpha) * (1 - target)
    error = (target - logits.sigmoid()).abs()  # 1 - p_t
    return alpha_t * error**gamma * binary_cross_entropy(logits, target)


def quality_focal(
    logits: Float[Tensor, "*n"], target: Float[Tensor, "*n"], beta: float | int = 2.0
) -> Float[Tensor, "*n"]:
    """Quality focal loss (Li 2020, eq. 4): the focal loss for any target in 0..1."""
    error = (target - logits.sigmoid()).abs()
    return error**beta * binary_cross_entropy(logits, target)


def varifocal(
    logits: Float[Tensor, "*n"],
    target: Float[Tensor, "*n"],
    alpha: float | int = 0.75,
    gamma: float | int = 2.0,
) -> Float[Tensor, "*n"]:
    """Varifocal loss (Zhang 2021, eq. 2), for any target in 0..1.

    Only negatives are weighed down when they are right; positives weigh what they are worth.
    """
    weight = torch.where(target > 0, target, alpha * logits.sigmoid() ** gamma)
    return weight * binary_cross_entropy(logits, target)


CLASS_LOSSES = {
    "bce": binary_cross_entropy,
    "focal": focal,
    "quality-focal": quality_focal,
    "varifocal": varifocal,
}
BOX_LOSSES = {
    "iou": elementwise_iou,
    "giou": generalised_iou,
    "diou": distance_iou,
    "ciou": complete_iou,
}
"""Similarities; the loss is 1 less the similarity."""


# --- Of a batch ----------------------------------------------------------------------------------


class Losses(NamedTuple):
    """Sums over the points of a batch, divided by nothing."""

    classification: Float[Tensor, ""]
    box: Float[Tensor, ""]
    centerness: Float[Tensor, ""]  # 0 for predictions without


def centerness(points: Float[Tensor, "n 2"], boxes: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """How central each point is in its box: 1 at the centre, 0 on the edge and beyond.

    sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of the distances to the four sides (FCOS,
    Tian 2019, eq. 3).
    """
    before, behind = points - boxes[:, :2], boxes[:, 2:] - points  # (l, t), (r, b)
    nearer = torch.minimum(before, behind).clamp(min=0)
    farther = torch.maximum(before, behind).clamp(min=EPSILON)
    return (nearer / farther).prod(-1).sqrt()


def detection_loss(
    predictions: Predictions,
    assignment: Assignment,
    boxes: Float[Tensor, "B M 4"],
    labels: Int64[Tensor, "B M"],
    *,
    class_loss: str = "bce",
    box_loss: str = "giou",
    box_weight: float | int = 2.0,
) -> Losses:
    """The losses of a batch, as sums: the caller divides by the sum of qualities, say.

    Sums, because what to divide by is known only after all parts of a batch, on all processes, have
    been assigned.

    Args:
        class_loss: of `CLASS_LOSSES`, summed over the classes of all points that are not ignored. A
            positive point should give its quality to its object's class and 0 to the others.
        box_loss: of `BOX_LOSSES`, summed over positive points, weighted by their quality: points
            that answer well are the ones whose boxes will be shown.
        box_weight: factor of the box loss.

    With `predictions.centerness` (FCOS) its binary cross-entropy against `centerness` is summed
    over positive points, and it is centerness that weighs the box loss instead of quality.
    """
    positive = assignment.target >= 0
    image, point = positive.nonzero(as_tuple=True)
    target = assignment.target[image, point]
    quality = assignment.quality[image, point]
    target_boxes = boxes[image, target]

    wanted = torch.zeros_like(predictions.logits)
    wanted[image, point, labels[image, target]] = quality
    per_point = CLASS_LOSSES[class_loss](predictions.logits, wanted).sum(-1)
    classification = per_point.masked_fill(assignment.ignored, 0.0).sum()

    box_quality, centre_loss = quality, torch.zeros_like(classification)
    if predictions.centerness is not None:
        box_quality = centerness(predictions.points[point], target_boxes)
        given = predictions.centerness[image, point]
        centre_loss = binary_cross_entropy(given, box_quality).sum()

    similarity = BOX_LOSSES[box_loss](predictions.boxes[image, point], target_boxes)
    box = (box_quality * (1 - similarity)).sum()
    return Losses(classification, box_weight * box, centre_loss)
