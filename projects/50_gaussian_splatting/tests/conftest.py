"""A small tabletop, rendered once, and Gaussians at random."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from splatting.camera import Camera, look_at
from splatting.config import TrainConfig
from splatting.gaussians import Gaussians

SIZE = 32
SHORT = TrainConfig(size=SIZE, points=300, max_gaussians=400, steps=60, eval_every=30, turntable=4,
                    sh_every=20)  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def data_folder(tmp_path_factory) -> Iterator[Path]:
    """Its tabletop is 32 pixels large."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("data")
        patch.setenv("LAB_DATA", str(folder))
        yield folder


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """Where this test's runs go."""
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs/splatting"


@pytest.fixture(scope="session")
def learned(data_folder, plot_curves, tmp_path_factory) -> Path:
    """The folder of one finished run."""
    from splatting.train import train

    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_RUNS", str(runs))
        patch.setattr("trainloop.curves.plot_curves", plot_curves)
        train(SHORT)
    return runs / "splatting/latest"


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    """Drawing takes longer than trainings this short; that of `learned` draws everything."""
    monkeypatch.setattr("splatting.train.draw_views", lambda *seen: Figure(figsize=(1, 1)))
    monkeypatch.setattr("splatting.train.draw_progress", lambda path: None)
    monkeypatch.setattr("splatting.fit_image.draw_fit", lambda *seen: Figure(figsize=(1, 1)))


@pytest.fixture
def camera() -> Camera:
    """From (0.3, -4, 1.5) to the origin, 40 x 28 pixels: no multiple of a tile."""
    pose = look_at(torch.tensor([0.3, -4, 1.5]), torch.zeros(3), torch.tensor([0.0, 0, 1]))
    return Camera(pose, 44.0, 46.0, 21.0, 13.0, 40, 28)


@pytest.fixture
def make_gaussians() -> Callable[..., Gaussians]:
    """Of a seed, and a number."""

    def make(count: int = 60, seed: int = 0, dtype: torch.dtype = torch.float32) -> Gaussians:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        return Gaussians(
            means=(0.6 * normal(count, 3)).to(dtype),
            quaternions=normal(count, 4).to(dtype),
            log_scales=(0.7 * normal(count, 3) - 1.8).to(dtype),
            opacity_logits=(2 * normal(count)).to(dtype),
            sh0=normal(count, 1, 3).to(dtype),
            sh_rest=(0.2 * normal(count, 15, 3)).to(dtype),
        )

    return make
