"""MNIST split in three, rendered digits, and how the two are mixed."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from mnist.config import TRAINING_IMAGES, TrainConfig
from trainloop import LabError, check, load_images

CLASSES = 10
SIDE = 28  # pixels


class Labelled(NamedTuple):
    """Images, white on black, and their digits."""

    images: UInt8[Tensor, "N 1 28 28"]
    labels: Int64[Tensor, " N"]

    def take(self, indices: Int64[Tensor, " n"]) -> "Labelled":
        """Some of them."""
        return Labelled(self.images.index_select(0, indices), self.labels.index_select(0, indices))

    def to(self, device: torch.device) -> "Labelled":
        return Labelled(self.images.to(device), self.labels.to(device))


def load() -> tuple[Labelled, Labelled, Labelled]:
    """MNIST: 55,000 training, 5,000 validation and 10,000 test images, fetched if needed.

    Validation is the last twelfth of the published training images.

    Raises:
        LabError: no source gave the data set.
    """
    images, labels = load_images("mnist", "train")
    test = Labelled(*load_images("mnist", "test"))
    return (
        Labelled(images[:TRAINING_IMAGES], labels[:TRAINING_IMAGES]),
        Labelled(images[TRAINING_IMAGES:], labels[TRAINING_IMAGES:]),
        test,
    )


# --- what is trained on --------------------------------------------------------------------------


def training_images(real: Labelled, config: TrainConfig) -> Labelled:
    """`--real` of the real images, each `--repeat` times, and the rendered ones of `--mix`.

    Raises:
        LabError: fewer real or rendered images are there than asked for, or the folder is not as
            `read_synthetic` wants it.
    """
    check(
        config.real <= len(real.images),
        f"--real {config.real:,}: only {len(real.images):,} training images are there",
    )
    parts = [real.take(balanced(real.labels, config.real, config.seed))] * config.repeat
    if count := synthetic_count(config.mix, config.real):
        parts.append(read_synthetic(config.synthetic_folder, count, config.seed))
    return Labelled(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def synthetic_count(mix: float | int, real: int) -> int:
    """How many rendered digits `mix` asks for: a share of the mixed set below 1, else a number."""
    return round(real * mix / (1 - mix)) if mix < 1 else int(mix)


def balanced(labels: Int64[Tensor, " N"], count: int, seed: int) -> Int64[Tensor, " count"]:
    """Indices of `count` samples, as many of each class as can be had, drawn by the seed.

    Of one seed the smaller draw is part of the larger: 1,000 images are the 100 and 900 more.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    turn = torch.empty_like(labels)  # the first of its class in this order, the second, ...
    for digit in range(CLASSES):
        of_digit = order[labels[order] == digit]
        turn[of_digit] = torch.arange(len(of_digit))
    return (turn * CLASSES + labels).argsort(stable=True)[:count]


# --- rendered digits -----------------------------------------------------------------------------


def synthetic_files(folder: Path) -> list[list[Path]]:
    """The PNG files of each digit, sorted by name.

    Raises:
        LabError: the folder, or one of its ten, is missing or empty.
    """
    check(
        folder.is_dir(),
        f"no rendered digits at {folder}: `uv run --package houdini digits` makes them, or name "
        "another folder with --synthetic",
    )
    files = [sorted((folder / str(digit)).glob("*.png")) for digit in range(CLASSES)]
    missing = ", ".join(str(digit) for digit, found in enumerate(files) if not found)
    check(
        not missing,
        f"{folder} has no PNG files of digit {missing}: it must hold the folders 0 to 9",
    )
    return files


def read_synthetic(folder: Path, count: int, seed: int) -> Labelled:
    """`count` rendered digits, as many of each class as can be had, drawn by the seed.

    Raises:
        LabError: fewer are there, a folder is missing, or a file is no 28x28 grey image.
    """
    files = synthetic_files(folder)
    labels = torch.tensor([digit for digit, found in enumerate(files) for _ in found])
    check(
        count <= len(labels),
        f"--mix asks for {count:,} rendered digits, {folder} holds {len(labels):,}: mix fewer, or "
        "make more with `uv run --package houdini digits`",
    )
    paths = [path for found in files for path in found]
    chosen = balanced(labels, count, seed)
    images = np.stack([read_grey(paths[index]) for index in chosen.tolist()])
    return Labelled(torch.from_numpy(images)[:, None], labels[chosen])


def read_grey(path: Path) -> UInt8[np.ndarray, "28 28"]:
    """The pixels of an 8-bit grey PNG.

    Raises:
        LabError: it is unreadable, or of another size or kind.
    """
    try:
        with Image.open(path) as image:
            found = f"{image.width}x{image.height} {image.mode}"
            pixels = np.asarray(image)
    except (OSError, UnidentifiedImageError, SyntaxError):
        raise LabError(f"{path} is no readable image: delete it, or render it again") from None
    check(
        found == f"{SIDE}x{SIDE} L",
        f"{path} is {found}, not {SIDE}x{SIDE} with 8 bits of grey (L)",
    )
    return pixels


# --- augmentation --------------------------------------------------------------------------------


def shifted(images: UInt8[Tensor, "B 1 h w"], most: int) -> Float[Tensor, "B 1 h w"]:
    """In 0..1, each moved by its own whole number of pixels, -most..most each way; black comes in.

    torch's generator draws the numbers.
    """
    count, _, height, width = images.shape
    padded = F.pad(images[:, 0], (most, most, most, most))  # (B, h + 2 most, w + 2 most)
    offset = torch.randint(0, 2 * most + 1, (2, count, 1), device=images.device)
    rows = offset[0] + torch.arange(height, device=images.device)  # (B, h)
    columns = offset[1] + torch.arange(width, device=images.device)  # (B, w)
    which = torch.arange(count, device=images.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]][:, None].float() / 255
