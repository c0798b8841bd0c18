"""Rays against spheres, boxes and cylinders under one lamp, in NumPy: a world in, colours out.

Every solid is the unit ball, cube or cylinder seen through an affine map, and an affine map keeps
the t of a ray o + t d. So three short formulas in `_interval` serve camera rays (where is the first
surface?) and shadow rays (the lamp is a second camera: does it see the point?) alike.

Conventions: world units are decimetres, z is up, the table's top is z = 0. Vectors lie component
first, (3, K), so that each component is contiguous. Colours are linear light. A camera ray has
depth 1 per unit of t, so its t *is* the depth.

A change here that moves a pixel must raise `tabletop.VERSION`.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from jaxtyping import Float32, Int8
from numpy import ndarray

CLASSES = ("sphere", "box", "cylinder")
SPHERE, BOX, CYLINDER = range(3)
FLOOR_ENDS = 30  # decimetres of depth; the wall is behind
PATTERNS = ("plain", "stripes", "checks", "noise", "wood", "speckle")


@dataclass(frozen=True)
class Material:
    colours: ndarray  # (2, 3) the pattern mixes the two
    pattern: str  # one of PATTERNS
    waves: ndarray  # (3, 3) maps a point in decimetres to the pattern's three phases in radians
    gloss: float  # strength of the highlight
    shininess: float  # its exponent


@dataclass(frozen=True)
class Solid:
    kind: int  # index into CLASSES
    centre: ndarray  # (3,)
    axes: ndarray  # (3, 3) rows: the solid's own axes in the world
    half: ndarray  # (3,) half extents along them
    material: Material

    @cached_property
    def to_unit(self) -> ndarray:
        """(3, 3): from offsets to the centre into the frame in which the solid has size 1."""
        return self.axes / self.half[:, None]


@dataclass(frozen=True)
class Camera:
    position: ndarray  # (3,)
    axes: ndarray  # (3, 3) rows: right, down, forward
    focal: float  # pixels
    size: int  # pixels

    def rays(self, xy: Float32[ndarray, "2 K"]) -> Float32[ndarray, "3 K"]:
        """Directions through positions in pixels, of depth 1."""
        right_down = (xy - self.size / 2) / self.focal
        return self.axes[:2].T @ right_down + self.axes[2, :, None]

    def project(self, points: Float32[ndarray, "3 K"]) -> tuple[ndarray, ndarray]:
        """Positions in pixels (2, K) and depths (K,) of points in front of the camera."""
        *right_down, depth = self.axes @ (points - self.position[:, None])
        return np.stack(right_down) / depth * self.focal + self.size / 2, depth


@dataclass(frozen=True)
class World:
    camera: Camera
    solids: list[Solid]  # the table first, then the objects
    lamp: ndarray  # (3,) position
    lamp_colour: ndarray  # (3,)
    ambient: ndarray  # (3,) colour of the light from everywhere
    floor_z: float
    floor: Material
    wall: ndarray  # (2, 3) colours, below and above


# --- casting rays ------------------------------------------------------------------------------


def _dot(a: ndarray, b: ndarray) -> ndarray:
    """(K,) products of vectors (3, K)."""
    return np.einsum("ik,ik->k", a, b)


def _slabs(o: ndarray, d: ndarray) -> tuple[ndarray, ndarray]:
    """Where all components of o + t d are within (-1, 1)."""
    inverse = 1 / (d + 1e-9)  # a direction of exactly 0 would make 0 * inf
    middle, half = -o[:, None] * inverse, np.abs(inverse)
    return (middle - half).max(0), (middle + half).min(0)


def _interval(kind: int, o: ndarray, d: ndarray) -> tuple[ndarray, ndarray]:
    """Where the rays o + t d, o (3,), d (3, K), run inside the unit solid: t from near to far.

    All three solids are convex, so one interval says it all; near >= far means a miss.
    """
    if kind == BOX:
        return _slabs(o, d)
    n = 3 if kind == SPHERE else 2  # a ball, or an endless tube around the third axis
    a = _dot(d[:n], d[:n]) + 1e-12
    b = (o[:n] @ d[:n]) / a
    root = np.sqrt(np.maximum(b * b - (o[:n] @ o[:n] - 1) / a, 0))  # a miss: 0, an empty interval
    near, far = -b - root, root - b
    if kind == CYLINDER:  # the tube between its two lids
        bottom, top = _slabs(o[2:], d[2:])
        return np.maximum(near, bottom), np.minimum(far, top)
    return near, far


def _unit_normals(kind: int, q: ndarray) -> ndarray:
    """(3, K) outward normals of any length at points q (3, K) of the unit solid's surface."""
    if kind == SPHERE:
        return q
    size = np.abs(q)
    if kind == BOX:
        return np.where(size == size.max(0), q, 0)
    lid = size[2] > np.hypot(q[0], q[1])
    return np.where([lid, lid, ~lid], 0, q)


@cache
def _noise_tile() -> ndarray:
    """(256, 256) of 1/f noise in [0, 1] that repeats without a seam: made from its spectrum."""
    n = 256
    white = np.fft.rfft2(np.random.default_rng(0).standard_normal((n, n)))
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)) * n
    tile = np.fft.irfft2(white / np.maximum(frequency, 2) ** 1.3)
    return np.clip(0.5 + 0.2 * tile / tile.std(), 0, 1).astype(np.float32)


def _noise(x: ndarray, y: ndarray) -> ndarray:
    """Noise at phases x, y in radians; the tile repeats every 8 waves."""
    column, row = ((phase * (256 / (16 * np.pi))).astype(np.int32) & 255 for phase in (x, y))
    return _noise_tile()[row, column]


def _albedo(material: Material, points: ndarray) -> ndarray:
    """(3, K) colours at points (3, K) in the solid's own frame, decimetres."""
    first, second = material.colours[:, :, None]
    x, y, z = material.waves @ points
    match material.pattern:
        case "plain":
            return np.broadcast_to(first, points.shape)
        case "stripes":
            mix = np.clip(4 * np.sin(x + z) + 0.5, 0, 1)
        case "checks":
            mix = np.clip(8 * np.sin(x) * np.sin(y) * np.cos(z) + 0.5, 0, 1)
        case "noise":
            mix = _noise(x + z, y - z)
        case "wood":
            mix = 0.5 + 0.5 * np.sin(2 * x + 12 * _noise(0.4 * x + z, 0.08 * y + z))
        case "speckle":
            mix = np.clip(6 * _noise(5 * x + z, 5 * y - z) - 3.6, 0, 1)
    return first + (second - first) * mix


def _background(world: World, rays: ndarray) -> ndarray:
    """(3, K) colours of floor and wall, which are far away and take no shading."""
    below, above = world.wall[:, :, None]
    colour = below + (above - below) * np.clip(0.5 + 0.5 * rays[2], 0, 1)
    depth = (world.floor_z - world.camera.position[2]) / np.minimum(rays[2], -1e-3)
    floor = np.flatnonzero(depth < FLOOR_ENDS)
    depth = depth[floor]
    points = world.camera.position[:, None] + depth * rays[:, floor]
    colour[:, floor] = _albedo(world.floor, points) * (0.9 - 0.015 * depth)
    return colour * (world.ambient + 0.35 * world.lamp_colour)[:, None]


def cast(
    world: World, rays: Float32[ndarray, "3 K"]
) -> tuple[Float32[ndarray, "3 K"], Int8[ndarray, " K"], list[int]]:
    """Colours; owners (-1 background, 0 table, 1.. objects); each solid's rays were it alone."""
    position = world.camera.position
    depth, owner = np.full(rays.shape[1], np.inf, np.float32), np.full(rays.shape[1], -1, np.int8)
    alone = []
    for index, solid in enumerate(world.solids):
        origin = solid.to_unit @ (position - solid.centre)
        near, far = _interval(solid.kind, origin, solid.to_unit @ rays)
        hit = (near < far) & (near > 0)
        closer = np.flatnonzero(hit & (near < depth))
        depth[closer], owner[closer] = near[closer], index
        alone.append(int(hit.sum()))
    colour = np.empty_like(rays)
    miss, hit = np.flatnonzero(owner < 0), np.flatnonzero(owner >= 0)
    colour[:, miss] = _background(world, rays.take(miss, 1))
    colour[:, hit] = _shade(world, rays.take(hit, 1), depth[hit], owner[hit])
    return colour, owner, alone


def _shade(world: World, rays: ndarray, depth: ndarray, owner: ndarray) -> ndarray:
    """(3, K) colours where rays (3, K) meet the solids `owner` (K,), lit by lamp and sky."""
    points = world.camera.position[:, None] + depth * rays
    albedo, normal = np.empty_like(points), np.empty_like(points)
    lit, sky, shine = (np.full(owner.shape, value, np.float32) for value in (1, 1, 0))
    for index, solid in enumerate(world.solids):
        q = solid.to_unit @ (points - solid.centre[:, None])
        mine = np.flatnonzero(owner == index)
        own = q.take(mine, 1)
        albedo[:, mine] = _albedo(solid.material, own * solid.half[:, None])
        normal[:, mine] = solid.to_unit.T @ _unit_normals(solid.kind, own)
        if index == 0:
            continue  # the table darkens nothing that stands on it
        other = owner != index  # a convex solid's shade on itself is n . l < 0
        lamp = solid.to_unit @ (world.lamp - solid.centre)
        near, far = _interval(solid.kind, lamp, q - lamp[:, None])  # the point itself is t = 1
        lit[other & (near < far) & (near < 1)] = 0
        # Contact shade: a solid hides part of the sky from what is close to it. The square of the
        # distance is in half sizes, 0 below the middle.
        sky *= 1 - 0.6 * other * np.maximum(1 - (_dot(q, q) - 1) / 4, 0) ** 2

    # Blinn-Phong: n . l for the diffuse part, (n . h)^s for the highlight.
    normal /= np.sqrt(_dot(normal, normal))
    to_lamp = world.lamp[:, None] - points
    squared = _dot(to_lamp, to_lamp)
    to_lamp /= np.sqrt(squared)
    lit *= np.maximum(_dot(normal, to_lamp), 0)
    for index, solid in enumerate(world.solids):
        if solid.material.gloss:
            mine = np.flatnonzero((owner == index) & (lit > 0))
            eye = -rays.take(mine, 1)
            halfway = to_lamp.take(mine, 1) + eye / np.sqrt(_dot(eye, eye))
            cosine = _dot(normal.take(mine, 1), halfway) / np.sqrt(_dot(halfway, halfway))
            shine[mine] = solid.material.gloss * np.maximum(cosine, 0) ** solid.material.shininess
    lit *= (world.lamp @ world.lamp) / squared  # inverse square law, 1 at the table's middle
    sky *= 0.7 + 0.3 * normal[2]
    lamp_colour = world.lamp_colour[:, None]
    return albedo * (lamp_colour * lit + world.ambient[:, None] * sky) + lamp_colour * shine
