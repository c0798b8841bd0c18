"""What `evaluate` keeps, and that pictures show what the figures say."""

import json
from dataclasses import replace

import pytest
import torch

from fashion_mnist import pictures
from fashion_mnist.calibration import reliability
from fashion_mnist.config import EvaluateConfig
from fashion_mnist.data import CLASSES, Labelled
from fashion_mnist.evaluate import draw_looks, evaluate, where
from fashion_mnist.maps import pca
from fashion_mnist.model import load_trained
from fashion_mnist.train import train
from trainloop import Run
from trainloop.folder import newest_folder


def test_everything_is_kept(evaluated, learned):
    home = newest_folder("fashion-mnist", "evaluate")
    for name in ("confusion", "reliability", "mistakes", "map", "gradcam"):
        assert (home / f"{name}.png").stat().st_size > 2_000, name
    table = json.loads((home / "classes.json").read_text())
    assert sum(map(sum, table["confusion"])) == 250
    right = sum(table["confusion"][k][k] for k in range(10))
    assert evaluated["test/accuracy"] == pytest.approx(right / 250)
    assert list(table["classes"]) == list(CLASSES)
    assert evaluated["worst_f1"] == min(row["f1"] for row in table["classes"].values())
    kept = json.loads((home / "suspects.json").read_text())
    assert evaluated["judged"] == 400
    assert evaluated["suspects"] == len(kept["suspects"])
    assert sum(map(sum, kept["joint"])) <= 400
    summary = json.loads((home / "summary.json").read_text())
    assert summary["metrics"]["test/ece"] == evaluated["test/ece"]


@pytest.fixture(autouse=True)
def home_of_runs(learned, monkeypatch):
    monkeypatch.setenv("LAB_RUNS", str(learned))


def test_the_newest_training_is_taken_and_has_the_same_figures(evaluated):
    summary = json.loads((newest_folder("fashion-mnist", "train") / "summary.json").read_text())
    for name in ("accuracy", "nll", "brier", "ece"):
        assert evaluated[f"test/{name}"] == pytest.approx(summary["metrics"][f"test/{name}"])


def test_a_model_without_maps_has_no_gradcam(quick, short, monkeypatch, capsys):
    train(replace(short, model="linear", steps=20))
    drawn = []
    monkeypatch.setattr(Run, "picture", lambda _, name, figure: drawn.append(name))
    monkeypatch.setattr("fashion_mnist.evaluate.tsne", lambda x, d, seed: pca(x, d))
    evaluate(EvaluateConfig(mapped=100))
    assert "gradcam" not in drawn
    assert "mistakes" in drawn
    said = capsys.readouterr().out
    assert "linear has no feature maps" in said
    assert "Ankle boot" in said


def test_where_an_image_is_from():
    assert where(0, 5000) == ("train", 55_000)
    assert where(4999, 5000) == ("train", 59_999)
    assert where(5000, 5000) == ("test", 0)


# --- pictures ------------------------------------------------------------------------------------


def test_the_confusion_matrix_is_drawn_as_counted():
    labels, predicted = torch.tensor([0, 0, 0, 6]), torch.tensor([0, 0, 6, 6])
    (axis,) = pictures.confusion(labels, predicted).axes
    seen = {text.get_position(): text.get_text() for text in axis.texts}
    assert seen == {(0, 0): "2", (6, 0): "1", (6, 6): "1"}
    shades = axis.images[0].get_array()
    assert shades[0, 6] == pytest.approx(1 / 3)
    assert shades[0, 0] == 0, "right answers are white"


def test_the_surest_mistakes_come_first(splits):
    data = splits[2].take(torch.arange(6))
    probabilities = torch.full((6, 10), 0.01)
    for image, (guess, p) in enumerate(
        [(0, 0.9), (1, 0.5), (2, 0.95), (3, 0.4), (4, 0.6), (5, 0.99)]
    ):
        probabilities[image, guess] = p
    data = Labelled(data.images, torch.tensor([0, 9, 9, 9, 9, 9]))
    figure = pictures.mistakes(data, probabilities, count=3)
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert titles == [
        "Sandal 99%\nlabel: Ankle boot", "Pullover 95%\nlabel: Ankle boot",
        "Coat 60%\nlabel: Ankle boot",
    ]  # fmt: skip


def test_a_model_without_mistakes_has_a_picture_too(splits):
    data = splits[2]
    figure = pictures.mistakes(data, torch.eye(10)[data.labels])
    assert [text.get_text() for text in figure.texts] == ["none"]


def test_every_image_stands_under_its_title(splits):
    images = splits[0].images[:7]
    (axis,) = pictures.grid(images, list("abcdefg"), columns=3).axes
    canvas = axis.images[0].get_array()
    for image, text in zip(images[:, 0], axis.texts, strict=True):
        x, y = text.get_position()
        below = canvas[int(y + 1.5) : int(y + 1.5) + 28, int(x) - 14 : int(x) + 14]
        assert (below == image.numpy()).all()


def test_bars_are_as_high_as_the_accuracy():
    p = torch.tensor([[0.95] + [0.05 / 9] * 9]).repeat(4, 1)
    bins = reliability(p, torch.tensor([0, 0, 0, 1]))
    above, below = pictures.reliability_diagrams({"x": bins}).axes
    (bar,) = above.patches
    assert bar.get_height() == pytest.approx(0.75)
    assert bar.get_x() == pytest.approx(14 / 15)
    assert above.get_title() == "x: ECE 20.00%"
    assert sum(patch.get_height() for patch in below.patches) == 4


def test_grad_cam_shows_every_chosen_image(tiny, checkpoint):
    trained = load_trained(checkpoint)
    probabilities = torch.eye(10)[tiny.labels] * 0.9 + 0.01
    wrong = int((tiny.labels == 3).nonzero()[0])
    probabilities[wrong] = torch.eye(10)[4] * 0.9 + 0.01
    figure = draw_looks(trained, tiny, probabilities)
    titles = [axis.get_title() for axis in figure.axes if axis.images]
    assert len(titles) == 11
    assert titles[3:5] == ["Dress", "Dress, taken for Coat"]
