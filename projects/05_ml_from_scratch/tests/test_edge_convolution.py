"""Convolution against scipy.signal, filters and Canny's parts against scipy.ndimage."""

import numpy as np
import pytest
from scipy import ndimage, signal

from from_scratch.edge_convolution import (
    LAPLACIAN,
    Config,
    blur,
    canny,
    connected_components,
    convolve_fft,
    convolve_loops,
    convolve_windows,
    filter_photo,
    gaussian_1d,
    gradient,
    run,
    thin,
)
from trainloop import LabError

WAYS = [convolve_loops, convolve_windows, convolve_fft]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("convolve", WAYS)
@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("kernel_shape", [(3, 3), (2, 2), (4, 3), (1, 5), (1, 1), (7, 9)])
@pytest.mark.parametrize("shape", [(7, 9), (12, 10)])
def test_against_scipy(rng, convolve, mode, kernel_shape, shape):
    image, kernel = rng.standard_normal(shape), rng.standard_normal(kernel_shape)
    expected = signal.convolve2d(image, kernel, mode)
    found = convolve(image, kernel, mode)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("convolve", WAYS)
@pytest.mark.parametrize("kernel_shape", [(9, 4), (4, 9), (10, 11)])
def test_kernel_larger_than_the_image(rng, convolve, kernel_shape):
    image, kernel = rng.standard_normal((5, 6)), rng.standard_normal(kernel_shape)
    for mode in ("same", "full"):
        expected = signal.convolve2d(image, kernel, mode)
        np.testing.assert_allclose(convolve(image, kernel, mode), expected, rtol=0, atol=1e-10)
    with pytest.raises(LabError, match='no "valid" position'):
        convolve(image, kernel, "valid")


@pytest.mark.parametrize("convolve", [convolve_windows, convolve_fft])
def test_channels_are_independent(rng, convolve):
    photo, kernel = rng.standard_normal((9, 8, 3)), rng.standard_normal((3, 2))
    for mode in ("valid", "same", "full"):
        expected = [signal.convolve2d(photo[..., c], kernel, mode) for c in range(3)]
        np.testing.assert_allclose(
            convolve(photo, kernel, mode), np.stack(expected, axis=2), rtol=0, atol=1e-10
        )


@pytest.mark.parametrize("convolve", WAYS)
def test_it_is_convolution_not_correlation(rng, convolve):
    point = np.zeros((5, 5))
    point[2, 2] = 1
    kernel = rng.standard_normal((3, 3))
    np.testing.assert_allclose(convolve(point, kernel, "same")[1:4, 1:4], kernel, atol=1e-12)
    image = rng.standard_normal((8, 7))
    correlation = signal.correlate2d(image, kernel, "valid")
    turned = convolve(image, kernel[::-1, ::-1], "valid")
    np.testing.assert_allclose(turned, correlation, rtol=0, atol=1e-10)
    both = convolve(image, kernel, "full"), convolve(kernel, image, "full")
    np.testing.assert_allclose(*both, rtol=0, atol=1e-10, err_msg="it commutes")


def test_bad_input():
    image, kernel = np.ones((4, 4)), np.ones((3, 3))
    broken = image.copy()
    broken[0, 0] = np.nan
    for convolve in WAYS:
        with pytest.raises(LabError, match="image holds NaN"):
            convolve(broken, kernel, "same")
        with pytest.raises(LabError, match="kernel holds NaN"):
            convolve(image, broken, "same")
        for pair in ((np.ones((0, 4)), kernel), (image, np.ones((0, 0)))):
            with pytest.raises(LabError, match="empty"):
                convolve(*pair, "full")
    for options in ({"sigma": 0.0}, {"low": 0.5, "high": 0.4}, {"low": 0.0}, {"seed": -1}):
        with pytest.raises(LabError, match="--"):
            Config(**options)


@pytest.mark.parametrize("shape", [(20, 31), (5, 5), (1, 7)])
def test_filters_against_ndimage(rng, shape):
    """Also where the Gaussian reaches beyond the whole image; the border repeats in both."""
    image = rng.standard_normal(shape)
    for sigma in (0.7, 2.0):
        radius = gaussian_1d(sigma).size // 2
        expected = ndimage.gaussian_filter(image, sigma, mode="nearest", radius=radius)
        np.testing.assert_allclose(blur(image, sigma), expected, rtol=0, atol=1e-12)
    gx, gy = gradient(image)
    np.testing.assert_allclose(gx, ndimage.sobel(image, 1, mode="nearest"), rtol=0, atol=1e-12)
    np.testing.assert_allclose(gy, ndimage.sobel(image, 0, mode="nearest"), rtol=0, atol=1e-12)
    expected = ndimage.laplace(image, mode="nearest")
    np.testing.assert_allclose(filter_photo(image, LAPLACIAN), expected, rtol=0, atol=1e-12)


def test_gaussian_is_separable_and_keeps_brightness(rng):
    row = gaussian_1d(1.3)
    assert row.sum() == pytest.approx(1)
    photo = rng.uniform(size=(15, 12, 3))
    np.testing.assert_allclose(blur(photo, 1.3), filter_photo(photo, row.T @ row), atol=1e-12)
    np.testing.assert_allclose(blur(np.full((4, 5), 0.3), 2.0), 0.3, atol=1e-12)


def test_thinning_against_a_slow_one(rng):
    """Small integers, so that ties occur; the slow one asks each pixel in turn."""
    gx, gy = rng.integers(-3, 4, (2, 30, 40)).astype(float)
    length = np.hypot(gx, gy)
    expected = np.zeros_like(length)
    for i in range(30):
        for j in range(40):
            angle = np.degrees(np.arctan2(gy[i, j], gx[i, j])) % 180
            dy, dx = [(0, 1), (1, 1), (1, 0), (1, -1)][round(angle / 45) % 4]
            ahead, behind = (
                length[a, b] if 0 <= a < 30 and 0 <= b < 40 else 0.0
                for a, b in ((i + dy, j + dx), (i - dy, j - dx))
            )  # fmt: skip
            if length[i, j] >= ahead and length[i, j] > behind:
                expected[i, j] = length[i, j]
    np.testing.assert_array_equal(thin(gx, gy), expected)


@pytest.mark.parametrize("density", [0.0, 0.2, 0.4, 0.6, 1.0])
def test_components_against_ndimage(rng, density):
    mask = rng.uniform(size=(37, 52)) < density
    found = connected_components(mask)
    expected, count = ndimage.label(mask, structure=np.ones((3, 3)))
    assert found.max() == count
    pairs = np.unique(np.column_stack([found.ravel(), expected.ravel()]), axis=0)
    assert len(pairs) == len(np.unique(expected)), "each piece has one number, and its own"
    assert ((found == 0) == ~mask).all()


def test_a_long_winding_piece_is_one():
    mask = np.zeros((101, 101), bool)
    mask[::2] = True
    mask[1::4, -1] = mask[3::4, 0] = True
    assert connected_components(mask).max() == 1


def test_canny_hysteresis_against_ndimage(rng):
    gray = ndimage.gaussian_filter(rng.standard_normal((60, 70)), 2)
    low, high = 0.2, 0.5
    gx, gy = gradient(blur(gray, 1.0))
    thinned = thin(gx, gy) / np.hypot(gx, gy).max()
    expected = ndimage.binary_propagation(thinned >= high, np.ones((3, 3)), mask=thinned >= low)
    found = canny(gray, 1.0, low, high)
    assert 0 < found.sum() < (thinned >= low).sum(), "some weak edges stay, some go"
    np.testing.assert_array_equal(found, expected)
    assert not (canny(gray, 1.0, low, 0.8) & ~found).any(), "a higher bar only removes edges"


@pytest.mark.parametrize("size", [20, 21])
def test_canny_draws_a_step_one_pixel_wide(size):
    image = np.zeros((size, size))
    image[:, 10:] = 1
    edges = canny(image, 1.0, 0.1, 0.3)
    assert (edges.sum(1) == 1).all()
    assert edges[:, 9:11].any(1).all()
    assert (canny(image.T, 1.0, 0.1, 0.3).sum(0) == 1).all()


def test_canny_of_a_disc_is_a_circle():
    y, x = np.mgrid[:81, :81] - 40
    edges = canny((np.hypot(x, y) < 25).astype(float), 1.5, 0.2, 0.5)
    radius = np.hypot(x, y)[edges]
    assert np.abs(radius - 25).max() < 1.5
    angles = np.unique(np.rint(np.degrees(np.arctan2(y, x)[edges]) / 10))
    assert len(angles) == 37, "all around, -180 to 180 in tens"


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (13, 7)])
@pytest.mark.parametrize("value", [0.0, 0.1, 255.0])
def test_canny_of_one_colour_is_empty(shape, value):
    assert not canny(np.full(shape, value), 1.5, 0.1, 0.3).any()


def test_the_lesson(capsys):
    pictures = {}
    figures = run(Config(), pictures.__setitem__)
    assert set(pictures) == {"seconds", "china", "flower"}
    assert figures["max_difference_to_scipy"] < 1e-10
    assert figures["speedup"] > 100
    assert figures["fft_speedup_31"] > 1
    assert 0.01 < figures["edge_share_flower"] < figures["edge_share_china"] < 0.2
    assert "31x31" in capsys.readouterr().out
