"""MNIST as tensors in memory, and the one augmentation."""

from typing import NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from trainloop import load_images

VALIDATION = 5000  # the last ones of the training set


class Labelled(NamedTuple):
    """Images and their classes."""

    images: UInt8[Tensor, "N 1 28 28"]
    labels: Int64[Tensor, " N"]

    def to(self, device: torch.device) -> "Labelled":
        return Labelled(self.images.to(device), self.labels.to(device))


def load() -> tuple[Labelled, Labelled, Labelled]:
    """55,000 training, 5,000 validation and 10,000 test images of MNIST, fetched if needed."""
    images, labels = load_images("mnist", "train")
    cut = len(images) - VALIDATION
    test = Labelled(*load_images("mnist", "test"))
    return Labelled(images[:cut], labels[:cut]), Labelled(images[cut:], labels[cut:]), test


def random_shift(images: UInt8[Tensor, "B 1 H W"], most: int) -> UInt8[Tensor, "B 1 H W"]:
    """Each image moved by its own whole number of pixels, -most..most each way; black comes in."""
    if most == 0:
        return images
    count, _, height, width = images.shape
    padded = F.pad(images, (most, most, most, most))[:, 0]  # (B, H + 2 most, W + 2 most)
    offset = torch.randint(0, 2 * most + 1, (2, count, 1), device=images.device)
    rows = offset[0] + torch.arange(height, device=images.device)  # (B, H)
    columns = offset[1] + torch.arange(width, device=images.device)  # (B, W)
    which = torch.arange(count, device=images.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]][:, None]
