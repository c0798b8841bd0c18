"""The loss jumps about since the batches are fed in portions.

"128 images at once did not fit into memory, so I feed them in portions of 8 and step when all have
been seen. That should be the same training as before, and before it went down smoothly."

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


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epochs: int = 20,
    lr: float = 0.1,
    batch_size: int = 128,
    portion: int = 8,
) -> list[float]:
    """Train in place; the mean loss of every epoch. `portion` images are in memory at a time."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    curve = []
    for _ in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images)).split(batch_size):
            optimizer.zero_grad()
            for picked in batch.split(portion):
                loss = F.cross_entropy(model(images[picked]), labels[picked])
                loss.backward()
                total += loss.item() * len(picked)
            optimizer.step()
        curve.append(total / len(images))
    return curve


def main(seed: int = 0) -> dict[str, list[float]]:
    torch.manual_seed(seed)
    images, labels, _, _ = make_data()
    return {"training loss": train(make_model(), images, labels)}


if __name__ == "__main__":
    for name, values in main().items():
        print(f"{name}: {values[0]:.3f} after the first epoch, {values[-1]:.3f} after the last")
