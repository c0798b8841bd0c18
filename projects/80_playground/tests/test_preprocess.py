"""From strokes to MNIST's form: what must hold of every drawing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from playground.preprocess import (
    CANVAS,
    Stroke,
    add_segment,
    as_bytes,
    prepare,
    rasterise,
    resample,
    shrunk,
)

corner = st.tuples(st.floats(30, 250), st.floats(30, 250))


@given(st.lists(corner, min_size=2, max_size=6), st.floats(8, 40))
@settings(deadline=None, max_examples=40)
def test_every_drawing_comes_out_as_mnist_has_it(points, width):
    found = prepare(rasterise([Stroke(tuple(points), width)]))
    assert max(found.scaled.shape) == 20
    assert found.image.shape == (28, 28)
    assert 0 <= found.image.min() <= found.image.max() <= 1
    # The centre of mass lies in the middle, to half a pixel, unless the box would leave the image.
    rows, columns = np.flatnonzero(found.image.any(1)), np.flatnonzero(found.image.any(0))
    total = found.image.sum()
    for axis, used in ((1, rows), (0, columns)):
        centre = found.image.sum(axis) @ np.arange(28) / total
        assert abs(centre - 13.5) <= 0.51 or used[0] == 0 or used[-1] == 27


@pytest.mark.parametrize("digit", range(10))
def test_place_and_size_of_a_drawing_do_not_matter(digit, points):
    images = []
    for size, at, pen in ((200, (40, 40), 24), (200, (73, 12), 24), (100, (10, 170), 12)):
        strokes = [Stroke(tuple(stroke), pen) for stroke in points(digit, size=size, at=at)]
        images.append(prepare(rasterise(strokes)).image)
    # A canvas of whole pixels and a box of whole rows: a shift by one pixel of 28 can come of it.
    for other in images[1:]:
        shifts = [np.roll(other, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        assert min(np.abs(shift - images[0]).mean() for shift in shifts) < 0.05


def test_what_is_prepared_stays_as_it_is(points):
    image = prepare(rasterise([Stroke(tuple(stroke), 24) for stroke in points(5)])).image
    again = prepare(np.kron(image, np.ones((10, 10), np.float32))).image
    assert np.abs(again - image).mean() < 0.01


def test_nothing_drawn_is_nothing():
    assert prepare(np.zeros((CANVAS, CANVAS), np.float32)) is None


def test_a_dot_fills_the_box():
    found = prepare(rasterise([Stroke(((5.0, 5.0),), 10.0)]))
    assert found.scaled.shape == (20, 20)
    assert found.image.max() == 1


def test_ink_is_where_pillow_puts_it():
    canvas = rasterise([Stroke(((60.0, 60.0), (200.0, 60.0), (200.0, 220.0)), 20.0)])
    drawn = Image.new("L", (CANVAS * 4, CANVAS * 4))
    pen = ImageDraw.Draw(drawn)
    pen.line([(240, 240), (800, 240), (800, 880)], fill=255, width=80)
    for x, y in ((240, 240), (800, 240), (800, 880)):
        pen.ellipse((x - 40, y - 40, x + 40, y + 40), fill=255)
    expected = np.asarray(drawn.resize((CANVAS, CANVAS), Image.BOX)) / 255
    assert np.abs(canvas - expected).mean() < 0.003
    assert np.abs(canvas - expected).max() < 0.8


@pytest.mark.parametrize("end", [(-50.0, 140.0), (400.0, 400.0), (140.0, -1e4)])
def test_a_pen_that_leaves_the_canvas_breaks_nothing(end):
    canvas = np.zeros((CANVAS, CANVAS), np.float32)
    add_segment(canvas, (140.0, 140.0), end, 20.0)
    assert canvas[140, 140] == 1
    assert 0 <= canvas.min() <= canvas.max() <= 1


@pytest.mark.parametrize(("before", "after"), [(280, 28), (200, 20), (137, 20), (8, 20), (1, 20)])
def test_resampling_is_an_average(before, after):
    matrix = resample(before, after)
    assert matrix.shape == (after, before)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
    assert matrix.min() >= 0
    if before % after == 0:
        column = np.arange(before, dtype=np.float32)
        np.testing.assert_allclose(matrix @ column, column.reshape(after, -1).mean(1), atol=1e-3)


def test_without_the_steps_place_matters(points):
    canvas = rasterise([Stroke(tuple(points(7, size=80, at=(5, 5))[0]), 12)])
    small = shrunk(canvas)
    assert small[14:, 14:].sum() == 0
    assert as_bytes(small).shape == (784,)
    assert as_bytes(small).max() > 100
