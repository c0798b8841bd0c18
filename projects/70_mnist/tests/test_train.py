"""The model, the loop, and what one can put into them."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnist.config import ModelsConfig, StudyConfig, TrainConfig
from mnist.evaluate import draw_digits, draw_worst, log_probabilities, scores
from mnist.model import Normalise, build
from mnist.train import make_optimizer, train
from trainloop import LabError
from trainloop.testing import assert_resume_is_exact

SHORT = TrainConfig(real=1000, steps=60, eval_every=30, batch_size=64, width=4)


@pytest.mark.parametrize(("width", "parameters"), [(8, 18_018), (16, 70_586)])
def test_size_of_the_net(width, parameters):
    assert sum(p.numel() for p in build(width).parameters()) == parameters


def test_shapes_in_the_comments_of_build():
    model = build(4)
    x = torch.rand(2, 1, 28, 28)
    shapes = [tuple((x := layer(x)).shape) for layer in model]
    assert shapes[1] == (2, 4, 14, 14)
    assert shapes[4] == (2, 8, 7, 7)
    assert shapes[6] == (2, 16, 5, 5)
    assert shapes[8] == (2, 16)
    assert shapes[-1] == (2, 10)


def test_every_parameter_gets_a_gradient():
    model = build(4, 0.0)
    F.cross_entropy(model(torch.rand(8, 1, 28, 28)), torch.arange(8)).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_normalise():
    images = torch.full((1, 1, 28, 28), 0.1307 + 2 * 0.3081)
    assert torch.allclose(Normalise()(images), torch.tensor(2.0), atol=1e-5)


def test_it_learns_and_tells_of_every_batch(learned):
    home = learned / "mnist/latest"
    metrics = json.loads((home / "summary.json").read_text())["metrics"]
    assert metrics["test/accuracy"] > 0.95
    assert metrics["images"] == 1000
    assert metrics["images_seen"] == 60 * 64
    lines = [json.loads(line) for line in (home / "metrics.jsonl").open()]
    batches = [line for line in lines if "loss" in line]
    assert [line["step"] for line in batches] == list(range(1, 61))
    assert all((64 * line["accuracy"]) % 1 == 0 for line in batches)
    assert batches[-1]["accuracy"] > batches[0]["accuracy"]
    assert [line["step"] for line in lines if "val/accuracy" in line] == [30, 60]
    assert {"curves.png", "worst.png"} <= {path.name for path in home.iterdir()}


def test_resume_is_exact(tiny, tmp_path, monkeypatch):
    short = replace(SHORT, steps=9, eval_every=5)
    assert_resume_is_exact(train, short, "mnist", 7, tmp_path, monkeypatch)


def test_epochs_become_steps(tiny, tmp_path, rendered):
    config = replace(SHORT, steps=0, epochs=2, real=100, repeat=2, mix=100, synthetic=str(rendered))
    metrics = train(config)
    assert metrics["images"] == 300
    assert metrics["images_seen"] == 10 * 64  # 600 images are 9.4 batches
    summary = json.loads((tmp_path / "runs/mnist/latest/summary.json").read_text())
    assert summary["steps"] == 10
    assert "steps" not in summary["overrides"]
    lines = (tmp_path / "runs/mnist/latest/metrics.jsonl").read_bytes()
    train(replace(config, steps=10))
    assert (tmp_path / "runs/mnist/latest/metrics.jsonl").read_bytes() == lines


def test_a_layer_and_a_loss_are_put_in_from_outside(tiny):
    labels_seen, modes = [], []

    def make_model(width, dropout):
        model = build(width, dropout)
        model.insert(7, nn.Dropout2d(0.1))
        model[7].register_forward_hook(lambda layer, *_: modes.append(layer.training))
        return model

    def smoothed(logits, labels):
        labels_seen.append(labels)
        return F.cross_entropy(logits, labels, label_smoothing=0.1)

    train(replace(SHORT, steps=2), make_model, smoothed)
    assert [len(labels) for labels in labels_seen] == [64, 64]
    assert modes[:2] == [True, True]
    assert modes[2:] == [False] * len(modes[2:]), "the average of the weights is what is tested"
    assert len(modes) > 2


def test_only_matrices_decay():
    optimizer = make_optimizer(build(4), 1e-3, 0.3)
    decayed, kept = optimizer.param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in kept["params"]} == {1}
    assert len(decayed["params"]) + len(kept["params"]) == len(list(build(4).parameters()))


def test_log_probabilities_do_not_depend_on_the_batch(digits):
    model = build(4).train()
    images = digits.images[:50]
    whole, parts = log_probabilities(model, images), log_probabilities(model, images, batch=7)
    assert model.training
    assert torch.allclose(whole, parts, atol=1e-5)
    assert torch.allclose(whole.exp().sum(1), torch.ones(50), atol=1e-5)


def test_scores_against_scikit_learn():
    from sklearn import metrics

    torch.manual_seed(0)
    log_prob, labels = torch.randn(200, 10).log_softmax(1), torch.randint(0, 10, (200,))
    found = scores(log_prob, labels)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, log_prob.argmax(1)))
    probabilities = log_prob.double().softmax(1)
    expected = metrics.log_loss(labels, probabilities, labels=range(10))
    assert found["nll"] == pytest.approx(expected, rel=1e-4)


def test_worst_comes_first(digits):
    log_prob = torch.full((1500, 10), 0.1).log()
    label = int(digits.labels[417])
    log_prob[417] = torch.tensor([0.001] * 10).log()
    log_prob[417, (label + 1) % 10] = torch.tensor(0.99).log()
    figure = draw_worst(digits, log_prob, count=9)
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert titles[0] == f"{label} as {(label + 1) % 10} (99%)"
    assert len(titles) == 9


def test_every_image_stands_under_its_title(digits):
    figure = draw_digits(digits.images[:7], list("abcdefg"), columns=3)
    (axis,) = figure.axes
    canvas = axis.images[0].get_array()
    assert canvas.shape == (3 * 38, 3 * 32)
    for image, text in zip(digits.images[:7, 0], axis.texts, strict=True):
        x, y = text.get_position()
        below = canvas[int(y) + 2 : int(y) + 30, int(x) - 14 : int(x) + 14]
        assert (below == image.numpy()).all()


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (TrainConfig, {"steps": -1}), (TrainConfig, {"seed": -1}), (TrainConfig, {"epochs": 0}),
        (TrainConfig, {"real": 55_001}), (TrainConfig, {"real": -1}), (TrainConfig, {"real": 0}),
        (TrainConfig, {"mix": 1.0}), (TrainConfig, {"mix": -0.1}), (TrainConfig, {"mix": 2.5}),
        (TrainConfig, {"repeat": 0}), (TrainConfig, {"synthetic": "somewhere"}),
        (TrainConfig, {"real": 0, "mix": 0.4}), (TrainConfig, {"width": 0}),
        (TrainConfig, {"dropout": 1.0}), (TrainConfig, {"batch_size": 1}),
        (TrainConfig, {"lr": 0.0}), (TrainConfig, {"weight_decay": -1.0}),
        (TrainConfig, {"shift": 15}), (TrainConfig, {"ema": 1.0}), (TrainConfig, {"eval_every": 0}),
        (StudyConfig, {"steps": 0}), (StudyConfig, {"seeds": 1}), (StudyConfig, {"mix": 1}),
        (StudyConfig, {"real": ()}), (StudyConfig, {"real": (5, 5)}), (StudyConfig, {"real": (0,)}),
        (StudyConfig, {"width": 0}), (StudyConfig, {"workers": -1}),
        (ModelsConfig, {"names": ("resnet",)}), (ModelsConfig, {"names": ()}),
        (ModelsConfig, {"steps": -1}), (ModelsConfig, {"workers": -1}),
        (ModelsConfig, {"seed": -1}),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(config, wrong):
    with pytest.raises(LabError) as caught:
        config(**wrong)
    assert f"--{next(iter(wrong)).replace('_', '-')}" in str(caught.value)
    assert "\n" not in str(caught.value)
