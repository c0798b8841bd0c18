"""Ten kinds of rendered garments that are always there, quick to tell apart and to learn."""

from pathlib import Path

import pytest
import torch

import fashion_mnist.evaluate
import fashion_mnist.export
import fashion_mnist.train
from fashion_mnist.config import EvaluateConfig, TrainConfig
from fashion_mnist.data import Labelled
from trainloop import Run


def stripes(count: int, seed: int) -> Labelled:
    """Images of class k: bars of a direction and a width that go with k, in noise.

    One label in 16 is wrong, so that there are mistakes to look at.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    labels = labels[torch.randperm(count, generator=generator)]
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    angle = labels % 5 * torch.pi / 5
    place = x * angle.cos()[:, None, None] + y * angle.sin()[:, None, None]  # (N, 28, 28)
    period = torch.where(labels < 5, 6.0, 12.0)[:, None, None]
    phase = 2 * torch.pi * torch.rand(count, 1, 1, generator=generator)
    bars = 128 + 80 * (2 * torch.pi * place / period + phase).sin()
    noise = 25 * torch.randn(bars.shape, generator=generator)
    wrong = torch.rand(count, generator=generator) < 1 / 16
    given = torch.where(wrong, (labels + 3) % 10, labels)
    return Labelled((bars + noise).clamp(0, 255).to(torch.uint8)[:, None], given)


@pytest.fixture(scope="session")
def splits() -> list[Labelled]:
    """1,000 images to train on, 150 to validate, 250 to test."""
    return [stripes(1000, 0), stripes(150, 1), stripes(250, 2)]


@pytest.fixture
def tiny(splits, monkeypatch, tmp_path) -> Labelled:
    """Puts them in the place of Fashion-MNIST; those to test."""
    for module in (fashion_mnist.train, fashion_mnist.evaluate, fashion_mnist.export):
        monkeypatch.setattr(module, "load", lambda: splits)
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    return splits[2]


@pytest.fixture
def quick(tiny, monkeypatch) -> Labelled:
    """As `tiny`, and nothing is drawn: a picture takes longer than a training of ten steps."""
    monkeypatch.setattr(Run, "picture", lambda *_: None)
    monkeypatch.setattr(Run, "_to_tensorboard", lambda *_: None)
    return tiny


SHORT = TrainConfig(  # mirrored bars belong to another class
    model="resnet", width=4, steps=60, eval_every=30, batch_size=64, ema=0.9, flip=False,
    flip_test=False,
)  # fmt: skip


@pytest.fixture(scope="session")
def short() -> TrainConfig:
    """Options of a training of a few seconds."""
    return SHORT


@pytest.fixture(scope="session")
def learned(splits, plot_curves, tmp_path_factory) -> Path:
    """A runs' folder with one run, whose net has learned from them in 60 steps of 64."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fashion_mnist.train, "load", lambda: splits)
        patch.setenv("LAB_RUNS", str(runs))
        patch.setattr("trainloop.curves.plot_curves", plot_curves)
        fashion_mnist.train.train(SHORT)
    return runs


@pytest.fixture(scope="session")
def evaluated(splits, learned) -> dict[str, float]:
    """The metrics of `evaluate` of that run, which is the newest; its folder is beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fashion_mnist.evaluate, "load", lambda: splits)
        patch.setenv("LAB_RUNS", str(learned))
        return fashion_mnist.evaluate.evaluate(EvaluateConfig(mapped=100, shown=6))


@pytest.fixture
def checkpoint(learned) -> str:
    """Its last checkpoint."""
    (path,) = (learned / "fashion-mnist").glob("2*/last.pt")
    return str(path)
