"""Four data sets as tensors in memory, split in three, and the augmentation."""

from typing import NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from trainloop import load_images

DIGITS = tuple("0123456789")
CLASSES = {
    "digits": DIGITS,
    "mnist": DIGITS,
    "fashion-mnist": ("T-shirt", "trousers", "pullover", "dress", "coat",
                      "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer",
                "dog", "frog", "horse", "ship", "truck"),
}  # fmt: skip
"""The names of the ten classes of each data set, in the order of its labels."""

MIRRORED = ("fashion-mnist", "cifar10")  # a mirrored shoe is a shoe, a mirrored 2 is no digit


class Labelled(NamedTuple):
    """Images and their classes."""

    images: UInt8[Tensor, "N C H W"]
    labels: Int64[Tensor, " N"]

    def to(self, device: torch.device) -> "Labelled":
        return Labelled(self.images.to(device), self.labels.to(device))


def load(name: str) -> tuple[Labelled, Labelled, Labelled]:
    """Training, validation and test images, fetched if needed.

    Validation is the last twelfth of the published training images: MNIST's 60,000 become 55,000
    and 5,000. The 10,000 test images (297 of digits) are as published.

    Raises:
        LabError: an unknown name, or no source gave the data set.
    """
    images, labels = load_images(name, "train")
    cut = len(images) - len(images) // 12
    test = Labelled(*load_images(name, "test"))
    return Labelled(images[:cut], labels[:cut]), Labelled(images[cut:], labels[cut:]), test


def augment(images: UInt8[Tensor, "B C H W"], shift: int, mirror: bool) -> UInt8[Tensor, "B C H W"]:
    """Each image moved by up to `shift` pixels; half of them mirrored, where that makes sense."""
    images = random_shift(images, shift)
    if mirror:
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        images = torch.where(chosen, images.flip(3), images)
    return images


def random_shift(images: UInt8[Tensor, "B C H W"], most: int) -> UInt8[Tensor, "B C H W"]:
    """Each image moved by its own whole number of pixels, -most..most each way; black comes in."""
    if most == 0:
        return images
    count, _, height, width = images.shape
    padded = F.pad(images, (most, most, most, most)).permute(0, 2, 3, 1)  # (B, H + 2 most, .., C)
    offset = torch.randint(0, 2 * most + 1, (2, count, 1), device=images.device)
    rows = offset[0] + torch.arange(height, device=images.device)  # (B, H)
    columns = offset[1] + torch.arange(width, device=images.device)  # (B, W)
    which = torch.arange(count, device=images.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
