"""The parts of the warm-up, and its loop on images made here."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import warmup.train as training
from trainloop import LabError
from trainloop.testing import assert_resume_is_exact
from warmup.config import TrainConfig
from warmup.data import Labelled, random_shift
from warmup.evaluate import confusion_matrix, draw_confusion, draw_worst, predict, scores
from warmup.model import SmallCnn


@pytest.fixture
def bars(monkeypatch, tmp_path) -> Labelled:
    """600 images that a small net can tell apart: a bright bar at a height that is the class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 10
    images = torch.randint(0, 60, (600, 1, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, 4 + 2 * int(label), 6:22] = 255
    data = Labelled(images, labels)
    monkeypatch.setattr(training, "load", lambda: (data, data, data))
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    return data


SHORT = TrainConfig(steps=30, eval_every=15, batch_size=64, shift=0, width=4)


def test_shapes_and_size():
    model = SmallCnn()
    logits = model(torch.zeros(3, 1, 28, 28, dtype=torch.uint8))
    assert logits.shape == (3, 10)
    assert sum(p.numel() for p in model.parameters()) == 18_018
    assert sum(p.numel() for p in SmallCnn(width=16).parameters()) == 70_586


def test_gradients_reach_every_parameter():
    model = SmallCnn()
    images = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8)
    F.cross_entropy(model(images), torch.arange(8)).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_random_shift_against_a_slow_one():
    """Every shifted image is the original moved by whole pixels, black coming in."""
    images = torch.randint(1, 256, (50, 1, 28, 28), dtype=torch.uint8)
    moved = random_shift(images, 2)
    seen = set()
    for before, after in zip(images[:, 0], moved[:, 0], strict=True):
        padded = F.pad(before, (2, 2, 2, 2))
        matches = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if torch.equal(padded[dy : dy + 28, dx : dx + 28], after)
        ]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) > 12, "all directions occur"
    assert random_shift(images, 0) is images


def test_predict_is_independent_of_the_batch_and_keeps_the_mode(bars):
    model = SmallCnn().train()
    whole, parts = predict(model, bars), predict(model, bars, batch=7)
    assert model.training
    assert torch.allclose(whole, parts, atol=1e-5)
    assert torch.allclose(whole.exp().sum(1), torch.ones(600), atol=1e-5)


def test_scores_and_confusion_against_scikit_learn():
    from sklearn import metrics

    log_prob = torch.randn(200, 10).log_softmax(1)
    labels = torch.randint(0, 10, (200,))
    found = scores(log_prob, labels)
    guesses = log_prob.argmax(1)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, guesses))
    assert found["nll"] == pytest.approx(
        metrics.log_loss(labels, log_prob.double().softmax(1), labels=range(10)), rel=1e-4
    )
    counts = confusion_matrix(log_prob, labels)
    assert counts.tolist() == metrics.confusion_matrix(labels, guesses, labels=range(10)).tolist()
    assert "mistakes" in draw_confusion(counts).axes[0].get_title()


def test_worst_shows_the_least_likely_label_first(bars):
    log_prob = torch.full((600, 10), 0.1).log()
    log_prob[417] = torch.tensor([0.001] * 10).log()
    log_prob[417, (int(bars.labels[417]) + 1) % 10] = torch.tensor(0.99).log()
    figure = draw_worst(bars, log_prob)
    wrong = (int(bars.labels[417]) + 1) % 10
    assert figure.axes[0].get_title() == f"{int(bars.labels[417])} as {wrong} (99%)"


def test_it_learns(bars):
    metrics = training.train(replace(SHORT, steps=60))
    assert metrics["test/accuracy"] > 0.95
    assert metrics["images_seen"] == 60 * 64


def test_resume_is_exact(bars, tmp_path, monkeypatch):
    assert_resume_is_exact(training.train, SHORT, "warmup", 22, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"dropout": 1.0}, {"ema": -0.1}, {"shift": 15}, {"width": 0},
              {"eval_every": 0}, {"steps": 0}],
)  # fmt: skip
def test_wrong_options_are_one_line(wrong):
    with pytest.raises(LabError) as caught:
        replace(SHORT, **wrong)
    option = next(iter(wrong)).replace("_", "-")
    assert f"--{option}" in str(caught.value)
    assert "\n" not in str(caught.value)
