"""An image gets another class when it comes alone.

"The rows of an image are its tokens; attention pooling weighs them and adds them up. Tested on a
hundred images at once it is not bad. In the app, where they come one at a time, it guesses."

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


def pool(tokens: Tensor, scores: Tensor) -> Tensor:
    """Mean of an image's tokens (B, T, C), weighted by the softmax of its scores (B, T)."""
    weights = scores.softmax(dim=0)
    return (weights[:, :, None] * tokens).sum(dim=1)


class RowAttention(nn.Module):
    """Eight rows of eight pixels are eight tokens; a learned score says how much each counts."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(0.5 * torch.randn(8, width))
        self.score = nn.Linear(width, 1)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = (self.embed(images.view(-1, 8, 8)) + self.position).relu()  # (B, 8, width)
        return self.head(pool(tokens, self.score(tokens)[:, :, 0]))


def make_model() -> nn.Module:
    return RowAttention()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    """Share of right classes when the images come in batches of this size."""
    guesses = torch.cat([model(batch).argmax(1) for batch in images.split(batch_size)])
    return (guesses == labels).double().mean().item()


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int = 1) -> None:
    """Train in place."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        for picked in torch.randperm(len(images)).split(100):
            loss = F.cross_entropy(model(images[picked]), labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def main(seed: int = 0) -> dict[str, list[float]]:
    torch.manual_seed(seed)
    images, labels, test_images, test_labels = make_data()
    model = make_model()
    together, alone = [], []
    for _ in range(15):
        train(model, images, labels)
        together.append(accuracy(model, test_images[:100], test_labels[:100], batch_size=100))
        alone.append(accuracy(model, test_images[:100], test_labels[:100], batch_size=1))
    return {"test accuracy, all at once": together, "test accuracy, one by one": alone}


if __name__ == "__main__":
    for name, values in main().items():
        print(f"{name}: {values[0]:.3f} after the first epoch, {values[-1]:.3f} after the last")
