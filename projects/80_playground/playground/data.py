"""Labelled digits: MNIST, the .npz and the data.json form, splits, batches by step."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from playground.net import CLASSES, PIXELS, read_npz
from trainloop import LabError, atomic_write, check, fetch

FILE_LIMIT = 256 << 20  # bytes of a data file once unpacked; all of MNIST is 55 MB
MOST_SAMPLES = 200_000


class Labelled(NamedTuple):
    """Images of 0 (paper) to 255 (ink) in rows, and which digit each shows."""

    images: UInt8[np.ndarray, "N 784"]
    labels: Int64[np.ndarray, " N"]

    def take(self, index: np.ndarray | slice) -> "Labelled":
        return Labelled(self.images[index], self.labels[index])

    def batch(self, index: Int64[np.ndarray, " B"]) -> "Labelled":
        """The samples of these numbers; `ndarray.take` is 1.5 times as quick as brackets."""
        return Labelled(self.images.take(index, axis=0), self.labels.take(index))

    def __add__(self, other: "Labelled") -> "Labelled":
        return Labelled(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


EMPTY = Labelled(np.zeros((0, PIXELS), np.uint8), np.zeros(0, np.int64))


def unit(images: UInt8[np.ndarray, "*N 784"]) -> Float32[np.ndarray, "*N 784"]:
    """Pixels as the net wants them: float32, 0 to 1."""
    return np.multiply(images, np.float32(1 / 255), dtype=np.float32)


def mnist(split: str) -> Labelled:
    """MNIST as published: 60,000 ("train") or 10,000 ("test") images; LabError as `fetch` does."""
    from trainloop.datasets import read_idx

    stem = fetch("mnist") / {"train": "train", "test": "t10k"}[split]
    images = read_idx(Path(f"{stem}-images-idx3-ubyte")).reshape(-1, PIXELS)
    return Labelled(images, read_idx(Path(f"{stem}-labels-idx1-ubyte")).astype(np.int64))


def splits(data: str, seed: int) -> tuple[Labelled, Labelled, Labelled]:
    """What to train on, to validate with and to test with.

    "mnist": 55,000, 5,000 and the 10,000 test images; a file: 70, 15 and 15% of each class,
    shuffled by the seed.

    Raises:
        LabError: no such file, it is damaged, or too few samples to split.
    """
    if data == "mnist":
        training = mnist("train")
        return training.take(slice(0, 55_000)), training.take(slice(55_000, None)), mnist("test")
    samples = read_samples(Path(data))
    order = np.random.default_rng(seed).permutation(len(samples.labels))
    # A sample's place among those of its class, 0 to 1: each class is cut at the same places.
    place = np.zeros(len(order))
    for digit in range(CLASSES):
        mine = order[samples.labels[order] == digit]
        place[mine] = (np.arange(len(mine)) + 0.5) / max(1, len(mine))
    parts = [place < 0.7, (place >= 0.7) & (place < 0.85), place >= 0.85]
    for part in parts:
        check(
            bool(part.any()), f"{data} has {len(order)} samples, too few for training and two tests"
        )
    return tuple(samples.take(part) for part in parts)


class Shuffles:
    """Epochs of shuffled indices, cut into batches, looked up by the step's number.

    As trainloop.Batches, in NumPy: the batch depends on (count, batch_size, seed, step) alone, and
    epochs follow each other without a gap.
    """

    def __init__(self, count: int, batch_size: int, seed: int = 0) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self._orders: dict[int, np.ndarray] = {}

    def at(self, step: int) -> Int64[np.ndarray, " B"]:
        """Indices of the samples of step 1, 2, ..."""
        first = (step - 1) * self.batch_size
        epochs = range(first // self.count, (first + self.batch_size - 1) // self.count + 1)
        self._orders = {epoch: self._order(epoch) for epoch in epochs}
        orders = [self._orders[epoch] for epoch in epochs]
        offset = first - epochs[0] * self.count
        order = np.concatenate(orders) if len(orders) > 1 else orders[0]
        return order[offset : offset + self.batch_size]

    def _order(self, epoch: int) -> np.ndarray:
        if epoch in self._orders:
            return self._orders[epoch]
        return np.random.default_rng((self.seed, epoch)).permutation(self.count)


# --- files -----------------------------------------------------------------------------------


def write_samples(path: Path, samples: Labelled) -> None:
    """Write an .npz (images (N, 28, 28) uint8, labels (N,) int64) or a data.json, by the name.

    data.json: {"format": "playground-1", "samples": [{"label": 3, "pixels": [784 of 0..255]}, ..]}
    """
    check(path.suffix in (".npz", ".json"), f"{path} must end in .npz or .json")
    if path.suffix == ".npz":
        images = samples.images.reshape(-1, 28, 28)
        atomic_write(
            path, lambda file: np.savez_compressed(file, images=images, labels=samples.labels)
        )
        return
    rows = [
        {"label": int(label), "pixels": image.tolist()}
        for image, label in zip(samples.images, samples.labels, strict=True)
    ]
    text = json.dumps({"format": "playground-1", "samples": rows}, separators=(",", ":"))
    atomic_write(path, lambda file: file.write(text.encode()))


def read_samples(path: Path) -> Labelled:
    """Read either form. Images may be (N, 28, 28) or (N, 784), 0..255 or, as floats, 0..1.

    A data.json may also be the bare list, and call the pixels "input" or "image".

    Raises:
        LabError: the file is missing, damaged, too large, or holds something else.
    """
    check(path.suffix in (".npz", ".json"), f"{path} must be an .npz or a data.json")
    if path.suffix == ".npz":
        arrays = read_npz(path, FILE_LIMIT)
        check(
            {"images", "labels"} <= set(arrays),
            f"{path} holds {', '.join(arrays) or 'nothing'}, not images and labels",
        )
        return checked(path, arrays["images"], arrays["labels"])
    check(path.is_file(), f"no file at {path}")
    check(
        path.stat().st_size <= FILE_LIMIT, f"{path} is larger than {FILE_LIMIT >> 20} MB: refused"
    )
    try:
        rows = json.loads(path.read_bytes())
        rows = rows["samples"] if isinstance(rows, dict) else rows
        names = [next(n for n in ("pixels", "input", "image") if n in row) for row in rows]
        images = np.array([row[name] for row, name in zip(rows, names, strict=True)])
        labels = np.array([row["label"] for row in rows])
    except (ValueError, LookupError, TypeError, StopIteration, RecursionError):
        raise LabError(f'{path} is cut short, or no data.json: see README, "Files"') from None
    return checked(path, images, labels)


def checked(source: Path | str, images: np.ndarray, labels: np.ndarray) -> Labelled:
    """`Labelled` of arrays that came from outside; LabError says what is wrong with them."""
    check(
        len(images) == len(labels) > 0, f"{source} has {len(images)} images, {len(labels)} labels"
    )
    check(len(images) <= MOST_SAMPLES, f"{source} has more than {MOST_SAMPLES:,} samples: refused")
    numbers = images.dtype.kind in "uif" and labels.dtype.kind in "uif" and labels.ndim == 1
    check(
        numbers and images[0].size == PIXELS,
        f"{source}: each image must have 28x28 numbers and one label",
    )
    images = images.reshape(-1, PIXELS)
    if images.dtype.kind == "f" and images.size and np.nanmax(images) <= 1:
        images = images * 255
    check(
        bool(np.isfinite(images).all() and images.min() >= 0 and images.max() <= 255),
        f"{source}: pixels must be 0 to 255, or 0 to 1 as floats",
    )
    check(
        bool(np.isin(labels, np.arange(CLASSES)).all()), f"{source}: labels must be digits, 0 to 9"
    )
    return Labelled(np.rint(images).astype(np.uint8), labels.astype(np.int64))
