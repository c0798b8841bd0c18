"""The scene as data: every node, parameter and wire, from the jitter table alone.

    /obj/table       the table's rows as points
    /obj/sheet       a point for each pixel
    /obj/digit_3     SOPs: faces -> copied to the cells -> warped -> inked into the pixels
    /obj/sheets      COPs: each digit's pixels -> an image -> render/3/3.$F4.png
    /obj/pipeline    TOPs: every frame of every digit, then the cutter

Nothing here needs Houdini, so the tests hold all of it against a catalogue of node types and
parameters (tests/catalogue.py), and run the SOPs. `seam.build` carries the plan out.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab_houdini import vex
from lab_houdini.table import Polyline, SceneError, Table

Scalar = int | float | str
PIPELINE = "/obj/pipeline"
GAP = 16  # units between the digits in the viewport; an object's place is not in its image


@dataclass(frozen=True)
class Press:
    """The value of a button: press it."""


Value = Scalar | tuple[int, ...] | tuple[float, ...] | Press


@dataclass(frozen=True)
class Node:
    """One node to make.

    Attributes:
        path: of the node; its parent comes earlier in the plan, or is in every scene.
        category: of its type, as `hou.NodeTypeCategory.name` says it: Object, Sop, Cop, Top, Vop.
        type: name of its type, without a version: Houdini takes its newest.
        parms: name -> value, a tuple for a parameter with components; set in this order.
        inputs: for each input the path of the node at it, or None. Always that node's output 0.
        display: whether it is shown; None leaves it as it comes.
    """

    path: str
    category: str
    type: str
    parms: Mapping[str, Value] = field(default_factory=dict)
    inputs: tuple[str | None, ...] = ()
    display: bool | None = None

    @property
    def parent(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Plan:
    """A scene.

    Attributes:
        nodes: in the order to make them.
        cook: path of the TOP node whose cooking renders and cuts everything; '' without one.
        sheets: the images that this writes.
    """

    nodes: tuple[Node, ...]
    cook: str
    sheets: tuple[Path, ...]


def scene(table: Table, hip: Path, render_dir: Path, cut: Sequence[str]) -> Plan:
    """The scene that draws a table.

    Args:
        hip: where the scene will be saved. Files under its folder are named by $HIP, so that the
            folder can be moved.
        render_dir: where the sheets go.
        cut: the command that cuts them, run without a shell when all of them are there.

    Raises:
        SceneError: a path that Houdini would not take as it is.
    """
    nodes = [*_shared(table, hip)]
    for index, digit in enumerate(table.digits):
        nodes += _digit(table, index, digit)
    nodes += _images(table, hip, render_dir)
    nodes += _pipeline(table, cut)
    sheets = [
        render_dir / str(digit) / f"{digit}.{frame:04d}.png"
        for digit in table.digits
        for frame in range(1, table.frames + 1)
    ]
    return Plan(tuple(nodes), f"{PIPELINE}/cut", tuple(sheets))


def houdini_path(path: Path, hip: Path) -> str:
    """The path as a parameter: from $HIP where it lies under the scene's folder, else absolute.

    Raises:
        SceneError: a character that Houdini's parameters expand.
    """
    path, home = path.absolute(), hip.absolute().parent
    if any(c in str(path) for c in "$`\n"):
        raise SceneError(f"Houdini would expand the $ or ` in {path}: use another folder")
    inside = path.is_relative_to(home)
    return "$HIP/" + path.relative_to(home).as_posix() if inside else path.as_posix()


def wrangle_node(
    path: str, run_over: str, snippet: str, inputs: tuple[str | None, ...] = ()
) -> Node:
    return Node(path, "Sop", "attribwrangle", {"class": run_over, "snippet": snippet}, inputs)


def _shared(table: Table, hip: Path) -> Iterator[Node]:
    """What all digits read: the table as points, and the pixels."""
    # Not the Table Import node: it is slow with many rows (README of NiklasRosenstein/
    # houdini-library [3p]), and what its parameter for the number of columns is called is [?].
    code = (
        "import sys\n"
        f"sys.path.insert(0, {os.fspath(Path(__file__).resolve().parents[1])!r})\n"
        "from lab_houdini import seam\n"
        f"seam.fill_table(hou.pwd(), {houdini_path(table.path, hip)!r})\n"
    )
    yield Node("/obj/table", "Object", "geo", display=False)
    yield Node("/obj/table/rows", "Sop", "python", {"python": code})
    yield Node("/obj/table/OUT", "Sop", "null", inputs=("/obj/table/rows",), display=True)
    yield Node("/obj/sheet", "Object", "geo", display=False)
    yield wrangle_node("/obj/sheet/pixels", "detail", vex.snippet(vex.SHEET, SIDE=table.pixels + 2))
    yield Node("/obj/sheet/OUT", "Sop", "null", inputs=("/obj/sheet/pixels",), display=True)


def _digit(table: Table, index: int, digit: int) -> Iterator[Node]:
    """One digit's SOPs."""
    home, step = f"/obj/digit_{digit}", table.pixels + GAP
    constants: dict[str, vex.Constant] = {
        "CELL": table.cell,
        "GRID": table.grid,
        "SIDE": table.pixels + 2,
        "FRAMES": table.frames,
        "DIGIT": digit,
        "FIRST_SHEET": index * table.frames,
        "WAVES": vex.WAVES,
        "PRESSURE": table.pressure,
        "TAU": vex.TAU,
    }

    def wrangle(name: str, run_over: str, body: str, *inputs: str) -> Node:
        wires = tuple(f"{home}/{source}" for source in inputs)
        return wrangle_node(f"{home}/{name}", run_over, vex.snippet(body, **constants), wires)

    place = (float(index % 5 * step), float(-(index // 5) * step), 0.0)
    yield Node(home, "Object", "geo", {"t": place}, display=True)
    for name in ("table", "sheet"):
        yield Node(f"{home}/{name}", "Sop", "object_merge", {"objpath1": f"/obj/{name}/OUT"})

    pieces = []
    ways = {face: table.strokes[face] for source, face in table.faces[digit] if source == "stroke"}
    if ways:
        pieces.append(f"{home}/strokes")
        yield wrangle_node(pieces[0], "detail", _strokes(ways, table.box))
    letters = [face for source, face in table.faces[digit] if source == "font"]
    for number, face in enumerate(letters):
        font, outline = f"{home}/font_{number}", f"{home}/outline_{number}"
        yield Node(font, "Sop", "font", _font(table.fonts[face], digit))
        yield wrangle_node(
            outline, "detail", vex.snippet(vex.OUTLINE, BOX=table.box, FACE=face), (font,)
        )
        pieces.append(outline)
    yield Node(f"{home}/faces", "Sop", "merge", inputs=tuple(pieces))

    yield wrangle("cells", "detail", vex.CELLS)
    yield wrangle("rows", "point", vex.ROWS, "cells", "table")
    copies: dict[str, Value] = {
        "useidattrib": 1,  # a row's face picks the piece of that name
        "idattrib": "face",
        "pack": 0,
        "transform": 1,
        "targetattribs": 1,
        "useapply1": 1,
        "applyto1": "points",
        "applymethod1": "copy",
        "applyattribs1": "cell",
    }
    yield Node(f"{home}/copies", "Sop", "copytopoints", copies, (f"{home}/faces", f"{home}/rows"))
    yield wrangle("warp", "point", vex.WARP, "copies", "rows")
    yield wrangle("place", "point", vex.PLACE, "warp", "rows")
    yield wrangle("sprites", "primitive", vex.SPRITES, "place")
    yield wrangle("ink", "point", vex.INK, "sheet", "sprites", "rows")
    yield wrangle("look", "point", vex.LOOK, "ink", "rows")
    yield Node(f"{home}/OUT", "Sop", "null", inputs=(f"{home}/look",), display=True)


def _font(file: Path, digit: int) -> dict[str, Value]:
    """One glyph as plain closed outlines: the fill is computed from them, so no holes are cut."""
    return {"type": "poly", "file": file.as_posix(), "text": str(digit), "fontsize": 1.0, "hole": 0}


def _strokes(faces: Mapping[str, list[Polyline]], box: float) -> str:
    """The wrangle that makes the polylines of pen templates, y up, centre of mass at the origin."""
    names: list[str] = []
    lengths: list[int] = []
    xs: list[float] = []
    ys: list[float] = []
    alongs: list[float] = []
    for face, lines in faces.items():
        start = len(xs)
        for line in lines:
            names.append(face)
            lengths.append(len(line))
            xs += [box * (x - 0.5) for x, _ in line]
            ys += [box * (0.5 - y) for _, y in line]  # y: the template's points down
        alongs += [float(k) for k in range(len(xs) - start)]
    return vex.snippet(vex.STROKES, faces=names, lengths=lengths, xs=xs, ys=ys, alongs=alongs)


def _images(table: Table, hip: Path, render_dir: Path) -> Iterator[Node]:
    """COPs that turn each digit's pixels into files."""
    side, home = table.pixels, "/obj/sheets"
    yield Node(
        home,
        "Object",
        "copnet",
        {"setres": 1, "res": (side, side), "setprecision": 1, "precision": "b32"},
    )
    for digit in table.digits:
        geometry, fitted, image = (f"{home}/{n}_{digit}" for n in ("geometry", "fit", "image"))
        yield Node(
            geometry, "Cop", "sopimport", {"usesoppath": 1, "soppath": f"/obj/digit_{digit}/OUT"}
        )
        # The reference box, not the geometry's own, which is a pixel larger on each side. It is a
        # cube, so that the scale is the same whichever axis a uniform fit looks at.
        yield Node(
            fitted,
            "Cop",
            "rasterizesetup",
            {
                "fit": "refbox",
                "refsize": (float(side),) * 3,
                "refpos": (side / 2, -side / 2, 0.0),
                "targetpos": (0.0, 0.0, 0.0),
                "targetsize": (2.0, 2.0, 2.0),
                "doscale": 1,
            },
            (geometry,),
        )
        yield Node(
            image,
            "Cop",
            "rasterizegeo",
            {"attributes": 1, "outtype1": "float", "name1": "value"},
            (None, fitted),  # input 0 is a camera
        )
        yield Node(
            f"{home}/write_{digit}",
            "Cop",
            "rop_image",
            {
                "coppath": f"../image_{digit}",
                "copoutput": houdini_path(render_dir, hip) + f"/{digit}/{digit}.$F4.png",
                "mkpath": 1,
                "trange": 1,
                "f": (1.0, float(table.frames), 1.0),
                "setres": 1,
                "res": (side, side),
                "colorconversion": "raw",  # anything else shifts the greys
                "size1": 1,  # 8 bits
            },
        )


def _pipeline(table: Table, cut: Sequence[str]) -> Iterator[Node]:
    """TOPs: one job a digit, which renders its frames, and the cutter when all are done."""
    yield Node(PIPELINE, "Object", "topnet", {"topscheduler": f"{PIPELINE}/localscheduler"})
    yield Node(f"{PIPELINE}/localscheduler", "Top", "localscheduler")
    for digit in table.digits:
        yield Node(
            f"{PIPELINE}/render_{digit}",
            "Top",
            "ropfetch",
            {
                "roppath": f"/obj/sheets/write_{digit}",
                "framegeneration": 1,
                "range": (1.0, float(table.frames), 1.0),
                "batchall": 1,  # Houdini starts once a digit, not once a frame
            },
        )
    renders = tuple(f"{PIPELINE}/render_{digit}" for digit in table.digits)
    yield Node(f"{PIPELINE}/all_sheets", "Top", "waitforall", inputs=renders)
    script = (
        "import os, subprocess\n"
        "# Houdini's Python must not shine through into the cutter's.\n"
        "hidden = ('PYTHONHOME', 'PYTHONPATH')\n"
        "environment = {k: v for k, v in os.environ.items() if k not in hidden}\n"
        f"subprocess.run({list(cut)!r}, env=environment, check=True)\n"
    )
    yield Node(
        f"{PIPELINE}/cut",
        "Top",
        "pythonscript",
        {"script": script},
        (f"{PIPELINE}/all_sheets",),
        display=True,
    )


def listing(plan: Plan) -> str:
    """The plan for a person to read: nodes, their inputs and parameters."""
    lines = []
    for node in plan.nodes:
        wires = "".join(f"  <- {source}" for source in node.inputs if source)
        lines.append(f"{node.path}  {node.category}/{node.type}{wires}")
        for name, value in node.parms.items():
            first, *more = str(value).splitlines() or [""]
            lines.append(
                f"    {name} = {first}" + (f" ... ({len(more)} more lines)" if more else "")
            )
    return "\n".join(lines)
