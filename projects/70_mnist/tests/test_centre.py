"""Photos and drawings become images like MNIST's."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from mnist.centre import (
    BOX,
    STROKE,
    centre,
    centre_picture,
    find_ink,
    on_paper,
    otsu,
    paper_plane,
    thickened,
)
from trainloop import LabError

SEVEN = [(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]  # x, y as shares of the picture's sides


def drawing(size=(300, 400), pen=30, ink=0, paper=255, line=SEVEN) -> Image.Image:
    """A line of pixels on paper."""
    image = Image.new("L", size, paper)
    points = [(x * size[0], y * size[1]) for x, y in line]
    ImageDraw.Draw(image).line(points, fill=ink, width=pen, joint="curve")
    return image


def centred(image: Image.Image, tmp_path, name="digit.png", **options) -> np.ndarray:
    image.save(tmp_path / name, **options)
    return centre_picture(tmp_path / name).image


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference, as a share of the ink."""
    return np.abs(a - b).sum() / b.sum()


@pytest.fixture
def usual(tmp_path):
    return centred(drawing(), tmp_path)


def test_box_and_middle_are_mnists(usual):
    assert usual.shape == (28, 28)
    assert usual.dtype == np.float32
    rows, columns = (np.flatnonzero((usual > 0.3).any(axis)) for axis in (1, 0))
    assert np.ptp(rows) + 1 == BOX
    assert np.ptp(columns) + 1 == pytest.approx(BOX * (120 + 30) / (240 + 30), abs=1.5), "aspect"
    assert ndimage.center_of_mass(usual) == pytest.approx((14, 14), abs=0.51)
    assert usual.max() == pytest.approx(1, abs=0.02)
    assert len(np.unique(usual)) > 20, "antialiased"


def test_a_wide_digit_keeps_its_aspect():
    ink = np.zeros((100, 100))
    ink[40:60, 10:90] = 1
    rows, columns = (np.flatnonzero((centre(ink) > 0.5).any(axis)) for axis in (1, 0))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (5, 20)


def test_a_digit_with_its_mass_at_one_end_stays_whole():
    ink = np.zeros((200, 200))
    ink[0:160, 96:104] = 1
    ink[160:200, 50:150] = 1
    image = centre(ink)
    rows = np.flatnonzero((image > 0.3).any(1))
    assert (rows[0], rows[-1]) == (0, 19), "up to the edge, and no further"
    assert image.sum() == pytest.approx(ink.sum() / 100, rel=0.01), "10 pixels become one"


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        ({"ink": 255, "paper": 0}, 0.01),
        ({"ink": 60, "paper": 180}, 0.02),
        ({"ink": 170, "paper": 80}, 0.02),
        ({"size": (600, 800), "pen": 60}, 0.06),
        ({"size": (60, 80), "pen": 6}, 0.3),
        ({"line": [(0.2 + 0.6 * x, 0.1 + 0.6 * y) for x, y in SEVEN], "pen": 18}, 0.3),
    ],
)
def test_colours_size_and_place_make_no_difference(usual, tmp_path, change, tolerance):
    assert apart(centred(drawing(**change), tmp_path), usual) < tolerance


def test_a_lamp_and_noise_make_little_difference(usual, tmp_path):
    y, x = np.mgrid[0:1:400j, 0:1:300j]
    paper = 0.9 - 0.4 * y - 0.15 * x + np.random.default_rng(0).normal(0, 0.02, x.shape)
    photo = paper * np.where(np.asarray(drawing()) == 0, 0.35, 1.0)
    image = Image.fromarray((photo * 255).clip(0, 255).astype(np.uint8))
    assert apart(centred(image, tmp_path, "photo.jpg", quality=80), usual) < 0.15


@pytest.mark.parametrize("ink", [0, 255])
def test_strokes_on_nothing(usual, tmp_path, ink):
    """Transparent paper, and whatever colour hides under it."""
    mask = drawing(ink=255, paper=0)
    image = Image.new("LA", mask.size, (ink, 0))
    image.putalpha(mask)
    assert apart(centred(image, tmp_path), usual) < 0.01


def test_a_cut_out_takes_the_colour_of_its_paper():
    grey = np.full((20, 20), 0.8)
    grey[8:12, 8:12] = 0.1
    alpha = np.ones((20, 20))
    alpha[:3] = 0
    found = on_paper(np.where(alpha > 0, grey, 0.0), alpha)
    assert np.allclose(found[:3], 0.8)
    assert np.array_equal(found[3:], grey[3:])


def test_sixteen_bits_and_colours(usual, tmp_path):
    grey = np.asarray(drawing(), np.uint16)
    assert apart(centred(Image.fromarray(grey * 257), tmp_path), usual) < 0.01
    colour = Image.merge("RGB", [drawing(ink=20), drawing(ink=40), drawing(ink=120)])
    assert apart(centred(colour, tmp_path), usual) < 0.02


def test_exif_turns_the_picture(usual, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    turned = drawing().rotate(90, expand=True)
    assert apart(centred(turned, tmp_path, "turned.jpg", exif=exif, quality=95), usual) < 0.05


def test_specks_are_left_out_and_parts_are_not(usual, tmp_path):
    image = drawing()
    ImageDraw.Draw(image).ellipse((10, 380, 22, 392), fill=0)
    assert apart(centred(image, tmp_path), usual) < 0.01
    ImageDraw.Draw(image).rectangle((20, 330, 60, 390), fill=0)
    assert apart(centred(image, tmp_path), usual) > 0.1


def test_thin_strokes_become_as_wide_as_mnists():
    """A bar of 2 by 200 pixels becomes one of 0.12 x 200 = 24."""
    mask = np.zeros((300, 300), bool)
    mask[50:250, 149:151] = True
    wide = thickened(mask)
    assert wide[150].sum() == pytest.approx(STROKE * 200, abs=2)
    assert wide[mask].all()
    thick = np.asarray(drawing(pen=60)) == 0
    assert np.array_equal(thickened(thick), thick)


def test_otsu_splits_two_heaps():
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(0.1, 0.02, 900), generator.normal(0.8, 0.05, 100)])
    assert 0.2 < otsu(values.reshape(20, 50)) < 0.65
    slow = [
        (part := values < t).sum() * values[part].var() + (~part).sum() * values[~part].var()
        for t in np.linspace(0.05, 0.9, 200)
    ]
    best = np.linspace(0.05, 0.9, 200)[int(np.argmin(slow))]
    at_ours = (part := values < otsu(values.reshape(20, 50))).sum() * values[part].var()
    at_ours += (~part).sum() * values[~part].var()
    assert at_ours <= min(slow) * 1.001, best


def test_the_papers_plane_in_spite_of_ink_at_the_border():
    y, x = np.mgrid[-1:1:80j, -1:1:60j]
    paper = 0.6 + 0.1 * x - 0.2 * y
    assert np.allclose(paper_plane(paper), paper)
    spoilt = paper.copy()
    spoilt[30:45, 0:20] = 0.0
    assert np.allclose(paper_plane(spoilt), paper)


def test_nothing_to_see(tmp_path):
    noise = 0.5 + np.random.default_rng(0).normal(0, 0.005, (40, 40))
    assert find_ink(noise).max() == 0
    for name, image in {
        "white.png": Image.new("L", (50, 50), 255),
        "black.png": Image.new("L", (50, 50), 0),
        "clear.png": Image.new("RGBA", (50, 50), (0, 0, 0, 0)),
        "slope.png": Image.fromarray(np.tile(np.arange(100, dtype=np.uint8), (90, 1))),
    }.items():
        image.save(tmp_path / name)
        with pytest.raises(LabError, match=f"{name} shows no digit"):
            centre_picture(tmp_path / name)


def test_bad_files_are_one_line(tmp_path):
    Image.new("L", (7, 40)).save(tmp_path / "tiny.png")
    Image.new("1", (10_000, 5_001)).save(tmp_path / "huge.png")
    (tmp_path / "text.png").write_text("no picture")
    whole = tmp_path / "whole.png"
    drawing().save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:200])
    for name, said in {
        "tiny.png": "only 7x40 pixels",
        "huge.png": "more than 50 million",
        "text.png": "no readable picture",
        "cut.png": "no readable picture",
        "missing.png": "no readable picture",
    }.items():
        with pytest.raises(LabError, match=said) as caught:
            centre_picture(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
