"""The default scene: a small ray-traced tabletop, with cameras, depth and surface known exactly.

Three balls and a box on a round checkered table, one lamp with hard shadows, highlights that move
with the eye. Units: the table's radius is 1.7; z is up. Vectorised NumPy, seconds for all views.
"""

import math

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray

from splatting.camera import Camera, look_at

VERSION = 1  # raise it whenever a pixel changes: it is part of the cache's file name
SAMPLES = 3  # rays a pixel, squared
TABLE = 1.7
CHECK = 0.34
LAMP = np.array([2.2, -2.6, 4.2], np.float32)
BACKGROUND = np.array([0.55, 0.66, 0.78], np.float32)  # as displayed
BALLS = (  # centre, radius, colour (linear), gloss
    ((-0.55, -0.15, 0.45), 0.45, (0.75, 0.07, 0.05), 0.9),
    ((0.25, -0.8, 0.26), 0.26, (0.04, 0.42, 0.40), 0.5),
    ((0.55, 0.45, 0.92), 0.22, (0.85, 0.55, 0.06), 0.5),
)
BOX_CENTRE = np.array([0.55, 0.45, 0.35], np.float32)
BOX_HALF = np.array([0.38, 0.30, 0.35], np.float32)
BOX_TURN = math.radians(28)
BOX_AXES = np.array(
    [[math.cos(BOX_TURN), math.sin(BOX_TURN), 0], [-math.sin(BOX_TURN), math.cos(BOX_TURN), 0],
     [0, 0, 1]], np.float32,
)  # fmt: skip
FIELD_OF_VIEW = 42.0  # degrees
DISTANCE = 4.6


def cameras(count: int, size: int) -> list[Camera]:
    """Cameras around the table, between 12 and 68 degrees above it, on a golden spiral."""
    focal = size / 2 / math.tan(math.radians(FIELD_OF_VIEW / 2))
    found = []
    for i in range(count):
        low, high = math.sin(math.radians(12)), math.sin(math.radians(68))
        height = low + (high - low) * (i + 0.5) / count  # equal areas of the sphere
        turn = i * math.pi * (3 - math.sqrt(5))
        flat = math.sqrt(1 - height**2)
        where = torch.tensor([flat * math.cos(turn), flat * math.sin(turn), height])
        target = torch.tensor([0.0, 0.0, 0.2])
        pose = look_at(DISTANCE * where + target, target, torch.tensor([0.0, 0.0, 1.0]))
        found.append(Camera(pose, focal, focal, size / 2, size / 2, size, size))
    return found


def _hit(origin: ndarray, ray: ndarray) -> tuple[ndarray, ndarray]:
    """Where rays (n, 3) first meet something: distance in units of `ray` (inf: nothing), and what.

    0: the table, 1 to 3: the balls, 4: the box. `origin` is (3,) or (n, 3).
    """
    near = np.full(len(ray), np.inf, np.float32)
    owner = np.full(len(ray), -1, np.int8)

    def take(t: ndarray, number: int) -> None:
        closer = (t > 1e-3) & (t < near)
        near[closer] = t[closer]
        owner[closer] = number

    t = -origin[..., 2] / ray[:, 2]
    spot = origin[..., :2] + t[:, None] * ray[:, :2]
    take(np.where((spot**2).sum(1) < TABLE**2, t, np.inf), 0)
    aa = (ray**2).sum(1)
    for number, (centre, radius, *_) in enumerate(BALLS, 1):
        off = origin - np.array(centre, np.float32)
        b = (off * ray).sum(-1)
        root = b * b - aa * ((off**2).sum(-1) - radius**2)
        take(np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / aa, np.inf), number)
    local, turned = (origin - BOX_CENTRE) @ BOX_AXES.T, ray @ BOX_AXES.T
    turned = np.where(np.abs(turned) < 1e-9, np.float32(1e-9), turned)
    one, two = (-BOX_HALF - local) / turned, (BOX_HALF - local) / turned
    enter, leave = np.minimum(one, two).max(1), np.maximum(one, two).min(1)
    take(np.where(enter < leave, enter, np.inf), 4)
    return near, owner


def _light(origin: ndarray, ray: ndarray) -> tuple[ndarray, ndarray]:
    """Displayed colour (n, 3) in [0, 1] along rays from one point, and distances as of `_hit`."""
    colour = np.broadcast_to(BACKGROUND, ray.shape).copy()
    near, owner = _hit(origin, ray)
    seen = np.flatnonzero(owner >= 0)
    owner, ray = owner[seen], ray[seen]
    point = origin + near[seen, None] * ray
    normal, albedo = np.zeros_like(point), np.zeros_like(point)
    gloss = np.zeros(len(point), np.float32)

    on = owner == 0
    normal[on] = (0, 0, 1)
    odd = np.floor(point[on, :2] / CHECK).astype(int).sum(1) % 2
    albedo[on] = np.where(odd[:, None] == 1, (0.52, 0.44, 0.34), (0.10, 0.12, 0.16))
    for number, (centre, radius, tint, shine) in enumerate(BALLS, 1):
        on = owner == number
        normal[on] = (point[on] - np.array(centre, np.float32)) / radius
        albedo[on], gloss[on] = tint, shine
    on = owner == 4
    local = (point[on] - BOX_CENTRE) @ BOX_AXES.T
    axis = np.abs(np.abs(local) / BOX_HALF - 1).argmin(1)
    facing = np.zeros_like(local)
    facing[np.arange(len(axis)), axis] = np.sign(local[np.arange(len(axis)), axis])
    normal[on] = facing @ BOX_AXES
    stripe = np.floor((local[:, 2] + local[:, 0] * (axis == 2)) / 0.1).astype(int) % 2
    albedo[on] = np.where(stripe[:, None] == 1, (0.62, 0.60, 0.55), (0.16, 0.10, 0.42))

    to_lamp = LAMP - point
    lit = _hit(point + 2e-3 * normal, to_lamp)[0] >= 1
    to_lamp /= np.linalg.norm(to_lamp, axis=1, keepdims=True)
    lit = lit * np.maximum((normal * to_lamp).sum(1), 0)
    halfway = to_lamp - ray / np.linalg.norm(ray, axis=1, keepdims=True)
    halfway /= np.linalg.norm(halfway, axis=1, keepdims=True)
    shine = gloss * (lit > 0) * np.maximum((normal * halfway).sum(1), 0) ** 40  # Blinn-Phong
    ambient = 0.18 + 0.12 * normal[:, 2]
    linear = albedo * (ambient + 1.15 * lit)[:, None] + 0.5 * shine[:, None]
    colour[seen] = np.clip(linear, 0, 1) ** (1 / 2.2)
    return colour, near


def render(camera: Camera) -> tuple[Float32[ndarray, "H W 3"], Float32[ndarray, "H W"]]:
    """The picture, and each pixel centre's depth along the axis (0: nothing there)."""
    centres = camera.pixel_centres()
    origin = camera.position.numpy()
    total = np.zeros((len(centres), 3), np.float32)
    steps = (torch.arange(SAMPLES) + 0.5) / SAMPLES - 0.5
    for dy in steps:
        for dx in steps:
            rays = camera.rays(centres + torch.stack([dx, dy]))
            total += _light(origin, rays.numpy())[0]
    near, _ = _hit(origin, camera.rays(centres).numpy())
    depth = np.where(np.isfinite(near), near, 0).astype(np.float32)
    shape = (camera.height, camera.width)
    return (total / SAMPLES**2).reshape(*shape, 3), depth.reshape(shape)
