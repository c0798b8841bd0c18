"""The loss stops at about 1.5, however long the training.

"The accuracy is not bad at all, so the net learns something. But the loss will not go below 1.46:
not with more epochs, not with a wider net, not on ten images that it should know by heart."

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
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
        nn.Softmax(dim=1),
    )


def loss_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of a batch, in nats."""
    return F.cross_entropy(model(images), labels)


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int = 15) -> list[float]:
    """Train in place; the mean loss of every epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    curve = []
    for _ in range(epochs):
        losses = []
        for picked in torch.randperm(len(images)).split(64):
            loss = loss_of(model, images[picked], labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curve.append(sum(losses) / len(losses))
    return curve


def main(seed: int = 0) -> dict[str, list[float]]:
    torch.manual_seed(seed)
    images, labels, _, _ = make_data()
    return {"training loss": train(make_model(), images, labels)}


if __name__ == "__main__":
    for name, values in main().items():
        print(f"{name}: {values[0]:.3f} after the first epoch, {values[-1]:.3f} after the last")
