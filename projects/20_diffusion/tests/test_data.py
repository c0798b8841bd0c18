"""Splits, folders as people have them, points in the plane."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion.config import TrainConfig
from diffusion.data import TOYS, load, read_folder, scaled, to_pixels, toy_points
from trainloop import LabError


def fill(folder: Path, count: int = 30, size=(8, 6), mode: str = "L", start: int = 0) -> Path:
    """Images whose every pixel is their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        colour = number if mode == "L" else (number, 0, 255)
        Image.new(mode, size, colour).save(folder / f"{number:03}.png")
    return folder


def test_digits_are_split_as_published():
    data = load(TrainConfig(data="digits"))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [1350, 150, 297]
    assert (data.shape, len(data.classes), data.scorable) == ((1, 8, 8), 10, True)
    x_0, labels = data.train.take(torch.tensor([3, 0]))
    assert torch.equal(x_0, scaled(data.train.samples[[3, 0]], "symmetric"))
    assert labels.tolist() == data.train.labels[[3, 0]].tolist()


def test_pixels_there_and_back():
    every = torch.arange(256, dtype=torch.uint8)
    for pixels, least in (("symmetric", -1), ("unit", 0)):
        x = scaled(every, pixels)
        assert (x.min(), x.max()) == (least, 1)
        assert torch.equal(to_pixels(x, pixels), every)
    assert to_pixels(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


# --- folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_plain_folder(tmp_path, mode):
    data = read_folder(fill(tmp_path / "shots", 60, mode=mode))
    assert data.classes == ()
    assert data.shape == (1 if mode == "L" else 3, 6, 8)
    parts = [
        split.samples[:, 0, 0, 0].tolist() for split in (data.train, data.validation, data.test)
    ]
    assert sorted(number for part in parts for number in part) == list(range(60)), (
        "every image is in one part"
    )
    assert all(parts)
    assert not data.scorable


def test_a_new_image_moves_no_old_one(tmp_path):
    before = read_folder(fill(tmp_path, 60)).train.samples[:, 0, 0, 0].tolist()
    after = read_folder(fill(tmp_path, 3, start=60)).train.samples[:, 0, 0, 0].tolist()
    assert set(before) <= set(after) <= set(before) | {60, 61, 62}


def test_folders_in_a_folder_are_labels(tmp_path):
    fill(tmp_path / "cat", 30)
    fill(tmp_path / "dog", 30, start=100)
    data = load(TrainConfig(data=str(tmp_path)))
    assert data.classes == ("cat", "dog")
    for split in (data.train, data.validation, data.test):
        assert torch.equal(split.labels, (split.samples[:, 0, 0, 0] >= 100).long())


def test_size_cuts_the_middle(tmp_path):
    pixels = np.zeros((10, 30), np.uint8)
    pixels[:, 10:20] = 200
    fill(tmp_path, 20, (10, 10))
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    data = read_folder(tmp_path, size=4)
    assert data.shape == (1, 4, 4)
    every = torch.cat([part.samples for part in (data.train, data.validation, data.test)])
    assert (every > 150).all((1, 2, 3)).sum() == 1, "of the wide one only the middle is left"


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"size": (9, 6)}, "is 9x6 L, .*000.png is 8x6 L: make them alike, or give --size"),
        ({"mode": "RGB"}, "is 8x6 RGB, .*000.png is 8x6 L"),
        ({"mode": "RGBA"}, "of mode RGBA, not grey"),
    ],
)
def test_several_sizes_or_modes_are_one_line(tmp_path, odd, said):
    fill(tmp_path, 25)
    size, mode = odd.get("size", (8, 6)), odd.get("mode", "L")
    Image.new(mode, size).save(tmp_path / "100.png")
    with pytest.raises(LabError, match=said) as caught:
        read_folder(tmp_path)
    assert "\n" not in str(caught.value)
    assert "100.png" in str(caught.value)


def test_what_else_a_folder_may_lack(tmp_path):
    with pytest.raises(LabError, match="is no folder, nor one of toy2d, digits"):
        load(TrainConfig(data=str(tmp_path / "nowhere")))
    fill(tmp_path, 19)
    with pytest.raises(LabError, match="19 images: at least 20"):
        read_folder(tmp_path)
    (tmp_path / "020.png").write_bytes(b"no image")
    with pytest.raises(LabError, match=r"020.png is no readable image"):
        read_folder(tmp_path)
    (tmp_path / "020.png").unlink()
    fill(tmp_path / "odd", 25, (7, 6))
    with pytest.raises(LabError, match="no multiples of 2: give --size"):
        read_folder(tmp_path / "odd")
    with pytest.raises(LabError, match="--size must be a multiple of 2"):
        read_folder(tmp_path / "odd", size=7)


# --- points --------------------------------------------------------------------------------------


@pytest.mark.parametrize("toy", TOYS)
def test_points_have_mean_0_and_about_deviation_1(toy):
    points = toy_points(toy, 20_000, 0)
    assert points.shape == (20_000, 2)
    assert points.mean(0).abs().max() < 0.1
    assert ((points.std(0) > 0.8) & (points.std(0) < 1.2)).all()
    assert torch.equal(toy_points(toy, 20_000, 0), points)
    assert not torch.equal(toy_points(toy, 20_000, 1), points)


def test_toy_data_have_no_labels():
    data = load(TrainConfig(data="toy2d", toy="letter"))
    assert (data.shape, data.classes, data.scorable) == ((2,), (), False)
    x_0, labels = data.train.take(torch.tensor([5]))
    assert torch.equal(x_0, data.train.samples[5:6])
    assert labels.tolist() == [0]
