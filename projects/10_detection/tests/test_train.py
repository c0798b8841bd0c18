"""The training as a whole: it can overfit, it resumes exactly, it survives odd data."""

import json
from dataclasses import replace

import pytest
import torch

import detection.data
import detection.train as training
from detection.config import TrainConfig
from detection.data import load
from detection.predict import load_detector
from trainloop import LabError, NonFiniteError
from trainloop.testing import assert_resume_is_exact, draw_nothing

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


@pytest.fixture
def quick(runs, monkeypatch):
    """As `runs`, and nothing is drawn."""
    draw_nothing(monkeypatch)
    monkeypatch.setattr(training, "draw_predictions", lambda *_, **__: None)
    return runs


def test_overfits_eight_images(runs):
    """A model, a loss and an assignment that cannot do this have a bug.

    The done-when allows 300 steps, and twice the width; a third of them keeps this quick.
    """
    small = TrainConfig(overfit=8, steps=100, batch_size=8, eval_every=100, widths=(8, 16, 32, 64))
    metrics = training.train(small)
    assert metrics["test/ap"] >= 0.95
    assert (runs / "predictions_test.png").stat().st_size > 20_000


def test_what_a_run_leaves_behind(runs, curves):
    metrics = training.train(SHORT)
    assert metrics["images_seen"] == 32
    names = {path.name for path in runs.iterdir()}
    assert {"predictions_val.png", "predictions_test.png", "curves.png", "last.pt"} <= names
    lines = [json.loads(line) for line in (runs / "metrics.jsonl").open()]
    assert [line["step"] for line in lines if "val/ap50" in line] == [4, 8]
    assert sum("test/ap50" in line for line in lines) == 1, "test is read once"
    assert {"loss", "loss_class", "loss_box", "grad_norm"} <= lines[0].keys()


def test_resume_is_exact(quick, tmp_path, monkeypatch):
    assert_resume_is_exact(training.train, SHORT, "detection", 6, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "options",
    [
        {"assignment": "atss", "class_loss": "quality-focal", "box_loss": "diou"},
        {"assignment": "simota", "class_loss": "varifocal", "box_loss": "ciou", "top": 3},
        {"assignment": "centre", "class_loss": "focal", "box_loss": "iou"},
        {"backbone": "resnet18", "freeze": 2, "freeze_batchnorm": True, "image_size": 64},
        {"augment": ("colour", "flip", "scale", "crop", "mosaic"), "precision": "bf16"},
    ],
    ids=lambda options: next(iter(options)) + "=" + str(next(iter(options.values()))),
)
def test_every_choice_trains(quick, options, monkeypatch):
    if options.get("image_size") == 64:
        small = load("tabletop", "train").first(4)
        half = replace(small, images=small.images[..., ::2, ::2], boxes=small.boxes / 2)
        monkeypatch.setattr(training, "load", lambda *_: half)
    metrics = training.train(replace(SHORT, steps=2, eval_every=2, **options))
    assert metrics["positives"] > 0
    assert metrics["loss"] > 0
    assert ("loss_centerness" in metrics) == (options.get("assignment") == "centre")
    assert load_detector(quick / "last.pt", torch.device("cpu"))[0].strides


def test_a_batch_in_parts_is_the_batch(quick, tmp_path, monkeypatch):
    """Two parts that are alike have the whole batch's statistics, so nothing may change."""
    data = load("tabletop", "train").first(2)
    twice = replace(data, **{k: torch.cat([getattr(data, k)] * 2) for k in
                             ("images", "boxes", "labels", "ignore")})  # fmt: skip
    monkeypatch.setattr(training, "load", lambda *_: twice)
    monkeypatch.setattr(training.Batches, "at", lambda *_: torch.arange(4))
    losses = []
    for parts in (1, 2):
        monkeypatch.setenv("LAB_RUNS", str(tmp_path / str(parts)))
        training.train(replace(SHORT, steps=4, augment=(), accumulate=parts))
        lines = (tmp_path / f"{parts}/detection/latest/metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines[:4]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-6)


def test_the_loss_by_images_is_the_same_sum(quick, tmp_path, monkeypatch):
    lines = {}
    for by in ("targets", "images"):
        monkeypatch.setenv("LAB_RUNS", str(tmp_path / by))
        training.train(replace(SHORT, steps=1, eval_every=1, normalise=by))
        lines[by] = json.loads((tmp_path / by / "detection/latest/metrics.jsonl").open().readline())
    ratio = lines["images"]["loss"] / lines["targets"]["loss"]
    assert ratio != pytest.approx(1, rel=0.01)
    for name in ("loss_class", "loss_box", "grad_norm"):
        assert lines["images"][name] / lines["targets"][name] == pytest.approx(ratio, rel=1e-4)


def test_missing_labels_are_ignored_or_background(quick, tmp_path, monkeypatch):
    data = load("tabletop", "train")
    half = training.unlabel(data, 0.5)
    there = data.labels >= 0
    assert torch.equal(half.ignore, training.unlabel(data, 0.5).ignore), "the same ones each time"
    assert not half.ignore[~there].any()
    assert (half.ignore | ~data.ignore).all(), "what was ignored stays so"
    assert 0.3 < half.ignore[there].float().mean() < 0.7
    first = {}
    for kind in ("masked", "background"):
        monkeypatch.setenv("LAB_RUNS", str(tmp_path / kind))
        training.train(replace(SHORT, steps=1, eval_every=1, unlabelled=0.5, ignored=kind))
        lines = tmp_path / kind / "detection/latest/metrics.jsonl"
        first[kind] = json.loads(lines.open().readline())
    assert first["background"]["loss_class"] > first["masked"]["loss_class"]
    assert first["background"]["loss_box"] == first["masked"]["loss_box"]


def test_fewer_training_images(few_scenes):
    whole, validation, test = training.load_splits(SHORT)
    few, *others = training.load_splits(replace(SHORT, images=3))
    assert len(few.images) == 3
    assert torch.equal(few.images, whole.images[:3])
    assert [len(split.images) for split in others] == [len(validation.images), len(test.images)]
    scarce, *_ = training.load_splits(replace(SHORT, per_class=1))
    assert len(scarce.images) <= 3
    assert set(scarce.labels[~scarce.ignore].tolist()) >= {0, 1, 2}


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
     {"overfit": -1}, {"top": 0}, {"steps": 0}, {"eval_every": 0}, {"accumulate": 0},
     {"accumulate": 3}, {"prior": 1.0}, {"unlabelled": 1.0}, {"freeze": -1}, {"images": -1},
     {"image_size": 48, "backbone": "resnet18"}, {"top": 3, "assignment": "centre"}],
)  # fmt: skip
def test_wrong_options_are_one_line(wrong):
    with pytest.raises(LabError) as caught:
        replace(SHORT, **wrong)
    assert f"--{next(iter(wrong)).replace('_', '-')}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"freeze": 9}, "--freeze 9"),
        ({"backbone_weights": "nowhere.pth"}, "nowhere.pth"),
        ({"backbone_weights": "pretrain"}, "run --package detection pretrain"),
    ],
)
def test_a_backbone_that_cannot_be_had(runs, wrong, line):
    with pytest.raises(LabError, match=line):
        training.train(replace(SHORT, **wrong))
    assert not runs.exists(), "no run folder for a run that could not begin"


def test_data_that_is_not_there(runs):
    with pytest.raises(LabError, match="no folder"):
        training.train(replace(SHORT, data="nowhere"))
    assert not runs.exists(), "no run folder for a run that could not begin"
