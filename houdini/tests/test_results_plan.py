"""The plan of the results scene: against the catalogue, as a graph, and its command line."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts/python"))

import onnx_models
import results_data as data
import scene_tables
from catalogue import CATALOGUE
from lab_houdini import build_results, build_scene, result
from lab_houdini.plan import Plan, Press, listing
from lab_houdini.results_plan import BATCH, FILTER, MATERIAL, Filter, batch_of, page_of
from lab_houdini.table import SceneError
from plan_checks import check_attributes, check_graph, check_vex_text, misfits

BUILD = Path(build_results.__file__)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An import of seven predictions; the model beside it."""
    folder = data.imported(tmp_path_factory.mktemp("run"))
    onnx_models.save(folder)
    return folder


@pytest.fixture(scope="module")
def plan(folder) -> Plan:
    return planned(folder, "--model", str(folder / "model.onnx"))


def planned(folder: Path, *options: str) -> Plan:
    return build_results.planned(build_results.parse(["--result", str(folder), *options]))[0]


def test_the_catalogue_knows_every_node_and_parameter_and_holds_no_other(plan, tmp_path) -> None:
    """Both scenes together use all of it."""
    rows = scene_tables.sheet(3)
    rows["source"][:1], rows["face"][:1] = "font", ["STIX"]
    table = scene_tables.write(tmp_path / "render", rows)
    digits = build_scene.planned(build_scene.Arguments(table))
    assert misfits(plan) == []
    nodes = (*plan.nodes, *digits.nodes)
    assert {(n.category, n.type) for n in nodes} == set(CATALOGUE)
    used = {(n.category, n.type, parm) for n in nodes for parm in n.parms}
    assert used == {(*kind, parm) for kind, fact in CATALOGUE.items() for parm in fact.parms}


@pytest.mark.parametrize("path", [MATERIAL, "/obj/classify/net", "/obj/assets/copies"])
@pytest.mark.parametrize("mistake", ["type", "category", "name", "value", "kind"])
def test_the_catalogue_notices_a_mistake(plan, path, mistake) -> None:
    node = next(node for node in plan.nodes if node.path == path)
    parm, value = next(iter(node.parms.items()))
    wrong = {
        "type": replace(node, type=node.type + "s"),
        "category": replace(node, category="Dop"),
        "name": replace(node, parms={**node.parms, parm + "_": value}),
        "value": replace(node, parms={**node.parms, parm: b"bytes"}),
        "kind": replace(node, parms={**node.parms, parm: Press()}),
    }[mistake]
    nodes = tuple(wrong if other is node else other for other in plan.nodes)
    assert len(misfits(replace(plan, nodes=nodes))) == 1


def test_the_graph_and_its_vex_are_sound(plan) -> None:
    check_graph(plan)
    check_vex_text(plan)
    check_attributes(plan)


def test_attributes_are_checked(plan) -> None:
    """Or the test above could not fail: a name that no node has written, in VEX and in parms."""
    for path, old, new in [
        ("/obj/cards/squares", '"pscale"', '"scale"'),
        ("/obj/classify/answer", '"probs"', '"probabilities"'),
        ("/obj/classify/net", "mask", "grey"),
        ("/obj/assets/copies", "class_name", "name"),
    ]:
        node = next(node for node in plan.nodes if node.path == path)
        parms = {n: v.replace(old, new) if isinstance(v, str) else v for n, v in node.parms.items()}
        assert parms != node.parms
        changed = [replace(node, parms=parms) if n is node else n for n in plan.nodes]
        with pytest.raises(AssertionError):
            check_attributes(replace(plan, nodes=tuple(changed)))


def test_files_are_named_from_the_scene_so_that_the_folder_can_be_moved(plan) -> None:
    by_path = {node.path: node.parms for node in plan.nodes}
    assert by_path["/obj/results/map"]["file"] == "$HIP/map2d.geo"
    assert by_path[MATERIAL]["basecolor_texture"] == "$HIP/atlas.png"
    assert by_path["/obj/classify/net"]["modelfile"] == "$HIP/model.onnx"


def test_each_class_has_its_asset_and_the_assets_are_copied_by_variant(plan) -> None:
    by_path = {node.path: node for node in plan.nodes}
    assert by_path["/obj/assets/all"].inputs == tuple(f"/obj/assets/asset_{k}" for k in range(10))
    for number in range(10):
        asset = by_path[f"/obj/assets/asset_{number}"]
        assert f"int VARIANT = {number};" in asset.parms["snippet"]
        assert asset.inputs == (f"/obj/assets/stand_in_{number}",)
    copies = by_path["/obj/assets/copies"]
    assert (copies.parms["useidattrib"], copies.parms["idattrib"]) == (1, "variant")
    assert copies.inputs == ("/obj/assets/all", "/obj/assets/points")


def test_shapes_are_set_up_before_what_they_make(plan) -> None:
    """The parameters of inputs and outputs are there only after the button."""
    names = list({node.path: node for node in plan.nodes}["/obj/classify/net"].parms)
    facts = CATALOGUE["Sop", "onnx"].parms
    assert names.index("modelfile") < names.index("setupshapes")
    later = [name for name in names if facts[name].after]
    assert later == [f"{way}_{what}" for way, what in (
        *(("input", "type1"), ("input", "data1"), ("output", "type1"), ("output", "data1")),
        *(("output", "type2"), ("output", "data2")),
    )]  # fmt: skip
    assert all(names.index(name) > names.index("setupshapes") for name in later)


def test_without_a_model_nothing_is_classified(folder) -> None:
    nodes = planned(folder).nodes
    assert not [node for node in nodes if node.path.startswith("/obj/classify")]
    assert "/obj/assets/copies" in {node.path for node in nodes}


def test_a_model_of_any_number_takes_several_images_a_frame(folder, tmp_path) -> None:
    model = onnx_models.save(tmp_path, "N")
    pixels = {n.path: n for n in planned(folder, "--model", str(model)).nodes}[
        "/obj/classify/pixels"
    ]
    assert f"int PAGES = 1;\nint BATCH = {BATCH};\nint COUNT = 7;" in pixels.parms["snippet"]
    from lab_houdini.onnx_file import classifier

    assert batch_of(classifier(model)) == BATCH
    assert [page_of(row, 1) for row in (0, 1, 6)] == [1, 2, 7]
    assert [page_of(row, 8) for row in (0, 7, 8)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("which", "constants"),
    [
        (Filter(), (-1, -1, 0.0, 2.0)),
        (Filter(3, True, 0.5, 0.9), (3, 1, 0.5, 0.9)),
        (Filter(0, False), (0, 0, 0.0, 2.0)),
    ],
)
def test_a_filter_is_constants_before_its_wrangle(plan, which, constants) -> None:
    number, correct, lowest, highest = constants
    assert which.snippet().startswith(
        f"int CLASS = {number};\nint CORRECT = {correct};\n"
        f"float LOWEST = {lowest:.6f};\nfloat HIGHEST = {highest:.6f};\n"
    )
    assert {n.path: n for n in plan.nodes}[FILTER].parms["snippet"] == Filter().snippet()


def test_a_dry_run_needs_no_houdini_and_names_every_node(folder, plan, capsys) -> None:
    options = ["--result", str(folder), "--model", str(folder / "model.onnx"), "--dry-run"]
    assert build_results.main(options) == 0
    printed = capsys.readouterr().out
    assert printed == listing(plan) + "\n"
    assert "/obj/classify/net  Sop/onnx  <- /obj/classify/pixels" in printed
    assert "    setupshapes = Press()" in printed
    assert [node.path for node in plan.nodes if f"{node.path}  " not in printed] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--result"),
        (["--result", "nowhere"], "cannot read"),
        (["--result", "."], "no result in"),
        (["--result", "RESULT", "--cook"], "--cook"),
        (["--result", "RESULT", "--model", "nowhere.onnx"], "cannot read the model"),
        (["--result", "RESULT"], "no Houdini here"),
    ],
)
def test_misuse_is_one_line(arguments, words, folder) -> None:
    """As a file, in a Python that knows none of this lab's packages: hython's way."""
    arguments = [str(folder) if argument == "RESULT" else argument for argument in arguments]
    command = [sys.executable, "-I", str(BUILD), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_a_model_of_other_images_is_refused(folder, tmp_path) -> None:
    model = onnx_models.save(tmp_path, image=(1, 1, 28, 28))
    with pytest.raises(SceneError, match=r"28 x 28 and knows 10 classes; .* has 5 x 5 and 10"):
        planned(folder, "--model", str(model))


def test_results_that_will_not_do_are_refused(tmp_path) -> None:
    folder = data.imported(tmp_path)
    described = folder / "map2d.json"
    for path in (folder, described, folder / "map2d.geo", folder / "map2d.csv"):
        assert result.read(path).count == 7
    good = json.loads(described.read_text("utf-8"))
    for changed, words in [
        ({"version": 2}, "not of this version"),
        ({"count": 0}, "not of this version"),
        ({"cell": "x"}, "not of this version"),
        ({"class_names": None}, "not of this version"),
        ({"atlas": "other.png"}, "there is no .*other.png"),
    ]:
        described.write_text(json.dumps({**good, **changed}), "utf-8")
        with pytest.raises(SceneError, match=words) as caught:
            result.read(folder)
        assert "\n" not in str(caught.value)
    described.write_text("{", "utf-8")
    with pytest.raises(SceneError, match="cannot read"):
        result.read(folder)
    described.write_text(json.dumps(good), "utf-8")
    (folder / "map3d.json").write_text("{}", "utf-8")
    with pytest.raises(SceneError, match="two results"):
        result.read(folder)
    (folder / "map3d.json").unlink()
    (folder / "map2d.geo").unlink()
    with pytest.raises(SceneError, match=r"there is no .*map2d\.geo"):
        result.read(folder)


def test_rows_are_read_as_they_were_exported_and_held_against_the_count(tmp_path) -> None:
    folder = data.imported(tmp_path)
    found, content = result.read(folder), data.arrays()
    rows = result.predictions(found)
    assert found.class_names == tuple(data.NAMES)
    assert [row.image for row in rows] == content["index"].tolist()
    assert [row.label for row in rows] == content["label"].tolist()
    assert [row.pred for row in rows] == content["prediction"].tolist()
    assert np.array_equal(
        np.array([row.probabilities for row in rows], np.float32), content["probabilities"]
    )
    assert [row.correct for row in rows] == (content["label"] == content["prediction"]).tolist()
    text = found.table.read_text("utf-8")
    for changed, words in [
        (text[: text.rstrip("\n").rindex("\n") + 1], "has 6 rows, not 7"),
        (text.replace("p9", "q9"), "not of this version"),
        (text.replace(",pred,", ",guess,"), "not of this version"),
    ]:
        found.table.write_text(changed, "utf-8")
        with pytest.raises(SceneError, match=words):
            result.predictions(found)
