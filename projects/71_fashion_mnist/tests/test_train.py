"""The models, the loop, and what a run keeps."""

import json
from dataclasses import fields, replace

import pytest
import torch
from torch.nn import functional as F

from fashion_mnist.calibration import scores
from fashion_mnist.config import (
    MODELS,
    CompareConfig,
    EvaluateConfig,
    ExportConfig,
    Recipe,
    TrainConfig,
)
from fashion_mnist.model import Residual, build, load_trained
from fashion_mnist.predict import embeddings, logits_of, predict
from fashion_mnist.train import make_optimizer, train
from trainloop import LabError, load_checkpoint
from trainloop.testing import assert_resume_is_exact

SHORT = TrainConfig(model="resnet", width=4, steps=60, eval_every=30, batch_size=64, ema=0.9)


def test_sizes_of_the_models():
    count = {
        m: sum(p.numel() for p in build(Recipe(model=m, width=16)).parameters()) for m in MODELS
    }
    assert count == {"linear": 7_850, "mlp": 269_322, "cnn": 71_226, "resnet": 305_402}


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_gets_a_gradient(name):
    model = build(Recipe(model=name, width=4, blocks=2))
    F.cross_entropy(model(torch.rand(8, 1, 28, 28)), torch.arange(8)).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_the_embedding_is_what_the_last_layer_sees(name):
    model = build(Recipe(model=name, width=4, dropout=0.5)).eval()
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(model.head(model.embed(images)), model(images))
    assert model.embed(images).shape == (3, model.head.in_features)
    assert model.has_maps == (name in ("cnn", "resnet"))


@pytest.mark.parametrize("name", MODELS)
def test_eight_images_by_heart(name, splits):
    torch.manual_seed(0)
    model = build(Recipe(model=name, width=8)).train()
    images, labels = splits[0].images[:8].float() / 255, splits[0].labels[:8]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0)
    for _ in range(60):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05


def test_a_residual_block_is_a_detour():
    """With its last scale at 0 only the way around is left; ReLU of a positive x is x."""
    block = Residual(4, 4)
    torch.nn.init.zeros_(block.norm.weight)
    x = torch.rand(2, 4, 7, 7)
    assert torch.equal(block(x), x)


def test_normalisation_is_inside():
    model = build(Recipe(model="linear"))
    with torch.no_grad():
        model.head.weight.fill_(1 / 784)
        model.head.bias.zero_()
    images = torch.full((1, 1, 28, 28), 0.2860 + 2 * 0.3530)
    assert torch.allclose(model(images), torch.tensor(2.0), atol=1e-5)


# --- the loop ------------------------------------------------------------------------------------


def test_it_learns_and_keeps_what_it_learned(learned, splits):
    home = next((learned / "fashion-mnist").glob("2*/last.pt")).parent
    metrics = json.loads((home / "summary.json").read_text())["metrics"]
    assert 0.85 < metrics["test/accuracy"] < 1
    assert metrics["images_seen"] == 60 * 64
    trained = load_trained(home / "last.pt")
    logits, _ = predict(trained, splits[2].images)
    again = scores(logits, splits[2].labels, trained.temperature)
    for name, value in again.items():
        assert metrics[f"test/{name}"] == pytest.approx(value, abs=1e-9)
    assert metrics["temperature"] == trained.temperature != 1
    assert metrics["test/ece_unscaled"] == scores(logits, splits[2].labels)["ece"]
    lines = [json.loads(line) for line in (home / "metrics.jsonl").open()]
    assert [x["step"] for x in lines if "loss" in x] == list(range(1, 61))
    assert [x["step"] for x in lines if "val/accuracy" in x] == [30, 60]
    for picture in ("confusion", "reliability", "mistakes", "curves"):
        assert (home / f"{picture}.png").stat().st_size > 5_000


def test_the_temperature_lowers_the_nll_of_validation_images(checkpoint, splits):
    trained = load_trained(checkpoint)
    logits, _ = predict(trained, splits[1].images)
    fitted = scores(logits, splits[1].labels, trained.temperature)["nll"]
    for other in (1.0, 0.9 * trained.temperature, 1.1 * trained.temperature):
        assert fitted < scores(logits, splits[1].labels, other)["nll"]


@pytest.mark.parametrize(
    "strategy",
    [
        {"mixup": 0.4, "smoothing": 0.1, "cutout": 6, "shift": 2, "dropout": 0.2},
        {"schedule": "cosine", "flip_test": False, "ema": 0.0},
    ],
)
def test_resume_is_exact(strategy, quick, tmp_path, monkeypatch):
    config = replace(SHORT, steps=14, eval_every=5, **strategy)
    assert_resume_is_exact(train, config, "fashion-mnist", 8, tmp_path, monkeypatch)


def first_losses(config: TrainConfig, tmp_path) -> list[float]:
    train(config)
    path = tmp_path / "runs/fashion-mnist/latest/metrics.jsonl"
    return [json.loads(line).get("loss") for line in path.open()][:3]


def test_each_strategy_changes_the_training_and_none_the_test(quick, tmp_path, monkeypatch):
    """An option that does nothing would leave the losses as they are."""
    plain = replace(
        SHORT, steps=3, eval_every=3, width=2, flip=False, shift=0, ema=0.0, schedule="constant"
    )
    before = first_losses(plain, tmp_path)
    assert before == first_losses(plain, tmp_path), "two equal runs are equal"
    for strategy in (
        {"cutout": 6}, {"smoothing": 0.1}, {"mixup": 1.0}, {"schedule": "one-cycle"},
        {"schedule": "cosine"}, {"dropout": 0.3},
    ):  # fmt: skip
        assert first_losses(replace(plain, **strategy), tmp_path) != before, strategy


def test_the_average_of_the_weights_is_what_is_kept(quick, tmp_path):
    train(replace(SHORT, steps=8, ema=0.0))
    home = tmp_path / "runs/fashion-mnist/latest"
    states = load_checkpoint(home / "last.pt")["states"]
    assert torch.equal(states["ema"]["head.weight"], states["model"]["head.weight"])
    train(replace(SHORT, steps=8, ema=0.99))
    states = load_checkpoint(home / "last.pt")["states"]
    assert not torch.equal(states["ema"]["head.weight"], states["model"]["head.weight"])


def test_the_test_set_chooses_nothing(quick, splits, monkeypatch, tmp_path):
    """With other test images weights and temperature are the same."""
    kept = []
    for part in (splits[2], splits[2].take(torch.arange(50))):
        monkeypatch.setattr("fashion_mnist.train.load", lambda part=part: [*splits[:2], part])
        train(replace(SHORT, steps=10))
        kept.append(load_checkpoint(tmp_path / "runs/fashion-mnist/latest/last.pt"))
    assert kept[0]["notes"] == kept[1]["notes"]
    assert torch.equal(kept[0]["states"]["ema"]["head.weight"],
                       kept[1]["states"]["ema"]["head.weight"])  # fmt: skip


def test_only_matrices_decay():
    optimizer = make_optimizer(build(Recipe(width=4)), 1e-3, 0.3)
    decayed, kept = optimizer.param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in kept["params"]} == {1}


# --- predicting ----------------------------------------------------------------------------------


def test_predictions_do_not_depend_on_the_batch(splits):
    model = build(Recipe(width=4)).train()
    images = splits[0].images[:50]
    whole, parts = embeddings(model, images), embeddings(model, images, batch=7)
    assert model.training
    assert torch.allclose(whole, parts, atol=1e-5)


def test_both_ways_is_the_mean_of_both_logits(splits):
    model = build(Recipe(width=4)).eval()
    images = splits[0].images[:20]
    mean = (logits_of(model, images) + logits_of(model, images.flip(3))) / 2
    both = logits_of(model, images, flip=True)
    assert torch.allclose(both, mean, atol=1e-5)
    assert torch.allclose(both, logits_of(model, images.flip(3), flip=True), atol=1e-5)
    assert not torch.allclose(both, logits_of(model, images), atol=1e-3)


# --- options -------------------------------------------------------------------------------------


def test_presets_and_what_is_put_in_their_place():
    assert TrainConfig().recipe == Recipe()
    best = TrainConfig(preset="best")
    assert best.recipe.width > Recipe().width
    assert replace(best, width=8, flip=False).recipe == replace(best.recipe, width=8, flip=False)
    assert {f.name for f in fields(Recipe)} < {f.name for f in fields(TrainConfig)}


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (TrainConfig, {"steps": -1}), (TrainConfig, {"seed": -1}), (TrainConfig, {"epochs": 0}),
        (TrainConfig, {"width": 0}), (TrainConfig, {"width": 1025}), (TrainConfig, {"blocks": 0}),
        (TrainConfig, {"dropout": 1.0}), (TrainConfig, {"batch_size": 1}),
        (TrainConfig, {"lr": 0.0}), (TrainConfig, {"lr": float("nan")}),
        (TrainConfig, {"weight_decay": -1.0}), (TrainConfig, {"shift": 15}),
        (TrainConfig, {"cutout": -1}), (TrainConfig, {"smoothing": 1.0}),
        (TrainConfig, {"mixup": -0.1}), (TrainConfig, {"ema": 1.0}),
        (TrainConfig, {"eval_every": 0}),
        (CompareConfig, {"steps": 0}), (CompareConfig, {"seeds": 1}),
        (CompareConfig, {"models": ()}), (CompareConfig, {"models": ("vit",)}),
        (CompareConfig, {"models": ("mlp", "mlp")}), (CompareConfig, {"workers": -1}),
        (EvaluateConfig, {"mapped": 99}), (EvaluateConfig, {"mapped": 10_001}),
        (EvaluateConfig, {"shown": 0}), (ExportConfig, {"images": 99}),
        (ExportConfig, {"images": 10_001}),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(config, wrong):
    with pytest.raises(LabError) as caught:
        config(**wrong)
    assert f"--{next(iter(wrong)).replace('_', '-')}" in str(caught.value)
    assert "\n" not in str(caught.value)
