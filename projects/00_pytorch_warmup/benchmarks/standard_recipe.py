# /// script
# requires-python = "==3.12.*"
# dependencies = [
#     "torch<2.8",
#     "torchvision>=0.22",
#     "trainloop",
#     "warmup",
# ]
# [tool.uv.sources]
# warmup = { path = "..", editable = true }
# trainloop = { path = "../../../shared", editable = true }
# ///
"""How long until 99.0% on MNIST? The recipe of every tutorial against this project's.

    uv run --script projects/00_pytorch_warmup/benchmarks/standard_recipe.py

Standard: the net, optimiser and schedule of pytorch/examples' mnist (two convolutions at full
resolution, 1.2 million parameters, Adadelta 1.0, times 0.7 an epoch, batch 64), images one by one
through torchvision's transforms and a DataLoader with its defaults. Its clock runs while it trains,
stops while it is tested every tenth of an epoch, and ends at the first test of 99.0% or more, lucky
ones included.

Ours: `train` with fewer steps (options chosen on validation images). Its clock runs from loading
the data to the last picture, all looks at validation images included; what counts is whether it
ends at 99.0% or more. Imports count for neither.

Both have the same threads, and take turns, seed by seed.
"""

import argparse
import contextlib
import io
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import datasets, transforms

from trainloop import fetch
from warmup.config import TrainConfig
from warmup.train import train

GOAL = 0.990
OURS = {"steps": 430, "width": 16, "eval_every": 430}


class StandardNet(nn.Module):
    """The net of pytorch/examples/mnist, as described there."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(),  # (B, 32, 26, 26)
            nn.Conv2d(32, 64, 3), nn.ReLU(),  # (B, 64, 24, 24)
            nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),  # (B, 9216)
            nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)


def standard(seed: int, folder: Path, most_epochs: int) -> tuple[float, float, int]:
    """Train the standard recipe to the goal, or to the end of its epochs, whichever comes first.

    Returns seconds, test accuracy, images seen.
    """
    torch.manual_seed(seed)
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )
    training = datasets.MNIST(folder, train=True, transform=transform)
    testing = datasets.MNIST(folder, train=False, transform=transform)
    loader = torch.utils.data.DataLoader(training, batch_size=64, shuffle=True)
    test_images = torch.stack([image for image, _ in testing])
    model = StandardNet()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)
    look = len(loader) // 10
    seconds, seen, accuracy = 0.0, 0, 0.0
    for _ in range(most_epochs):
        start = time.perf_counter()
        for number, (images, labels) in enumerate(loader, 1):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            seen += len(images)
            if number % look == 0:
                seconds += time.perf_counter() - start
                model.eval()
                with torch.no_grad():
                    logits = torch.cat([model(part) for part in test_images.split(500)])
                model.train()
                accuracy = (logits.argmax(1) == testing.targets).double().mean().item()
                print(f"  standard: {seen:,} images, {seconds:.0f} s, {accuracy:.2%}", flush=True)
                if accuracy >= GOAL:
                    return seconds, accuracy, seen
                start = time.perf_counter()
        seconds += time.perf_counter() - start
        schedule.step()
    return seconds, accuracy, seen


def ours(seed: int, folder: Path) -> tuple[float, float, int]:
    """One short run of this project. Returns seconds, test accuracy, images seen."""
    os.environ["LAB_RUNS"] = str(folder)
    start = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
        metrics = train(TrainConfig(seed=seed, **OURS))
    return time.perf_counter() - start, metrics["test/accuracy"], metrics["images_seen"]


def main() -> None:
    """Run both, print a line each, and the ratio of the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each (default 3)")
    parser.add_argument("--most-epochs", type=int, default=4, help="give the standard up after")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.processor()}")
    found: dict[str, list[tuple[float, float, int]]] = {"standard": [], "ours": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "MNIST").mkdir()
        (folder / "MNIST" / "raw").symlink_to(fetch("mnist"))
        for seed in range(options.seeds):
            found["ours"].append(ours(seed, folder / "runs"))
            found["standard"].append(standard(seed, folder, options.most_epochs))
            for contestant, results in found.items():
                seconds, accuracy, seen = results[-1]
                print(f"{contestant:<9} seed {seed}: {accuracy:.2%} after {seconds:6.1f} s, "
                      f"{seen:,} images")  # fmt: skip
    mean = {name: statistics.fmean(s for s, _, _ in results) for name, results in found.items()}
    reached = statistics.fmean(accuracy for _, accuracy, _ in found["ours"])
    print(f"ours: {reached:.2%} on average, goal {GOAL:.1%}{'' if reached >= GOAL else ': MISSED'}")
    given_up = any(accuracy < GOAL for _, accuracy, _ in found["standard"])
    ratio = f"{'at least ' * given_up}{mean['standard'] / mean['ours']:.1f} times as fast"
    print(f"standard / ours: {mean['standard']:.0f} s / {mean['ours']:.1f} s = {ratio}")


if __name__ == "__main__":
    main()
