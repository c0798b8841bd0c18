"""The files of an import, read back by others: .geo, .csv, USD; and the checks, by mutation."""

import csv
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pxr import Sdf, Usd, UsdGeom, UsdShade, UsdValidation, Vt

sys.path.insert(0, str(Path(__file__).parent))

import geo_reader
import results_data as data

from houdini_bridge.results.cloud import Cloud, cloud_of
from houdini_bridge.results.csv_file import csv_text
from houdini_bridge.results.geo import geo_text
from houdini_bridge.results.npz import FORM, Results, read_results
from houdini_bridge.results.usd import usd_text
from houdini_bridge.results.usd_check import problems

CARDS, POINTS, INSTANCES = "/World/cards", "/World/points", "/World/instances"


@pytest.fixture(scope="module", params=["2d", "3d"])
def cloud(request, tmp_path_factory) -> Cloud:
    return cloud_of(read_results(data.write(tmp_path_factory.mktemp("npz"))), request.param, 10.0)


@pytest.fixture
def layer(tmp_path) -> Path:
    """A .usda of seven points, its atlas beside it."""
    results = read_results(data.write(tmp_path))
    path = tmp_path / "map.usda"
    path.write_text(usd_text(cloud_of(results, "3d", 10.0), "./atlas.png"), "utf-8")
    return path


def names(cloud: Cloud) -> list[str]:
    return [data.NAMES[number] for number in cloud["pred"]]


def test_another_reader_finds_every_value_in_the_geo(cloud, tmp_path):
    path = tmp_path / "map.geo"
    path.write_text(geo_text(cloud, "atlas.png"), "utf-8")
    count, points, detail = geo_reader.read(path)
    assert count == len(cloud)
    assert set(points) == {
        *("P", "Cd", "uv", "pscale", "confidence"),
        *("image", "label", "pred", "variant", "correct", "ink", "class_name"),
    }
    for name, values in cloud.values.items():
        assert points[name].dtype == values.dtype
        assert np.array_equal(points[name], values), name
    assert points["class_name"].tolist() == names(cloud)
    assert np.array_equal(detail["uv_size"], cloud.uv_size[None])
    assert detail["atlas"].tolist() == ["atlas.png"]


BROKEN_GEO = {
    "a count": ('"pointcount",7', '"pointcount",8'),
    "a key less": ('"hasindex",false,\n', ""),
    "a key twice": ('"hasindex",false', '"vertexcount",0'),
    "a value less": (
        '"name","image","options",{}],["size",1',
        '"name","image","options",{}],["size",2',
    ),
    "a float for an int": ('"arrays",[[1', '"arrays",[[1.5'),
    "an index of no string": ('"indices",["size",1,"storage","int32","arrays",[[', None),
    "no option of P": ('{"type":{"type":"string","value":"point"}}', "{}"),
    "NaN": ('"tuples",[[', '"tuples",[[NaN,0,0],['),
    "another storage": ('"storage","fpreal32"', '"storage","fpreal16"'),
    "a default of another length": ('"values",[0]', '"values",[0,0]'),
    "cut short": ('"primitives",[]]', '"primitives",['),
}


@pytest.mark.parametrize("how", list(BROKEN_GEO))
def test_the_other_reader_notices_a_broken_geo(cloud, tmp_path, how):
    """Or its test above could not fail."""
    text = geo_text(cloud, "atlas.png")
    old, new = BROKEN_GEO[how]
    new = old + "-1," if new is None else new
    assert old in text
    path = tmp_path / "map.geo"
    path.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises((AssertionError, KeyError, ValueError, IndexError)):
        geo_reader.read(path)


def test_sixty_thousand_points_take_seconds():
    """The promise is five; here in time of the processor, which other work changes little."""
    content = data.arrays(60_000)
    kept = {name: content[name] for name, (_, shape) in FORM.items() if "N" in shape}
    sizes = {"atlas_columns": 245, "atlas_cell": 1, "atlas": np.zeros((245, 245), np.uint8)}
    results = Results(**kept, **sizes, class_names=tuple(data.NAMES), atlas_path=Path())
    started = time.process_time()
    text = geo_text(cloud_of(results, "3d", 10.0), "atlas.png")
    assert time.process_time() - started < 5
    assert text.count("[") > 60_000


def test_a_geo_never_holds_nan(cloud):
    broken = {**cloud.values, "confidence": np.full(len(cloud), np.nan, np.float32)}
    with pytest.raises(ValueError, match="JSON"):
        geo_text(Cloud(broken, cloud.class_names, cloud.uv_size), "atlas.png")


def test_another_reader_finds_every_value_in_the_csv(cloud, tmp_path):
    path = tmp_path / "map.csv"
    probabilities = data.arrays()["probabilities"]
    path.write_text(csv_text(cloud, probabilities), "utf-8")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(cloud)

    def read(*columns: str) -> np.ndarray:
        return np.array([[float(row[column]) for column in columns] for row in rows], np.float32)

    assert np.array_equal(read("x", "y", "z"), cloud["P"])
    assert np.array_equal(read("r", "g", "b"), cloud["Cd"])
    assert np.array_equal(read("u", "v"), cloud["uv"][:, :2])
    for name in ("pscale", "confidence", "image", "label", "pred", "variant", "correct", "ink"):
        assert np.array_equal(read(name)[:, 0], cloud[name]), name
    assert [row["class_name"] for row in rows] == names(cloud)
    assert [row["label_name"] for row in rows] == [data.NAMES[k] for k in cloud["label"]]
    assert np.array_equal(read(*(f"p{k}" for k in range(10))), probabilities)
    assert len(rows[0]) == 28


def test_usd_holds_every_value(cloud, tmp_path):
    path = tmp_path / "map.usda"
    path.write_text(usd_text(cloud, "./atlas.png"), "utf-8")
    stage = Usd.Stage.Open(str(path))
    points = UsdGeom.Points(stage.GetPrimAtPath(POINTS))
    instancer = UsdGeom.PointInstancer(stage.GetPrimAtPath(INSTANCES))
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath(CARDS))
    assert np.array_equal(points.GetPointsAttr().Get(), cloud["P"])
    assert np.array_equal(instancer.GetPositionsAttr().Get(), cloud["P"])
    assert np.array_equal(instancer.GetProtoIndicesAttr().Get(), cloud["variant"])
    assert np.array_equal(points.GetWidthsAttr().Get(), cloud["pscale"])
    for prim in (points, instancer):
        assert np.array_equal(prim.GetIdsAttr().Get(), cloud["image"])
    colour = UsdGeom.PrimvarsAPI(points).GetPrimvar("displayColor")
    assert np.array_equal(colour.Get(), cloud["Cd"])
    for prim, interpolation in ((points, "vertex"), (instancer, "vertex"), (mesh, "uniform")):
        primvars = UsdGeom.PrimvarsAPI(prim)
        for name in ("confidence", "label", "pred", "variant", "correct", "image"):
            primvar = primvars.GetPrimvar(name)
            assert primvar.GetInterpolation() == interpolation
            assert np.array_equal(primvar.Get(), cloud[name]), name
        assert list(primvars.GetPrimvar("class_name").ComputeFlattened()) == names(cloud)


def test_cards_stand_at_their_points_and_show_their_images(cloud, tmp_path):
    """Corners seen from the front: lower left, lower right, upper right, upper left."""
    path = tmp_path / "map.usda"
    path.write_text(usd_text(cloud, "./atlas.png"), "utf-8")
    stage = Usd.Stage.Open(str(path))
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath(CARDS))
    corners = np.array(mesh.GetPointsAttr().Get())[mesh.GetFaceVertexIndicesAttr().Get()]
    corners = corners.reshape(-1, 4, 3)
    assert np.allclose(corners.mean(1), cloud["P"], atol=1e-5)
    assert np.allclose(corners[:, 2] - corners[:, 0], cloud["pscale"][:, None] * [1, 1, 0])
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0])
    assert (normal[:, 2] > 0).all(), "facing +z"
    uv = np.array(UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st").Get()).reshape(-1, 4, 2)
    atlas = data.atlas()[::-1]  # v counts from the bottom
    size = np.array(atlas.shape[::-1])
    for number, card in enumerate(uv):
        low, high = (card[0] * size).round().astype(int), (card[2] * size).round().astype(int)
        seen = atlas[low[1] : high[1], low[0] : high[0]][::-1]
        assert np.array_equal(seen, data.image_of(number))
        assert np.allclose(card[1], [card[2, 0], card[0, 1]])
        assert np.allclose(card[3], [card[0, 0], card[2, 1]])
    visible = [UsdGeom.Imageable(stage.GetPrimAtPath(p)).ComputeVisibility()
               for p in (CARDS, POINTS, INSTANCES)]  # fmt: skip
    assert visible == ["inherited", "invisible", "invisible"]


def test_usds_own_validators_and_ours_find_nothing(layer):
    assert problems(layer) == []
    stage = Usd.Stage.Open(str(layer))
    registry = UsdValidation.ValidationRegistry()
    context = UsdValidation.ValidationContext(registry.GetOrLoadAllValidators())
    found = context.Validate(stage)
    assert [error.GetMessage() for error in found] == []
    material, _ = UsdShade.MaterialBindingAPI(stage.GetPrimAtPath(CARDS)).ComputeBoundMaterial()
    surface = material.ComputeSurfaceSource()[0]
    texture = surface.GetInput("emissiveColor").GetConnectedSources()[0][0].source
    reader = UsdShade.Shader(texture.GetPrim()).GetInput("st").GetConnectedSources()[0][0].source
    assert UsdShade.Shader(reader.GetPrim()).GetInput("varname").Get() == "st"


def test_usds_own_validators_notice_what_they_are_for(layer):
    """Or the test above could not fail."""
    stage = Usd.Stage.Open(str(layer))
    stage.ClearMetadata("upAxis")
    registry = UsdValidation.ValidationRegistry()
    context = UsdValidation.ValidationContext(registry.GetOrLoadAllValidators())
    assert context.Validate(stage)


ATTRIBUTES = [
    (POINTS, "widths", lambda v: v[:-1], "widths has 6 values, not 7"),
    (POINTS, "ids", lambda v: v[:-1], "ids has 6 values, not 7"),
    (POINTS, "ids", lambda v: [v[0], v[0], *v[2:]], "two ids"),
    (POINTS, "extent", lambda v: [v[0], v[1] / 2], "extent"),
    (POINTS, "primvars:pred", lambda v: v[:-1], "pred has 6 values, not 7"),
    (POINTS, "primvars:class_name:indices", lambda v: [10, *v[1:]], "class_name has an index"),
    (POINTS, "primvars:class_name:indices", lambda v: v[:-1], "class_name has 6 values"),
    (INSTANCES, "protoIndices", lambda v: [10, *v[1:]], "of 10 prototypes"),
    (INSTANCES, "protoIndices", lambda v: [-1, *v[1:]], "reach -1"),
    (INSTANCES, "protoIndices", lambda v: v[:-1], "protoIndices has 6 values"),
    (INSTANCES, "scales", lambda v: v[:-1], "scales has 6 values"),
    (INSTANCES, "ids", lambda v: [v[0], v[0], *v[2:]], "two ids"),
    (INSTANCES, "extent", lambda v: [v[0] * 2, v[1]], "extent"),
    (INSTANCES, "primvars:label", lambda v: [*v, 1], "label has 8 values"),
    (CARDS, "faceVertexCounts", lambda v: [3, *v[1:]], "faces have 27 corners"),
    (CARDS, "faceVertexIndices", lambda v: [28, *v[1:]], "reach 1 to 28 of 28 points"),
    (CARDS, "faceVertexIndices", lambda v: [-1, *v[1:]], "reach -1"),
    (CARDS, "extent", lambda v: [v[1], v[0]], "extent"),
    (CARDS, "primvars:st", lambda v: v[:-1], "st has 27 values, not 28"),
    (CARDS, "primvars:st", lambda v: [v[0] - v[2], *v[1:]], "outside the texture"),
    (CARDS, "primvars:image", lambda v: v[:-1], "image has 6 values, not 7"),
    ("/World/materials/atlas/reader", "inputs:varname", lambda v: "uv", "a primvar 'uv'"),
    (
        "/World/materials/atlas/texture",
        "inputs:file",
        lambda v: Sdf.AssetPath("./other.png"),
        "no texture ./other.png",
    ),
]


@pytest.mark.parametrize(("path", "name", "change", "match"), ATTRIBUTES)
def test_our_checks_notice_a_changed_attribute(layer, path, name, change, match):
    stage = Usd.Stage.Open(str(layer))
    attribute = stage.GetPrimAtPath(path).GetAttribute(name)
    old = attribute.Get()
    new = change(old)
    attribute.Set(type(old)(new) if isinstance(new, list) else new)
    stage.Save()
    found = problems(layer)
    assert any(line.startswith(path) or "reads" in line for line in found)
    assert any(match in line for line in found), found


def test_our_checks_notice_a_prototype_that_is_gone(layer):
    stage = Usd.Stage.Open(str(layer))
    stage.RemovePrim(f"{INSTANCES}/prototypes/class_4")
    stage.Save()
    assert any("no prototype" in line and "class_4" in line for line in problems(layer))


def test_our_checks_notice_a_missing_primvar(layer):
    stage = Usd.Stage.Open(str(layer))
    stage.GetPrimAtPath(CARDS).RemoveProperty("primvars:st")
    stage.Save()
    assert any("'st', which it lacks" in line for line in problems(layer))


def test_the_validators_of_usd_pass_what_our_checks_are_for(layer):
    """The reason for usd_check.py; if this fails, USD has learned it and some of it can go."""
    stage = Usd.Stage.Open(str(layer))
    instancer = UsdGeom.PointInstancer(stage.GetPrimAtPath(INSTANCES))
    instancer.GetProtoIndicesAttr().Set(Vt.IntArray([77] * 7))
    registry = UsdValidation.ValidationRegistry()
    context = UsdValidation.ValidationContext(registry.GetOrLoadAllValidators())
    assert context.Validate(stage) == []
    stage.Save()
    assert problems(layer)
