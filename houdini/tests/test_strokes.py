"""Pen templates, their curves, and the faces made of them and of matplotlib's fonts."""

import numpy as np
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from houdini_bridge.faces import FONTS, all_faces, chain, font_file
from houdini_bridge.strokes import polyline, templates

FACES = list(all_faces().values())


def test_every_digit_is_written_in_many_ways():
    names = list(templates())
    for digit in range(10):
        assert sum(name.startswith(f"{digit}-") for name in names) >= 5
    assert all(weight > 0 for weight, _ in templates().values())


def test_a_template_is_read_as_it_is_written(monkeypatch):
    monkeypatch.setattr("houdini_bridge.strokes.TEMPLATES", "\n7-x  2.5  0,1 2,3! 4,5 | 6,7 8,9\n")
    stroke = [(0, 1, False), (2, 3, True), (4, 5, False)]
    assert templates() == {"7-x": (2.5, [stroke, [(6, 7, False), (8, 9, False)]])}


@pytest.mark.parametrize("name", templates())
def test_curves_go_through_their_points_in_even_steps(name):
    for stroke in templates()[name][1]:
        points = polyline(stroke, spacing=0.5)
        for x, y, _ in stroke:
            assert np.hypot(*(points - (x, y)).T).min() < 0.3
        steps = np.hypot(*np.diff(polyline(stroke), axis=0).T)
        assert steps.max() <= 4.01
        assert np.median(steps) > 3  # chords of a tight turn are shorter than its arc


def test_curves_are_round_but_for_corners():
    """Points of a circle: the spline stays on it, and turns at no place by much."""
    turn = np.linspace(0, 1.5 * np.pi, 9)
    circle = [(50 * np.cos(t), 50 * np.sin(t), False) for t in turn]
    curve = polyline(circle, spacing=1.0)
    middle = curve[len(curve) // 4 : -len(curve) // 4]  # both ends are a little flatter
    assert np.abs(np.hypot(*middle.T) - 50).max() < 0.1
    assert sharpest(curve) < 5

    cornered = [(x, y, i == 4) for i, (x, y, _) in enumerate(circle)]
    square = [(0.0, 0.0, False), (50.0, 0.0, True), (50.0, 50.0, False)]
    assert sharpest(polyline(square)) == pytest.approx(90)
    assert any(np.allclose(p, circle[4][:2]) for p in polyline(cornered))


def sharpest(curve: np.ndarray) -> float:
    """The largest turn between consecutive steps, in degrees."""
    steps = np.diff(curve, axis=0)
    heading = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
    return float(np.degrees(np.abs(np.diff(heading)).max()))


@pytest.mark.parametrize("face", FACES, ids=lambda face: f"{face.name}-{face.digit}")
def test_faces_are_centred_and_of_unit_size(face):
    assert np.ptp(face.points, axis=0).max() == pytest.approx(1, abs=1e-4)
    assert np.abs(face.points - 0.5).max() < 0.75
    if face.source == "stroke":  # centre of the line: many points on it
        dense = np.concatenate(
            [np.linspace(a, b, 200)[:-1] for a, b in zip(*ends(face), strict=True)]
        )
        lengths = np.repeat(np.hypot(*(ends(face)[1] - ends(face)[0]).T), 199)
        assert np.allclose(np.average(dense, axis=0, weights=lengths), 0.5, atol=2e-3)


def ends(face) -> tuple[np.ndarray, np.ndarray]:
    return face.points[:-1][face.joined], face.points[1:][face.joined]


@pytest.mark.parametrize("name", FONTS)
@pytest.mark.parametrize("digit", [0, 4, 6, 7, 8])
def test_font_faces_are_the_font(name, digit):
    """matplotlib's own filling of the glyph, at 300 x 300 points, agrees on area and centre."""
    face = all_faces()[name, digit]
    path = TextPath((0, 0), str(digit), size=100, prop=FontProperties(fname=font_file(FONTS[name])))
    box = path.get_extents()
    steps = (np.arange(300) + 0.5) / 300
    x, y = np.meshgrid(*(box.min[i] + (box.max[i] - box.min[i]) * steps for i in (0, 1)))
    grid = np.stack([x.ravel(), y.ravel()], 1)
    loops = [part for part in path.to_polygons(closed_only=True) if len(part) > 2]
    crossings = sum(Path(loop).contains_points(grid).astype(int) for loop in loops)
    filled = crossings % 2 == 1  # no digit's loops overlap otherwise than as holes
    assert np.allclose(grid[filled].mean(0) / 100, face.centre, atol=0.002)
    assert face.size == pytest.approx(max(box.width, box.height) / 100, rel=0.005)
    # upright: the glyph's highest point is the face's highest, which is its smallest y
    top = (face.centre[1] - box.max[1] / 100) / face.size + 0.5
    assert face.points[:, 1].min() == pytest.approx(top, abs=0.005)


def test_chain_lifts_the_pen_between_lines():
    points, joined = chain([np.zeros((3, 2)), np.ones((2, 2))])
    assert points.shape == (5, 2)
    assert joined.tolist() == [True, True, False, True]


def test_lines_are_the_points_as_they_are_joined():
    for face in FACES:
        again, joined = chain([np.array(line) for line in face.lines])
        assert np.array_equal(again, face.points)
        assert np.array_equal(joined, face.joined)


def test_extremes_give_the_box_of_any_affine_image():
    rng = np.random.default_rng(0)
    for face in FACES[::7]:
        matrix = rng.normal(size=(2, 2))
        box, quick = (np.ptp(points @ matrix, axis=0) for points in (face.points, face.extremes))
        assert np.all(quick <= box + 1e-12)
        assert np.allclose(quick, box, rtol=0.02)
