"""Checks of a USD layer that USD's own validators do not make.

`UsdValidation` passes an instancer whose index has no prototype, a primvar of two values on three
points, an extent that holds nothing, and a texture reader that names a missing primvar. Renderers
drop such a prim without a word, or crash.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pxr import Usd, UsdGeom, UsdShade

TOLERANCE = 1e-4  # of an extent, relative to its size: it is stored as float32


def problems(path: Path) -> list[str]:
    """What is wrong with the layer at `path`, a line each; nothing for a sound one."""
    stage = Usd.Stage.Open(str(path))
    found = []
    for prim in stage.Traverse():
        for kind, check in ((UsdGeom.Points, _points), (UsdGeom.Mesh, _mesh)):
            if prim.IsA(kind):
                found += [f"{prim.GetPath()}: {line}" for line in check(kind(prim))]
        if prim.IsA(UsdGeom.PointInstancer):
            found += [f"{prim.GetPath()}: {line}" for line in _instancer(prim)]
        if prim.IsA(UsdShade.Shader):
            found += [f"{prim.GetPath()}: {line}" for line in _texture(prim)]
        found += [f"{prim.GetPath()}: {line}" for line in _reader(prim)]
    return found


def _points(points: UsdGeom.Points) -> Iterator[str]:
    where = _array(points.GetPointsAttr())
    widths, ids = _array(points.GetWidthsAttr()), _array(points.GetIdsAttr())
    yield from _same_length(len(where), widths=widths, ids=ids)
    yield from _unique(ids)
    if len(widths) == len(where):
        half = widths[:, None] / 2
        yield from _extent(points, where - half, where + half)
    yield from _primvars(points.GetPrim(), {"vertex": len(where), "varying": len(where)})


def _instancer(prim: Usd.Prim) -> Iterator[str]:
    instancer = UsdGeom.PointInstancer(prim)
    where, ids = _array(instancer.GetPositionsAttr()), _array(instancer.GetIdsAttr())
    indices, scales = _array(instancer.GetProtoIndicesAttr()), _array(instancer.GetScalesAttr())
    yield from _same_length(len(where), protoIndices=indices, ids=ids, scales=scales)
    yield from _unique(ids)
    targets = instancer.GetPrototypesRel().GetTargets()
    gone = [target for target in targets if not prim.GetStage().GetPrimAtPath(target)]
    for target in gone:
        yield f"there is no prototype {target}"
    if len(indices) and not (indices.min() >= 0 and indices.max() < len(targets)):
        yield f"protoIndices reach {indices.min()} to {indices.max()} of {len(targets)} prototypes"
    elif not gone and len(scales) == len(where) == len(indices):  # else USD cannot compute one
        true = instancer.ComputeExtentAtTime(Usd.TimeCode.Default(), Usd.TimeCode.Default())
        yield from _extent(instancer, np.array(true)[:1], np.array(true)[1:])
    yield from _primvars(prim, {"vertex": len(where), "varying": len(where)})


def _mesh(mesh: UsdGeom.Mesh) -> Iterator[str]:
    where = _array(mesh.GetPointsAttr())
    counts = _array(mesh.GetFaceVertexCountsAttr())
    corners = _array(mesh.GetFaceVertexIndicesAttr())
    if counts.sum() != len(corners):
        yield f"faces have {counts.sum()} corners, faceVertexIndices {len(corners)}"
    if len(corners) and not (corners.min() >= 0 and corners.max() < len(where)):
        yield f"faceVertexIndices reach {corners.min()} to {corners.max()} of {len(where)} points"
    if len(where):
        yield from _extent(mesh, where, where)
    lengths = {"vertex": len(where), "varying": len(where), "uniform": len(counts)}
    yield from _primvars(mesh.GetPrim(), {**lengths, "faceVarying": len(corners)})


def _primvars(prim: Usd.Prim, lengths: dict[str, int]) -> Iterator[str]:
    """As many values as the interpolation asks for, indices in range, texture coordinates too."""
    for primvar in UsdGeom.PrimvarsAPI(prim).GetPrimvarsWithValues():
        name, values = primvar.GetPrimvarName(), primvar.Get()
        wanted = lengths.get(primvar.GetInterpolation(), 1)
        found = values
        if primvar.IsIndexed():
            found = np.array(primvar.GetIndices())
            if len(found) and not (found.min() >= 0 and found.max() < len(values)):
                yield f"primvar {name} has an index outside its {len(values)} values"
        if len(found) != wanted:
            yield f"primvar {name} has {len(found)} values, not {wanted}"
        if name == "st" and (np.array(values).min() < -1e-6 or np.array(values).max() > 1 + 1e-6):
            yield "primvar st lies outside the texture"


def _reader(prim: Usd.Prim) -> Iterator[str]:
    """Every primvar that the bound material reads is there."""
    material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
    if not material or not prim.IsA(UsdGeom.Gprim):
        return
    for inside in Usd.PrimRange(material.GetPrim()):
        shader = UsdShade.Shader(inside)
        if shader and (shader.GetShaderId() or "").startswith("UsdPrimvarReader"):
            name = shader.GetInput("varname").Get()
            if not UsdGeom.PrimvarsAPI(prim).GetPrimvar(name).HasValue():
                yield f"its material reads a primvar {name!r}, which it lacks"


def _texture(prim: Usd.Prim) -> Iterator[str]:
    shader = UsdShade.Shader(prim)
    if shader.GetShaderId() == "UsdUVTexture":
        file = shader.GetInput("file").Get()
        if not file or not file.resolvedPath or not Path(file.resolvedPath).is_file():
            yield f"there is no texture {file.path if file else ''}"


def _extent(prim: UsdGeom.Boundable, low: np.ndarray, high: np.ndarray) -> Iterator[str]:
    true = np.stack([low.min(0), high.max(0)])
    found = _array(prim.GetExtentAttr())
    slack = TOLERANCE * max(1e-30, float(np.abs(true).max()))
    if found.shape != (2, 3) or np.abs(found - true).max() > slack:
        yield f"extent is {found.tolist()}, not {true.tolist()}"


def _same_length(count: int, **arrays: np.ndarray) -> Iterator[str]:
    for name, array in arrays.items():
        if len(array) != count:
            yield f"{name} has {len(array)} values, not {count}"


def _unique(ids: np.ndarray) -> Iterator[str]:
    if len(np.unique(ids)) != len(ids):
        yield "two ids are the same"


def _array(attribute: Usd.Attribute) -> np.ndarray:
    """Its values; none where it has none."""
    values = attribute.Get()
    return np.zeros(0, np.int64) if values is None else np.array(values)
