"""Pretraining: crops show what their label says, and the detector starts from the result."""

from dataclasses import replace

import pytest
import torch

import detection.data
import detection.train as training
from detection import pretrain
from detection.config import PretrainConfig, TrainConfig
from detection.split import Split
from trainloop import LabError, load_checkpoint
from trainloop.testing import assert_resume_is_exact

SHORT = PretrainConfig(
    steps=8, eval_every=4, batch_size=8, crop_size=32, widths=(8, 8, 16, 16), image_size=128
)


@pytest.fixture(scope="module", autouse=True)
def few_scenes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        splits = {"train": (0, 8), "val": (1_000_000, 4), "test": (2_000_000, 4),
                  "pretrain": (3_000_000, 8)}  # fmt: skip
        patch.setattr(detection.data, "TABLETOP_SPLITS", splits)
        patch.setenv("LAB_DATA", str(tmp_path_factory.mktemp("data")))
        yield


def squares(count: int = 200) -> Split:
    """One white square of 20 pixels on black in each image: class 0 on the left, 1 on the right."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(0, 108, (count, 2), generator=generator)
    images = torch.zeros(count, 3, 128, 128, dtype=torch.uint8)
    for image, (x, y) in zip(images, corner.tolist(), strict=True):
        image[:, y : y + 20, x : x + 20] = 255
    return Split(
        images=images,
        boxes=torch.cat([corner, corner + 20], 1).float()[:, None],
        labels=(corner[:, :1] > 54).long(),
        ignore=torch.zeros(count, 1, dtype=torch.bool),
        classes=("left", "right"),
    )


def test_a_crop_shows_its_object_and_background_shows_none():
    data = squares()
    torch.manual_seed(0)
    owners = pretrain.objects(data)
    crops, labels = pretrain.cut_crops(data, owners, 32)
    white = (crops > 40).all(1).float().mean((1, 2))
    background = labels == 2
    assert torch.equal(labels[~background], data.labels[~background, 0])
    assert 0.2 < background.float().mean() < 0.4, "one in three, less where there was no room"
    assert (white[background] == 0).all()
    # A square of side 1 to 1.8 times the object's, off by 0.15 of itself at most: at least a
    # quarter of the crop is object.
    assert (white[~background] > 0.25).all()
    assert white[~background].std() > 0.1, "of different sizes"


def test_a_square_of_the_image_is_that_square():
    """Whole pixels come through untouched; a mirror turns them left to right."""
    images = torch.randint(0, 256, (2, 3, 40, 50), dtype=torch.uint8)
    centre, side = torch.tensor([[20.0, 16.0]] * 2), torch.tensor([16.0, 16.0])
    plain, mirrored = pretrain.sample_squares(images, centre, side, torch.tensor([1.0, -1.0]), 16)
    assert torch.equal(plain, images[0, :, 8:24, 12:28])
    assert torch.equal(mirrored, images[1, :, 8:24, 12:28].flip(2))


def test_what_is_ignored_gets_no_crop():
    data = squares(6)
    ignore = data.ignore.clone()
    ignore[2] = True
    assert pretrain.objects(replace(data, ignore=ignore))[:, 0].tolist() == [0, 1, 3, 4, 5]


def test_crops_to_compare_by_are_the_same_each_time():
    data = squares(20)
    state = torch.get_rng_state()
    first, again = pretrain.fixed_crops(data, 32), pretrain.fixed_crops(data, 32)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert torch.equal(torch.get_rng_state(), state), "the run's own draws are not disturbed"


def test_resume_is_exact(tmp_path, monkeypatch):
    assert_resume_is_exact(pretrain.pretrain, SHORT, "detection", 6, tmp_path, monkeypatch)


def test_the_classifier_learns(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    monkeypatch.setattr(pretrain, "load_tabletop", lambda *_: squares())
    monkeypatch.setattr(pretrain, "load", lambda *_: squares(50))
    # Left and right look alike, background does not: one in three of 3 classes is certain.
    metrics = pretrain.pretrain(replace(SHORT, steps=40, eval_every=40, batch_size=32, ema=0.9))
    assert metrics["val/accuracy"] > 0.55
    assert metrics["crops_seen"] == 40 * 32
    assert (tmp_path / "detection/latest/crops.png").stat().st_size > 10_000


def test_the_detector_starts_from_the_averaged_backbone(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    pretrain.pretrain(SHORT)
    saved = load_checkpoint(tmp_path / "detection/latest/best.pt", "detection")["states"]
    config = TrainConfig(widths=SHORT.widths, backbone_weights="pretrain")
    backbone = training.make_detector(config, 3).backbone.state_dict()
    assert backbone.keys() == saved["backbone"].keys()
    assert all(torch.equal(backbone[name], saved["backbone"][name]) for name in backbone)
    assert torch.equal(saved["backbone"]["body.0.0.weight"],
                       saved["ema"]["backbone.body.0.0.weight"])  # fmt: skip
    with pytest.raises(LabError, match="widths"):
        training.make_detector(replace(config, widths=(8, 8, 16, 32)), 3)


def test_nothing_to_learn_from(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    data = squares(4)
    monkeypatch.setattr(pretrain, "load_tabletop", lambda *_: replace(data, ignore=~data.ignore))
    with pytest.raises(LabError, match="no object"):
        pretrain.pretrain(SHORT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong", [{"crop_size": 40}, {"image_size": 100}, {"lr": 0.0}, {"ema": 1.0}, {"batch_size": 0}]
)
def test_wrong_options_are_one_line(wrong):
    with pytest.raises(LabError, match=f"--{next(iter(wrong)).replace('_', '-')}"):
        replace(SHORT, **wrong)
