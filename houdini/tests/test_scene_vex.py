"""The wrangles, compiled as C++ and run in the plan's own wiring (vex_runner, vex_shim.h).

What a wrangle makes of the table is held against the Python renderer and against cases worked by
hand. That Houdini compiles and cooks them alike is not shown here: no Houdini was at hand.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts/python"))

import scene_tables
import vex_runner
from lab_houdini import table
from lab_houdini.plan import Node, Plan, scene

from houdini_bridge.draw import draw, inside, tiled
from houdini_bridge.faces import FONTS, all_faces
from houdini_bridge.table import COLUMNS

needs_compiler = pytest.mark.skipif(
    vex_runner.COMPILER is None, reason="NOT RUN: no C++ compiler (g++ or clang++)"
)

GRID, CELL = 4, 28
PLAIN = {  # a face as it is, in the middle of its cell
    "source": "stroke",
    "face": "mark",
    "slant_deg": 0.0,
    "rotate_deg": 0.0,
    "scale_x": 1.0,
    "scale_y": 1.0,
    "offset_x_px": 0.0,
    "offset_y_px": 0.0,
    "stroke_px": 2.0,
    "warp_px": 0.0,
    "warp_scale_px": 7.0,
    "blur_px": 0.0,
    "noise": 0.0,
    "contrast": 1.0,
}
MARK = [[(0.5, 0.5), (1.0, 0.5)], [(0.5, 0.5), (0.5, 0.0)]]  # 10 px to the right, 10 px up


class Compiled:
    """The SOPs of one digit, for many tables of the same geometry."""

    def __init__(self, folder: Path, rows: np.ndarray, *wanted: tuple[str, str, str], **described):
        self.folder, self.rows, self.frames = folder, rows, len(rows) // GRID**2
        self.described = {"grid": GRID, **described}
        self.digit, self.names = rows["digit"][0], {}
        plan = scene(self._write(rows), folder / "x.hip", folder, ["cut"])
        names = {str(path): name for name, path in table.read(folder).fonts.items()}
        self.files = {"/obj/table/rows": folder / "rows.geometry"}
        for node in plan.nodes:
            if node.type == "font":
                face = all_faces()[names[node.parms["file"]], int(node.parms["text"])]
                self.files[node.path] = glyph(folder / f"{node.name}.geometry", face)
        home = f"/obj/digit_{self.digit}/"
        only = ("/obj/table/", "/obj/sheet/", home)
        wanted = [(home + node, prefix, name) for node, prefix, name in wanted]
        self.scene = vex_runner.Scene(plan, folder, only, set(self.files), wanted)

    def run(self, rows: np.ndarray, frame: int = 1) -> list[np.ndarray]:
        self._write(rows)
        return self.scene.run(frame, self.files)

    def _write(self, rows: np.ndarray) -> table.Table:
        scene_tables.write(self.folder, rows, self.frames, **self.described)
        values = table.columns(self.folder / "table.csv")
        points = {name: (COLUMNS[name][0].__name__[0], column) for name, column in values.items()}
        vex_runner.geometry(self.folder / "rows.geometry", points)
        return table.read(self.folder)


def glyph(path: Path, face) -> Path:
    """A face as a Font node might give it: y up, in a place and of a size of its own."""
    ends = [*np.flatnonzero(~face.joined), len(face.points) - 1]
    starts = [0, *(end + 1 for end in ends[:-1])]
    places = (face.points * [1, -1] * 0.73 + [0.4, 2.1]).round(7)
    loops = [list(range(start, end)) for start, end in zip(starts, ends, strict=True)]  # closed
    return vex_runner.geometry(path, {"P": ("v", [(x, y, 0.0) for x, y in places])}, loops)


def image(value: np.ndarray) -> np.ndarray:
    """The sheet's points as a picture, without the ring around it."""
    side = GRID * CELL + 2
    return value.reshape(side, side)[1:-1, 1:-1]


def small(rows: np.ndarray, **columns) -> np.ndarray:
    """As many rows of a sheet as the small grid has cells, with columns replaced."""
    rows = rows[: GRID**2].copy()
    for name, value in columns.items():
        rows[name] = value
    return rows


def plain(**columns) -> np.ndarray:
    return small(scene_tables.sheet(7), **{**PLAIN, **columns})


@pytest.fixture(scope="module")
def marks(tmp_path_factory) -> Compiled:
    """A digit whose one face is a mark: two lines of 10 px from the centre, rightwards and up."""
    rows = np.concatenate([plain(frame=1), plain(frame=2)])
    wanted = [
        ("place", "v", "P"),
        ("warp", "v", "shift"),
        ("warp", "f", "pen"),
        ("copies", "i", "cell"),
        ("OUT", "f", "value"),
    ]
    return Compiled(tmp_path_factory.mktemp("marks"), rows, *wanted, strokes={"mark": MARK})


def ends(marks: Compiled, **columns) -> np.ndarray:
    """(cell, line, end, xy): the mark's points from the middle of their cells, y up."""
    points = marks.run(np.concatenate([plain(frame=1, **columns), plain(frame=2)]))[0]
    cells = np.arange(GRID**2)
    middles = np.stack([CELL * (cells % GRID + 0.5), -CELL * (cells // GRID + 0.5)], 1)
    return points.reshape(GRID**2, 2, 2, 3)[..., :2] - middles[:, None, None]


@pytest.fixture(scope="module")
def eights(tmp_path_factory) -> Compiled:
    """Sprites as they are drawn, half of them letters; without what is random in the wrangles."""
    rows = small(scene_tables.sheet(8), warp_px=0.0, noise=0.0)
    rows["source"][::2], rows["face"][::2] = "font", list(FONTS)[::2]
    rows["blur_px"] = np.linspace(0, 2, len(rows))
    wanted = [("OUT", "f", "value"), ("outline_0", "v", "P")]
    return Compiled(tmp_path_factory.mktemp("eights"), rows, *wanted, pressure=0.0)


@needs_compiler
def test_the_sheet_is_the_python_renderer_s(eights, monkeypatch) -> None:
    """All but what is random inside a sprite: warp, pressure and noise have other numbers there."""
    monkeypatch.setattr("houdini_bridge.draw.PRESSURE", 0.0)
    value, outline = eights.run(eights.rows)
    drawn = draw(eights.rows, [all_faces()[row["face"], 8] for row in eights.rows])
    expected = tiled(drawn, GRID) / 255
    assert expected.mean() > 0.1
    assert np.abs(image(value) - expected).max() < 0.006  # 1 / 510 of it is the file's rounding
    assert np.ptp(outline, axis=0).max() == pytest.approx(20)


@needs_compiler
def test_a_glyph_that_was_not_drawn_stops_the_cook(eights, tmp_path) -> None:
    nothing = vex_runner.geometry(tmp_path / "nothing", {"P": ("v", [])})
    with pytest.raises(RuntimeError, match="drew nothing"):
        eights.scene.run(1, {**eights.files, "/obj/digit_8/font_0": nothing})


@needs_compiler
@pytest.mark.parametrize(
    ("columns", "right", "up"),
    [
        ({}, (10, 0), (0, 10)),
        ({"rotate_deg": 90.0}, (0, 10), (-10, 0)),  # counter-clockwise
        ({"slant_deg": 45.0}, (10, 0), (10, 10)),  # the top leans right
        ({"scale_x": 1.5, "scale_y": 0.5}, (15, 0), (0, 5)),
        ({"offset_x_px": 3.0, "offset_y_px": 2.0}, (13, -2), (3, 8)),  # down is negative here
        ({"rotate_deg": 90.0, "scale_y": 2.0}, (0, 10), (-20, 0)),  # scale before rotation
        ({"rotate_deg": 90.0, "slant_deg": 45.0}, (0, 10), (-10, 10)),  # slant before rotation
    ],
)
def test_a_row_moves_points_as_worked_by_hand(marks, columns, right, up) -> None:
    moved = ends(marks, **columns)
    np.testing.assert_allclose(moved[:, 0, 1], np.tile(right, (GRID**2, 1)), atol=1e-4)
    np.testing.assert_allclose(moved[:, 1, 1], np.tile(up, (GRID**2, 1)), atol=1e-4)


@needs_compiler
def test_each_cell_reads_its_own_row_of_its_own_frame(marks) -> None:
    rows = np.concatenate([plain(frame=1), plain(frame=2)])
    rows["rotate_deg"] = np.arange(len(rows))
    for frame in (1, 2):
        points, _, _, cell, _ = marks.run(rows, frame)
        lines = points.reshape(GRID**2, 2, 2, 3)
        right = lines[:, 0, 1] - lines[:, 0, 0]
        turned = np.degrees(np.arctan2(right[:, 1], right[:, 0]))
        assert list(cell[::4]) == list(range(GRID**2))
        expected = np.arange(GRID**2) + (frame - 1) * GRID**2
        np.testing.assert_allclose(turned, expected, atol=1e-3)


@needs_compiler
def test_a_warp_has_the_stated_amplitude_and_moves_nothing_as_a_whole(marks) -> None:
    shifts, lengths = [], {"warp_px": 0.8, "warp_scale_px": 6.0}
    for seed in range(20):
        rows = plain(frame=1, seed=1000 * seed + np.arange(GRID**2), **lengths)
        points, shift, *_ = marks.run(np.concatenate([rows, plain(frame=2)]))
        shifts.append(shift.reshape(GRID**2, 4, 3))
        middle = points.reshape(GRID**2, 4, 3)[..., :2].mean(1)
        np.testing.assert_allclose(middle[5] - [1.5 * CELL, -1.5 * CELL], [2.5, 2.5], atol=1e-4)
    first, far, again, _ = np.concatenate(shifts).transpose(1, 0, 2)[..., :2]
    assert np.array_equal(first, again)  # the same place
    n = first.size
    assert (first**2).mean() ** 0.5 == pytest.approx(0.8, rel=4 / (2 * n) ** 0.5)  # 4 sigma
    correlation = (first * far).mean() / (first**2).mean()
    assert correlation == pytest.approx(np.exp(-(10**2) / (2 * 6**2)), abs=4 / n**0.5)
    assert abs((first[:, 0] * first[:, 1]).mean()) / 0.64 < 4 / len(first) ** 0.5


@needs_compiler
def test_the_pen_s_width_varies_as_the_table_says(marks) -> None:
    rows = np.concatenate([plain(frame=1, seed=np.arange(GRID**2)), plain(frame=2)])
    pens = []
    for k in range(20):
        rows["seed"][: GRID**2] = 7919 * k + np.arange(GRID**2)
        pens.append(marks.run(rows)[2])
    pen = np.concatenate(pens)
    assert pen.mean() == pytest.approx(1, abs=4 * 0.1 / len(pen[::4]) ** 0.5)
    assert pen.std() == pytest.approx(0.1, rel=0.1)


@needs_compiler
def test_noise_has_the_stated_sigma_and_leaves_black_black(marks) -> None:
    """Where a pen is so wide that all is ink."""
    wide = {"stroke_px": 60.0, "noise": 0.1}
    value = image(marks.run(np.concatenate([plain(frame=1, **wide), plain(frame=2)]))[4])
    # values above 1 are cut off: the part below is half of a normal distribution
    assert (value[value < 1] - 1).std() == pytest.approx(0.1 * (1 - 2 / np.pi) ** 0.5, rel=0.03)
    narrow = image(marks.run(np.concatenate([plain(frame=1, noise=0.1), plain(frame=2)]))[4])
    assert (narrow == 0).mean() > 0.8
    assert not np.array_equal(value[:CELL, :CELL], value[:CELL, CELL : 2 * CELL])  # by its seed


@needs_compiler
def test_a_row_of_another_digit_or_a_face_without_a_piece_stops_the_cook(marks) -> None:
    marks.run(np.concatenate([plain(frame=1), plain(frame=2)]))
    text = marks.files["/obj/table/rows"].read_text()
    for old, new, words in [
        ("i digit 7", "i digit 6", "is not digit"),
        ("s face mark", "s face other", "nothing was copied"),
        ("f noise ", "f sound ", "no such attribute: noise"),
        ("i seed ", "f seed ", "no such attribute: seed"),  # of this type
    ]:
        assert old in text
        marks.files["/obj/table/rows"].write_text(text.replace(old, new))
        with pytest.raises(RuntimeError, match=words):
            marks.scene.run(1, marks.files)


def test_no_outline_overlaps_itself() -> None:
    """The scene fills by even and odd, the renderer by winding: for these fonts it is the same."""
    pixel = np.arange(28) + 0.5 - 14
    for face in all_faces().values():
        if face.source == "font":
            points = (20 * (face.points - 0.5)).astype(np.float32)
            a, b = points[:-1][face.joined], points[1:][face.joined]
            odd = np.zeros((28, 28), bool)
            for (x0, y0), (x1, y1) in zip(a, b, strict=True):
                if y0 != y1:
                    at = x0 + (pixel - y0) * (x1 - x0) / (y1 - y0)
                    crossed = ((y0 > pixel) != (y1 > pixel))[:, None] & (pixel < at[:, None])
                    odd ^= crossed
            wound = inside(points[None, :-1], points[None, 1:], face.joined[None])[0].reshape(
                28, 28
            )
            assert np.array_equal(odd, wound), face.name


def run_snippets(folder: Path, *bodies: str) -> None:
    """Run wrangles one after the other on a point."""
    nodes = [wrangle(0, "detail", "addpoint(0, set(0.0, 0.0, 0.0));\n")]
    for k, body in enumerate(bodies, 1):
        nodes.append(wrangle(k, "point", body, nodes[-1].path))
    vex_runner.Scene(Plan(tuple(nodes), "", ()), folder, ("/obj",), set(), []).run(1, {})


def wrangle(k: int, over: str, body: str, *inputs: str) -> Node:
    return Node(f"/obj/a/b{k}", "Sop", "attribwrangle", {"class": over, "snippet": body}, inputs)


@needs_compiler
def test_the_runner_is_strict(tmp_path) -> None:
    """Each of these has to fail, or the tests above would show little."""
    mistakes = {
        "float x = 2 * @P.x;\n": "deleted",
        "int n = 3;\nfloat x = n * 0.5;\n": "deleted",
        "int n = 3;\nfloat y = 2.0;\nfloat x = y * n;\n": "no match for",
        "float x = 0;\n": "deleted",
        "float x = y;\n": "not declared",
    }
    with pytest.raises(RuntimeError) as caught:
        run_snippets(tmp_path, *mistakes)
    said = str(caught.value).split("In function")
    for k, words in enumerate(mistakes.values(), 1):
        assert any(f"code_{k}()" in part and words in part for part in said), (k, said)
    with pytest.raises(KeyError, match="one"):  # VEX would guess its type
        run_snippets(tmp_path, "@one = 1;\n")
