"""What can be drawn: pen templates and the digits of matplotlib's fonts, in one form.

A face is points in a unit square, y down, of which consecutive ones are joined or not. Its own box
(without the pen) has a larger side of 1, and (0.5, 0.5) is its centre of mass: of the line for a
pen, of the filled area for a font. Some points lie a little outside 0..1 therefore.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from houdini_bridge.strokes import polyline, templates

FONTS = {
    "DejaVu Sans": "DejaVuSans.ttf",
    "DejaVu Sans Bold": "DejaVuSans-Bold.ttf",
    "DejaVu Sans Oblique": "DejaVuSans-Oblique.ttf",
    "DejaVu Sans Mono": "DejaVuSansMono.ttf",
    "DejaVu Sans Mono Bold": "DejaVuSansMono-Bold.ttf",
    "DejaVu Serif": "DejaVuSerif.ttf",
    "DejaVu Serif Bold": "DejaVuSerif-Bold.ttf",
    "DejaVu Serif Italic": "DejaVuSerif-Italic.ttf",
    "STIX": "STIXGeneral.ttf",
    "STIX Bold": "STIXGeneralBol.ttf",
    "STIX Italic": "STIXGeneralItalic.ttf",
    "Computer Modern Roman": "cmr10.ttf",
    "Computer Modern Sans": "cmss10.ttf",
    "Computer Modern Italic": "cmmi10.ttf",
    "Computer Modern Typewriter": "cmtt10.ttf",
}
"""Face -> file in matplotlib's font folder. cmmi10 has old-style digits of uneven height."""
CURVE_STEPS = 5  # points for each Bezier arc of a glyph: off the arc by less than 0.1 px


@dataclass(frozen=True, eq=False)
class Face:
    """One way to draw one digit.

    Attributes:
        name: a key of `FONTS`, or of `strokes.templates`.
        source: font (a filled outline) or stroke (a pen's way).
        weight: how often it is drawn among those of its digit and source.
        points: in the unit square; see the top of this file.
        joined: whether point i is joined to point i + 1.
        centre: the centre of mass in the face's own units (fonts: em, y up).
        size: larger side of the box in the face's own units.
    """

    name: str
    digit: int
    source: str
    weight: float
    points: Float[np.ndarray, "P 2"]
    joined: Bool[np.ndarray, "P-1"]
    centre: tuple[float, float]
    size: float

    @cached_property
    def extremes(self) -> Float[np.ndarray, "32 2"]:
        """The outermost point in each of 32 directions: an affine image's box to half a percent."""
        turn = np.arange(32) * (2 * np.pi / 32)
        ahead = self.points @ np.stack([np.cos(turn), np.sin(turn)])
        return self.points[ahead.argmax(0)]

    @property
    def lines(self) -> list[list[list[float]]]:
        """The points, as one list for each run of joined ones."""
        ends = np.flatnonzero(~self.joined) + 1
        return [line.tolist() for line in np.split(self.points, ends)]


@cache
def all_faces() -> dict[tuple[str, int], Face]:
    """(name, digit) -> face; strokes first, in the order in which they are written down."""
    return {(face.name, face.digit): face for face in [*stroke_faces(), *font_faces()]}


def stroke_faces() -> list[Face]:
    """A face for each pen template."""
    faces = []
    for name, (weight, strokes) in templates().items():
        lines = [polyline(stroke) for stroke in strokes]
        points, joined = chain(lines)
        starts, ends = points[:-1][joined], points[1:][joined]
        length = np.linalg.norm(ends - starts, axis=1)
        centre = length @ (starts + ends) / 2 / length.sum()
        faces.append(normalised(name, int(name[0]), "stroke", weight, points, joined, centre))
    return faces


def font_faces() -> list[Face]:
    """A face for each font and digit."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    faces = []
    for name, file in FONTS.items():
        properties = FontProperties(fname=font_file(file))
        for digit in range(10):
            path = TextPath((0, 0), str(digit), size=1, prop=properties)
            loops = [loop for loop in contours(path) if len(loop) > 2]
            points, joined = chain(loops)
            starts, ends = points[:-1][joined], points[1:][joined]
            cross = starts[:, 0] * ends[:, 1] - starts[:, 1] * ends[:, 0]  # twice the fan's areas
            centre = cross @ (starts + ends) / (3 * cross.sum())
            faces.append(normalised(name, digit, "font", 1.0, points, joined, centre, y_up=True))
    return faces


def font_file(name: str) -> Path:
    """The path of one of matplotlib's own fonts on this machine."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts/ttf" / name


def contours(path) -> list[Float[np.ndarray, "P 2"]]:
    """The closed loops of a matplotlib path with its Bezier arcs (degree 2 and 3) made straight."""
    from matplotlib.path import Path as Outline

    loops, t = [], np.linspace(0, 1, CURVE_STEPS + 1)[1:, None]
    for values, code in path.iter_segments(curves=True, simplify=False):
        values = values.reshape(-1, 2)
        if code == Outline.MOVETO:
            loops.append([values])
        elif code == Outline.LINETO:
            loops[-1].append(values)
        elif code == Outline.CURVE3:
            start, (control, end) = loops[-1][-1][-1], values
            loops[-1].append((1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end)
        elif code == Outline.CURVE4:
            start, (first, second, end) = loops[-1][-1][-1], values
            loops[-1].append(
                (1 - t) ** 3 * start
                + 3 * t * (1 - t) ** 2 * first
                + 3 * t**2 * (1 - t) * second
                + t**3 * end
            )
        elif code == Outline.CLOSEPOLY:
            loops[-1].append(loops[-1][0])
    return [np.concatenate(loop) for loop in loops]


def chain(lines: list[Float[np.ndarray, "_ 2"]]) -> tuple[np.ndarray, np.ndarray]:
    """All points in a row, and which of them are joined to the next."""
    points = np.concatenate(lines)
    joined = np.ones(len(points) - 1, bool)
    joined[np.cumsum([len(line) for line in lines])[:-1] - 1] = False
    return points, joined


def normalised(
    name: str,
    digit: int,
    source: str,
    weight: float,
    points: Float[np.ndarray, "P 2"],
    joined: Bool[np.ndarray, "P-1"],
    centre: Float[np.ndarray, "2"],
    y_up: bool = False,
) -> Face:
    """The face with its centre of mass at (0.5, 0.5) and a larger side of 1."""
    size = float(np.ptp(points, axis=0).max())
    sign = np.array([1.0, -1.0 if y_up else 1.0])
    unit = np.round(0.5 + (points - centre) * sign / size, 5)  # as table.json has them
    x, y = (float(v) for v in centre)
    return Face(name, digit, source, weight, unit, joined, (x, y), size)
