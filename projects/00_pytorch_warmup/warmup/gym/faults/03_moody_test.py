"""The same net gets another test accuracy each time it is asked.

"I call `evaluate` twice on one and the same net and get two different numbers, both lower than I
would expect from the training loss. The weights do not change in between; I compared them."

One place is wrong. Keep the functions' names and arguments, for `bugs solve` calls them.
"""

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


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(32, 10),
    )


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the images whose class the model gets right."""
    right = 0
    for some, of_some in zip(images.split(10), labels.split(10), strict=True):
        right += (model(some).argmax(1) == of_some).sum().item()
    return right / len(images)


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    epochs: int = 15,
) -> dict[str, list[float]]:
    """Train in place; the test accuracy after every epoch, asked for twice."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    first, second = [], []
    for _ in range(epochs):
        model.train()
        for picked in torch.randperm(len(images)).split(64):
            loss = F.cross_entropy(model(images[picked]), labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        first.append(evaluate(model, test_images, test_labels))
        second.append(evaluate(model, test_images, test_labels))
    return {"test accuracy": first, "test accuracy, asked again": second}


def main(seed: int = 0) -> dict[str, list[float]]:
    torch.manual_seed(seed)
    return train(make_model(), *make_data())


if __name__ == "__main__":
    for name, values in main().items():
        print(f"{name}: {values[0]:.3f} after the first epoch, {values[-1]:.3f} after the last")
