"""Nine of ten in the test, six of ten in the clinic.

"4,000 measurements of 150 patients; the 40 most telling ones go into a logistic regression. On the
45 patients that I held back it is nearly always right. On new patients it is not much better than a
coin. The clinic says that their devices are the same as ours."

One place is wrong. Keep the functions' names and arguments, for `bugs solve` calls them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def make_patients(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Measurements (count, 4000), and who is ill (count,); ten measurements know a little of it."""
    generator = torch.Generator().manual_seed(seed)
    ill = torch.randint(0, 2, (count,), generator=generator)
    x = torch.randn(count, 4000, generator=generator)
    x[:, :10] += 0.6 * ill[:, None]
    return x, ill


def most_telling(x: Tensor, ill: Tensor, keep: int) -> Tensor:
    """The `keep` columns whose mean differs most between the ill and the others."""
    difference = x[ill == 1].mean(dim=0) - x[ill == 0].mean(dim=0)
    return difference.abs().topk(keep).indices


def prepare(x: Tensor, ill: Tensor, keep: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Which columns to use, which rows (70%) to train on, and which to test on."""
    columns = most_telling(x, ill, keep)
    rows = torch.randperm(len(x))
    cut = int(0.7 * len(x))
    return columns, rows[:cut], rows[cut:]


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, ill: Tensor) -> float:
    return (model(x).argmax(1) == ill).double().mean().item()


def main(seed: int = 0) -> dict[str, list[float]]:
    torch.manual_seed(seed)
    x, ill = make_patients(150, seed)
    columns, rows, test_rows = prepare(x, ill)
    new_x, new_ill = make_patients(1000, seed + 1000)
    model = nn.Linear(len(columns), 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=0.01)
    test, clinic = [], []
    for _ in range(40):
        loss = F.cross_entropy(model(x[rows][:, columns]), ill[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        test.append(accuracy(model, x[test_rows][:, columns], ill[test_rows]))
        clinic.append(accuracy(model, new_x[:, columns], new_ill))
    return {"test accuracy": test, "accuracy on new patients": clinic}


if __name__ == "__main__":
    for name, values in main().items():
        print(f"{name}: {values[0]:.3f} after the first epoch, {values[-1]:.3f} after the last")
