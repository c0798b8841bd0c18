"""CenterNet's targets and loss (Zhou 2019, "Objects as Points")."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from active_learning.model import STRIDE, Output

ALPHA, BETA = 2, 4  # of the focal loss; the paper's
NEAR = 0.3  # of the Gaussian: cells that learn a class
LABEL_WEIGHT = 3.0  # classes are learned last, and most of what is wrong is their confusion
LEAST_SIGMA = 0.7  # cells


class Targets(NamedTuple):
    """What the net should say of B images with up to M objects."""

    heat: Float[Tensor, "B h w"]  # 1 at centres, less around them
    label: Int64[Tensor, "B h w"]  # class of the object whose Gaussian is the largest here
    cell: Int64[Tensor, "B M"]  # where each object's centre is; 0 in empty slots
    box: Float[Tensor, "B M 4"]  # centre within the cell, log of the size in cells
    present: Float[Tensor, "B M"]  # 1, or 0 in empty slots


def make_targets(
    boxes: Float[Tensor, "B M 4"], labels: Int64[Tensor, "B M"], cells: tuple[int, int]
) -> Targets:
    """Gaussians around the centres (eq. before 1), the larger one where two overlap.

    Args:
        boxes: xyxy in pixels, anything in empty slots.
        labels: -1 in empty slots.
        cells: h, w of the heatmap.
    """
    height, width = cells
    present = (labels >= 0).float()
    low, high = boxes[..., :2] / STRIDE, boxes[..., 2:] / STRIDE
    centre, size = (low + high) / 2, (high - low).clamp(min=0.25)  # (B, M, 2) in cells
    limit = torch.tensor([width - 1, height - 1], device=boxes.device)
    corner = centre.floor().clamp(min=0).minimum(limit)

    sigma = (size.prod(-1).sqrt() / 6).clamp(min=LEAST_SIGMA)[..., None]
    across, down = (
        torch.exp(
            -((torch.arange(count, device=boxes.device) - corner[..., i, None]) ** 2)
            / (2 * sigma**2)
        )
        for i, count in enumerate((width, height))
    )  # (B, M, w), (B, M, h)
    bump = down[..., :, None] * across[..., None, :] * present[..., None, None]  # (B, M, h, w)
    heat, owner = bump.max(1)  # (B, h, w)
    label = labels.clamp(min=0).gather(1, owner.flatten(1)).view_as(owner)
    box = torch.cat([centre - corner, size.log()], -1)
    return Targets(heat, label, (corner[..., 1] * width + corner[..., 0]).long(), box, present)


class Losses(NamedTuple):
    """Each a mean over objects."""

    heat: Tensor
    label: Tensor
    box: Tensor


def detection_losses(output: Output, targets: Targets) -> Losses:
    """Focal loss of the heatmap, cross-entropy of the classes, L1 of the boxes.

    Classes are learned in all cells near a centre, by the Gaussian's height there.
    """
    objects = targets.present.sum().clamp(min=1)
    heat = focal_loss(output.heat, targets.heat).sum() / objects
    near = targets.heat * (targets.heat > NEAR)
    wrong = F.cross_entropy(output.logits, targets.label, reduction="none")
    label = (near * wrong).sum() / near.sum().clamp(min=1)
    index = targets.cell[:, None].expand(-1, 4, -1)
    said = output.box.flatten(2).gather(2, index).transpose(1, 2)  # (B, M, 4)
    box = (F.l1_loss(said, targets.box, reduction="none").sum(-1) * targets.present).sum() / objects
    return Losses(heat, LABEL_WEIGHT * label, box)


def focal_loss(logits: Float[Tensor, "*n"], target: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Penalty-reduced focal loss (Zhou 2019, eq. 1), element by element.

    Where Y = 1: -(1 - p)^alpha log p; elsewhere -(1 - Y)^beta p^alpha log(1 - p).
    """
    p = logits.sigmoid()
    centre = -((1 - p) ** ALPHA) * F.logsigmoid(logits)
    around = -((1 - target) ** BETA) * p**ALPHA * F.logsigmoid(-logits)
    return torch.where(target == 1, centre, around)
