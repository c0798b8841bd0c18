"""Noise: nothing at zero, and what each kind does, held against scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from playground.augment import Augment, augmented


def test_nothing_changes_nothing(drawn):
    assert augmented(drawn.images, Augment(), np.random.default_rng(0)) is drawn.images


def test_moving_is_scipys_bilinear_look_up(drawn):
    images = drawn.images[:12]
    how = Augment(shift=3.0, rotate=40.0)
    found = augmented(images, how, np.random.default_rng(5))
    rng = np.random.default_rng(5)  # the same draws
    angles = np.deg2rad(rng.uniform(-40, 40, 12))
    moves = rng.uniform(-3, 3, (2, 12))
    centre = np.array([13.5, 13.5])
    for image, angle, move, ours in zip(images, angles, moves.T, found, strict=True):
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = np.array([[cos, -sin], [sin, cos]])  # output (y, x) -> input (y, x)
        offset = centre - matrix @ (centre + move)
        expected = ndimage.affine_transform(
            image.reshape(28, 28).astype(float), matrix, offset, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(ours.reshape(28, 28), expected, atol=1.01)


@given(st.floats(0.01, 0.4), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_specks_hit_their_share_of_the_pixels(share, seed):
    images = np.full((20, 784), 7, np.uint8)
    found = augmented(images, Augment(noise=share), np.random.default_rng(seed))
    hit = (found != 7).mean()
    assert hit == pytest.approx(share, abs=5 * np.sqrt(share / 15680) + 0.01 * share + 0.001)


def test_strokes_grow_and_shrink(drawn):
    images = np.repeat(drawn.images[:1], 200, 0)
    found = augmented(images, Augment(width=1.0), np.random.default_rng(0))
    ink, before = found.sum(1, dtype=int), int(images[0].sum(dtype=int))
    assert (ink < before).mean() == pytest.approx(0.5, abs=0.15)
    assert ink.max() > 1.2 * before
    assert ink.min() < 0.8 * before
    image = images[0].reshape(28, 28)
    cross = ndimage.generate_binary_structure(2, 1)
    assert (found <= ndimage.grey_dilation(image, footprint=cross).reshape(-1)).all()
    assert (found >= ndimage.grey_erosion(image, footprint=cross).reshape(-1)).all()


def test_the_same_seed_gives_the_same_noise_and_each_image_its_own(drawn):
    images, how = np.repeat(drawn.images[:1], 3, 0), Augment(0.05, 2.0, 20.0, 0.5)
    one, two = (augmented(images, how, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one[0], one[1])
    assert one.dtype == np.uint8
