"""The loop: it learns, it resumes, and it says what is wrong."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from diffusion import evaluate
from diffusion.config import (
    CompareConfig,
    EvaluateConfig,
    FailuresConfig,
    SampleConfig,
    SamplersConfig,
    TrainConfig,
)
from diffusion.data import load
from diffusion.evaluate import by_time, validation_loss
from diffusion.model import build
from diffusion.process import make_process
from diffusion.sampling import load_trained
from diffusion.train import hidden, stratified, train
from trainloop import LabError
from trainloop.testing import assert_resume_is_exact

from .conftest import SMALL

TOY = TrainConfig(
    data="toy2d", steps=6, batch_size=64, samples=100, sample_steps=3, eval_every=3, pictures=False
)


def test_one_batch_is_learned_by_heart():
    """The loss of one fixed batch, noise and all, falls to a fiftieth."""
    torch.manual_seed(0)
    process = make_process("cosine", 50)
    model = build((1, 8, 8), 10, (16, 32))
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3, weight_decay=0.0)
    x_0, eps = torch.randn(2, 4, 1, 8, 8)
    t, label = torch.tensor([5, 15, 30, 45]), torch.arange(4)
    first = None
    for _ in range(120):
        prediction = model(process.add_noise(x_0, eps, t), t, label)
        loss = (prediction - process.target("v", x_0, eps, t)).square().mean()
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 50


@pytest.mark.parametrize("config", [SMALL, TOY], ids=["digits", "toy2d"])
def test_resume_is_exact(config, quick, tmp_path, monkeypatch):
    assert_resume_is_exact(train, config, "diffusion", 4, tmp_path, monkeypatch)


def test_a_run_leaves_figures_and_pictures(quick, runs, curves):
    metrics = train(replace(SMALL, pictures=True))
    assert {f"test/{name}" for name in (
        "fd", "fd_reference", "precision", "recall", "balance", "recognised", "nearer",
        "extractor_accuracy",
    )} <= metrics.keys()  # fmt: skip
    assert metrics["images_seen"] == 6 * 16
    home = runs / "latest"
    pictures = {"samples.png", "forward.png", "by_time.png", "neighbours.png", "average.png"}
    assert pictures | {"reverse.gif", "curves.png"} <= {path.name for path in home.iterdir()}
    film = Image.open(home / "reverse.gif")
    assert film.n_frames == 1 + SMALL.sample_steps
    lines = [json.loads(line) for line in (home / "metrics.jsonl").open()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if "val/loss" in line] == [3, 6]


def test_points_get_a_film_of_their_field(quick, runs):
    metrics = train(replace(TOY, pictures=True))
    assert 0 < metrics["test/p_value"] <= 1
    names = {path.name for path in (runs / "latest").iterdir()}
    assert {"field.gif", "samples.png", "forward.png", "by_time.png"} <= names


def test_a_folder_without_labels_is_learned_too(quick, runs, tmp_path):
    generator = torch.Generator().manual_seed(0)
    for number in range(30):
        pixels = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{number}.png")
    metrics = train(replace(SMALL, data=str(tmp_path), pictures=True))
    assert "test/fd" not in metrics
    assert 0 <= metrics["test/nearer"] <= 1
    assert (runs / "latest/neighbours.png").exists()
    assert load_trained().shape == (3, 8, 8)


@pytest.mark.parametrize("prediction", ["eps", "x0"])
def test_toy_loss_falls_whatever_is_predicted(prediction, quick, runs):
    """Not v: where data have deviation 1 it is uncorrelated with x_t, and its loss stays at 1. Most
    of flow's loss is left, too."""
    train(replace(TOY, steps=60, prediction=prediction, eval_every=60, lr=3e-3))
    lines = [json.loads(line) for line in (runs / "latest/metrics.jsonl").open()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])


def test_what_a_checkpoint_gives_back(quick, runs):
    train(replace(SMALL, ema=0.5, prediction="flow", schedule="flow"))
    averaged, raw = load_trained(), load_trained(weights="model")
    assert (averaged.config.prediction, averaged.process.signal[-1]) == ("flow", 0)
    assert averaged.config.widths == (8, 16)
    assert not averaged.model.training
    pairs = zip(averaged.model.parameters(), raw.model.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_without_an_average_both_are_the_same(quick, runs):
    train(replace(SMALL, ema=0.0))
    pairs = zip(
        load_trained().model.parameters(), load_trained(weights="model").model.parameters(),
        strict=True,
    )  # fmt: skip
    assert all(torch.equal(a, b) for a, b in pairs)


# --- parts of the loop ---------------------------------------------------------------------------


def test_times_are_spread_evenly():
    torch.manual_seed(0)
    drawn = torch.stack([stratified(50, 100, torch.device("cpu")) for _ in range(2000)])
    assert drawn.min() == 1
    assert drawn.max() == 100
    counts = drawn.flatten().bincount(minlength=101)[1:]
    assert counts.min() > 800, "1,000 of each are expected"
    assert counts.max() < 1200
    assert ((drawn - 1) // 2 == torch.arange(50)).all(), "one in every fiftieth"


def test_labels_are_hidden():
    torch.manual_seed(0)
    label = torch.arange(10).repeat(1000)
    assert torch.equal(hidden(label, 0.0, 10), label)
    assert (hidden(label, 1.0, 10) == 10).all()
    some = hidden(label, 0.1, 10)
    assert (some == 10).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert torch.equal(some[some < 10], label[some < 10])


def test_validation_loss_of_a_network_that_says_nothing(quick):
    """v of unit variance: the error of 0 is the mean of v^2."""
    data = load(SMALL)
    model = build((1, 8, 8), 10, (8, 16))
    process = make_process("cosine", 50)
    loss = validation_loss(model, process, SMALL, data)
    assert loss == validation_loss(model, process, SMALL, data)
    x_0, _ = data.validation.take(torch.arange(150))
    expected = (process.signal[1:] ** 2 + process.noise[1:] ** 2 * x_0.square().mean()).mean()
    assert loss == pytest.approx(expected.item(), rel=0.1)


def test_loss_and_gradient_by_time(make_trained, quick):
    trained = make_trained()
    found = by_time(trained, load(SMALL))
    assert len(found.times) == len(found.loss) == len(found.gradient) == evaluate.LEVELS
    assert all(value > 0 for value in found.gradient)
    assert not any(p.requires_grad or p.grad is not None for p in trained.model.parameters())


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (TrainConfig, {"steps": -1}), (TrainConfig, {"seed": -1}), (TrainConfig, {"lr": -1.0}),
        (TrainConfig, {"batch_size": -1}), (TrainConfig, {"gamma": 0.0}), (TrainConfig, {"T": 1}),
        (TrainConfig, {"widths": (12,)}), (TrainConfig, {"widths": ()}),
        (TrainConfig, {"ema": 1.0}), (TrainConfig, {"label_drop": 1.5}),
        (TrainConfig, {"sample_steps": 1001}), (TrainConfig, {"sample_steps": 0}),
        (TrainConfig, {"guidance": -1.0}), (TrainConfig, {"samples": 1}),
        (TrainConfig, {"eval_every": 0}), (TrainConfig, {"time_scale": 0.0}),
        (TrainConfig, {"size": -2}), (TrainConfig, {"noise_at_zero": True}),
        (TrainConfig, {"prediction": "eps", "schedule": "flow"}),
        (SampleConfig, {"count": 0}), (SampleConfig, {"steps": 0}), (SampleConfig, {"eta": 2.0}),
        (SampleConfig, {"eta": 0.5, "sampler": "dpm"}), (SampleConfig, {"guidance": -0.1}),
        (SampleConfig, {"noise_at_zero": True}), (SampleConfig, {"seed": -1}),
        (EvaluateConfig, {"samples": 3}), (EvaluateConfig, {"eta": -1.0}),
        (SamplersConfig, {"few": ()}), (SamplersConfig, {"few": (5, 2000)}),
        (CompareConfig, {"schedules": ()}), (CompareConfig, {"seeds": 0}),
        (CompareConfig, {"data": "toy2d"}), (FailuresConfig, {"workers": -1}),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(config, wrong):
    with pytest.raises(LabError) as caught:
        config(**wrong)
    assert f"--{next(iter(wrong)).replace('_', '-')}" in str(caught.value)
    assert "\n" not in str(caught.value)
