"""Box arithmetic. A box is (x1, y1, x2, y2) in pixels with x1 <= x2 and y1 <= y2."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

EPSILON = 1e-7  # keeps ratios of empty boxes finite


def area(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Area in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_iou(a: Float[Tensor, "*b n 4"], b: Float[Tensor, "*b m 4"]) -> Float[Tensor, "*b n m"]:
    """Intersection over union of every box of `a` with every box of `b`; 0 for empty boxes."""
    intersection, union = _overlap(a[..., :, None, :], b[..., None, :, :])
    return intersection / union.clamp(min=EPSILON)


def elementwise_iou(a: Float[Tensor, "*n 4"], b: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Intersection over union of corresponding boxes, in [0, 1]; 0 for empty boxes."""
    intersection, union = _overlap(a, b)
    return intersection / union.clamp(min=EPSILON)


def generalised_iou(a: Float[Tensor, "*n 4"], b: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """GIoU of corresponding boxes, in [-1, 1] (Rezatofighi 2019, algorithm 1).

    IoU less the empty share of the smallest box around both: unlike IoU it tells boxes that do not
    touch in which direction to move.
    """
    intersection, union = _overlap(a, b)
    hull = _hull(a, b).prod(-1)
    return intersection / union.clamp(min=EPSILON) - (hull - union) / hull.clamp(min=EPSILON)


def distance_iou(a: Float[Tensor, "*n 4"], b: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """DIoU of corresponding boxes, in [-1, 1] (Zheng 2020, eq. 7).

    IoU less the squared distance of the centres, as a share of the squared diagonal of the smallest
    box around both. Unlike GIoU it still says where to move once one box lies in the other.
    """
    centre_a, centre_b = (a[..., :2] + a[..., 2:]) / 2, (b[..., :2] + b[..., 2:]) / 2
    distance = (centre_a - centre_b).square().sum(-1)  # rho^2
    diagonal = _hull(a, b).square().sum(-1)  # c^2
    return elementwise_iou(a, b) - distance / diagonal.clamp(min=EPSILON)


def complete_iou(a: Float[Tensor, "*n 4"], b: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """CIoU of corresponding boxes, in (-2, 1] (Zheng 2020, eq. 8-11).

    DIoU less alpha v, where v in [0, 1) is how much the aspect ratios differ. The weight alpha is a
    constant to the gradient, as in the paper; it is small until the boxes overlap well.
    """
    angle_a, angle_b = (
        torch.atan((box[..., 2] - box[..., 0]) / (box[..., 3] - box[..., 1]).clamp(min=EPSILON))
        for box in (a, b)
    )
    v = 4 / math.pi**2 * (angle_a - angle_b).square()
    with torch.no_grad():
        alpha = v / (1 - elementwise_iou(a, b) + v).clamp(min=EPSILON)
    return distance_iou(a, b) - alpha * v


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of the intersection and the union of corresponding boxes."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    return intersection, area(a) + area(b) - intersection


def _hull(a: Tensor, b: Tensor) -> Tensor:
    """Width and height of the smallest box around corresponding boxes."""
    low, high = torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])
    return high - low


def nms(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], threshold: float
) -> Int64[Tensor, " kept"]:
    """Greedy non-maximum suppression: indices of the kept boxes, best first.

    The best box is kept, those whose IoU with it is above `threshold` are dropped, and so on. Each
    box's fate depends on the better ones only, so what is looped over is the boxes kept.
    """
    order = scores.argsort(descending=True, stable=True)
    iou = pairwise_iou(boxes[order], boxes[order])
    alive = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    kept = []
    position = 0
    while position < len(order):
        kept.append(position)
        alive &= iou[position] <= threshold
        alive[: position + 1] = False
        position = int(alive.int().argmax()) if alive.any() else len(order)
    return order[torch.tensor(kept, dtype=torch.int64, device=boxes.device)]


def batched_nms(
    boxes: Float[Tensor, "n 4"],
    scores: Float[Tensor, " n"],
    groups: Int64[Tensor, " n"],
    threshold: float,
) -> Int64[Tensor, " kept"]:
    """NMS within each group (a class, an image): boxes of different groups never meet.

    One call serves all groups: each is moved to a place of its own, beyond the reach of the others.
    """
    if len(boxes) == 0:
        return groups
    reach = boxes.amax() - boxes.amin() + 1
    # In double: a far group's coordinates would lose the digits that decide close calls.
    moved = boxes.double() + (groups.double() * reach.double())[:, None]
    return nms(moved, scores, threshold)
