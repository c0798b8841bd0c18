"""Digits drawn by a program, as points of a pen, so that no test needs MNIST."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from playground.data import Labelled
from playground.net import Net
from playground.preprocess import Stroke, as_bytes, prepare, rasterise
from playground.session import Session
from playground.trainer import Trainer

os.environ["SDL_VIDEODRIVER"] = "dummy"  # windows without a screen
os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] = "1"


def _arc(cx: float, cy: float, rx: float, ry: float, begin: float, end: float) -> list:
    turns = np.linspace(begin, end, 14) * 2 * np.pi
    return [(cx + rx * np.sin(t), cy - ry * np.cos(t)) for t in turns]


SHAPES: list[list[list[tuple[float, float]]]] = [  # strokes in a unit square, y down
    [_arc(0.5, 0.5, 0.28, 0.4, 0, 1)],
    [[(0.5, 0.1), (0.5, 0.9)]],
    [[*_arc(0.5, 0.32, 0.26, 0.22, -0.2, 0.35), (0.24, 0.9), (0.78, 0.9)]],
    [[*_arc(0.45, 0.3, 0.26, 0.2, -0.15, 0.5), *_arc(0.45, 0.7, 0.28, 0.2, 0, 0.65)]],
    [[(0.35, 0.1), (0.2, 0.55), (0.8, 0.55)], [(0.62, 0.3), (0.62, 0.9)]],
    [[(0.75, 0.1), (0.3, 0.1), (0.3, 0.45), *_arc(0.45, 0.66, 0.28, 0.24, -0.05, 0.62)]],
    [[(0.6, 0.1), (0.3, 0.5), *_arc(0.5, 0.68, 0.22, 0.2, 0.75, 1.75)]],
    [[(0.2, 0.12), (0.8, 0.12), (0.42, 0.9)]],
    [[*_arc(0.5, 0.3, 0.2, 0.19, 0.5, 1.5), *_arc(0.5, 0.7, 0.25, 0.21, 0, 1)]],
    [[*_arc(0.5, 0.33, 0.22, 0.22, 0.25, 1.25), (0.7, 0.4), (0.6, 0.9)]],
]


def _points(
    digit: int,
    size: float = 200.0,
    at: tuple[float, float] = (40.0, 40.0),
    rng: np.random.Generator | None = None,
) -> list[list[tuple[float, float]]]:
    """A digit's strokes in canvas pixels; with a generator slanted, stretched and shaky."""
    slant = np.eye(2)
    shake = 0.0
    if rng is not None:
        slant = slant + rng.normal(0, 0.08, (2, 2))
        shake = 0.012
    strokes = []
    for stroke in SHAPES[digit]:
        points = (np.array(stroke) - 0.5) @ slant + 0.5
        if rng is not None:
            points = points + rng.normal(0, shake, points.shape)
        strokes.append([tuple(point) for point in (points * size + at).tolist()])
    return strokes


@pytest.fixture(scope="session")
def points() -> Callable[..., list[list[tuple[float, float]]]]:
    return _points


@pytest.fixture(scope="session")
def draw() -> Callable[..., None]:
    """Draws a digit into a session, as a hand would."""

    def into(session: Session, digit: int, **how) -> None:
        for stroke in _points(digit, **how):
            session.pen_down(*stroke[0])
            for point in stroke[1:]:
                session.pen_move(*point)
            session.pen_up()

    return into


@pytest.fixture(scope="session")
def drawn() -> Labelled:
    """400 prepared drawings, 40 of each digit, in turn."""
    return _drawn()


def _drawn() -> Labelled:
    rng = np.random.default_rng(0)
    images = []
    for index in range(400):
        strokes = _points(index % 10, rng=rng)
        width = float(rng.uniform(16, 30))
        canvas = rasterise([Stroke(tuple(stroke), width) for stroke in strokes])
        images.append(as_bytes(prepare(canvas).image))
    return Labelled(np.stack(images), np.arange(400) % 10)


@pytest.fixture(scope="session")
def taught(drawn) -> Net:
    """A net that knows such drawings."""
    trainer = Trainer()
    trainer.study(drawn, drawn.take(slice(0)))
    for _ in range(400):
        trainer.one_step()
    return trainer.net


@pytest.fixture
def session(tmp_path: Path):
    one = Session(tmp_path / "home")
    yield one
    one.close()


@pytest.fixture(autouse=True)
def no_mnist(monkeypatch, drawn, tmp_path):
    """In the place of MNIST, other people's drawings; and runs where a test may write."""
    monkeypatch.setattr("playground.session.mnist", lambda split: drawn)
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
