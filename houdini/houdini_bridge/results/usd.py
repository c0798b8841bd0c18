"""Writes a cloud as a USD layer: the same points three times, for three kinds of use.

    /World/cards      Mesh: a textured square a point, its uv in the atlas; this one is visible
    /World/points     Points: width pscale, colour of the class
    /World/instances  PointInstancer: ten prototypes, a class each, to be replaced by assets
    /World/materials  the atlas as emission, so that the cards need no light

Texture coordinates start at the bottom in USD too, so uv is the cloud's. Attributes are primvars
of the same names (`primvars:pred`); P, Cd, uv and pscale go where USD has a place for them.
"""

import numpy as np
from jaxtyping import Float32, Int32
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade, Vt

from houdini_bridge.results.cloud import SRGB, Cloud, linear

CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
"""Of a card, counter-clockwise from the lower left as seen from +z: USD's default winding."""
PRIMVARS = ("confidence", "label", "pred", "variant", "correct")
ROLES = {
    "displayColor": Sdf.ValueTypeNames.Color3fArray,
    "st": Sdf.ValueTypeNames.TexCoord2fArray,
}


def usd_stage(cloud: Cloud, atlas: str) -> Usd.Stage:
    """A stage in memory.

    Args:
        atlas: the atlas's path, from where the layer will lie.
    """
    stage = Usd.Stage.CreateInMemory(".usda")
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)  # Houdini's
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    world = UsdGeom.Xform.Define(stage, "/World")
    stage.SetDefaultPrim(world.GetPrim())
    UsdGeom.Scope.Define(stage, "/World/materials")
    _cards(stage, cloud, _atlas_material(stage, atlas))
    for other in (_points(stage, cloud), _instances(stage, cloud)):
        UsdGeom.Imageable(other).MakeInvisible()  # or all three would be drawn into each other
    return stage


def usd_text(cloud: Cloud, atlas: str) -> str:
    """The stage as the text of a .usda file."""
    stage = usd_stage(cloud, atlas)  # a layer dies with its stage
    return stage.GetRootLayer().ExportToString()


def card_points(cloud: Cloud) -> Float32[np.ndarray, "N 4 3"]:
    """Corners of the cards: squares of side pscale around P, facing +z."""
    square = np.pad(CORNERS - 0.5, ((0, 0), (0, 1)))  # (4, 3)
    return cloud["P"][:, None] + cloud["pscale"][:, None, None] * square


def card_uv(cloud: Cloud) -> Float32[np.ndarray, "N 4 2"]:
    """Texture coordinates of the cards' corners."""
    return cloud["uv"][:, None, :2] + cloud.uv_size * CORNERS


def _cards(stage: Usd.Stage, cloud: Cloud, material: UsdShade.Material) -> None:
    corners = card_points(cloud).reshape(-1, 3)
    mesh = UsdGeom.Mesh.Define(stage, "/World/cards")
    mesh.CreatePointsAttr(_vec3(corners))
    mesh.CreateFaceVertexCountsAttr(_ints(np.full(len(cloud), 4)))
    mesh.CreateFaceVertexIndicesAttr(_ints(np.arange(4 * len(cloud))))
    mesh.CreateExtentAttr(_extent(corners, corners))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)  # squares are not to be rounded
    mesh.CreateDoubleSidedAttr(True)
    uv = Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(card_uv(cloud).reshape(-1, 2)))
    _primvar(mesh, "st", ROLES["st"], uv, UsdGeom.Tokens.faceVarying)
    _describe(mesh, cloud, UsdGeom.Tokens.uniform)
    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)


def _points(stage: Usd.Stage, cloud: Cloud) -> UsdGeom.Points:
    points = UsdGeom.Points.Define(stage, "/World/points")
    points.CreatePointsAttr(_vec3(cloud["P"]))
    points.CreateWidthsAttr(Vt.FloatArray.FromNumpy(cloud["pscale"]))
    points.SetWidthsInterpolation(UsdGeom.Tokens.vertex)
    points.CreateIdsAttr(Vt.Int64Array.FromNumpy(cloud["image"].astype(np.int64)))
    radius = cloud["pscale"][:, None] / 2
    points.CreateExtentAttr(_extent(cloud["P"] - radius, cloud["P"] + radius))
    _colour(points, cloud["Cd"])
    _describe(points, cloud, UsdGeom.Tokens.vertex)
    return points


def _instances(stage: Usd.Stage, cloud: Cloud) -> UsdGeom.PointInstancer:
    instancer = UsdGeom.PointInstancer.Define(stage, "/World/instances")
    for number, colour in enumerate(linear(SRGB)):
        # not the class's name: it may hold what a prim's name must not
        cube = UsdGeom.Cube.Define(stage, f"/World/instances/prototypes/class_{number}")
        cube.CreateSizeAttr(1.0)
        cube.CreateExtentAttr(_extent(np.full((1, 3), -0.5), np.full((1, 3), 0.5)))
        cube.CreateDisplayColorAttr(_vec3(colour[None]))
        cube.GetPrim().SetMetadata("comment", cloud.class_names[number])
        instancer.GetPrototypesRel().AddTarget(cube.GetPath())
    instancer.CreateProtoIndicesAttr(_ints(cloud["variant"]))
    instancer.CreatePositionsAttr(_vec3(cloud["P"]))
    instancer.CreateScalesAttr(_vec3(np.repeat(cloud["pscale"][:, None], 3, 1)))
    instancer.CreateIdsAttr(Vt.Int64Array.FromNumpy(cloud["image"].astype(np.int64)))
    half = cloud["pscale"][:, None] / 2
    instancer.CreateExtentAttr(_extent(cloud["P"] - half, cloud["P"] + half))
    _describe(instancer, cloud, UsdGeom.Tokens.vertex)
    return instancer


def _atlas_material(stage: Usd.Stage, atlas: str) -> UsdShade.Material:
    names = Sdf.ValueTypeNames
    material = UsdShade.Material.Define(stage, "/World/materials/atlas")
    reader = UsdShade.Shader.Define(stage, "/World/materials/atlas/reader")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", names.String).Set("st")
    texture = UsdShade.Shader.Define(stage, "/World/materials/atlas/texture")
    texture.CreateIdAttr("UsdUVTexture")
    texture.CreateInput("file", names.Asset).Set(Sdf.AssetPath(atlas))
    texture.CreateInput("sourceColorSpace", names.Token).Set("sRGB")  # greys as on a screen
    for wrap in ("wrapS", "wrapT"):
        texture.CreateInput(wrap, names.Token).Set("clamp")
    uv = reader.CreateOutput("result", names.Float2)
    texture.CreateInput("st", names.Float2).ConnectToSource(uv)
    surface = UsdShade.Shader.Define(stage, "/World/materials/atlas/surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    surface.CreateInput("diffuseColor", names.Color3f).Set(Gf.Vec3f(0))
    surface.CreateInput("roughness", names.Float).Set(1.0)
    rgb = texture.CreateOutput("rgb", names.Float3)
    surface.CreateInput("emissiveColor", names.Color3f).ConnectToSource(rgb)
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", names.Token))
    return material


def _describe(prim: UsdGeom.Imageable, cloud: Cloud, interpolation: str) -> None:
    """The cloud's own attributes as primvars, a value a point; `image` too where ids are not."""
    for name in (*PRIMVARS, "image"):
        values = cloud[name]
        if values.dtype.kind == "f":
            kind, array = Sdf.ValueTypeNames.FloatArray, Vt.FloatArray.FromNumpy(values)
        else:
            kind, array = Sdf.ValueTypeNames.IntArray, _ints(values)
        _primvar(prim, name, kind, array, interpolation)
    names = Vt.StringArray(list(cloud.class_names))
    kind = Sdf.ValueTypeNames.StringArray
    _primvar(prim, "class_name", kind, names, interpolation).SetIndices(_ints(cloud["pred"]))


def _colour(prim: UsdGeom.Imageable, colours: Float32[np.ndarray, "N 3"]) -> None:
    _primvar(prim, "displayColor", ROLES["displayColor"], _vec3(colours), UsdGeom.Tokens.vertex)


def _primvar(
    prim: UsdGeom.Imageable, name: str, kind: Sdf.ValueTypeName, values, interpolation: str
) -> UsdGeom.Primvar:
    made = UsdGeom.PrimvarsAPI(prim).CreatePrimvar(name, kind, interpolation)
    made.Set(values)
    return made


def _extent(low: np.ndarray, high: np.ndarray) -> Vt.Vec3fArray:
    return _vec3(np.stack([low.min(0), high.max(0)]))


def _vec3(values: np.ndarray) -> Vt.Vec3fArray:
    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values, np.float32))


def _ints(values: Int32[np.ndarray, "N"] | np.ndarray) -> Vt.IntArray:
    return Vt.IntArray.FromNumpy(np.ascontiguousarray(values, np.int32))
