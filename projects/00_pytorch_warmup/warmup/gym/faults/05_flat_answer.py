"""The regression answers with the same number whatever the input.

"A noisy sine, a thousand points, a net with one hidden layer. It should be easy, but the curve it
draws is flat: the mean of the targets. The loss stops at their variance. It printed no warning."

One place is wrong. Keep the functions' names and arguments, for `bugs solve` calls them.
"""

import torch
from torch import Tensor, nn


def make_data(seed: int) -> tuple[Tensor, Tensor]:
    """A thousand points x in -3..3, and sin(2x) with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    x = 6 * torch.rand(1000, 1, generator=generator) - 3
    noise = 0.1 * torch.randn(1000, generator=generator)
    return x, torch.sin(2 * x[:, 0]) + noise


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 1))


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of a batch."""
    return ((prediction - target) ** 2).mean()


def train(
    model: nn.Module, x: Tensor, y: Tensor, epochs: int = 25, batch_size: int = 50
) -> list[float]:
    """Train in place; the mean loss of every epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    curve = []
    for _ in range(epochs):
        losses = []
        for picked in torch.randperm(len(x)).split(batch_size):
            loss = squared_error(model(x[picked]), y[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curve.append(sum(losses) / len(losses))
    return curve


def main(seed: int = 0) -> dict[str, list[float]]:
    torch.manual_seed(seed)
    return {"training loss": train(make_model(), *make_data(seed))}


if __name__ == "__main__":
    for name, values in main().items():
        print(f"{name}: {values[0]:.3f} after the first epoch, {values[-1]:.3f} after the last")
