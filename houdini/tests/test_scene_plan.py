"""The plan against the catalogue and as a graph, its VEX as text, the command line."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts/python"))

import scene_tables
from catalogue import CATALOGUE
from lab_houdini import build_scene, table
from lab_houdini.plan import Plan, houdini_path, listing, scene
from lab_houdini.table import KINDS, SceneError
from plan_checks import check_attributes, check_graph, check_vex_text, misfits

from houdini_bridge.sheets import sheet_path
from houdini_bridge.table import COLUMNS

BUILD = Path(build_scene.__file__)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A table of two digits and two frames, with pens and fonts."""
    rows = [scene_tables.sheet(digit, frame) for digit in (3, 8) for frame in (1, 2)]
    for sheet in rows:
        sheet["source"][:2], sheet["face"][:2] = "font", ["STIX", "DejaVu Sans"]
    folder = tmp_path_factory.mktemp("digits") / "render"
    return scene_tables.write(folder, np.concatenate(rows), frames=2)


@pytest.fixture(scope="module")
def plan(folder) -> Plan:
    hip = folder.parent / "x.hip"
    return scene(table.read(folder), hip, folder, ["uv", "run", "cut"])


def test_the_catalogue_knows_every_node_and_parameter(plan) -> None:
    assert misfits(plan) == []


@pytest.mark.parametrize("path", ["/obj/digit_3/copies", "/obj/sheets/write_8", "/obj/pipeline"])
@pytest.mark.parametrize("mistake", ["type", "category", "name", "value", "kind", "size", "input"])
def test_the_catalogue_notices_a_mistake(plan, path, mistake) -> None:
    """In whichever node: a wrong type, network, parameter, menu token, number or wire."""
    node = next(node for node in plan.nodes if node.path == path)
    parm, value = next(iter(node.parms.items()))
    wrong = {
        "type": replace(node, type=node.type + "s"),
        "category": replace(node, category="Dop"),
        "name": replace(node, parms={**node.parms, parm + "_": value}),
        "value": replace(node, parms={**node.parms, parm: b"bytes"}),
        "kind": replace(node, parms={**node.parms, parm: 1.5}),
        "size": replace(node, parms={**node.parms, parm: (value, value)}),
        "input": replace(node, inputs=(path,) * 5),
    }[mistake]
    nodes = tuple(wrong if other is node else other for other in plan.nodes)
    assert len(misfits(replace(plan, nodes=nodes))) == 1


def test_every_source_in_the_catalogue_has_its_tag() -> None:
    sources = [fact.source for fact in CATALOGUE.values()]
    sources += [parm.source for fact in CATALOGUE.values() for parm in fact.parms.values()]
    assert [source for source in sources if not re.search(r"\[(doc|3p|\?)\]", source)] == []


def test_the_graph_is_in_order(plan) -> None:
    check_graph(plan)
    assert plan.cook in {node.path for node in plan.nodes}


def test_files_beside_the_scene_are_named_from_it(plan, folder) -> None:
    """So that the folder can be moved; fonts and the checkout lie elsewhere and stay absolute."""
    by_path = {node.path: node for node in plan.nodes}
    write = by_path["/obj/sheets/write_3"].parms["copoutput"]
    assert write == "$HIP/render/3/3.$F4.png"
    assert "'$HIP/render/table.csv'" in by_path["/obj/table/rows"].parms["python"]
    assert Path(by_path["/obj/digit_3/font_0"].parms["file"]).is_file()
    assert houdini_path(Path("/a/b/c"), Path("/x/y.hip")) == "/a/b/c"
    with pytest.raises(SceneError, match=r"\$"):
        houdini_path(Path("/a/$HOME/c"), Path("/x/y.hip"))


def test_the_sheets_are_where_the_cutter_looks(plan, folder) -> None:
    assert list(plan.sheets) == [sheet_path(folder, d, f) for d in (3, 8) for f in (1, 2)]


def test_the_box_that_is_rasterized_is_the_sheet(plan) -> None:
    """Pixel (row, column), by the point that SHEET makes for it, lands on the image's pixel."""
    fit = {node.path: node for node in plan.nodes}["/obj/sheets/fit_8"].parms
    side = {node.path: node for node in plan.nodes}["/obj/sheets"].parms["res"][0]
    assert side == 224 and fit["refsize"][0] == fit["refsize"][1]
    for row, column in [(0, 0), (0, 223), (223, 0), (100, 7)]:
        place = (column + 0.5, -(row + 0.5))  # the middle of the pixel, y up
        seen = [  # by a layer's camera, from -1 to 1
            (p - fit["refpos"][k]) / fit["refsize"][k] * fit["targetsize"][k] + fit["targetpos"][k]
            for k, p in enumerate(place)
        ]
        found = [(1 - seen[1]) / 2 * side, (1 + seen[0]) / 2 * side]
        assert found == pytest.approx([row + 0.5, column + 0.5])


def test_every_frame_is_rendered_once(plan) -> None:
    by_path = {node.path: node.parms for node in plan.nodes}
    for digit in (3, 8):
        assert by_path[f"/obj/sheets/write_{digit}"]["f"] == (1, 2, 1)
        assert by_path[f"/obj/pipeline/render_{digit}"]["range"] == (1, 2, 1)
        snippet = by_path[f"/obj/digit_{digit}/rows"]["snippet"]
        assert f"int DIGIT = {digit};\nint FIRST_SHEET = {2 * (digit == 8)};" in snippet


def test_the_columns_are_the_table_s() -> None:
    assert {name: kind for name, (kind, _, _) in COLUMNS.items()} == KINDS


def test_vex_is_balanced_and_reads_what_is_there(plan) -> None:
    check_vex_text(plan)
    check_attributes(plan)


def test_the_table_is_refused_when_it_is_broken(folder, tmp_path) -> None:
    copy = scene_tables.write(tmp_path / "render", scene_tables.sheet(3))
    table.read(copy)
    csv, described = copy / "table.csv", copy / "table.json"
    good, good_json = csv.read_text(), described.read_text()
    lines = good.splitlines()
    for text, words in [
        ("", "cannot read"),
        (good.replace("cell", "place", 1), "has the columns"),
        (good + "3,1\n", "line 66: not 18 fields"),
        (good.replace("stroke", "brush"), "brush"),
        ("\n".join([lines[0], *lines[2:]]), "64 cells"),
        ("\n".join([lines[0], lines[2], lines[1], *lines[3:]]), "in order"),
        (good.replace(lines[1].split(",")[5], "steep", 1), "slant_deg"),
    ]:
        csv.write_text(text)
        with pytest.raises(SceneError, match=words):
            table.read(copy)
    csv.write_text(good)
    for text, words in [
        ("{", "cannot read"),
        ("[]", "no JSON object"),
        (good_json.replace('"grid"', '"gird"'), "not of this version"),
        (good_json.replace('"3-round"', '"3-sound"'), "3-round"),
    ]:
        described.write_text(text)
        with pytest.raises(SceneError, match=words) as caught:
            table.read(copy)
        assert "\n" not in str(caught.value)
    with pytest.raises(SceneError, match="cannot read"):
        table.read(tmp_path)


def test_a_dry_run_needs_no_houdini(folder, capsys) -> None:
    assert build_scene.main(["--table", str(folder), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "/obj/digit_8/copies  Sop/copytopoints  <- /obj/digit_8/faces" in printed
    assert "    copoutput = $HIP/render/3/3.$F4.png" in printed


def test_the_cutter_is_called_with_what_it_knows(folder, monkeypatch) -> None:
    """The command of the last TOP node, read by the command itself."""
    from houdini_bridge.config import CutConfig
    from trainloop import parse

    last = build_scene.planned(build_scene.Arguments(folder, uv="/bin/uv")).nodes[-1]
    called = []
    fake = type("subprocess", (), {"run": lambda args, env, check: called.append((args, env))})
    monkeypatch.setitem(sys.modules, "subprocess", fake)
    monkeypatch.setenv("PYTHONHOME", "houdini")
    exec(last.parms["script"], {})
    (command, environment), *_ = called
    assert command[:6] == [
        "/bin/uv",
        "run",
        "--project",
        str(build_scene.ROOT),
        "--package",
        "houdini",
    ]
    assert (build_scene.ROOT / "houdini/scripts/python/lab_houdini").is_dir()
    assert "PYTHONHOME" not in environment and "PATH" in environment
    monkeypatch.setattr(sys, "argv", command[6:])
    config = parse(CutConfig)
    assert (config.render, config.output) == (folder, folder.parent / "output")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--table"),
        (["--table", "nowhere"], "cannot read the table"),
        (["--table", ".", "--cooked"], "--cooked"),
        (["--table", "TABLE"], "no Houdini here"),
    ],
)
def test_misuse_is_one_line(arguments, words, folder) -> None:
    """As a file, in a Python that knows none of this lab's packages: hython's way."""
    arguments = [str(folder) if argument == "TABLE" else argument for argument in arguments]
    command = [sys.executable, "-I", str(BUILD), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_the_listing_names_every_node(plan) -> None:
    assert [node.path for node in plan.nodes if f"{node.path}  " not in listing(plan)] == []
