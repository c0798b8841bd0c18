"""The renderer: its parts against slow ones and libraries, each column against its meaning."""

import numpy as np
import pytest
from matplotlib.path import Path
from scipy.ndimage import gaussian_filter

from houdini_bridge import draw as renderer
from houdini_bridge.compare import statistics
from houdini_bridge.faces import FONTS, all_faces
from houdini_bridge.look import sample
from houdini_bridge.table import CELLS, DTYPE

RNG = np.random.default_rng(0)
NEUTRAL = {
    "digit": 1, "frame": 1, "source": "stroke", "face": "1-plain", "scale_x": 0.8, "scale_y": 0.8,
    "stroke_px": 2.5, "warp_scale_px": 7.0, "contrast": 1.0, "seed": 5,
}  # fmt: skip


def rows(count: int = 1, **values) -> np.ndarray:
    """`count` rows, all neutral but for what is given (a value, or one for each)."""
    table = np.zeros(count, DTYPE)
    table["cell"] = np.arange(count)
    for name, value in {**NEUTRAL, **values}.items():
        table[name] = value
    if "digit" not in values:
        table["digit"] = int(table["face"][0][0])  # a pen's template begins with its digit
    return table


def drawn(table: np.ndarray, size: int = 28) -> np.ndarray:
    """Their images, 0 to 1."""
    faces = all_faces()
    picked = [faces[str(row["face"]), int(row["digit"])] for row in table]
    return renderer.draw(table, picked, size).astype(float) / 255


def moments(image: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Centre of mass (x right, y down, from the middle) and covariance of an image's ink."""
    size = len(image)
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    places = np.stack([x.ravel(), y.ravel()])
    weights = image.ravel() / image.sum()
    return *(places @ weights), np.cov(places, aweights=weights)


# --- the parts -----------------------------------------------------------------------------------


def test_distances_against_a_slow_one():
    starts, ends = RNG.uniform(-14, 14, (2, 3, 9, 2)).astype(np.float32)
    ends[0, 0] = starts[0, 0]  # a point
    joined = RNG.random((3, 9)) > 0.2
    found = renderer.distances(starts, ends, joined, size=12)
    centres = [(x + 0.5 - 6, y + 0.5 - 6) for y in range(12) for x in range(12)]
    for n in range(3):
        for s in range(9):
            if not joined[n, s]:
                assert found[n, :, s].min() > 900_000
                continue
            a, u = starts[n, s].astype(float), (ends[n, s] - starts[n, s]).astype(float)
            for p, centre in enumerate(centres):
                t = np.clip(np.dot(centre - a, u) / max(np.dot(u, u), 1e-9), 0, 1)
                exact = np.sum((centre - a - t * u) ** 2)
                assert found[n, p, s] == pytest.approx(exact, abs=2e-3)


def test_inside_against_matplotlib():
    for name, digit in [("DejaVu Serif", 8), ("STIX Italic", 4), ("Computer Modern Roman", 0)]:
        face = all_faces()[name, digit]
        points = ((face.points - 0.5) * 22)[None].astype(np.float32)
        found = renderer.inside(points[:, :-1], points[:, 1:], face.joined[None])[0]
        y, x = np.mgrid[:28, :28].reshape(2, -1) + 0.5 - 14
        loops = [Path((np.array(line) - 0.5) * 22) for line in face.lines]
        crossings = sum(loop.contains_points(np.stack([x, y], 1)).astype(int) for loop in loops)
        assert 0 < found.sum() < 500
        assert np.array_equal(found, crossings % 2 == 1)


def test_a_winding_of_two_is_inside_as_fonts_want_it():
    square = np.array([[-5, -5], [5, -5], [5, 5], [-5, 5], [-5, -5]], np.float32)
    twice = np.concatenate([square, square[1:]])[None]
    joined = np.ones((1, 8), bool)
    assert renderer.inside(twice[:, :-1], twice[:, 1:], joined).sum() == 100


@pytest.mark.parametrize("filled", [True, False])
def test_coverage_is_the_share_of_a_pixel(filled):
    """A square of 8.5 pixels, and a pen of 3 along a line: areas to a few percent."""
    square = np.array([[-4.25, -4.25], [4.25, -4.25], [4.25, 4.25], [-4.25, 4.25], [-4.25, -4.25]])
    if filled:
        area = 8.5**2
        points, width = square[None], np.zeros((1, 4))
    else:
        area = 3 * 12 + np.pi * 1.5**2
        points, width = np.array([[[-6.0, 0.2], [6, 0.2]]]), np.full((1, 1), 3.0)
    joined = np.ones((1, points.shape[1] - 1), bool)
    assert renderer.coverage(points, joined, width, filled).sum() == pytest.approx(area, rel=0.02)


def test_blur_against_scipy():
    images = RNG.random((4, 28, 28)).astype(np.float32)
    sigma = np.array([0.0, 0.4, 1.0, 2.5])
    found = renderer.blurred(images, sigma)
    for image, s, mine in zip(images, sigma, found, strict=True):
        exact = gaussian_filter(image, s, mode="constant", truncate=20) if s else image
        assert np.allclose(mine, exact, atol=1e-5)


def test_warp_has_the_stated_amplitude_and_correlation():
    """Over 4,000 fields: rms of a component, and exp(-r^2 / 2 l^2) between points r apart."""
    n, scale, amplitude = 4000, 6.0, 1.5
    waves = np.concatenate([RNG.standard_normal((n, 2, 32, 2)), RNG.random((n, 2, 32, 1))], -1)
    along = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 6.0], [9.0, 9.0]])
    field = renderer.warp(
        np.tile(along, (n, 1, 1)), np.full(n, amplitude), np.full(n, scale), waves
    )
    assert np.allclose(field.mean(0), 0, atol=0.1)
    assert np.allclose(np.sqrt((field**2).mean(0)), amplitude, rtol=0.05)
    apart = np.hypot(*along.T)
    correlation = (field * field[:, :1]).mean((0, 2)) / amplitude**2
    assert np.allclose(correlation, np.exp(-(apart**2) / (2 * scale**2)), atol=0.05)
    assert abs((field[..., 0] * field[..., 1]).mean()) < 0.1  # x and y on their own


def test_pressure_varies_about_one():
    waves = RNG.random((2000, 3, 2)) * [3, 1]
    factor = renderer.pressure(waves, 60)
    assert factor.mean() == pytest.approx(1, abs=0.01)
    assert factor.std() == pytest.approx(renderer.PRESSURE, rel=0.05)


# --- the columns ---------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [(3.0, 0.0), (0.0, 3.0), (-2.5, 1.5)])
def test_offset_moves_right_and_down(offset):
    base = moments(drawn(rows(face="3-round", scale_x=0.7))[0])
    moved = moments(drawn(rows(face="3-round", scale_x=0.7, offset_x_px=offset[0],
                               offset_y_px=offset[1]))[0])  # fmt: skip
    assert moved[0] - base[0] == pytest.approx(offset[0], abs=0.05)
    assert moved[1] - base[1] == pytest.approx(offset[1], abs=0.05)


@pytest.mark.parametrize("slant", [-25.0, 20.0])
def test_slant_leans_the_top_to_the_right(slant):
    image = drawn(rows(slant_deg=slant))[0]
    x = np.arange(28) + 0.5
    top, bottom = (np.average(x, weights=image[r]) for r in (8, 19))
    assert np.degrees(np.arctan((top - bottom) / 11)) == pytest.approx(slant, abs=1)


@pytest.mark.parametrize("turn", [-30.0, 15.0])
def test_rotation_is_counter_clockwise(turn):
    """An upright line turned counter-clockwise has its top on the left."""
    image = drawn(rows(rotate_deg=turn))[0]
    x = np.arange(28) + 0.5
    top, bottom = (np.average(x, weights=image[r]) for r in (9, 18))
    assert np.degrees(np.arctan((bottom - top) / 9)) == pytest.approx(turn, abs=1)
    flat = np.linalg.eigvalsh(moments(image)[2])
    assert np.allclose(flat, np.linalg.eigvalsh(moments(drawn(rows())[0])[2]), rtol=0.03)


def test_slant_acts_before_rotation():
    """A horizontal line (scale_y = 0) is not slanted, but its rotated self would be."""
    both = drawn(rows(face="7-bar", scale_y=0.0, scale_x=0.7, slant_deg=30, rotate_deg=90))[0]
    turned = drawn(rows(face="7-bar", scale_y=0.0, scale_x=0.7, rotate_deg=90))[0]
    assert np.allclose(both, turned, atol=0.02)
    assert moments(both)[2][1, 1] > 10 * moments(both)[2][0, 0]


@pytest.mark.parametrize(("axis", "column"), [(0, "scale_x"), (1, "scale_y")])
def test_scales_stretch_their_axis(axis, column):
    face = {"face": "DejaVu Sans", "digit": 8, "source": "font", "stroke_px": 0.0}
    half, whole = (
        moments(drawn(rows(**{**face, "scale_x": 0.5, "scale_y": 0.5, column: s}))[0])[2]
        for s in (0.5, 1.0)
    )
    pixel = 1 / 12  # variance of a pixel's own width, which does not scale
    assert (whole[axis, axis] - pixel) / (half[axis, axis] - pixel) == pytest.approx(4, rel=0.04)
    assert whole[1 - axis, 1 - axis] == pytest.approx(half[1 - axis, 1 - axis], rel=0.04)


def test_stroke_is_the_width_of_a_pen_at_any_scale():
    for scale in (0.5, 0.8):
        for width in (1.5, 3.0, 4.5):
            areas = [
                drawn(rows(stroke_px=width, scale_y=scale, seed=s))[0].sum() for s in range(40)
            ]
            expected = width * 20 * scale + np.pi * width**2 / 4
            assert np.mean(areas) == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize("gain", [-0.6, 0.8])
def test_stroke_is_what_a_fonts_stems_gain(gain):
    """A 1 without serifs and feet is a stem of 20 pixels: its area gains 20 x the gain."""
    font = {"face": "DejaVu Sans Bold", "digit": 1, "source": "font", "scale_x": 1, "scale_y": 1}
    middle = [drawn(rows(stroke_px=g, **font))[0][12:15].sum() / 3 for g in (0.0, gain)]
    assert middle[1] - middle[0] == pytest.approx(gain, abs=0.03)


def test_warp_bends_by_what_it_says_and_keeps_the_centre():
    """Over 300 seeds: the middle of a line, row by row, strays by warp_px (rms), less its mean."""
    x = np.arange(28) + 0.5 - 14
    table = rows(300, warp_px=1.2, warp_scale_px=4.0, seed=np.arange(300))
    images = drawn(table)[:, 10:19]
    strays = (images * x).sum(-1) / images.sum(-1)
    place = np.linspace(-8, 8, 161)  # along the line; rows 10 to 18 are -3.5 to 4.5 of it
    alike = np.exp(-((place[:, None] - place) ** 2) / (2 * 4.0**2))
    left = 1 - 2 * alike.mean(1) + alike.mean()  # variance of d - mean of d, where it is 1 of d
    expected = 1.2 * np.sqrt(left[45:126:10].mean())
    assert np.sqrt((strays**2).mean()) == pytest.approx(expected, rel=0.05)
    assert np.abs(drawn(rows(warp_px=0.0))[0][10:19] @ x).max() < 0.01
    long = rows(300, warp_px=1.2, warp_scale_px=60.0, seed=np.arange(300))
    images = drawn(long)
    assert np.abs((images * x).sum((1, 2)) / images.sum((1, 2))).mean() < 0.1  # a mere shift is out
    assert not np.array_equal(*drawn(table[:2]))


def test_blur_spreads_ink_and_keeps_it():
    sharp, soft = drawn(rows())[0], drawn(rows(blur_px=1.5))[0]
    assert soft.max() < sharp.max()
    assert soft.sum() == pytest.approx(sharp.sum(), rel=0.01)
    gain = moments(soft)[2] - moments(sharp)[2]
    assert gain[0, 0] == pytest.approx(1.5**2, rel=0.05)


def test_noise_is_a_share_of_the_ink():
    clean = drawn(rows(200, contrast=0.5, blur_px=1.0, seed=np.arange(200)))
    noisy = drawn(rows(200, contrast=0.5, blur_px=1.0, noise=0.2, seed=np.arange(200)))
    grey = (clean > 0.2) & (clean < 0.5)  # not clipped
    assert np.std(noisy[grey] / clean[grey]) == pytest.approx(0.2, rel=0.05)
    assert np.mean(noisy[grey] / clean[grey]) == pytest.approx(1, abs=0.01)
    assert noisy[clean == 0].max() <= 1 / 255  # what rounding had hidden


def test_contrast_above_one_brightens_greys():
    plain = drawn(rows(blur_px=1.0))[0]
    for contrast in (0.5, 2.0):
        assert np.allclose(drawn(rows(blur_px=1.0, contrast=contrast))[0],
                           plain ** (1 / contrast), atol=0.05)  # fmt: skip
    assert drawn(rows(blur_px=1.0, contrast=2.0))[0].sum() > plain.sum() * 1.1


def test_seed_alone_changes_what_is_random_and_nothing_else():
    still = drawn(rows(2, source="font", face="STIX", digit=2, stroke_px=0.3, seed=[1, 2]))
    assert np.array_equal(*still)
    moving = drawn(rows(2, warp_px=1.0, seed=[1, 2]))
    assert not np.array_equal(*moving)


# --- the whole -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampled() -> tuple[np.ndarray, np.ndarray]:
    """A sheet of each digit: rows, and images in bytes."""
    table = np.zeros((10, CELLS), DTYPE)
    for digit in range(10):
        sample(0, digit, 1, table[digit], all_faces())
    table = table.reshape(-1)
    return table, np.rint(255 * drawn(table)).astype(np.uint8)


def test_an_image_depends_on_its_row_alone(sampled):
    table, images = sampled
    order = RNG.permutation(len(table))[:60]
    assert np.array_equal(np.rint(255 * drawn(table[order])), images[order])
    for i in order[:5]:
        assert np.array_equal(np.rint(255 * drawn(table[i : i + 1]))[0], images[i])


def test_digits_stand_as_mnist_stands(sampled):
    """White on black, a box of 20 pixels, the centre of mass in pixel (14, 14)."""
    _, images = sampled
    found = statistics(images)
    assert not np.isnan(found["centre_x_px"]).any()
    for axis in ("centre_x_px", "centre_y_px"):
        assert found[axis].mean() == pytest.approx(0.5, abs=0.1)
        assert found[axis].std() < 0.8
    larger = np.maximum(found["height_px"], found["width_px"])
    assert larger.mean() == pytest.approx(20, abs=0.3)
    assert larger.std() < 1
    edge = np.concatenate(
        [images[:, [0, -1]].reshape(640, -1), images[:, :, 0], images[:, :, -1]], 1
    )
    assert (edge.max(1) > 20).mean() < 0.05  # of MNIST's own: 0.013
    assert images.max() == 255


FACES = [(face.name, face.digit, face.source) for face in all_faces().values()]


@pytest.mark.parametrize("first", range(0, len(FACES), 50))
def test_every_face_draws_its_digit_within_the_cell(first):
    some = FACES[first : first + 50]
    names, digits, sources = zip(*some, strict=True)
    pens = [2.5 if source == "stroke" else 0.0 for source in sources]
    images = drawn(rows(len(some), face=names, digit=digits, source=sources, stroke_px=pens,
                        scale_x=0.8, scale_y=0.8))  # fmt: skip
    assert (images.sum((1, 2)) > 15).all()
    assert (images.max((1, 2)) > 0.4).all()
    assert images[:, [0, -1]].max() == images[:, :, [0, -1]].max() == 0
    assert len({image.tobytes() for image in images}) == len(some), "two faces draw the same"
    assert set(names) <= {*FONTS, *(name for name, _, _ in FACES)}


def test_a_sheet_is_row_major_from_the_top_left():
    images = np.stack([np.full((2, 3), i, np.uint8) for i in range(9)])
    sheet = renderer.tiled(images, grid=3)
    assert sheet.shape == (6, 9)
    assert sheet[::2, ::3].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
