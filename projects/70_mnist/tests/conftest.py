"""Real digits that are always there: scikit-learn's 8x8 ones, enlarged to MNIST's form."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import mnist.models
import mnist.train
from mnist.config import TrainConfig
from mnist.data import Labelled
from trainloop import load_images


@pytest.fixture(scope="session")
def digits() -> Labelled:
    """1,500 digits of 20x20 pixels in the middle of 28x28."""
    images, labels = load_images("digits", "train")
    large = F.interpolate(images.float(), size=(20, 20), mode="bilinear", align_corners=False)
    return Labelled(F.pad(large, (4, 4, 4, 4)).round().to(torch.uint8), labels)


@pytest.fixture(scope="session")
def splits(digits) -> list[Labelled]:
    """1,100 digits to train on, 150 to validate, 250 to test."""
    return [digits.take(part) for part in torch.arange(1500).split([1100, 150, 250])]


@pytest.fixture
def tiny(splits, monkeypatch, tmp_path) -> Labelled:
    """Puts them in the place of MNIST; those to test."""
    for module in (mnist.train, mnist.models):
        monkeypatch.setattr(module, "load", lambda: splits)
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    return splits[2]


@pytest.fixture(scope="session")
def learned(splits, plot_curves, tmp_path_factory) -> Path:
    """A runs' folder with one run, whose net has learned from 1,000 of them in 60 steps of 64."""
    runs = tmp_path_factory.mktemp("runs")
    config = TrainConfig(real=1000, steps=60, eval_every=30, batch_size=64, width=8, ema=0.9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist.train, "load", lambda: splits)
        patch.setenv("LAB_RUNS", str(runs))
        patch.setattr("trainloop.curves.plot_curves", plot_curves)
        mnist.train.train(config)
    return runs


@pytest.fixture
def rendered(digits, write_rendered, tmp_path) -> Path:
    """A folder in the form that houdini's digits have, with 12 images a class."""
    return write_rendered(digits, tmp_path)


@pytest.fixture(scope="session")
def write_rendered() -> Callable[[Labelled, Path], Path]:
    """Writes such a folder into another one."""

    def write(digits: Labelled, home: Path) -> Path:
        for digit in range(10):
            folder = home / "output" / str(digit)
            folder.mkdir(parents=True)
            for number, image in enumerate(digits.images[digits.labels == digit][:12]):
                Image.fromarray(image[0].numpy()).save(folder / f"{number:04}.png")
        return home / "output"

    return write
