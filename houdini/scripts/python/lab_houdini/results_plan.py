"""The results scene as data: every node, parameter and wire, from an import and a model.

    /obj/results   the map: a point a prediction -> filter, which the panel sets; the atlas as a
                   material
    /obj/cards     a textured square for each point
    /obj/assets    ten assets, one copied to each point by its `variant`
    /obj/classify  the images of this frame -> the ONNX node -> bars, a comparison, a curve

As for the digits (`plan`), nothing here needs Houdini, and `seam.build` carries it out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab_houdini import results_vex, vex
from lab_houdini.onnx_file import Classifier
from lab_houdini.plan import Node, Plan, Press, Value, houdini_path, wrangle_node
from lab_houdini.result import Result
from lab_houdini.table import SceneError

FILTER = "/obj/results/filter"
MATERIAL = "/obj/results/materials/atlas"
GAP = 4  # pixels between an image, its bars and its curve
BATCH = 8  # images at once, where the model takes any number
ATTRIBUTES = "Cd image label pred correct confidence class_name"
"""What the copies take over from the points."""


@dataclass(frozen=True)
class Filter:
    """Which predictions to show.

    Attributes:
        pred: of this predicted class; None: of all.
        correct: right ones, or wrong ones; None: both.
        lowest, highest: confidence, both included.
    """

    pred: int | None = None
    correct: bool | None = None
    lowest: float = 0.0
    highest: float = 1.0

    def snippet(self) -> str:
        """The wrangle that keeps these points."""
        constants: dict[str, vex.Constant] = {
            "CLASS": -1 if self.pred is None else self.pred,
            "CORRECT": -1 if self.correct is None else int(self.correct),
            # a certainty of 1 may have been rounded to a little more than 1
            "LOWEST": self.lowest,
            "HIGHEST": self.highest if self.highest < 1 else 2.0,
        }
        return vex.snippet(results_vex.FILTER, **constants)


def scene(result: Result, hip: Path, model: Classifier | None = None) -> Plan:
    """The scene of an import.

    Args:
        hip: where the scene will be saved. Files under its folder are named by $HIP, so that the
            folder can be moved.
        model: what /obj/classify runs; without one it is left out.

    Raises:
        SceneError: the model takes images of another size, or a path that Houdini would not take.
    """
    nodes = [*_map(result, hip), *_cards(result), *_assets(result)]
    if model:
        nodes += _classify(result, hip, model)
    return Plan(tuple(nodes), "", ())


def page_of(row: int, batch: int) -> int:
    """The frame on which /obj/classify shows a row of the result."""
    return row // batch + 1


def batch_of(model: Classifier) -> int:
    """Images on one frame."""
    return model.batch or BATCH


def _map(result: Result, hip: Path) -> Iterator[Node]:
    home = "/obj/results"
    yield Node(home, "Object", "geo", display=False)
    file = {"file": houdini_path(result.geometry, hip)}
    yield Node(f"{home}/map", "Sop", "file", file)
    yield wrangle_node(FILTER, "point", Filter().snippet(), (f"{home}/map",))
    yield Node(f"{home}/OUT", "Sop", "null", inputs=(FILTER,), display=True)
    yield Node(f"{home}/materials", "Sop", "matnet")
    look: dict[str, Value] = {
        "basecolor": (1.0, 1.0, 1.0),
        "basecolor_usePointColor": 0,
        "basecolor_useTexture": 1,
        "basecolor_texture": houdini_path(result.atlas, hip),
        "basecolor_textureColorSpace": "sRGB",  # seen as on a screen; the net reads raw greys
        "rough": 1.0,
    }
    yield Node(MATERIAL, "Vop", "principledshader", look)


def _from(home: str, name: str, source: str) -> Node:
    return Node(f"{home}/{name}", "Sop", "object_merge", {"objpath1": source})


def _cards(result: Result) -> Iterator[Node]:
    home = "/obj/cards"
    yield Node(home, "Object", "geo", display=True)
    yield _from(home, "points", "/obj/results/OUT")
    snippet = vex.snippet(results_vex.CARDS, COLUMNS=result.columns, ROWS=result.rows)
    yield wrangle_node(f"{home}/squares", "detail", snippet, (f"{home}/points",))
    material = {"shop_materialpath1": MATERIAL}
    yield Node(f"{home}/atlas", "Sop", "material", material, (f"{home}/squares",))
    yield Node(f"{home}/OUT", "Sop", "null", inputs=(f"{home}/atlas",), display=True)


def _assets(result: Result) -> Iterator[Node]:
    """Ten prisms of 3 to 12 sides, each to be replaced by wiring something else in."""
    home = "/obj/assets"
    yield Node(home, "Object", "geo", {"t": (1.2 * result.size, 0.0, 0.0)}, display=True)
    yield _from(home, "points", "/obj/results/OUT")
    assets = []
    for number in range(len(result.class_names)):
        prism, asset = f"{home}/stand_in_{number}", f"{home}/asset_{number}"
        yield wrangle_node(
            prism, "detail", vex.snippet(results_vex.STAND_IN, SIDES=3 + number, TAU=vex.TAU)
        )
        marked = vex.snippet(results_vex.ASSET, VARIANT=number)
        yield wrangle_node(asset, "detail", marked, (prism,))
        assets.append(asset)
    yield Node(f"{home}/all", "Sop", "merge", inputs=tuple(assets))
    copies: dict[str, Value] = {
        "useidattrib": 1,  # a point's variant picks the piece of that number
        "idattrib": "variant",
        "pack": 1,  # ten assets in memory, however many points
        "transform": 1,  # to P, as large as pscale
        "targetattribs": 1,
        "useapply1": 1,
        "applyto1": "points",
        "applymethod1": "copy",
        "applyattribs1": ATTRIBUTES,
    }
    wires = (f"{home}/all", f"{home}/points")
    yield Node(f"{home}/copies", "Sop", "copytopoints", copies, wires)
    yield Node(f"{home}/OUT", "Sop", "null", inputs=(f"{home}/copies",), display=True)


def _classify(result: Result, hip: Path, model: Classifier) -> Iterator[Node]:
    """The pixels of this frame's images through the net, and what it says beside them."""
    _fits(result, model)
    home, batch = "/obj/classify", batch_of(model)
    constants: Mapping[str, vex.Constant] = {
        "ATLAS": f"{MATERIAL}/basecolor_texture",
        "PAGES": page_of(result.count - 1, batch),
        "BATCH": batch,
        "COUNT": result.count,
        "HEIGHT": model.height,
        "WIDTH": model.width,
        "COLUMNS": result.columns,
        "ROWS": result.rows,
        "CLASSES": model.classes,
        "EMBEDDING": model.embedding,
        "GAP": GAP,
    }

    def wrangle(name: str, body: str, *inputs: str) -> Node:
        wires = tuple(f"{home}/{source}" for source in inputs)
        return wrangle_node(f"{home}/{name}", "detail", vex.snippet(body, **constants), wires)

    pixel = 0.4 * result.size / model.height  # an image 0.4 as high as the map, left of it
    left = -0.6 * result.size - pixel * (3 * model.width + 2 * GAP)
    place: dict[str, Value] = {"t": (left, 0.5 * result.size, 0.0), "scale": pixel}
    yield Node(home, "Object", "geo", place, display=True)
    yield _from(home, "map", "/obj/results/map")
    yield wrangle("pixels", results_vex.PIXELS, "map")
    net: dict[str, Value] = {
        "modelfile": houdini_path(model.path, hip),
        "setupshapes": Press(),  # makes the parameters below, and fills in names and shapes
        "input_type1": "point",
        "input_data1": "mask",
        "output_type1": "point",
        "output_data1": "probs",
        "output_type2": "point",
        "output_data2": "embedding",
        "keepinput": 0,
    }
    yield Node(f"{home}/net", "Sop", "onnx", net, (f"{home}/pixels",))
    yield wrangle("answer", results_vex.ANSWER, "net", "map")
    yield wrangle("curve", results_vex.CURVE, "net")
    shown = tuple(f"{home}/{name}" for name in ("pixels", "answer", "curve"))
    yield Node(f"{home}/all", "Sop", "merge", inputs=shown)
    yield Node(f"{home}/OUT", "Sop", "null", inputs=(f"{home}/all",), display=True)


def _fits(result: Result, model: Classifier) -> None:
    found = (model.height, model.width, model.classes)
    wanted = (result.cell, result.cell, len(result.class_names))
    if found != wanted:
        raise SceneError(
            f"{model.path} takes images of {found[0]} x {found[1]} and knows {found[2]} classes; "
            f"{result.path} has {wanted[0]} x {wanted[1]} and {wanted[2]}"
        )
