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
from catalogue import CATALOGUE, FLOAT, INT, SCENE, STRING, TOGGLE, Parm
from lab_houdini import build_scene, table
from lab_houdini.plan import Node, Plan, houdini_path, listing, scene
from lab_houdini.table import KINDS, SceneError

from houdini_bridge.sheets import sheet_path
from houdini_bridge.table import COLUMNS

BUILD = Path(build_scene.__file__)
FUNCTIONS = """
    addpoint addprim addvertex ceil clamp cos dot error exp findattribval findattribvalcount float
    getbbox_size int len length log max min npoints nprimitives point pow primpoint primvertexcount
    radians rand rint set setpointattrib setprimattrib sin sqrt tan if for
"""
KEYWORDS = """
    break bsdf char color const continue do dict else export false float for forpoints foreach
    gather hpoint if illuminance import int integer matrix matrix2 matrix3 normal point return
    string struct true typedef uniform union vector vector2 vector4 void while
"""
BUILT_IN = {"P", "Cd", "ptnum", "primnum", "Frame"}  # attributes that are there without being made


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


def misfits(plan: Plan) -> list[str]:
    """What the catalogue does not know, or not so."""
    found = []
    for node in plan.nodes:
        fact = CATALOGUE.get((node.category, node.type))
        if fact is None:
            found.append(f"{node.path}: no type {node.category}/{node.type}")
            continue
        if fact.inputs is not None and len(node.inputs) > fact.inputs:
            found.append(f"{node.path}: {len(node.inputs)} inputs")
        for name, value in node.parms.items():
            if name not in fact.parms:
                found.append(f"{node.path}: no parameter {name}")
            elif not fits(fact.parms[name], value):
                found.append(f"{node.path}: {name} does not take {value!r}")
    return found


def fits(parm: Parm, value) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    if len(values) != parm.size or isinstance(value, tuple) != (parm.size > 1):
        return False
    if isinstance(parm.kind, tuple):
        return value in parm.kind
    kinds = {INT: int, FLOAT: float, STRING: str, TOGGLE: int}
    return all(type(v) is kinds[parm.kind] for v in values)


def test_the_catalogue_knows_every_node_and_parameter(plan) -> None:
    assert misfits(plan) == []
    assert {(n.category, n.type) for n in plan.nodes} == set(CATALOGUE)  # and holds nothing else
    used = {(n.category, n.type, parm) for n in plan.nodes for parm in n.parms}
    assert used == {(*kind, parm) for kind, fact in CATALOGUE.items() for parm in fact.parms}


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


def test_nodes_come_after_what_they_need_and_in_the_right_networks(plan) -> None:
    """So there is no cycle either."""
    made: dict[str, Node] = {}
    for node in plan.nodes:
        inside = (
            SCENE.get(node.parent)
            or CATALOGUE[made[node.parent].category, made[node.parent].type].children
        )
        assert node.category == inside, node.path
        assert node.path not in made
        assert re.fullmatch(r"\w+", node.name)
        for source in node.inputs:
            assert source is None or (source in made and made[source].parent == node.parent)
        made[node.path] = node
    assert plan.cook in made


def test_paths_of_nodes_lead_somewhere(plan) -> None:
    made = {node.path for node in plan.nodes}
    for node in plan.nodes:
        for name in ("objpath1", "soppath", "roppath", "topscheduler", "coppath"):
            if name in node.parms:
                target = str(node.parms[name])
                if target.startswith("../"):
                    target = f"{node.parent}/{target[3:]}"
                assert target in made, f"{node.path}/{name}"


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


def wrangles(plan: Plan) -> list[Node]:
    return [node for node in plan.nodes if node.type == "attribwrangle"]


def test_vex_is_balanced_and_uses_known_names(plan) -> None:
    for node in wrangles(plan):
        snippet = node.parms["snippet"]
        assert not set(snippet) & set("$`"), node.path  # Houdini would expand these
        code = re.sub(r'"[^"\n]*"|//[^\n]*', "", snippet)
        for pair in ("()", "[]", "{}"):
            assert code.count(pair[0]) == code.count(pair[1]), node.path
        assert set(re.findall(r"\b(\w+)\(", code)) <= set(FUNCTIONS.split()), node.path
        declared = re.findall(r"\b(?:int|float|string|vector|matrix3) (\w+)", code)
        assert not set(declared) & set(KEYWORDS.split()), node.path


def test_vex_reads_no_attribute_that_nothing_has_written(plan) -> None:
    """Follows inputs back: an attribute is the node's own, or of a node that flows into it."""
    made = {node.path: node for node in plan.nodes}

    def available(path: str) -> set[str]:
        node = made[path]
        if node.type == "python":
            return set(KINDS)
        flows = [str(node.parms["objpath1"])] if "objpath1" in node.parms else node.inputs
        names = set().union(*(available(source) for source in flows if source))
        if node.type == "copytopoints":
            names = available(node.inputs[0]) | set(node.parms["applyattribs1"].split())
        if node.type == "attribwrangle":
            names = available(node.inputs[0]) if node.inputs else set()
            names |= written(node.parms["snippet"])
        return names

    for node in wrangles(plan):
        snippet = node.parms["snippet"]
        first = available(node.inputs[0]) if node.inputs else set()
        own = set(re.findall(r"@(\w+)\b(?!\s*=[^=])", snippet))
        assert own <= first | written(snippet) | BUILT_IN, node.path
        for reader in (r'\bpoint\((\d), "(\w+)"', r'findattribval\w*\((\d), "\w+", "(\w+)"'):
            for wire, name in re.findall(reader, snippet):
                source = available(node.inputs[int(wire)])
                assert name in source | BUILT_IN, f"{node.path} reads {name} of input {wire}"


def written(snippet: str) -> set[str]:
    names = re.findall(r"@(\w+)\s*=(?!=)", snippet)
    return {*names, *re.findall(r'set(?:point|prim)attrib\(0, "(\w+)"', snippet)}


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
