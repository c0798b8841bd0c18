"""The parts of the warm-up, and its loop on images made here."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import warmup.train as training
from trainloop import LabError
from trainloop.testing import assert_resume_is_exact
from warmup.config import TrainConfig
from warmup.data import CLASSES, DIGITS, Labelled, augment, load, random_shift
from warmup.evaluate import confusion_matrix, draw_confusion, draw_worst, predict, scores
from warmup.model import Normalise, build


@pytest.fixture
def bars(monkeypatch, tmp_path) -> Labelled:
    """600 images that a small net can tell apart: a bright bar at a height that is the class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 10
    images = torch.randint(0, 60, (600, 1, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, 4 + 2 * int(label), 6:22] = 255
    data = Labelled(images, labels)
    monkeypatch.setattr(training, "load", lambda name: (data, data, data))
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    return data


SHORT = TrainConfig(steps=30, eval_every=15, batch_size=64, shift=0, width=4)


BYTES = {"mnist": (1, 28), "digits": (1, 8), "cifar10": (3, 32)}


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn"])
@pytest.mark.parametrize(("channels", "size"), BYTES.values(), ids=BYTES)
def test_every_model_takes_every_image_size(name, channels, size):
    images = torch.randint(0, 256, (8, channels, size, size), dtype=torch.uint8)
    model = build(name, images, width=4, dropout=0.0)
    logits = model(images)
    assert logits.shape == (8, 10)
    F.cross_entropy(logits, torch.arange(8)).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(("width", "parameters"), [(8, 18_018), (16, 70_586)])
def test_size_of_the_cnn(width, parameters):
    model = build("cnn", torch.zeros(1, 1, 28, 28, dtype=torch.uint8), width, 0.2)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_normalise_gives_mean_0_and_deviation_1_in_every_channel():
    images = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8)
    images[:, 1] //= 4
    images[:, 2] = 7  # a constant channel must not become NaN
    x = Normalise(images)(images)
    assert torch.allclose(x.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(x.std(dim=(0, 2, 3)), torch.tensor([1.0, 1.0, 0.0]), atol=1e-4)


def test_unknown_model():
    with pytest.raises(ValueError, match="no model is called 'vit'"):
        build("vit", torch.zeros(1, 1, 8, 8, dtype=torch.uint8), 4, 0.0)


def test_digits_are_split_in_three():
    parts = load("digits")
    assert [len(part.images) for part in parts] == [1375, 125, 297]
    everything = torch.cat([part.images.flatten(1) for part in parts])
    assert len(everything) == 1797
    assert all(len(names) == 10 for names in CLASSES.values())


def test_mirroring_flips_half_of_the_images():
    images = torch.randint(0, 256, (400, 3, 8, 8), dtype=torch.uint8)
    torch.manual_seed(0)
    mirrored = augment(images, shift=0, mirror=True)
    flipped = (mirrored == images.flip(3)).flatten(1).all(1)
    same = (mirrored == images).flatten(1).all(1)
    assert bool((flipped ^ same).all())
    assert 150 < int(flipped.sum()) < 250
    assert augment(images, shift=0, mirror=False) is images


@pytest.mark.parametrize(("channels", "size"), BYTES.values(), ids=BYTES)
def test_random_shift_against_a_slow_one(channels, size):
    """Every shifted image is the original moved by whole pixels, black coming in."""
    images = torch.randint(1, 256, (50, channels, size, size), dtype=torch.uint8)
    moved = random_shift(images, 2)
    seen = set()
    for before, after in zip(images, moved, strict=True):
        padded = F.pad(before, (2, 2, 2, 2))
        matches = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if torch.equal(padded[:, dy : dy + size, dx : dx + size], after)
        ]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) > 12, "all directions occur"
    assert random_shift(images, 0) is images


def test_predict_is_independent_of_the_batch_and_keeps_the_mode(bars):
    model = build("cnn", bars.images, 8, 0.2).train()
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
    assert "mistakes" in draw_confusion(counts, DIGITS).axes[0].get_title()


def test_worst_shows_the_least_likely_label_first(bars):
    log_prob = torch.full((600, 10), 0.1).log()
    log_prob[417] = torch.tensor([0.001] * 10).log()
    log_prob[417, (int(bars.labels[417]) + 1) % 10] = torch.tensor(0.99).log()
    figure = draw_worst(bars, log_prob, DIGITS)
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
              {"eval_every": 0}, {"steps": 0}, {"lr": 0.0},
              {"weight_decay": -1.0}],
)  # fmt: skip
def test_wrong_options_are_one_line(wrong):
    with pytest.raises(LabError) as caught:
        replace(SHORT, **wrong)
    option = next(iter(wrong)).replace("_", "-")
    assert f"--{option}" in str(caught.value)
    assert "\n" not in str(caught.value)
