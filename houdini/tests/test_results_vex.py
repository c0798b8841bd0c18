"""The wrangles of the results scene, compiled as C++ and run in the plan's own wiring.

Images are asymmetric, so that a flip or a turn on the way from the atlas to the net, or onto a
card, shows. What the net says is computed by the onnx package's own reference.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts/python"))

import onnx_models
import results_data as data
import vex_runner
from lab_houdini import build_results, results_vex, vex
from lab_houdini.browse import Browser, passes
from lab_houdini.plan import Plan, wrangle_node
from lab_houdini.results_plan import BATCH, GAP, MATERIAL, Filter

from houdini_bridge.results.cloud import Cloud, cloud_of
from houdini_bridge.results.npz import read_results

needs_compiler = pytest.mark.skipif(
    vex_runner.COMPILER is None, reason="NOT RUN: no C++ compiler (g++ or clang++)"
)
MAP, NET = "/obj/results/map", "/obj/classify/net"
SIDE = data.CELL


def points_of(cloud: Cloud) -> dict[str, tuple[str, list]]:
    """A cloud as the shim reads it."""
    points = {
        name: ("v" if values.ndim > 1 else values.dtype.kind, values.tolist())
        for name, values in cloud.values.items()
    }
    points["class_name"] = ("s", [cloud.class_names[number] for number in cloud["pred"]])
    return points


class Compiled:
    """The whole scene of an import, to be run with any points and any answer of the net."""

    def __init__(self, folder: Path, batch: int | str, *wanted: tuple[str, str, str]):
        self.folder = data.imported(folder)
        self.model = onnx_models.save(folder, batch)
        self.batch = 1 if batch == 1 else BATCH
        self.cloud = cloud_of(read_results(folder / "predictions.npz"), "2d", 10.0)
        arguments = build_results.Arguments(self.folder, self.model)
        self.plan, _ = build_results.planned(arguments)
        strings = {f"{MATERIAL}/basecolor_texture": str(self.folder / "atlas.png")}
        wanted = [(f"/obj/{node}", prefix, name) for node, prefix, name in wanted]
        only = tuple(f"/obj/{name}/" for name in ("results", "cards", "assets", "classify"))
        nodes = [node for node in self.plan.nodes if node.type != "matnet"]
        self.scene = vex_runner.Scene(
            Plan(tuple(nodes), "", ()), folder, only, {MAP, NET}, wanted, strings
        )
        self.map, self.net = folder / "map.geometry", folder / "net.geometry"
        vex_runner.geometry(self.map, points_of(self.cloud))
        self.says(np.full((self.batch, 10), 0.1), np.zeros((self.batch, onnx_models.WIDTH)))

    def says(self, probs: np.ndarray, embedding: np.ndarray, separate: bool = True) -> None:
        """Points as the ONNX node might give them: one output after the other, or both at once."""
        p, e = probs.ravel().tolist(), embedding.ravel().tolist()
        count = len(p) + len(e) if separate else max(len(p), len(e))
        first = len(p) if separate else 0
        values = {
            "P": ("v", [(0, 0, 0)] * count),
            "probs": ("f", p + [0] * (count - len(p))),
            "embedding": ("f", [0] * first + e + [0] * (count - first - len(e))),
        }
        vex_runner.geometry(self.net, values)

    def run(self, frame: int = 1) -> list[np.ndarray]:
        return self.scene.run(frame, {MAP: self.map, NET: self.net})


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Compiled:
    """For one image a frame."""
    wanted = [
        *(("classify/pixels", "f", "mask"), ("classify/pixels", "v", "P")),
        *(("cards/squares", "v", "P"), ("cards/squares", "v", "uv"), ("cards/squares", "t", "")),
        *(("cards/squares", "i", "prim:image"), ("cards/squares", "f", "prim:confidence")),
        *(("assets/copies", "v", "P"), ("assets/copies", "i", "image")),
        *(
            ("assets/copies", "t", ""),
            ("assets/all", "v", "P"),
            ("assets/all", "i", "prim:variant"),
        ),
        *(("classify/answer", "v", "P"), ("classify/answer", "v", "Cd")),
        *(("classify/answer", "i", "agrees"), ("classify/answer", "i", "pred")),
        *(("classify/answer", "f", "confidence"), ("classify/answer", "f", "prim:probability")),
        *(("classify/curve", "v", "P"), ("classify/curve", "f", "embedding")),
    ]
    return Compiled(tmp_path_factory.mktemp("one"), 1, *wanted)


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Compiled:
    """For several images a frame."""
    wanted = [("classify/pixels", "f", "mask"), ("classify/answer", "i", "agrees")]
    return Compiled(tmp_path_factory.mktemp("several"), "N", *wanted)


def images(mask: np.ndarray) -> np.ndarray:
    return mask.reshape(-1, 1, SIDE, SIDE)


def truth() -> np.ndarray:
    """The images, as whoever exported them has them: row 0 is the top."""
    whole = [data.image_of(number) for number in range(7)]
    return (np.stack(whole)[:, None] / 255).astype(np.float32)


@needs_compiler
def test_the_net_gets_the_image_upright(scene) -> None:
    for frame in range(1, 8):
        mask, where = scene.run(frame)[:2]
        assert np.array_equal(images(mask)[0, 0], truth()[frame - 1, 0])
        shown = where.reshape(SIDE, SIDE, 3)  # and so does whoever looks at the points: y is up
        assert (np.diff(shown[..., 1], axis=0) == -1).all()
        assert (np.diff(shown[..., 0], axis=1) == 1).all()


@needs_compiler
def test_the_net_says_in_the_scene_what_it_says_of_the_images(scene) -> None:
    """And would say something else of images that were flipped or turned."""
    net = ReferenceEvaluator(str(scene.model))
    for frame in (1, 6):
        image = truth()[frame - 1 : frame]
        probs, _ = net.run(None, {"image": image})
        found, _ = net.run(None, {"image": images(scene.run(frame)[0])})
        assert np.abs(found - probs).max() < 1e-6
        for other in (image[..., ::-1, :], image[..., ::-1], image.swapaxes(2, 3)):
            wrong, _ = net.run(None, {"image": np.ascontiguousarray(other)})
            assert np.abs(wrong - probs).max() > 1e-3


@needs_compiler
@pytest.mark.parametrize(("frame", "shown"), [(-3, 0), (0, 0), (7, 6), (8, 6), (500, 6)])
def test_a_frame_beyond_the_result_shows_its_end(scene, frame, shown) -> None:
    assert np.array_equal(images(scene.run(frame)[0])[0], truth()[shown])


@needs_compiler
def test_a_net_of_any_number_gets_several_images(several) -> None:
    found = images(several.run(1)[0])
    assert np.array_equal(found, truth()[[0, 1, 2, 3, 4, 5, 6, 6]])  # the last one fills up
    net = ReferenceEvaluator(str(several.model))
    exported = data.arrays()
    several.says(exported["probabilities"][[*range(7), 6]], net.run(None, {"image": found})[1])
    agrees = several.run(1)[1].reshape(8, 41)  # for each image 40 corners of bars, and a point
    assert agrees[:, -1].tolist() == [1] * 8


@needs_compiler
def test_greys_that_were_decoded_stop_the_cook(scene) -> None:
    """An image that OCIO takes for sRGB is darker, and the net would see another one."""
    path = scene.folder / "atlas.pgm"
    grey = np.asarray(Image.open(path))
    try:
        Image.fromarray((255 * (grey / 255) ** 2.2).astype(np.uint8)).save(path)
        with pytest.raises(RuntimeError, match="Its colour space was changed"):
            scene.run(7)
    finally:
        Image.fromarray(grey).save(path)
    scene.run(7)


def polygons(vertices: np.ndarray) -> list[np.ndarray]:
    """The shim's list of primitives: for each, its point numbers."""
    found, at = [], 0
    while at < len(vertices):
        found.append(vertices[at + 1 : at + 1 + vertices[at]])
        at += 1 + vertices[at]
    return found


@needs_compiler
def test_cards_stand_at_their_points_and_show_their_images(scene) -> None:
    """Looked up as Houdini does: v=0 is the atlas's lowest row."""
    where, uv, vertices, image, confidence = scene.run()[2:7]
    cards, cloud = polygons(vertices), scene.cloud
    assert len(where) == 28 and [len(card) for card in cards] == [4] * 7  # the points are gone
    upright = data.atlas()[::-1]
    size = np.array(upright.shape[::-1])
    for number, card in enumerate(cards):
        corners = where[card]
        assert np.allclose(corners.mean(0), cloud["P"][number], atol=1e-5)
        assert np.allclose(np.ptp(corners, axis=0)[:2], cloud["pscale"][number])
        a, b = corners[1] - corners[0], corners[3] - corners[0]
        assert np.cross(a, b)[2] < 0, "clockwise from the front: Houdini's winding"
        low = corners[:, :2].argmin(0)
        assert low[0] in (0, 1) and low[1] in (0, 3)
        texels = (uv[card][:, :2] * size).round().astype(int)
        left, bottom = texels.min(0)
        right, top = texels.max(0)
        assert np.array_equal(upright[bottom:top, left:right][::-1], data.image_of(number))
        # u grows with x and v with y, so nothing is mirrored
        assert np.array_equal(np.sign(corners[:, 0] - corners[:, 0].mean()),
                              np.sign(uv[card][:, 0] - uv[card][:, 0].mean()))  # fmt: skip
        assert np.array_equal(np.sign(corners[:, 1] - corners[:, 1].mean()),
                              np.sign(uv[card][:, 1] - uv[card][:, 1].mean()))  # fmt: skip
    assert np.array_equal(image, cloud["image"])
    assert np.array_equal(confidence, cloud["confidence"])


@needs_compiler
def test_each_point_gets_the_asset_of_its_variant_at_its_size(scene) -> None:
    """Class k is a prism of 3 + k sides: 2 more faces, twice as many points."""
    where, image, vertices, model, variant = scene.run()[7:12]
    cloud = scene.cloud
    for number in range(10):
        assert (variant == number).sum() == number + 5
    assert len(model) == sum(2 * (3 + number) for number in range(10))
    first = 0
    for number, pred in enumerate(cloud["pred"]):
        count = 2 * (3 + pred)
        mine = where[first : first + count]
        assert (image[first : first + count] == cloud["image"][number]).all()
        middle = (mine.min(0) + mine.max(0)) / 2
        assert np.allclose(middle, cloud["P"][number], atol=1e-5)
        assert np.isclose(np.ptp(mine, axis=0).max(), cloud["pscale"][number])
        first += count
    assert first == len(where)
    outward(where, polygons(vertices))


def outward(points: np.ndarray, faces: list[np.ndarray]) -> None:
    """Every edge is there once each way, and volumes are positive with Houdini's winding."""
    edges = {(a, b) for face in faces for a, b in zip(face, np.roll(face, -1), strict=True)}
    assert len(edges) == sum(map(len, faces))
    assert {(b, a) for a, b in edges} == edges
    volume = 0.0
    for face in faces:
        origin = points[face[0]]
        for b, c in zip(points[face[1:-1]], points[face[2:]], strict=True):
            volume += np.dot(origin, np.cross(c, b))  # clockwise: the other way round
    assert volume > 0


@needs_compiler
def test_bars_say_what_the_net_says(scene) -> None:
    exported = data.arrays()
    embedding = np.linspace(-1, 2, onnx_models.WIDTH)
    for frame, separate in ((1, True), (2, True), (2, False)):
        row = frame - 1
        probs = exported["probabilities"][row]
        scene.says(probs, embedding, separate)
        where, colour, agrees, pred, confidence, probability = scene.run(frame)[12:18]
        assert scene.scene.warnings == ""
        assert np.array_equal(probability, probs)
        bars, best = where[:-1].reshape(10, 4, 3), probs.argmax()
        assert np.allclose(np.ptp(bars[..., 1], axis=1), probs * (SIDE - 1), atol=1e-6)
        assert (bars[..., 1].min(1) == -(SIDE - 1)).all(), "they stand on the image's last row"
        assert (np.diff(bars[..., 0].min(1)) > 0).all() and bars[..., 0].min() > SIDE - 1
        assert (agrees[-1], pred[-1]) == (1, best)
        assert confidence[-1] == probs.max()
        lit = colour[:-1].reshape(10, 4, 3)[:, 0]
        right = exported["label"][row] == best
        assert (lit[best].argmax() == 1) == right  # green where it is right, else red
        assert np.ptp(np.delete(lit, best, axis=0)) == 0
        curve, value = scene.run(frame)[18:20]
        assert np.allclose(value, embedding)
        assert np.allclose(curve[:, 1], (embedding / 2 - 1) * (SIDE - 1), atol=1e-6)
        assert curve[:, 0].min() == 2 * (SIDE + GAP)


@needs_compiler
def test_another_model_than_the_exported_one_is_warned_of(scene) -> None:
    probs = np.roll(data.arrays()["probabilities"][0], 1)
    scene.says(probs, np.zeros(onnx_models.WIDTH))
    assert scene.run(1)[14][-1] == 0
    assert "is it this model?" in scene.scene.warnings
    near = data.arrays()["probabilities"][0] * np.float32(0.98)
    scene.says(near, np.zeros(onnx_models.WIDTH))
    assert scene.run(1)[14][-1] == 0, "the same class, but less sure"


@needs_compiler
def test_another_number_of_points_stops_the_cook(scene) -> None:
    scene.says(np.full(9, 0.1), np.zeros(onnx_models.WIDTH))
    with pytest.raises(RuntimeError, match="press Setup Shapes"):
        scene.run(1)
    scene.says(np.full(10, 0.1), np.zeros(onnx_models.WIDTH))
    scene.run(1)


FILTERS = [
    Filter(), Filter(pred=int(data.arrays()["prediction"][0])), Filter(correct=True),
    Filter(correct=False), Filter(lowest=0.5), Filter(highest=0.6), Filter(None, True, 0.3, 0.7),
]  # fmt: skip


@needs_compiler
def test_the_scene_keeps_what_the_panel_lists_and_any_asset_fits(scene, tmp_path) -> None:
    """Also a model of the user's own: large, off the origin, a triangle."""
    nodes = [node for node in scene.plan.nodes if node.path == MAP]
    for number, which in enumerate(FILTERS):
        path = f"/obj/results/f{number}"
        nodes.append(wrangle_node(path, "point", which.snippet(), (MAP,)))
    source, asset = "/obj/assets/mine", vex.snippet(results_vex.ASSET, VARIANT=7)
    nodes.append(wrangle_node(source, "detail", ""))
    nodes.append(wrangle_node("/obj/assets/a", "detail", asset, (source,)))
    wanted = [(f"/obj/results/f{k}", "i", "image") for k in range(len(FILTERS))]
    wanted += [("/obj/assets/a", "v", "P"), ("/obj/assets/a", "i", "variant")]
    plan = Plan(tuple(nodes), "", ())
    compiled = vex_runner.Scene(plan, tmp_path, ("/obj",), {MAP, source}, wanted)
    corners = [(100.0, 40.0, 3.0), (300.0, 40.0, 3.0), (100.0, 90.0, 7.0)]
    mine = vex_runner.geometry(tmp_path / "mine", {"P": ("v", corners)}, [[0, 1, 2]])
    *kept, placed, variant = compiled.run(1, {MAP: scene.map, source: mine})
    browser = Browser.open(scene.folder)
    counts = []
    for which, found in zip(FILTERS, kept, strict=True):
        rows = [row.image for row in browser.rows if passes(row, which)]
        assert found.tolist() == rows == [
            browser.rows[number].image for number in browser.chosen(which, "as in the file")
        ]  # fmt: skip
        counts.append(len(rows))
    assert counts[0] == 7 and len(set(counts)) >= 4 and min(counts) > 0
    assert np.allclose(np.ptp(placed, axis=0), [1, 0.25, 0.02])
    assert np.allclose(placed.min(0), -placed.max(0), atol=1e-6)
    assert variant.tolist() == [7] * 3
    nothing = vex_runner.geometry(tmp_path / "nothing", {"P": ("v", [])})
    with pytest.raises(RuntimeError, match="nothing is wired into the asset"):
        compiled.run(1, {MAP: scene.map, source: nothing})
