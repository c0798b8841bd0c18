"""A pool of 90 frames, and nets that need not be good."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from active_learning import scenes
from active_learning.config import CurveConfig
from active_learning.pools import Knobs
from active_learning.predictions import Predictions
from active_learning.scenes import Frames, render

TINY = {
    "steps": 3, "frames": 90, "start": 12, "query": 10, "rounds": 2, "width": 4, "batch_size": 4,
}  # fmt: skip
"""Options of a curve that takes a second."""


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch) -> Path:
    """Every test has its own folder of runs."""
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def pool() -> Frames:
    return render("pool", Knobs(frames=90))


@pytest.fixture
def tiny(monkeypatch) -> CurveConfig:
    """Its options, with few frames to be measured on."""
    monkeypatch.setattr(scenes, "TEST_FRAMES", 60)
    monkeypatch.setattr(scenes, "VALIDATION_FRAMES", 60)
    return CurveConfig(**TINY)


@pytest.fixture
def made_up() -> Predictions:
    """40 frames with random peaks, the surest first, and three members."""
    torch.manual_seed(0)
    objects = torch.rand(40, 6).sort(1, descending=True).values
    objects[:10] *= 0.05  # nothing is seen in these
    return Predictions(
        objects=objects,
        classes=torch.randn(40, 6, 10).softmax(-1),
        boxes=torch.rand(40, 6, 4),
        features=torch.randn(40, 6, 8),
        embedding=torch.randn(40, 16),
        members=torch.randn(3, 40, 6, 11).softmax(-1),
    )


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder with twelve photos of different sizes, two of them in a folder below."""
    home = tmp_path / "photos"
    (home / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 255, (60 + 5 * i, 90, 3), dtype=np.uint8)
        folder = home / "more" if i >= 10 else home
        Image.fromarray(pixels).save(folder / f"photo{i:02}.png")
    return home
