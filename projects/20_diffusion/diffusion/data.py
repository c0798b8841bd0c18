"""What to learn the distribution of: images with or without labels, or points in the plane."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from diffusion.config import LABELLED, DataOptions, Toy
from diffusion.model import PATCH
from trainloop import LabError, check, load_images

VALIDATION = {"digits": 150, "mnist": 5_000, "fashion-mnist": 5_000, "cifar10": 5_000}
TOY_POINTS = 100_000
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
MODES = {"1": "L", "L": "L", "RGB": "RGB"}
"""PIL's modes that are taken as they are; of others (palettes, alpha, 16 bits) it is not clear."""


@dataclass(frozen=True)
class Split:
    """Samples and their labels; of unlabelled ones every label is 0, which then means "none".

    Attributes:
        samples: images 0..255, (N, C, H, W), or points in the plane, float (N, 2).
    """

    samples: UInt8[Tensor, "N C H W"] | Float[Tensor, "N 2"]
    labels: Int64[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.samples)

    def to(self, device: torch.device) -> "Split":
        return Split(self.samples.to(device), self.labels.to(device))

    def take(
        self, indices: Int64[Tensor, " B"], pixels: str = "symmetric"
    ) -> tuple[Float[Tensor, "B ..."], Int64[Tensor, " B"]]:
        """x_0 and labels of some of them: images in -1..1 (`unit`, the mistake: 0..1), points as
        they are."""
        picked = indices.to(self.samples.device)
        return scaled(self.samples[picked], pixels), self.labels[picked]


@dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
        name: as given to --data.
        classes: names of the labels; empty where there are none.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample: (C, H, W) or (2,)."""
        return tuple(self.train.samples.shape[1:])

    @property
    def scorable(self) -> bool:
        """Whether there is a classifier for its Frechet distance."""
        return self.name in LABELLED


def load(config: DataOptions) -> Data:
    """The data set of `config.data`, split.

    The published sets' validation images are the last ones of their training images. A folder is
    split by a hash of the file names, so that a new image never moves an old one.

    Raises:
        LabError: it is not there, or a folder's images are not of one size and kind.
    """
    if config.data == "toy2d":
        train, validation, test = (
            Split(points, torch.zeros(len(points), dtype=torch.int64))
            for points in (toy_points(config.toy, TOY_POINTS, part) for part in range(3))
        )
        return Data("toy2d", (), train, validation, test)
    if config.data in LABELLED:
        images, labels = load_images(config.data, "train")
        cut = len(images) - VALIDATION[config.data]
        classes = tuple(map(str, range(10)))
        train, validation = Split(images[:cut], labels[:cut]), Split(images[cut:], labels[cut:])
        return Data(
            config.data, classes, train, validation, Split(*load_images(config.data, "test"))
        )
    folder = Path(config.data)
    check(
        folder.is_dir(),
        f"--data {config.data} is no folder, nor one of toy2d, {', '.join(LABELLED)}",
    )
    return read_folder(folder, config.size)


def scaled(
    samples: UInt8[Tensor, "..."] | Float[Tensor, "..."], pixels: str
) -> Float[Tensor, "..."]:
    """0..255 to -1..1 (to 0..1 with `unit`); what is no pixel stays as it is."""
    if samples.dtype != torch.uint8:
        return samples
    return samples / 255 if pixels == "unit" else samples / 127.5 - 1


def to_pixels(x: Float[Tensor, "..."], pixels: str = "symmetric") -> UInt8[Tensor, "..."]:
    """And back, what lies outside cut off."""
    x = x if pixels == "unit" else (x + 1) / 2
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


# --- folders -------------------------------------------------------------------------------------


def read_folder(folder: Path, size: int = 0) -> Data:
    """Images of one folder, or of one folder for each label.

    Args:
        size: cut out the middle square and resize it to this many pixels; 0: take them as they are.

    Raises:
        LabError: fewer than 20 images, an unreadable one, several sizes or modes, or a side that
            does not split into patches.
    """
    check(
        size % PATCH == 0,
        f"--size must be a multiple of {PATCH}, the network's patches, not {size}",
    )
    homes = sorted(path for path in folder.iterdir() if path.is_dir() and _pictures(path))
    files = [(path, label) for label, home in enumerate(homes) for path in _pictures(home)]
    files = files or [(path, 0) for path in _pictures(folder)]
    check(len(files) >= 20, f"{folder} holds {len(files)} images: at least 20 are needed")
    first = None
    images = []
    for path, _ in files:
        image, found = read_image(path, size)
        first = first or (found, path)
        check(
            found == first[0],
            f"{path} is {found}, {first[1]} is {first[0]}: make them alike"
            + ("" if size else ", or give --size to cut and resize them"),
        )
        images.append(image)
    pixels = np.stack(images)  # (N, H, W) or (N, H, W, C)
    samples = torch.from_numpy(pixels if pixels.ndim == 4 else pixels[..., None])
    samples = samples.permute(0, 3, 1, 2).contiguous()
    sides = samples.shape[2:]
    check(
        all(side % PATCH == 0 for side in sides),
        f"{folder}'s images are {first[0]}, whose sides are no multiples of {PATCH}: give --size",
    )
    labels = torch.tensor([label for _, label in files])
    parts = torch.tensor([_part(path.relative_to(folder)) for path, _ in files])
    splits = [Split(samples[parts == part], labels[parts == part]) for part in range(3)]
    if not all(map(len, splits)):  # few images: the hash may leave a part empty
        order = torch.arange(len(samples)) % 10
        chosen = [order < 8, order == 8, order == 9]
        splits = [Split(samples[part], labels[part]) for part in chosen]
    return Data(str(folder), tuple(home.name for home in homes), *splits)


def read_image(path: Path, size: int = 0) -> tuple[UInt8[np.ndarray, "..."], str]:
    """Its pixels, and its size and mode in words.

    Raises:
        LabError: it is unreadable, or its mode needs a decision that is not ours.
    """
    try:
        with Image.open(path) as image:
            check(
                image.mode in MODES,
                f"{path} is of mode {image.mode}, not grey (L) or RGB: convert it first",
            )
            image = image.convert(MODES[image.mode])
            if size:
                image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
            return np.asarray(image), f"{image.width}x{image.height} {image.mode}"
    except (OSError, UnidentifiedImageError, SyntaxError):
        raise LabError(f"{path} is no readable image: delete it or replace it") from None


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _part(name: Path) -> int:
    """0 training (80%), 1 validation, 2 test."""
    drawn = hashlib.sha256(name.as_posix().encode()).digest()[0] % 10
    return max(0, drawn - 7)


# --- points in the plane -------------------------------------------------------------------------


def toy_points(toy: Toy, count: int, part: int) -> Float[Tensor, "N 2"]:
    """Points whose coordinates have mean 0 and about deviation 1.

    Args:
        part: 0, 1, 2: independent draws for training, validation and test.
    """
    generator = torch.Generator().manual_seed(1000 + part)
    return TOYS[toy](count, generator).float()


def moons(count: int, generator: torch.Generator) -> Float[Tensor, "N 2"]:
    """Two half circles of radius 1 that reach into each other, blurred by 0.08."""
    angle = math.pi * torch.rand(count, generator=generator)
    upper = torch.rand(count, generator=generator) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    points = torch.stack([x, y], 1) + 0.08 * torch.randn(count, 2, generator=generator)
    return (points - torch.tensor([0.5, 0.25])) / torch.tensor([0.87, 0.5])


def spirals(count: int, generator: torch.Generator) -> Float[Tensor, "N 2"]:
    """Two arms of one and a half turns, blurred by 0.05; even along their length."""
    turn = 3 * math.pi * torch.rand(count, generator=generator).sqrt()
    arm = math.pi * (torch.rand(count, generator=generator) < 0.5)
    points = torch.stack([turn * (turn + arm).cos(), turn * (turn + arm).sin()], 1) / 4.7
    return points + 0.05 * torch.randn(count, 2, generator=generator)


def letter(count: int, generator: torch.Generator) -> Float[Tensor, "N 2"]:
    """The inside of an R, even over its surface: three straight strokes and half a ring."""
    found = torch.empty(0, 2)
    while len(found) < count:
        x, y = (torch.rand(2, 4 * count, generator=generator) * 2 - 1).unbind()
        stem = (x > -0.7) & (x < -0.4)
        radius = torch.hypot(x - 0.1, (y - 0.45) * 1.0)
        bow = (x >= 0.1) & (radius < 0.55) & (radius > 0.27)
        bars = (x > -0.7) & (x < 0.1) & ((y - 0.45).abs() < 0.55) & ((y - 0.45).abs() > 0.27)
        leg = (y < -0.05) & ((x - (0.02 - 0.75 * y)).abs() < 0.2)
        inside = (stem | bow | bars | leg) & (x < 0.9)
        found = torch.cat([found, torch.stack([x, y], 1)[inside]])
    return (found[:count] - torch.tensor([-0.1, 0.1])) / torch.tensor([0.48, 0.57])


TOYS: dict[Toy, Callable[[int, torch.Generator], Tensor]] = {
    "moons": moons,
    "spirals": spirals,
    "letter": letter,
}
