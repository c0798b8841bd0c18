"""The recurrent net cannot tell a digit by its upper half.

"A GRU reads an image row by row, top to bottom, and names the digit after the last row. The lower
four rows are covered. Logistic regression gets 82% of the digits from the upper half; the GRU,
which ought to be the better of the two, a quarter of them."

One place is wrong. Keep the functions' names and arguments, for `bugs solve` calls them.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F


def make_data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1,297 digits to train on and 500 by other writers: (N, 64), lower half 0, and classes."""
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    images[:, 32:] = 0
    labels = torch.tensor(digits.target)
    return images[:1297], labels[:1297], images[1297:], labels[1297:]


class RowReader(nn.Module):
    """Reads an image as eight rows of eight pixels; the state after the last row is classified."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.hidden = hidden
        self.cell = nn.GRUCell(8, hidden)
        self.head = nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        state = images.new_zeros(len(images), self.hidden)
        for row in images.view(-1, 8, 8).unbind(dim=1):
            state = self.cell(row, state.detach())
        return self.head(state)


def make_model() -> nn.Module:
    return RowReader()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return (model(images).argmax(1) == labels).double().mean().item()


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int = 1) -> None:
    """Train in place."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
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
    curve = []
    for _ in range(12):
        train(model, images, labels)
        curve.append(accuracy(model, test_images, test_labels))
    return {"test accuracy": curve}


if __name__ == "__main__":
    for name, values in main().items():
        print(f"{name}: {values[0]:.3f} after the first epoch, {values[-1]:.3f} after the last")
