"""Fashion-MNIST split in three, and what is done to training images."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from fashion_mnist.config import TRAINING_IMAGES, Recipe
from trainloop import load_images

CLASSES = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
"""By label, as the data set's authors list them (T-shirt: "T-shirt/top")."""
SIDE = 28  # pixels


class Labelled(NamedTuple):
    """Images, white on black, and what they show: an index of CLASSES."""

    images: UInt8[Tensor, "N 1 28 28"]
    labels: Int64[Tensor, " N"]

    def take(self, indices: Int64[Tensor, " n"]) -> "Labelled":
        """Some of them."""
        return Labelled(self.images.index_select(0, indices), self.labels.index_select(0, indices))

    def to(self, device: torch.device) -> "Labelled":
        return Labelled(self.images.to(device), self.labels.to(device))


def load() -> tuple[Labelled, Labelled, Labelled]:
    """Fashion-MNIST: 55,000 training, 5,000 validation, 10,000 test images, fetched if needed.

    Validation is the last twelfth of the published training images.

    Raises:
        LabError: no source gave the data set.
    """
    images, labels = load_images("fashion-mnist", "train")
    test = Labelled(*load_images("fashion-mnist", "test"))
    return (
        Labelled(images[:TRAINING_IMAGES], labels[:TRAINING_IMAGES]),
        Labelled(images[TRAINING_IMAGES:], labels[TRAINING_IMAGES:]),
        test,
    )


# --- augmentation; torch's generator draws, so that a step's draws follow from (seed, step) ------


def augmented(images: UInt8[Tensor, "B 1 h w"], recipe: Recipe) -> Float[Tensor, "B 1 h w"]:
    """Training images in 0..1: flipped, shifted and cut out as the recipe says, in that order."""
    if recipe.flip:
        images = flipped(images)
    moved = shifted(images, recipe.shift)
    return cut_out(moved, recipe.cutout) if recipe.cutout else moved


def flipped(images: UInt8[Tensor, "B 1 h w"]) -> UInt8[Tensor, "B 1 h w"]:
    """Half of them, by chance, mirrored left to right: a shoe may point either way."""
    mirror = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirror, images.flip(3), images)


def shifted(images: UInt8[Tensor, "B 1 h w"], most: int) -> Float[Tensor, "B 1 h w"]:
    """In 0..1, each moved by its own whole number of pixels, -most..most each way.

    Black comes in.
    """
    count, _, height, width = images.shape
    padded = F.pad(images[:, 0], (most, most, most, most))  # (B, h + 2 most, w + 2 most)
    offset = torch.randint(0, 2 * most + 1, (2, count, 1), device=images.device)
    rows = offset[0] + torch.arange(height, device=images.device)  # (B, h)
    columns = offset[1] + torch.arange(width, device=images.device)  # (B, w)
    which = torch.arange(count, device=images.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]][:, None].float() / 255


def cut_out(images: Float[Tensor, "B 1 h w"], side: int) -> Float[Tensor, "B 1 h w"]:
    """A square of `side` pixels made black in each (DeVries & Taylor 2017).

    Its centre is any pixel, so near an edge a part of the square falls outside.
    """
    count, _, height, width = images.shape
    centre = torch.rand(2, count, 1, device=images.device)
    first_row = (centre[0] * height).long() - side // 2  # (B, 1)
    first_column = (centre[1] * width).long() - side // 2
    rows = torch.arange(height, device=images.device) - first_row  # (B, h), from the square's edge
    columns = torch.arange(width, device=images.device) - first_column
    inside_rows, inside_columns = ((x >= 0) & (x < side) for x in (rows, columns))
    inside = inside_rows[:, :, None] & inside_columns[:, None, :]  # (B, h, w)
    return images.masked_fill(inside[:, None], 0.0)
