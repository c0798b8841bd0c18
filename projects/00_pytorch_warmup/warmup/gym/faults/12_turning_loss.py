"""After about ten epochs the training loss turns round and rises.

"It is no overfitting, for then the training loss would go on falling. I add a little noise to the
training images to make the net robust; without the noise it trains as it should."

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
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return (model(images).argmax(1) == labels).double().mean().item()


def augment(images: Tensor, noise: float = 0.15) -> Tensor:
    """The images with a little noise on every pixel."""
    images += noise * torch.randn_like(images)
    return images


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    epochs: int = 30,
) -> dict[str, list[float]]:
    """Train in place, with new noise every epoch; the loss and the test accuracy of each."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    curves: dict[str, list[float]] = {"training loss": [], "test accuracy": []}
    for _ in range(epochs):
        noisy = augment(images)
        losses = []
        for picked in torch.randperm(len(images)).split(64):
            loss = F.cross_entropy(model(noisy[picked]), labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves["training loss"].append(sum(losses) / len(losses))
        curves["test accuracy"].append(accuracy(model, test_images, test_labels))
    return curves


def main(seed: int = 0) -> dict[str, list[float]]:
    torch.manual_seed(seed)
    return train(make_model(), *make_data())


if __name__ == "__main__":
    for name, values in main().items():
        print(f"{name}: {values[0]:.3f} after the first epoch, {values[-1]:.3f} after the last")
