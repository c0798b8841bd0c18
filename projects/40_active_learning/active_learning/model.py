"""A small heatmap detector after CenterNet (Zhou 2019): an object is a peak at its centre.

CenterNet has a heatmap for each class. Here one heatmap says that there is an object, and a softmax
beside it of which class: where things are is then learned from all classes together, which counts
when few frames are labelled. p(class k at a cell) = p(object) p(k | object).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 4  # pixels of the image a side for each cell of the heatmap
MOST = 20  # detections of a frame
DROPOUT = 0.1  # of the head's channels, in training; and when BALD asks
PRIOR = 0.02  # p(object) of an untrained net, everywhere


class Output(NamedTuple):
    """What the net says of B images, h = H / 4, w = W / 4."""

    heat: Float[Tensor, "B h w"]  # logit of "an object has its centre here"
    logits: Float[Tensor, "B K h w"]  # of its class
    box: Float[Tensor, "B 4 h w"]  # centre within the cell (x, y), log of width and height in cells
    neck: Float[Tensor, "B F h w"]  # what the last 1x1 convolution reads


@dataclass(frozen=True)
class Detections:
    """The best peaks of B frames, best first; equally many everywhere, many of them faint."""

    boxes: Float[Tensor, "B D 4"]  # xyxy in pixels, within the image
    scores: Float[Tensor, "B D"]  # in 0..1
    labels: Int64[Tensor, "B D"]


class Detector(nn.Module):
    """Strides 2, 4, 8 and back to 4; one head for heat and boxes.

    Args:
        classes: K.
        channels: of the images, 1 or 3.
        width: channels at stride 2; twice and three times as many follow.
    """

    def __init__(self, classes: int, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        fine, coarse = 2 * width, 3 * width
        self.stem = nn.Sequential(block(channels, width, 5, 2), block(width, fine, 3, 2))
        self.coarse = nn.Sequential(block(fine, coarse, 3, 2), Residual(coarse))
        self.up = nn.Conv2d(coarse, fine, 1)
        self.neck = block(fine, fine, 3, 1)
        self.head = nn.Conv2d(fine, 5 + classes, 1)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()
            self.head.bias[0] = torch.tensor(PRIOR).logit()
            self.head.bias[1:3] = 0.5
            self.head.bias[3:5] = 1.5  # exp: 4.5 cells, 18 pixels

    def forward(self, images: Shaped[Tensor, "B C H W"]) -> Output:
        neck = self.features(images)
        return self.heads(F.dropout2d(neck, DROPOUT, self.training))

    def features(self, images: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B F h w"]:
        """Everything before dropout and the head."""
        x = (images.float() - 110) / 50
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # (B, F, H/4, W/4)
        return self.neck(x + F.interpolate(self.up(self.coarse(x)), scale_factor=2.0))

    def heads(self, neck: Float[Tensor, "B F h w"]) -> Output:
        """Heat and boxes, also of features that somebody dropped some of."""
        out = self.head(neck)
        return Output(out[:, 0], out[:, 5:], out[:, 1:5], neck)


def block(channels: int, out: int, kernel: int, stride: int) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU."""
    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """x + f(x), f two convolutions (He 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            block(width, width, 3, 1),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Float[Tensor, "B F h w"]) -> Float[Tensor, "B F h w"]:
        return F.relu(x + self.body(x), inplace=True)


def peaks(output: Output) -> Float[Tensor, "B h w"]:
    """p(object) in cells where it is the largest of the nine around, 0 elsewhere."""
    heat = output.heat.sigmoid()
    return heat * (heat == F.max_pool2d(heat[:, None], 3, 1, 1)[:, 0])


def decode(output: Output, most: int = MOST) -> Detections:
    """The best pairs of a peak and a class."""
    _, _, height, width = output.logits.shape
    joint = peaks(output)[:, None] * output.logits.softmax(1)  # (B, K, h, w)
    scores, place = joint.flatten(1).topk(most, dim=1)
    cell = place % (height * width)
    return Detections(boxes_at(output.box, cell), scores, place // (height * width))


def boxes_at(box: Float[Tensor, "B 4 h w"], cell: Int64[Tensor, "B D"]) -> Float[Tensor, "B D 4"]:
    """The boxes that the net sees in some cells, xyxy in pixels, cut at the image's edge."""
    _, _, height, width = box.shape
    x, y, wide, high = box.flatten(2).gather(2, cell[:, None].expand(-1, 4, -1)).unbind(1)
    centre = torch.stack([cell % width + x, cell // width + y], -1)
    half = torch.stack([wide, high], -1).clamp(max=5).exp() / 2
    limit = torch.tensor([width, height], device=box.device) * float(STRIDE)
    low, high = ((centre + sign * half) * STRIDE for sign in (-1, 1))
    return torch.cat([low.clamp(min=0).minimum(limit), high.clamp(min=0).minimum(limit)], -1)
