"""What is trained on: subsets, rendered digits, the mix, the augmentation."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from mnist.config import TrainConfig
from mnist.data import Labelled, balanced, read_synthetic, shifted, synthetic_count, training_images
from trainloop import LabError


@pytest.mark.parametrize(
    ("mix", "real", "count"),
    [(0.0, 1000, 0), (0.5, 1000, 1000), (0.41, 59, 41), (0.41, 55_000, 38_220),
     (40_960 / 100_960, 60_000, 40_960), (40_960, 100, 40_960), (2.0, 0, 2)],
)  # fmt: skip
def test_mix_is_a_share_or_a_number(mix, real, count):
    assert synthetic_count(mix, real) == count


def test_balanced_draws_are_balanced_nested_and_seeded(digits):
    labels = digits.labels
    small, large = balanced(labels, 100, 3), balanced(labels, 250, 3)
    assert torch.bincount(labels[small]).tolist() == [10] * 10
    assert torch.bincount(labels[large]).tolist() == [25] * 10
    assert set(small.tolist()) < set(large.tolist())
    assert torch.equal(small, balanced(labels, 100, 3))
    assert set(small.tolist()) != set(balanced(labels, 100, 4).tolist())
    assert len(set(large.tolist())) == 250


def test_a_class_that_runs_out_is_made_up_for_by_the_others():
    labels = torch.tensor([0] * 2 + [d for d in range(1, 10) for _ in range(20)])
    drawn = balanced(labels, 100, 0)
    counts = torch.bincount(labels[drawn])
    assert counts[0] == 2
    assert counts.sum() == 100
    assert counts[1:].max() - counts[1:].min() == 1
    assert sorted(balanced(labels, len(labels), 0).tolist()) == list(range(len(labels)))
    assert len(balanced(labels, 0, 0)) == 0


def test_rendered_digits_are_read_as_they_are(digits, rendered):
    everything = read_synthetic(rendered, 120, seed=0)
    assert torch.bincount(everything.labels).tolist() == [12] * 10
    for digit in range(10):
        ours = {image.numpy().tobytes() for image in everything.images[everything.labels == digit]}
        first = digits.images[digits.labels == digit][:12]
        assert ours == {image.numpy().tobytes() for image in first}
    some = read_synthetic(rendered, 35, seed=0)
    assert torch.bincount(some.labels).tolist() == [4] * 5 + [3] * 5


def test_training_images_are_real_ones_repeated_and_rendered_ones(digits, rendered):
    config = TrainConfig(real=40, repeat=3, mix=70, synthetic=str(rendered))
    mixed = training_images(digits, config)
    assert len(mixed.images) == len(mixed.labels) == 3 * 40 + 70
    drawn = digits.take(balanced(digits.labels, 40, 0))
    assert torch.equal(mixed.images[:120], torch.cat([drawn.images] * 3))
    assert torch.equal(mixed.labels[120:], read_synthetic(rendered, 70, 0).labels)
    share = training_images(digits, TrainConfig(real=30, mix=0.4, synthetic=str(rendered)))
    assert len(share.images) == 50
    alone = training_images(digits, TrainConfig(real=0, mix=20, synthetic=str(rendered)))
    assert torch.bincount(alone.labels).tolist() == [2] * 10


def break_missing(folder):
    (folder / "7").rename(folder / "seven")


def break_empty(folder):
    for path in (folder / "3").iterdir():
        path.unlink()


def break_size(folder):
    Image.new("L", (32, 32)).save(folder / "4/0000.png")


def break_colour(folder):
    Image.new("RGB", (28, 28)).save(folder / "4/0000.png")


def break_file(folder):
    (folder / "9/0003.png").write_bytes(b"\x89PNG no more")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (break_missing, "no PNG files of digit 7"),
        (break_empty, "no PNG files of digit 3"),
        (break_size, "4/0000.png is 32x32 L, not 28x28"),
        (break_colour, "4/0000.png is 28x28 RGB, not"),
        (break_file, "9/0003.png is no readable image"),
    ],
)
def test_a_damaged_folder_is_named_in_one_line(rendered, spoil, said):
    spoil(rendered)
    with pytest.raises(LabError, match=said) as caught:
        read_synthetic(rendered, 110 if spoil is break_empty else 120, 0)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_names_the_command_that_makes_it(tmp_path, monkeypatch, digits):
    monkeypatch.setenv("LAB_DATA", str(tmp_path))
    with pytest.raises(LabError, match="uv run --package houdini digits") as caught:
        training_images(digits, TrainConfig(real=10, mix=0.5))
    assert str(tmp_path / "synthetic-digits/output") in str(caught.value)


def test_more_than_there_is(digits, rendered):
    with pytest.raises(LabError, match=r"asks for 121 rendered digits, .* holds 120"):
        read_synthetic(rendered, 121, 0)
    with pytest.raises(LabError, match="--real 1,501: only 1,500"):
        training_images(digits, TrainConfig(real=1501))


def test_shifted_against_a_slow_one():
    """Every image is the original moved by whole pixels, black coming in, in 0..1."""
    images = torch.randint(1, 256, (60, 1, 28, 28), dtype=torch.uint8)
    torch.manual_seed(0)
    seen = set()
    for before, after in zip(images, shifted(images, 1), strict=True):
        padded = F.pad(before[0], (1, 1, 1, 1)).float() / 255
        matches = [
            (dy, dx)
            for dy in range(3)
            for dx in range(3)
            if torch.equal(padded[dy : dy + 28, dx : dx + 28], after[0])
        ]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) == 9, "all directions occur"
    assert torch.equal(shifted(images, 0), images.float() / 255)


def test_labelled_take_keeps_pairs():
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 28, 28)
    data = Labelled(images, torch.arange(5)).take(torch.tensor([3, 1, 3]))
    assert data.labels.tolist() == [3, 1, 3]
    assert np.array_equal(data.images[:, 0, 0, 0], [3, 1, 3])
