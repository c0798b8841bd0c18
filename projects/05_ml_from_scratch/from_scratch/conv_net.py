"""A fully connected net against a convolutional one with as many parameters, on moved images.

Fully connected  z = W x: a weight of its own for every pair of a pixel and a hidden unit. What it
                 learned about a sleeve at one place says nothing about a sleeve two pixels further.
Convolution      z[o, i, j] = Σ_cuv  k[o, c, u, v] · x[c, i + u, j + v]: the same weights at every
                 place. 16 kernels of 5x5 on 28x28 pixels are 400 numbers; a matrix that does the
                 same has 784 · 12,544 entries, nearly all of them 0 or copies.
Equivariance     Let (T x)[i, j] = x[i − dy, j − dx] be a shift. Put into the sum, it comes out:
                 z(T x)[i, j] = Σ k[u, v] · x[i + u − dy, j + v − dx] = z(x)[i − dy, j − dx],
                 thus (T x) * k = T (x * k), away from borders. ReLU looks at each place alone and
                 keeps this. Pooling with stride 2 keeps it for even shifts, halved, and for odd
                 ones only roughly (Zhang 2019).
Invariance       max_ij of T z is max_ij of z while the maximum stays inside. The convolutional net
                 ends that way: it asks whether a pattern is there, not where. Poolings, borders
                 and what leaves the image spoil it; it is a help, not a guarantee.

Both nets see the same batches, and no moved image in training: what helps is structure alone.
Parameters are equal, work is not: a shared weight is used at every place.

Sources: LeCun et al., "Backpropagation Applied to Handwritten Zip Code Recognition", Neural
Computation 1(4), 1989; Goodfellow, Bengio, Courville, "Deep Learning", 2016, secs. 9.1 to 9.4;
He et al., "Delving Deep into Rectifiers", ICCV 2015; Zhang, "Making Convolutional Networks
Shift-Invariant Again", ICML 2019.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from trainloop import (
    Batches,
    LabError,
    NonFiniteError,
    check,
    fetch,
    load_images,
    progress_bar,
    warmup_cosine,
)

TITLES = {"cifar10": "CIFAR-10", "fashion-mnist": "Fashion-MNIST"}
COLOURS = {"fully connected": "tab:orange", "CNN": "tab:blue"}
MOVES = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if (dx, dy) != (0, 0)]
MOST = 4  # pixels in the picture; the figures are of 2
CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train both nets on the same batches, then move the test images."""

    seed: int = 0
    """Initial weights and order of the batches."""
    data: Literal["auto", "cifar10", "fashion-mnist"] = "auto"
    """auto takes cifar10, and fashion-mnist where that cannot be fetched."""
    steps: int = 800
    """Optimiser steps of each net."""
    batch_size: int = 128
    """Images a step."""
    lr: float = 0.006
    """AdamW's learning rate at its peak, the same for both nets."""
    # Fashion-MNIST's validation images, seeds 0 and 1: 0.003 0.896, 0.006 0.902, 0.012 0.905 for
    # the CNN (whose seeds differ by 0.01), 0.867, 0.869, 0.870 for the fully connected net.

    def __post_init__(self) -> None:
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(self.steps >= 1, f"--steps must be at least 1, not {self.steps}")
        check(self.batch_size >= 1, f"--batch-size must be at least 1, not {self.batch_size}")
        check(0 < self.lr < math.inf, f"--lr must be positive, not {self.lr}")


# --- data ----------------------------------------------------------------------------------------


class Labelled(NamedTuple):
    """Images and their classes 0..9."""

    images: UInt8[Tensor, "N C H W"]
    labels: Int64[Tensor, " N"]


def choose_data(asked: str) -> str:
    """The data set to use; where auto cannot get CIFAR-10, stderr says so."""
    if asked != "auto":
        return asked
    try:
        fetch("cifar10", timeout=5.0)  # s without an answer
        return "cifar10"
    except LabError:
        note = "CIFAR-10 could not be fetched, Fashion-MNIST is used instead"
        print(f"conv_net: {note} (--data cifar10 tells why)", file=sys.stderr, flush=True)
        return "fashion-mnist"


def load(name: str) -> tuple[Labelled, Labelled, Labelled]:
    """Training, validation (the last tenth of the published training images) and test images."""
    images, labels = load_images(name, "train")
    cut = len(images) * 9 // 10
    test = Labelled(*load_images(name, "test"))
    return Labelled(images[:cut], labels[:cut]), Labelled(images[cut:], labels[cut:]), test


def shift(images: Tensor, dx: int, dy: int) -> Tensor:
    """(..., H, W) moved dx pixels to the right and dy down; the border pixels repeat.

    Black would come into a photo as a bar that no training image has, and the nets would be judged
    by that. On Fashion-MNIST it is black that repeats, save where a garment touches the border.
    """
    height, width = images.shape[-2:]
    rows = (torch.arange(height) - dy).clamp(0, height - 1)
    columns = (torch.arange(width) - dx).clamp(0, width - 1)
    return images[..., rows[:, None], columns]


def move(images: UInt8[Tensor, "N C H W"], distance: int) -> UInt8[Tensor, "N C H W"]:
    """Image i moved by `distance` pixels in direction i modulo 8: sides, up, down, diagonals."""
    moved = torch.empty_like(images)
    for first, (dx, dy) in enumerate(MOVES):
        moved[first::8] = shift(images[first::8], distance * dx, distance * dy)
    return moved


# --- nets ----------------------------------------------------------------------------------------


class Scale(nn.Module):
    """Bytes to -1..1; part of each net, so that nobody can forget it."""

    def forward(self, images: UInt8[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return images.float() / 127.5 - 1


class GlobalMax(nn.Module):
    """The greatest value of each channel, wherever it stands."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C"]:
        return x.amax(dim=(2, 3))


def make_cnn(channels: int) -> nn.Sequential:
    """Logits of images of any size from 8x8: four convolutions, about 99,000 parameters."""
    net = nn.Sequential(
        Scale(),
        nn.Conv2d(channels, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),  # (B, 16, H/2, W/2)
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),  # (B, 32, H/4, W/4)
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),  # (B, 64, H/8, W/8)
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), GlobalMax(),  # (B, 128)
        nn.Linear(128, CLASSES),
    )  # fmt: skip
    return he_initialise(net).to(memory_format=torch.channels_last)  # quicker on a CPU


def make_fully_connected(pixels: int, parameters: int) -> nn.Sequential:
    """Logits by one hidden layer, as wide as comes nearest to the number of parameters.

    A hidden unit costs a weight for each of the `pixels` (of all channels), a bias, and a weight
    for each class.
    """
    hidden = max(1, round((parameters - CLASSES) / (pixels + 1 + CLASSES)))
    return he_initialise(
        nn.Sequential(
            Scale(), nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES)
        )
    )


def he_initialise(net: nn.Sequential) -> nn.Sequential:
    """Weights of variance 2 / inputs, which ReLU's halves keep at one size (He 2015, eq. 10).

    torch's own are a sixth of that: five layers later little is left of the signal.
    """
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return net


def count_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@torch.no_grad()
def equivariance_error(
    layer: nn.Module, x: Float[Tensor, "B C H W"], dx: int, dy: int, margin: int
) -> float:
    """max |T layer(x) − layer(T x)| / max |layer(x)|, `margin` pixels inside the border.

    For a convolution with kernels of k x k the margin must be max(|dx|, |dy|) + k // 2: so far
    reaches what came in at the border, and the zeros that the layer puts around.
    """
    after, before = shift(layer(x), dx, dy), layer(shift(x, dx, dy))
    height, width = after.shape[-2:]
    inside = (..., slice(margin, height - margin), slice(margin, width - margin))
    return ((after - before)[inside].abs().max() / after.abs().max()).item()


# --- training ------------------------------------------------------------------------------------


@dataclass
class History:
    """What a training showed on its way."""

    losses: list[float] = field(default_factory=list)  # of every step
    steps: list[int] = field(default_factory=list)  # where the validation images were asked
    accuracies: list[float] = field(default_factory=list)
    seconds: float = 0.0  # of CPU


def fit(net: nn.Module, train: Labelled, validation: Labelled, config: Config) -> History:
    """Train the net in place. Which images a step sees depends on the seed and the step alone."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, fused=True)
    batches = Batches(len(train.images), config.batch_size, config.seed)
    history, start = History(), time.process_time()
    bar = progress_bar(config.steps, "step", leave=False)
    for step in range(1, config.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * warmup_cosine(step, config.steps)
        picked = batches.at(step)
        loss = F.cross_entropy(net(train.images[picked]), train.labels[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.losses.append(loss.item())
        if not math.isfinite(history.losses[-1]):
            raise NonFiniteError(f"the loss is {loss.item()} at step {step}: lower --lr")
        if step % max(1, config.steps // 8) == 0 or step == config.steps:
            history.steps.append(step)
            history.accuracies.append(accuracy(net, *validation))
        bar.update()
    bar.close()
    history.seconds = time.process_time() - start
    return history


@torch.no_grad()
def accuracy(
    net: nn.Module, images: UInt8[Tensor, "N C H W"], labels: Int64[Tensor, " N"]
) -> float:
    """Share of the images whose greatest logit is that of their class."""
    predicted = torch.cat([net(some).argmax(1) for some in images.split(500)])
    return (predicted == labels).double().mean().item()


def run(config: Config, picture: Callable[[str, Figure], None]) -> dict[str, float]:
    """Train both, then read the test images once: in place, and moved. Figures:

    cifar10: 1 if the data is CIFAR-10, 0 if it is Fashion-MNIST.
    equivariance_error: of the trained CNN's first convolution, test images moved by 2 pixels.
    And for each of the nets, `fully_connected_` and `cnn_`:
    parameters: how many it has.
    seconds: of CPU for its training, validation included.
    validation_accuracy: after the last step.
    test_accuracy, shifted_accuracy: shares of right answers on the test images, in place and moved
        by 2 pixels, an eighth of them in each of 8 directions; drop is their difference.
    """
    name = choose_data(config.data)
    train, validation, test = load(name)
    sizes = ", ".join(f"{len(part.images):,}" for part in (train, validation, test))
    print(f"data: {TITLES[name]}; {sizes} images to train, validate and test")
    moved = [move(test.images, distance) for distance in range(MOST + 1)]

    torch.manual_seed(config.seed)
    cnn = make_cnn(train.images.shape[1])
    fully_connected = make_fully_connected(train.images[0].numel(), count_parameters(cnn))
    figures = {"cifar10": float(name == "cifar10")}
    histories, curves = {}, {}
    for title, net in (("fully connected", fully_connected), ("CNN", cnn)):
        history = histories[title] = fit(net, train, validation, config)
        curve = curves[title] = [accuracy(net, images, test.labels) for images in moved]
        found = {
            "parameters": float(count_parameters(net)),
            "seconds": history.seconds,
            "validation_accuracy": history.accuracies[-1],
            "test_accuracy": curve[0],
            "shifted_accuracy": curve[2],
            "drop": curve[0] - curve[2],
        }
        prefix = title.lower().replace(" ", "_")
        figures |= {f"{prefix}_{key}": value for key, value in found.items()}
    x = Scale()(test.images[:100])
    figures["equivariance_error"] = equivariance_error(cnn[1], x, 2, 2, margin=4)

    picture("training", draw_training(histories, TITLES[name]))
    picture("shift", draw_shift(curves, [images[6] for images in moved], TITLES[name]))
    matrix = fully_connected[2].weight.detach().reshape(-1, *train.images.shape[1:])
    picture("filters", draw_filters(cnn[1].weight.detach(), matrix, TITLES[name]))
    return figures


# --- pictures ------------------------------------------------------------------------------------


def draw_training(histories: dict[str, History], data: str) -> Figure:
    """The loss on the training batches, averaged over 20 steps, and the validation accuracy."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for title, history in histories.items():
        losses = torch.tensor(history.losses)
        window = min(20, len(losses))
        smooth = losses.unfold(0, window, 1).mean(1).tolist()
        left.plot(range(window, len(losses) + 1), smooth, color=COLOURS[title], label=title)
        right.plot(history.steps, history.accuracies, "o-", color=COLOURS[title], label=title)
    left.set(xlabel="step", ylabel="cross-entropy, training batches", ylim=(0, None))
    right.set(xlabel="step", ylabel="accuracy, validation images")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(f"{data}: as many parameters, the same batches")
    return figure


def draw_shift(
    curves: dict[str, list[float]], examples: list[UInt8[Tensor, "C H W"]], data: str
) -> Figure:
    """Test accuracy against the distance of the shift, above it one image so far moved."""
    figure = Figure(figsize=(7, 5.6), layout="constrained")
    grid = figure.add_gridspec(2, len(examples), height_ratios=(1, 3.2))
    for distance, image in enumerate(examples):
        axis = figure.add_subplot(grid[0, distance])
        axis.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255)
        axis.set_title(f"{distance} px")
        axis.axis("off")
    axis = figure.add_subplot(grid[1, :])
    for title, accuracies in curves.items():
        axis.plot(accuracies, "o-", color=COLOURS[title], label=title)
        above = title == "CNN"
        for distance, value in enumerate(accuracies):
            axis.annotate(f"{value:.1%}", (distance, value), (0, 7 if above else -7), ha="center",
                          va="bottom" if above else "top", textcoords="offset points")  # fmt: skip
    axis.set(xlabel="test images moved by, pixels (8 directions)", ylabel="test accuracy")
    axis.set(xticks=range(len(examples)))
    axis.margins(x=0.08, y=0.12)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower left")
    figure.suptitle(f"{data}: trained in place, tested moved")
    return figure


def draw_filters(
    kernels: Float[Tensor, "16 C k k"], matrix: Float[Tensor, "hidden C H W"], data: str
) -> Figure:
    """What the first layers look for: all kernels, and the 16 hidden units of greatest weight."""
    greatest = matrix.flatten(1).norm(dim=1).argsort(descending=True)[:16]
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, wspace=0.06)
    left.suptitle(f"CNN: all 16 kernels, {kernels[0].numel()} weights each")
    count, each = len(matrix), matrix[0].numel()
    right.suptitle(f"fully connected: {len(greatest)} of {count} units, {each:,} weights each")
    for part, weights in ((left, kernels), (right, matrix[greatest])):
        for axis, weight in zip(part.subplots(4, 4).flat, weights, strict=False):
            most = weight.abs().max().item() or 1.0
            if len(weight) == 1:
                axis.imshow(weight[0].numpy(), cmap="RdBu_r", vmin=-most, vmax=most)
            else:  # RGB: gray is a weight of 0
                axis.imshow(((weight / most + 1) / 2).permute(1, 2, 0).numpy())
            axis.set(xticks=[], yticks=[])
    sign = "red: bright wanted, blue: dark" if matrix.shape[1] == 1 else "gray is 0 in each colour"
    figure.suptitle(f"{data}, weights of the first layers ({sign})")
    return figure


if __name__ == "__main__":
    from from_scratch.lesson import main

    main("conv_net")
