"""Small networks and small data that are always there."""

from dataclasses import replace

import pytest
import torch

from diffusion import extractor
from diffusion.config import TrainConfig
from diffusion.model import build
from diffusion.process import make_process
from diffusion.sampling import Trained

SMALL = TrainConfig(
    data="digits", steps=6, batch_size=16, widths=(8, 16), samples=20, sample_steps=3, T=50,
    eval_every=3, pictures=False,
)  # fmt: skip
"""A short training on 8x8 digits; drawing would take longer than all else."""


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """Where this test's run folders go."""
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs/diffusion"


@pytest.fixture(scope="session")
def make_trained():
    """A network with random weights, none of them 0, and what its predictions mean."""

    def make(shape=(1, 8, 8), classes=10, **options) -> Trained:
        config = replace(SMALL, **options)
        torch.manual_seed(0)
        model = build(shape, classes, config.widths, config.time_scale)
        for p in model.parameters():
            if not p.any():
                torch.nn.init.normal_(p, std=0.1)
        names = tuple(map(str, range(classes)))
        return Trained(model.eval(), make_process(config.schedule, config.T), config, shape, names)

    return make


@pytest.fixture(scope="session")
def quick(tmp_path_factory):
    """Classifiers of 8x8 digits that took a second, in a data folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(extractor.EPOCHS, "digits", 2)
        patch.setenv("LAB_DATA", str(tmp_path_factory.mktemp("data")))
        yield
