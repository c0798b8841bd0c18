"""An anchor-free detector: a backbone, a feature pyramid, one shared head."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from detection.backbone import Backbone, SmallBackbone, conv
from detection.boxes import batched_nms


class Predictions(NamedTuple):
    """What the head says at every point of the pyramid; A points an image, C classes."""

    logits: Float[Tensor, "B A C"]
    boxes: Float[Tensor, "B A 4"]  # xyxy in pixels
    points: Float[Tensor, "A 2"]  # x, y of each point in pixels
    strides: Float[Tensor, " A"]  # pixels between neighbouring points of its level
    centerness: Float[Tensor, "B A"] | None = None  # logits, of FCOS's third branch


class Detections(NamedTuple):
    """What is found in one image, best first."""

    boxes: Float[Tensor, "n 4"]  # xyxy in pixels
    scores: Float[Tensor, " n"]  # 0..1
    labels: Int64[Tensor, " n"]


class Detector(nn.Module):
    """Points on a grid each predict a class and the distances to the four sides of a box.

    Args:
        classes: number of classes C.
        backbone: whose levels the points lie on; a new `SmallBackbone` if left out.
        neck: channels of the feature pyramid and the head.
        prior: initial probability of every class at every point. Nearly all points are background;
            starting at 0.5 would make the first hundreds of steps unlearn that (Lin 2017, 4.1).
        centerness: a third branch, for how central a point is in its box (Tian 2019, 3.3); beside
            the box, where the paper's authors found it better later (Tian 2020).
    """

    def __init__(
        self,
        classes: int,
        backbone: Backbone | None = None,
        neck: int = 64,
        prior: float = 0.01,
        centerness: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone or SmallBackbone()
        self.strides = self.backbone.strides
        levels = len(self.strides)
        self.lateral = nn.ModuleList(nn.Conv2d(width, neck, 1) for width in self.backbone.channels)
        self.smooth = nn.ModuleList(conv(neck, neck) for _ in range(levels - 1))
        self.class_tower = SharedConv(neck, levels)
        self.box_tower = SharedConv(neck, levels)
        self.class_out = nn.Conv2d(neck, classes, 1)
        self.box_out = nn.Conv2d(neck, 4, 1)
        # One scale a level lets levels share the head although their boxes differ in size.
        self.scales = nn.Parameter(torch.ones(levels))
        # Not RetinaNet's 0.01: the features' gradient is as small as these weights, and without it
        # 300 steps at this learning rate find nothing but the base rate (AP 0 against 0.27).
        nn.init.normal_(self.class_out.weight, std=0.1)
        nn.init.constant_(self.class_out.bias, -math.log((1 - prior) / prior))
        self.centerness_out = nn.Conv2d(neck, 1, 1) if centerness else None

    def forward(self, images: UInt8[Tensor, "B 3 H W"]) -> Predictions:
        """Predictions at every point, level by level; H and W multiples of the largest stride."""
        logits, boxes, points, strides, centerness = [], [], [], [], []
        for index, level in enumerate(self.pyramid(images)):
            stride = self.strides[index]
            grid = grid_points(level.shape[2], level.shape[3], stride, level.device)
            tower = self.box_tower(level, index)
            # softplus, not exp: a gradient of at most 1, and no box explodes early on
            sides = F.softplus(self.box_out(tower).float() * self.scales[index])
            sides = flat(sides) * stride  # (B, h w, 4): left, top, right, bottom
            boxes.append(torch.cat([grid - sides[..., :2], grid + sides[..., 2:]], dim=-1))
            logits.append(flat(self.class_out(self.class_tower(level, index))))
            points.append(grid)
            strides.append(torch.full_like(grid[:, 0], stride))
            if self.centerness_out is not None:
                centerness.append(flat(self.centerness_out(tower))[..., 0])
        return Predictions(
            torch.cat(logits, 1).float(),
            torch.cat(boxes, 1),
            torch.cat(points),
            torch.cat(strides),
            torch.cat(centerness, 1).float() if centerness else None,
        )

    def pyramid(self, images: UInt8[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B neck _ _"]]:
        """The backbone's levels, each with the coarser ones added, finest first (FPN, Lin 2017)."""
        *finer, coarsest = self.backbone(images)
        levels = [self.lateral[-1](coarsest)]
        for index in reversed(range(len(finer))):
            above = F.interpolate(levels[0], scale_factor=2)
            levels.insert(0, self.lateral[index](finer[index]) + above)
        # The coarsest has had nothing added to it that would want smoothing.
        return [*(smooth(x) for smooth, x in zip(self.smooth, levels, strict=False)), levels[-1]]

    @torch.no_grad()
    def detect(
        self,
        images: UInt8[Tensor, "B 3 H W"],
        score: float = 0.02,
        iou: float = 0.6,
        most: int = 100,
    ) -> list[Detections]:
        """Boxes of each image after NMS within each class.

        Args:
            score: drop what is less likely than this. Low, since AP ranks all of them.
            iou: NMS threshold.
            most: keep at most so many an image.
        """
        predictions = self(images)
        probabilities = predictions.logits.sigmoid()  # (B, A, C)
        if predictions.centerness is not None:
            # Points far from the centre are as sure of the class, but their boxes are worse. The
            # root keeps the scale of a probability, so that `score` means the same as without.
            central = predictions.centerness.sigmoid()[..., None]
            probabilities = (probabilities * central).sqrt()
        size = torch.tensor([images.shape[3], images.shape[2]] * 2, device=images.device)
        found = []
        for probability, boxes in zip(probabilities, predictions.boxes, strict=True):
            point, label = (probability > score).nonzero(as_tuple=True)
            scores = probability[point, label]
            best = scores.argsort(descending=True, stable=True)[:1000]  # NMS makes an n x n table
            point, label, scores = point[best], label[best], scores[best]
            clipped = boxes[point].clamp(min=0).minimum(size)
            keep = batched_nms(clipped, scores, label, iou)[:most]
            found.append(Detections(clipped[keep], scores[keep], label[keep]))
        return found


class SharedConv(nn.Module):
    """One 3x3 convolution for all levels, with a BatchNorm for each.

    Levels differ in their statistics. A shared BatchNorm normalises each level by its own batch in
    training but both by one running average in evaluation: boxes that fit to 0.99 IoU in training
    came out at 0.85 (LEARNING.md).
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(levels))

    def forward(self, x: Float[Tensor, "B C H W"], level: int) -> Float[Tensor, "B C H W"]:
        return F.relu(self.norms[level](self.conv(x)), inplace=True)


def flat(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B points C"]:
    """Values at each point of a level, row by row."""
    return x.flatten(2).transpose(1, 2)


def grid_points(
    height: int, width: int, stride: int, device: torch.device
) -> Float[Tensor, "points 2"]:
    """Centres (x, y) in pixels of the cells of a grid, row by row."""
    y = (torch.arange(height, device=device) + 0.5) * stride
    x = (torch.arange(width, device=device) + 0.5) * stride
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], dim=-1).reshape(-1, 2)
