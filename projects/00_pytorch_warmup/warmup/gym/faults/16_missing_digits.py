"""Some digits are never the answer.

"The net is fine on some digits, and others it gets wrong without exception: it never even says
them. Another seed, other digits. The net can be made as deep as I like by its list of sizes."

One place is wrong. Keep the functions' names and arguments, for `bugs solve` calls them.
"""

from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F


def make_data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1,297 digits to train on and 500 by other writers: (N, 64) pixels in 0..1, and classes."""
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    labels = torch.tensor(digits.target)
    return images[:1297], labels[:1297], images[1297:], labels[1297:]


def make_model(sizes: tuple[int, ...] = (64, 64, 10)) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


@torch.no_grad()
def recall(model: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """For each digit: which share of its images is recognised."""
    right = (model(images).argmax(1) == labels).double()
    return [right[labels == digit].mean().item() for digit in range(10)]


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    epochs: int = 15,
) -> dict[str, list[float]]:
    """Train in place; the loss of every epoch, and how many digits are never right."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    curves: dict[str, list[float]] = {"training loss": [], "digits never right": []}
    for _ in range(epochs):
        losses = []
        for picked in torch.randperm(len(images)).split(64):
            loss = F.cross_entropy(model(images[picked]), labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves["training loss"].append(sum(losses) / len(losses))
        never_right = recall(model, test_images, test_labels).count(0.0)
        curves["digits never right"].append(float(never_right))
    return curves


def main(seed: int = 0) -> dict[str, list[float]]:
    torch.manual_seed(seed)
    return train(make_model(), *make_data())


if __name__ == "__main__":
    for name, values in main().items():
        print(f"{name}: {values[0]:.3f} after the first epoch, {values[-1]:.3f} after the last")
