"""The seam: what it asks of Houdini, in which order, with a strict fake; its types, with mypy."""

import importlib
import importlib.util
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts/python"))

import catalogue
import onnx_models
import results_data
import scene_tables
from fake_hou import FakeHou
from lab_houdini import build_results, build_scene, table
from lab_houdini.plan import Plan, Press
from lab_houdini.results_plan import FILTER, Filter
from lab_houdini.table import KINDS, SceneError

HOUDINI = Path(__file__).parents[1]
PACKAGE = HOUDINI / "scripts/python/lab_houdini"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    rows = [scene_tables.sheet(digit) for digit in (3, 8)]
    for sheet in rows:
        sheet["source"][:2], sheet["face"][:2] = "font", ["STIX", "DejaVu Sans"]
    folder = tmp_path_factory.mktemp("digits") / "render"
    return scene_tables.write(folder, np.concatenate(rows))


@pytest.fixture(scope="module")
def plan(folder) -> Plan:
    return build_scene.planned(build_scene.Arguments(folder))


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    """An import with a model beside it."""
    folder = results_data.imported(tmp_path_factory.mktemp("run"))
    onnx_models.save(folder)
    return folder


@pytest.fixture(scope="module")
def results(imported) -> Plan:
    arguments = build_results.Arguments(imported, imported / "model.onnx")
    return build_results.planned(arguments)[0]


@pytest.fixture
def hou(monkeypatch) -> FakeHou:
    """A fresh fake; `lab_houdini.seam` is loaded anew, so that it holds this one."""
    fake = FakeHou()
    monkeypatch.setitem(sys.modules, "hou", fake)
    monkeypatch.delitem(sys.modules, "lab_houdini.seam", raising=False)
    return fake


@pytest.fixture
def seam(hou):
    yield importlib.import_module("lab_houdini.seam")
    del sys.modules["lab_houdini.seam"]


def called(hou: FakeHou, method: str) -> list[tuple]:
    return [call[1:] for call in hou.calls if call[0] == method]


@pytest.mark.parametrize("scene", ["plan", "results"])
def test_the_plan_is_carried_out_to_the_letter(scene, hou, seam, request) -> None:
    plan = request.getfixturevalue(scene)
    seam.build(plan)
    for node in plan.nodes:
        made = hou.node(node.path)
        assert (made._category, made._kind) == (node.category, node.type)
        assert made._display == node.display
        assert made._inputs == {k: source for k, source in enumerate(node.inputs) if source}
        for name, value in node.parms.items():
            parm = made._parms[name]
            assert parm._pressed if value == Press() else parm._value == value, parm._path
    own = {node.path for node in plan.nodes} | set(catalogue.SCENE)
    assert set(hou._nodes) == own


def test_nodes_then_parameters_then_wires_then_flags_then_layout(plan, hou, seam) -> None:
    """A menu or an input may depend on what is there; a layout on all of it."""
    seam.build(plan)
    order = ["createNode", "set", "setInput", "setDisplayFlag", "setRenderFlag", "layoutChildren"]
    methods = [call[0] for call in hou.calls]
    assert set(methods) == set(order)
    places = [[k for k, method in enumerate(methods) if method == name] for name in order]
    for earlier, later in [(0, 1), (1, 2), (2, 3), (3, 5)]:
        assert max(places[earlier]) < min(places[later])
    assert called(hou, "layoutChildren")[0] == ("/obj",)
    assert called(hou, "setRenderFlag")[0] == ("/obj/table/OUT", True)


def test_a_topnet_without_its_scheduler_gets_one(plan, hou, seam, monkeypatch) -> None:
    bare = replace(catalogue.CATALOGUE["Object", "topnet"], comes_with={})
    monkeypatch.setitem(catalogue.CATALOGUE, ("Object", "topnet"), bare)
    seam.build(plan)
    assert ("/obj/pipeline", "localscheduler", "localscheduler") in called(hou, "createNode")


def test_a_scene_with_these_nodes_is_left_alone(plan, hou, seam) -> None:
    seam.build(plan)
    calls = len(hou.calls)
    with pytest.raises(SceneError, match="/obj/table already"):
        seam.build(plan)
    assert len(hou.calls) == calls


def test_all_misfits_are_told_at_once_and_the_rest_is_built(plan, hou, seam, monkeypatch) -> None:
    font = catalogue.CATALOGUE["Sop", "font"]
    without = replace(font, parms={k: v for k, v in font.parms.items() if k != "hole"})
    setup = catalogue.CATALOGUE["Cop", "rasterizesetup"]
    other = {**setup.parms, "fit": replace(setup.parms["fit"], kind=("off", "on")),
             "refsize": replace(setup.parms["refsize"], size=2)}  # fmt: skip
    monkeypatch.setitem(catalogue.CATALOGUE, ("Sop", "font"), without)
    monkeypatch.setitem(catalogue.CATALOGUE, ("Cop", "rasterizesetup"), replace(setup, parms=other))
    with pytest.raises(SceneError) as caught:
        seam.build(plan)
    said = str(caught.value)
    assert "0.0.0 (fake)" in said and "\n" not in said
    assert said.count("font_0/hole: no such parameter") == 2
    assert said.count("fit: 'refbox' refused") == 2
    assert said.count("refsize: 2 components, not 3") == 2
    assert len(called(hou, "setInput")) == sum(bool(s) for n in plan.nodes for s in n.inputs)


@pytest.mark.parametrize(("category", "name"), [("Sop", "font"), ("Cop", "sopimport")])
def test_a_missing_node_type_is_one_line(plan, hou, seam, monkeypatch, category, name) -> None:
    monkeypatch.delitem(catalogue.CATALOGUE, (category, name))
    with pytest.raises(SceneError, match=f"no {category} node type {name}"):
        seam.build(plan)


def test_a_node_of_another_category_is_refused(plan, hou, seam, monkeypatch) -> None:
    """createNode gives a SOP `onnx` where the COP was meant: names repeat across networks."""
    monkeypatch.setitem(catalogue.CATALOGUE, ("Sop", "sopimport"), catalogue.Type("", 0))
    copnet = catalogue.CATALOGUE["Object", "copnet"]
    monkeypatch.setitem(catalogue.CATALOGUE, ("Object", "copnet"), replace(copnet, children="Sop"))
    with pytest.raises(SceneError, match="asked Houdini"):
        seam.build(plan)


def test_saving_tells_where_and_a_missing_folder_is_one_line(hou, seam, tmp_path) -> None:
    assert seam.save(tmp_path / "x.hip") == tmp_path / "x.hipnc"
    with pytest.raises(SceneError, match="cannot save"):
        seam.save(tmp_path / "nowhere" / "x.hip")


def test_cooking_waits_and_counts_the_sheets(plan, hou, seam) -> None:
    with pytest.raises(SceneError, match="build it first"):
        seam.cook(plan)
    seam.build(plan)
    with pytest.raises(SceneError, match="128 of 128"):
        seam.cook(replace(plan, sheets=plan.sheets * 64))

    def render() -> None:
        for sheet in plan.sheets:
            sheet.parent.mkdir(exist_ok=True)
            sheet.touch()

    hou._cook = render
    seam.cook(plan)
    assert called(hou, "cookWorkItems") == [("/obj/pipeline/cut", True)] * 2


def test_hython_builds_saves_and_cooks_in_this_order(folder, hou, seam, capsys) -> None:
    hou._cook = lambda: None
    arguments = ["--table", str(folder), "--render-dir", str(folder.parent / "other")]
    assert build_scene.main([*arguments, "--cook"]) == 2  # nothing was rendered
    methods = [call[0] for call in hou.calls]
    assert methods.index("layoutChildren") < methods.index("save") < methods.index("cookWorkItems")
    captured = capsys.readouterr()
    assert "synthetic_digits.hipnc" in captured.out
    assert captured.err.startswith("error: 2 of 2 sheets are missing")


@pytest.mark.parametrize("name", ["x.hip", "x.hipnc"])
def test_a_scene_that_is_there_is_not_replaced_silently(folder, hou, seam, capsys, name) -> None:
    """Someone may have worked in it. A non-commercial licence gave it another extension."""
    arguments = ["--table", str(folder), "--hip", str(folder.parent / "x.hip")]
    (folder.parent / name).touch()
    assert build_scene.main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err and hou.calls == []
    assert build_scene.main([*arguments, "--overwrite"]) == 0
    assert called(hou, "save") == [(str(folder.parent / "x.hip"),)]
    (folder.parent / name).unlink()


def test_the_python_node_reads_the_table(plan, folder, hou, seam) -> None:
    """Its code, as Houdini would run it, with $HIP where the scene was saved."""
    seam.build(plan)
    seam.save(folder.parent / "x.hip")
    node = hou.node("/obj/table/rows")
    hou.pwd = lambda: node
    exec(node._parms["python"]._value, {"hou": hou})
    values = table.columns(folder / "table.csv")
    assert hou._geometry.values == values
    assert list(hou._geometry.attributes) == list(KINDS)
    assert hou._geometry.count == 128


def test_the_shelf_tool_builds_and_says_so(folder, hou, seam) -> None:
    build_scene.from_shelf()
    assert hou.calls == [] and hou.said == []  # the dialog was closed
    hou.chosen = {"*.csv": str(folder / "table.csv")}
    for words in ("Built", "start from an empty scene"):
        build_scene.from_shelf()
        assert words in hou.said[-1]


def test_what_a_button_makes_is_set_after_it(results, hou, seam) -> None:
    seam.build(results)
    calls = [call[:2] for call in hou.calls]
    net = "/obj/classify/net"
    pressed = calls.index(("pressButton", f"{net}/setupshapes"))
    assert calls.index(("set", f"{net}/modelfile")) < pressed
    assert pressed < calls.index(("set", f"{net}/input_data1"))


def test_a_button_that_is_missing_or_refuses_is_told(results, hou, seam, monkeypatch) -> None:
    net = catalogue.CATALOGUE["Sop", "onnx"]
    for kind, words in [(None, "setupshapes: no such parameter"), ("int", "would not be pressed")]:
        fact = replace(net.parms["setupshapes"], kind=kind) if kind else None
        parms = {**net.parms, "setupshapes": fact} if fact else dict(net.parms)
        if not fact:
            parms = {k: replace(v, after="") for k, v in net.parms.items() if k != "setupshapes"}
        monkeypatch.setitem(catalogue.CATALOGUE, ("Sop", "onnx"), replace(net, parms=parms))
        hou._nodes = {path: node for path, node in hou._nodes.items() if path == "/obj"}
        with pytest.raises(SceneError, match=words):
            seam.build(results)


def test_hython_builds_the_results(imported, hou, seam, capsys) -> None:
    arguments = ["--result", str(imported), "--model", str(imported / "model.onnx")]
    assert build_results.main(arguments) == 0
    methods = [call[0] for call in hou.calls]
    assert methods.index("pressButton") < methods.index("layoutChildren") < methods.index("save")
    assert "results.hipnc" in capsys.readouterr().out
    (imported / "results.hip").touch()
    assert build_results.main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    (imported / "results.hip").unlink()


@pytest.mark.parametrize("model", [True, False])
def test_the_results_tool_builds_and_says_so(imported, hou, seam, model) -> None:
    build_results.from_shelf()
    assert hou.calls == [] and hou.said == []  # the dialog was closed
    hou.chosen = {"*.json": str(imported / "map2d.json")}
    if model:
        hou.chosen["*.onnx"] = str(imported / "model.onnx")
    for words in ("Built", "start from an empty scene"):
        build_results.from_shelf()
        assert words in hou.said[-1]
    assert (hou.node("/obj/classify/net") is not None) == model


def test_the_panel_reaches_the_scene(results, hou, seam) -> None:
    snippet = Filter(pred=3).snippet()
    assert not seam.set_snippet(FILTER, snippet)  # no scene yet
    seam.build(results)
    assert seam.set_snippet(FILTER, snippet)
    assert hou.node(FILTER)._parms["snippet"]._value == snippet
    assert not seam.set_snippet("/obj/results/map", snippet)  # no wrangle
    seam.go_to(4)
    assert called(hou, "setFrame") == [(4.0,)]


def test_the_shelf_calls_what_there_is(monkeypatch) -> None:
    shelf = ElementTree.parse(HOUDINI / "toolbar/ml_learning_lab.shelf").getroot()
    tools = {tool.get("name") for tool in shelf.iter("tool")}
    assert tools and tools == {member.get("name") for member in shelf.iter("memberTool")}
    called = []
    for module in (build_scene, build_results):
        monkeypatch.setattr(module, "from_shelf", lambda module=module: called.append(module))
    for script in shelf.iter("script"):
        assert script.get("scriptType") == "python"
        exec(script.text, {})
    assert called == [build_scene, build_results]


def test_only_the_seam_imports_hou() -> None:
    texts = {path.name: path.read_text() for path in PACKAGE.glob("*.py")}
    assert [name for name, text in texts.items() if "import hou\n" in text] == ["seam.py"]


def test_it_runs_in_houdini_s_python() -> None:
    """Standard library only, and the grammar of Python 3.10 (Houdini 20.5 has 3.11)."""
    import ast

    for path in PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text(), feature_version=(3, 10))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.partition(".")[0]
                assert top in {"hou", "lab_houdini", *sys.stdlib_module_names}, f"{path}: {name}"


needs_mypy = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mypy", "hou-stubs")),
    reason="NOT RUN: mypy and types-houdini are in houdini's dev group",
)


def mypy(folder: Path, package: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10"]
    command += ["--cache-dir", str(folder / "cache"), "--config-file", "", str(package)]
    return subprocess.run(command, capture_output=True, text=True, cwd=package.parent)


@needs_mypy
def test_types_agree_with_houdini_s(tmp_path) -> None:
    done = mypy(tmp_path, PACKAGE)
    assert done.returncode == 0, done.stdout
    mistakes = {  # what types-houdini is there to catch
        "hou.hipFile.save(": ("hou.hipFile.safe(", "safe"),
        "if parent is None:\n        raise": ("if False:\n        raise", "None"),
        'cast("hou.TopNode", last).cook': ("last.cook", "cookWorkItems"),
    }
    copy = tmp_path / "lab_houdini"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = (PACKAGE / "seam.py").read_text()
    for old, (new, _) in mistakes.items():
        assert old in text
        text = text.replace(old, new)
    (copy / "seam.py").write_text(text)
    said = mypy(tmp_path, copy).stdout
    assert all(words in said for _, words in mistakes.values()), said


def test_a_real_hython_builds_it(folder) -> None:
    hython = shutil.which("hython")
    if hython is None:
        pytest.skip("NOT RUN: there is no hython on PATH")
    command = [hython, str(PACKAGE / "build_scene.py"), "--table", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
