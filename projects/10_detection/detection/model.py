"""A small anchor-free detector: residual backbone, feature pyramid, one shared head."""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from detection.boxes import batched_nms


class Predictions(NamedTuple):
    """What the head says at every point of the pyramid; A points an image, C classes."""

    logits: Float[Tensor, "B A C"]
    boxes: Float[Tensor, "B A 4"]  # xyxy in pixels
    points: Float[Tensor, "A 2"]  # x, y of each point in pixels
    strides: Float[Tensor, " A"]  # pixels between neighbouring points of its level


class Detections(NamedTuple):
    """What is found in one image, best first."""

    boxes: Float[Tensor, "n 4"]  # xyxy in pixels
    scores: Float[Tensor, " n"]  # 0..1
    labels: Tensor  # int64 (n,)


class Detector(nn.Module):
    """Points on a grid each predict a class and the distances to the four sides of a box.

    Args:
        classes: number of classes C.
        widths: channels of the backbone at strides 2, 4, 8 and 16.
        neck: channels of the feature pyramid and the head.
        prior: initial probability of every class at every point. Nearly all points are background;
            starting at 0.5 would make the first hundreds of steps unlearn that (Lin 2017, 4.1).
    """

    strides = (8, 16)

    def __init__(
        self,
        classes: int,
        widths: tuple[int, int, int, int] = (16, 32, 64, 128),
        neck: int = 64,
        prior: float = 0.01,
    ) -> None:
        super().__init__()
        self.stem = conv(3, widths[0], stride=2)
        self.stages = nn.ModuleList(Residual(a, b) for a, b in pairwise(widths))  # strides 4, 8, 16
        self.lateral = nn.ModuleList(nn.Conv2d(width, neck, 1) for width in widths[2:])
        self.smooth = conv(neck, neck)
        self.class_tower = SharedConv(neck, levels=len(self.strides))
        self.box_tower = SharedConv(neck, levels=len(self.strides))
        self.class_out = nn.Conv2d(neck, classes, 1)
        self.box_out = nn.Conv2d(neck, 4, 1)
        # One scale a level lets levels share the head although their boxes differ in size.
        self.scales = nn.Parameter(torch.ones(len(self.strides)))
        nn.init.normal_(self.class_out.weight, std=0.01)
        nn.init.constant_(self.class_out.bias, -math.log((1 - prior) / prior))

    def forward(self, images: UInt8[Tensor, "B 3 H W"]) -> Predictions:
        """Predictions at every point; H and W multiples of 16."""
        x = ((images.float() - 110.0) / 60.0).contiguous(memory_format=torch.channels_last)
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        coarse = self.lateral[1](features[2])  # (B, neck, H/16, W/16)
        fine = self.lateral[0](features[1]) + F.interpolate(coarse, scale_factor=2)
        levels = [self.smooth(fine), coarse]

        logits, boxes, points, strides = [], [], [], []
        for index, (level, stride) in enumerate(zip(levels, self.strides, strict=True)):
            grid = grid_points(level.shape[2], level.shape[3], stride, level.device)
            # softplus, not exp: a gradient of at most 1, and no box explodes early on
            sides = self.box_out(self.box_tower(level, index)).float() * self.scales[index]
            sides = F.softplus(sides)
            sides = (
                sides.flatten(2).transpose(1, 2) * stride
            )  # (B, h w, 4): left, top, right, bottom
            boxes.append(torch.cat([grid - sides[..., :2], grid + sides[..., 2:]], dim=-1))
            logits.append(self.class_out(self.class_tower(level, index)).flatten(2).transpose(1, 2))
            points.append(grid)
            strides.append(torch.full_like(grid[:, 0], stride))
        return Predictions(
            torch.cat(logits, 1).float(), torch.cat(boxes, 1), torch.cat(points), torch.cat(strides)
        )

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
        size = torch.tensor([images.shape[3], images.shape[2]] * 2, device=images.device)
        found = []
        for logits, boxes in zip(predictions.logits, predictions.boxes, strict=True):
            probability = logits.sigmoid()  # (A, C)
            point, label = (probability > score).nonzero(as_tuple=True)
            scores = probability[point, label]
            best = scores.argsort(descending=True, stable=True)[:1000]  # NMS makes an n x n table
            point, label, scores = point[best], label[best], scores[best]
            clipped = boxes[point].clamp(min=0).minimum(size)
            keep = batched_nms(clipped, scores, label, iou)[:most]
            found.append(Detections(clipped[keep], scores[keep], label[keep]))
        return found


class Residual(nn.Module):
    """Two 3x3 convolutions around a skip, the first with stride 2 (He 2016, figure 2).

    The skip halves by averaging, then projects (He 2019, "ResNet-D"): a 1x1 convolution with stride
    2 would look at a quarter of its input. Besides, its backward pass corrupts memory in torch 2.7
    on CPUs with AVX-512 where it has fewer than 16 input channels (LEARNING.md).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = conv(inputs, outputs, stride=2)
        self.second = conv(outputs, outputs, relu=False)
        self.skip = nn.Sequential(nn.AvgPool2d(2), conv(inputs, outputs, kernel=1, relu=False))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H_2 W_2"]:
        return F.relu(self.second(self.first(x)) + self.skip(x), inplace=True)


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


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True):
    """Convolution, BatchNorm and, unless a sum follows, ReLU."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def grid_points(
    height: int, width: int, stride: int, device: torch.device
) -> Float[Tensor, "points 2"]:
    """Centres (x, y) in pixels of the cells of a grid, row by row."""
    y = (torch.arange(height, device=device) + 0.5) * stride
    x = (torch.arange(width, device=device) + 0.5) * stride
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], dim=-1).reshape(-1, 2)
