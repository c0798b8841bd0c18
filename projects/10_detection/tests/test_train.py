"""The training as a whole: it can overfit, it resumes exactly, it survives odd data."""

import json
from dataclasses import replace

import pytest
import torch

import detection.data
import detection.train as training
from detection.config import TrainConfig
from detection.data import load
from trainloop import LabError, NonFiniteError
from trainloop.testing import assert_resume_is_exact

SHORT = TrainConfig(steps=8, eval_every=4, batch_size=4, widths=(8, 8, 16, 16))


@pytest.fixture(scope="module")
def few_scenes(tmp_path_factory):
    """24 tabletop scenes, rendered once for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        splits = {"train": (0, 16), "val": (1_000_000, 4), "test": (2_000_000, 4)}
        patch.setattr(detection.data, "TABLETOP_SPLITS", splits)
        patch.setenv("LAB_DATA", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture
def runs(few_scenes, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    return tmp_path / "detection/latest"


def test_overfits_eight_images(runs):
    """A model, a loss and an assignment that cannot do this have a bug.

    The done-when allows 300 steps; a third fewer keep this quick.
    """
    metrics = training.train(TrainConfig(overfit=8, steps=200, batch_size=8, eval_every=200))
    assert metrics["test/ap"] >= 0.95
    assert (runs / "predictions_test.png").stat().st_size > 20_000


def test_what_a_run_leaves_behind(runs):
    metrics = training.train(SHORT)
    assert metrics["images_seen"] == 32
    names = {path.name for path in runs.iterdir()}
    assert {"predictions_val.png", "predictions_test.png", "curves.png", "last.pt"} <= names
    lines = [json.loads(line) for line in (runs / "metrics.jsonl").open()]
    assert [line["step"] for line in lines if "val/ap50" in line] == [4, 8]
    assert sum("test/ap50" in line for line in lines) == 1, "test is read once"
    assert {"loss", "loss_class", "loss_box", "grad_norm"} <= lines[0].keys()


def test_resume_is_exact(few_scenes, tmp_path, monkeypatch):
    assert_resume_is_exact(training.train, SHORT, "detection", 6, tmp_path, monkeypatch)


def test_flip_takes_the_boxes_along(few_scenes):
    data = load("tabletop", "train")
    images = torch.zeros_like(data.images)
    for image, box in zip(images, data.boxes[:, 0].int().tolist(), strict=True):
        image[:, box[1] : box[3], box[0] : box[2]] = 255
    torch.manual_seed(0)
    flipped, boxes = training.random_flip(images, data.boxes)
    moved = (flipped != images).flatten(1).any(1)
    assert 4 <= moved.sum() <= 12, "about half"
    for image, box in zip(flipped, boxes[:, 0].int().tolist(), strict=True):
        rows, columns = image[0].nonzero(as_tuple=True)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    torch.manual_seed(0)
    back, boxes = training.random_flip(flipped, boxes)
    assert torch.equal(back, images)
    assert torch.allclose(boxes, data.boxes)


def test_colours_are_swapped_and_scaled_image_by_image():
    """Channels 1, 5 and 25 can be told apart after any likely gain: each image holds all three."""
    images = torch.tensor([1, 5, 25], dtype=torch.uint8).mul(4)[:, None, None].expand(64, 3, 4, 4)
    before = images.clone()
    torch.manual_seed(0)
    changed = training.random_colours(images)
    assert torch.equal(images, before), "the stored images stay as they are"
    assert (changed == changed[:, :, :1, :1]).all(), "one gain a channel, wherever the pixel is"
    ranks = changed[:, :, 0, 0].argsort(1).argsort(1)
    assert len({tuple(rank) for rank in ranks.tolist()}) == 6, "every order occurs"
    brightest = changed.amax((1, 2, 3)).float()
    assert 85 < brightest.mean() < 115
    assert 5 < brightest.std() < 40
    torch.manual_seed(0)
    assert torch.equal(training.random_colours(images), changed)


@pytest.mark.parametrize("what", ["nothing to find", "all ignored", "boxes without area"])
def test_odd_targets_stay_finite(runs, monkeypatch, what):
    data = load("tabletop", "train").first(4)
    changes = {
        "nothing to find": {"labels": torch.full_like(data.labels, -1)},
        "all ignored": {"ignore": torch.ones_like(data.ignore)},
        "boxes without area": {"boxes": data.boxes[..., [0, 1, 0, 1]].contiguous()},
    }[what]
    odd = replace(data, **changes)
    monkeypatch.setattr(training, "load", lambda *_: odd)
    metrics = training.train(replace(SHORT, eval_every=8))
    assert metrics["loss"] is not None
    if what != "boxes without area":
        assert metrics["test/ap"] is None, "undefined, not 0: there was nothing to find"


def test_a_learning_rate_that_explodes_is_stopped(runs):
    with pytest.raises(NonFiniteError, match="lower learning rate"):
        training.train(replace(SHORT, steps=60, eval_every=60, lr=1e30, clip=1e30))
    assert not (runs / "summary.json").exists()


@pytest.mark.parametrize(
    "wrong",
    [{"batch_size": 0}, {"image_size": 100}, {"image_size": 16}, {"lr": 0.0}, {"ema": 1.0},
     {"overfit": -1}, {"top": 0}, {"steps": 0}, {"eval_every": 0}],
)  # fmt: skip
def test_wrong_options_are_one_line(wrong):
    with pytest.raises(LabError) as caught:
        replace(SHORT, **wrong)
    assert f"--{next(iter(wrong)).replace('_', '-')}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_that_is_not_there(runs):
    with pytest.raises(LabError, match="no folder"):
        training.train(replace(SHORT, data="nowhere"))
    assert not runs.exists(), "no run folder for a run that could not begin"
