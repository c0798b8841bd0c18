"""How real the digits are: the figures beside MNIST's, and the net that sees ours alone."""

import io

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from houdini_bridge import train as training
from houdini_bridge.compare import STATISTICS, comparison, draw_rows, statistics
from houdini_bridge.config import CutConfig, RenderConfig, TrainConfig
from houdini_bridge.cut import cut
from houdini_bridge.model import SmallCnn
from houdini_bridge.sheets import render
from houdini_bridge.table import read_rows
from trainloop import LabError
from trainloop.testing import assert_resume_is_exact


def test_statistics_of_a_slanted_bar():
    """4 x 20 pixels, of which every row is moved half a pixel further to the right upwards."""
    image = np.zeros((1, 28, 28), np.uint8)
    for i in range(20):
        left = 18 - i / 2
        for x in range(28):
            image[0, 4 + i, x] = 255 * np.clip(min(x + 1, left + 4) - max(x, left), 0, 1)
    found = {name: float(value[0]) for name, value in statistics(image).items()}
    assert list(found) == list(STATISTICS)
    assert found["ink"] == pytest.approx(255 * 80 / 784, rel=0.01)
    assert found["height_px"] == 20
    assert found["width_px"] == 14  # 13.5, and a pixel that is half inked
    assert found["slant_deg"] == pytest.approx(np.degrees(np.arctan(0.5)), abs=0.3)
    assert found["stroke_px"] == pytest.approx(2 * 80 / (2 * 20 * np.hypot(1, 0.5) + 8), rel=0.1)
    assert found["centre_x_px"] == pytest.approx(18 + 2 - 4.75 - 14, abs=0.02)
    assert found["centre_y_px"] == pytest.approx(0, abs=0.01)
    assert found["grey_px"] == 2 * 10
    assert found["white_px"] == 10 * 4 + 10 * 3


def test_an_empty_image_is_nan_and_left_out_of_the_means():
    images = np.zeros((3, 28, 28), np.uint8)
    images[0, 10:18, 10:14] = 255
    values = statistics(images)
    assert np.isnan(values["stroke_px"][1:]).all()
    assert values["width_px"].tolist() == [4, 0, 0]
    looks = comparison({"a": images, "b": images[:1]})
    assert looks["a/stroke_px"] == looks["b/stroke_px"]
    assert looks["a/stroke_px_std"] == 0
    assert "a/ink" in looks
    shown = training.looks_table({key.replace("a/", "mnist/").replace("b/", "synthetic/"): value
                                  for key, value in looks.items()})  # fmt: skip
    assert len(shown.splitlines()) == 1 + len(STATISTICS)


def test_the_picture_has_a_row_of_each_set_for_each_digit():
    labels = np.repeat(np.arange(10), 5)
    sets = {name: (np.full((50, 28, 28), v, np.uint8), labels) for name, v in (("a", 9), ("b", 7))}
    axes = draw_rows(sets, columns=4).axes[0]
    shown = np.asarray(axes.images[0].get_array())
    assert shown.shape == (20 * 28 + 9 * 6, 4 * 28)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"] * 10
    for place, tick in enumerate(axes.get_yticks()):
        assert shown[int(tick), 0] == (9, 7)[place % 2]


@pytest.mark.parametrize("columns", [4, 24])
def test_the_picture_s_names_fit_beside_it(columns, recwarn):
    """matplotlib warns where a layout does not come out, and draws names over the edge."""
    labels = np.arange(10).repeat(columns)
    images = np.zeros((len(labels), 28, 28), np.uint8)
    figure = draw_rows(dict.fromkeys(("MNIST", "ours"), (images, labels)), columns)
    figure.savefig(io.BytesIO())
    assert [str(warning.message) for warning in recwarn] == []
    (axes,) = figure.axes
    assert min(tick.get_window_extent().x0 for tick in axes.get_yticklabels()) > 0


@pytest.fixture
def digits(quick, tmp_path, monkeypatch) -> str:
    """Three digits' first sheets, cut."""
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "data"))
    render(RenderConfig(digits=(0, 4, 7), frames=1, workers=1))
    cut(CutConfig(digits=(0, 4, 7), frames=1, workers=1))
    return str(tmp_path / "data/synthetic-digits/output")


def test_digits_are_loaded_with_their_labels_and_by_source(digits, tmp_path):
    images, labels = training.load(TrainConfig())
    assert images.shape == (192, 1, 28, 28)
    assert labels.tolist() == [0, 4, 7] * 64  # sorted by frame and cell
    rows = read_rows(tmp_path / "data/synthetic-digits/render")
    fonts = [
        (int(r["digit"]), int(r["cell"])) for r in rows if r["frame"] == 1 and r["source"] == "font"
    ]
    some, of_them = training.load(TrainConfig(source="font"))
    expected = sorted((cell, digit) for digit, cell in fonts if digit in (0, 4, 7))
    assert of_them.tolist() == [digit for _, digit in expected]
    assert len(training.load(TrainConfig(source="stroke"))[0]) == 192 - len(some)


def test_what_cannot_be_trained_on_is_one_line(digits, tmp_path):
    with pytest.raises(LabError, match="no digits in"):
        training.load(TrainConfig(output_dir=str(tmp_path / "nothing")))
    cut(CutConfig(digits=(0,), frames=1, cell=56, grid=4, workers=1, output_dir=str(tmp_path)))
    with pytest.raises(LabError, match="not of 28x28"):
        training.load(TrainConfig(output_dir=str(tmp_path)))


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"width": 0}, {"shift": 15}])
def test_wrong_options_are_one_line(wrong):
    with pytest.raises(LabError, match=f"--{next(iter(wrong)).replace('_', '-')}"):
        TrainConfig(**wrong)


def test_random_shift_against_a_slow_one():
    images = torch.randint(1, 256, (40, 1, 28, 28), dtype=torch.uint8)
    moved, seen = training.random_shift(images, 2), set()
    for before, after in zip(images[:, 0], moved[:, 0], strict=True):
        padded = F.pad(before, (2, 2, 2, 2))
        matches = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(padded[y : y + 28, x : x + 28], after)
        ]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) > 12
    assert torch.equal(training.random_shift(images, 0), images)


def test_predictions_do_not_depend_on_the_batch(monkeypatch):
    model = SmallCnn(4).train()
    images = torch.randint(0, 256, (2100, 1, 28, 28), dtype=torch.uint8)
    whole = training.predict(model, images)
    assert model.training
    assert torch.equal(whole[2000:], training.predict(model, images[2000:]))


@pytest.fixture
def mnist(digits, monkeypatch) -> None:
    """MNIST's place is taken by the digits themselves."""
    monkeypatch.setattr(training, "load_images", lambda name, split: training.load(TrainConfig()))
    blank = (np.zeros((10, 28, 28), np.uint8), np.arange(10))  # there are three digits only
    monkeypatch.setattr(
        training, "draw_rows", lambda rows: draw_rows(dict.fromkeys(rows, blank), columns=1)
    )


def test_it_learns(mnist):
    metrics = training.train(TrainConfig(steps=60, batch_size=64, shift=0))
    assert metrics["mnist_train/accuracy"] > 0.9
    assert metrics["mnist_train/recall_7"] > 0.8
    assert metrics["mnist/ink"] == pytest.approx(metrics["synthetic/ink"])


def test_resume_is_exact(mnist, tmp_path, monkeypatch):
    config = TrainConfig(steps=8, batch_size=32)
    assert_resume_is_exact(training.train, config, "houdini", 5, tmp_path, monkeypatch)
