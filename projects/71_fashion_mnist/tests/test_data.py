"""The splits, and what augmentation does to pixels."""

import pytest
import torch

from fashion_mnist.config import Recipe
from fashion_mnist.data import augmented, cut_out, flipped, shifted


@pytest.fixture
def images() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randint(1, 256, (200, 1, 28, 28), dtype=torch.uint8)


def test_flipping_mirrors_half_and_nothing_else(images):
    torch.manual_seed(1)
    found = flipped(images)
    same = (found == images).all(dim=(1, 2, 3))
    mirrored = (found == images.flip(3)).all(dim=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 70 < same.sum() < 130


def test_shifting_moves_whole_images_and_brings_in_black(images):
    torch.manual_seed(0)
    found = (shifted(images, 2) * 255).round().to(torch.uint8)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    seen = set()
    for image, there in zip(padded, found, strict=True):
        fits = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if torch.equal(image[:, dy : dy + 28, dx : dx + 28], there)
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 25


def test_no_shift_is_only_division(images):
    assert torch.equal(shifted(images, 0), images.float() / 255)


def test_a_cut_out_is_one_black_square(images):
    torch.manual_seed(0)
    found = cut_out(images.float() / 255, 8)
    black = found == 0  # no pixel was before
    assert torch.equal(found[~black], (images.float() / 255)[~black])
    sizes = set()
    for hole in black[:, 0]:
        rows, columns = (hole.any(axis).nonzero()[:, 0] for axis in (1, 0))
        height, width = (int(x[-1] - x[0]) + 1 for x in (rows, columns))
        assert hole.sum() == height * width, "a rectangle"
        assert 4 <= min(height, width) <= max(height, width) <= 8
        sizes.add((height, width))
    assert (8, 8) in sizes
    assert any(min(size) < 8 for size in sizes), "squares may hang over the edge"
    assert black.float().mean(0).min() > 0, "every pixel is cut out at times"


def test_an_odd_and_a_full_square():
    images = torch.ones(50, 1, 28, 28)
    assert (cut_out(images, 1) == 0).sum(dim=(1, 2, 3)).eq(1).all()
    assert (cut_out(images, 28) == 0).sum(dim=(1, 2, 3)).ge(14 * 14).all()


def test_the_draws_follow_from_the_seed(images):
    recipe = Recipe(shift=2, cutout=6)
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        found.append(augmented(images, recipe))
    assert torch.equal(*found)
    assert not torch.equal(found[0], augmented(images, recipe))


def test_each_strategy_is_switchable(images):
    off = Recipe(flip=False, shift=0, cutout=0)
    plain = images.float() / 255
    assert torch.equal(augmented(images, off), plain)
    for on in ({"flip": True}, {"shift": 1}, {"cutout": 4}):
        assert not torch.equal(
            augmented(images, Recipe(**{"flip": False, "shift": 0, "cutout": 0, **on})), plain
        )
