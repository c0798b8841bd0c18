"""The accuracy is gone after saving and loading.

"While it trains, the net is good. I save its `state_dict`, load it into a new one, no error, no
missing key, and the loaded net guesses. I suspect the disk."

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


class Deep(nn.Module):
    """A perceptron with `depth` hidden layers."""

    def __init__(self, width: int = 48, depth: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(64, width)
        self.hidden = [nn.Linear(width, width) for _ in range(depth - 1)]
        self.last = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images).relu()
        for layer in self.hidden:
            x = layer(x).relu()
        return self.last(x)


def make_model() -> nn.Module:
    return Deep()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return (model(images).argmax(1) == labels).double().mean().item()


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int = 1) -> None:
    """Train in place."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for picked in torch.randperm(len(images)).split(64):
            loss = F.cross_entropy(model(images[picked]), labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def main(seed: int = 0) -> dict[str, list[float]]:
    torch.manual_seed(seed)
    images, labels, test_images, test_labels = make_data()
    model = make_model()
    trained, loaded = [], []
    for _ in range(10):
        train(model, images, labels)
        copy = make_model()
        copy.load_state_dict(model.state_dict())
        trained.append(accuracy(model, test_images, test_labels))
        loaded.append(accuracy(copy, test_images, test_labels))
    return {"test accuracy": trained, "test accuracy, loaded": loaded}


if __name__ == "__main__":
    for name, values in main().items():
        print(f"{name}: {values[0]:.3f} after the first epoch, {values[-1]:.3f} after the last")
