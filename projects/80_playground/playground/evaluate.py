"""How good a net is, in figures and pictures; and data sets with noisy copies."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from matplotlib.figure import Figure

from playground.augment import augmented
from playground.config import AddNoiseConfig, EvaluateConfig
from playground.data import Labelled, mnist, read_samples, unit, write_samples
from playground.insight import confusion, weight_pictures
from playground.net import Net, load_net
from trainloop import LabError, check
from trainloop.paths import run_folders

ROWS = 2000  # images at a time: what fits into a core's cache, nearly


def probabilities(net: Net, samples: Labelled) -> Float32[np.ndarray, "N 10"]:
    """p(class) of each image, without ever holding all of them as floats."""
    parts = [net.probabilities(unit(part)) for part in _parts(samples.images)]
    return np.concatenate(parts) if parts else np.zeros((0, 10), np.float32)


def _parts(images: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(images), ROWS):
        yield images[start : start + ROWS]


def scores(net: Net, samples: Labelled) -> dict[str, float]:
    """accuracy (share told right) and nll (mean of -log p(label), nats)."""
    p = probabilities(net, samples)
    picked = p[np.arange(len(p)), samples.labels]
    return {
        "accuracy": float((p.argmax(1) == samples.labels).mean()),
        "nll": float(-np.log(np.maximum(picked, 1e-12)).mean()),
    }


def answers(net: Net, samples: Labelled) -> Int64[np.ndarray, "10 10"]:
    """How often each digit (row) gets each answer (column)."""
    return confusion(samples.labels, probabilities(net, samples).argmax(1))


def newest_model() -> Path:
    """model.npz of the newest run of `train`; LabError where there is none."""
    for folder in run_folders("playground"):
        if (folder / "model.npz").is_file():
            return folder / "model.npz"
    raise LabError("no run has left a model: `uv run --package playground train` first")


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Print accuracy, loss and each digit's most frequent mistake; draw the confusion matrix."""
    check(config.out.suffix == ".png", f"--out must end in .png, not {config.out}")
    path = Path(config.model) if config.model else newest_model()
    net = load_net(path)
    samples = mnist("test") if config.data == "mnist" else read_samples(Path(config.data))
    found = scores(net, samples)
    print(f"{path} on {len(samples.labels):,} images of {config.data}")
    print(f"accuracy {found['accuracy']:.2%}, loss {found['nll']:.4f} nats")
    table = answers(net, samples)
    for digit, row in enumerate(table):
        if row.sum():
            wrong = np.where(np.arange(10) == digit, 0, row)
            mistake = f", most often taken for {wrong.argmax()}" if wrong.any() else ""
            print(f"  {digit}: {row[digit]} of {row.sum()} right{mistake}")
    draw_confusion(table).savefig(config.out)
    print(f"wrote {config.out}")
    return found


def add_noise(config: AddNoiseConfig) -> None:
    """Write the drawings and their noisy copies, drawing by drawing."""
    samples = read_samples(config.data)
    copies = 1 + config.copies
    images = np.repeat(samples.images, copies, axis=0)
    noisy = np.arange(len(images)) % copies > 0
    rng = np.random.default_rng(config.seed)
    images[noisy] = augmented(images[noisy], config.augment, rng)
    write_samples(config.out, Labelled(images, np.repeat(samples.labels, copies)))
    print(
        f"wrote {config.out}: {len(samples.labels):,} drawings and "
        f"{len(images) - len(samples.labels):,} noisy copies"
    )


def draw_weights(net: Net) -> Figure:
    """The first layer: what ink speaks for each unit (red) and against it (blue)."""
    pictures = weight_pictures(net)
    columns = min(8, len(pictures))
    rows = -(-len(pictures) // columns)
    # One picture of all units: sixteen axes take matplotlib a second.
    mosaic = np.full((rows, 36, columns, 31), np.nan)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        mosaic[row, 8:, column, :28] = picture
    figure = Figure(figsize=(1.25 * columns, 1.45 * rows), layout="constrained")
    axis = figure.subplots()
    axis.axis("off")
    axis.imshow(mosaic.reshape(rows * 36, -1), cmap="RdBu_r", vmin=-1, vmax=1)
    for index in range(len(pictures)):
        row, column = divmod(index, columns)
        place = (31 * column + 13.5, 36 * row + 6)
        axis.text(*place, f"unit {index + 1}", ha="center", fontsize=8)
    return figure


def draw_confusion(table: Int64[np.ndarray, "10 10"]) -> Figure:
    """Counts of (label, answer), mistakes coloured by how many they are."""
    mistakes = table * (1 - np.eye(10, dtype=np.int64))
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    axis = figure.subplots()
    axis.imshow(mistakes, cmap="Reds", vmax=max(1, mistakes.max()) * 1.4)
    for row, column in np.ndindex(10, 10):
        if table[row, column]:
            weight = "bold" if row == column else "normal"
            axis.text(column, row, table[row, column], ha="center", va="center", fontsize=8,
                      weight=weight)  # fmt: skip
    axis.set_xticks(range(10))
    axis.set_yticks(range(10))
    axis.set_xlabel("the net's answer")
    axis.set_ylabel("what it is")
    axis.set_title(f"{np.trace(table):,} of {table.sum():,} right")
    return figure
