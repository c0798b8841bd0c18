"""Tabletop scenes as a robot's camera sees them: what stands on the table, pictures, exact boxes.

`draw_world` draws camera, lamp, table and objects at random, `raycast.cast` turns rays into linear
light, `render_scene` develops a picture from it. Units are raycast's: decimetres, z is up.
"""

import colorsys
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from numpy import ndarray

from detection.raycast import (
    BOX,
    CLASSES,
    CYLINDER,
    PATTERNS,
    SPHERE,
    Camera,
    Material,
    Solid,
    World,
    cast,
)
from trainloop.progress import progress_bar

VERSION = 3  # raise it whenever a pixel or a box changes: it is part of the cache's file name
MAX_OBJECTS = 6
MIN_VISIBILITY = 0.15  # visible share below which an object is marked `ignore`
MIN_PIXELS = 12  # visible pixels below which an object is marked `ignore`
GAP = 0.04  # decimetres left free between two footprints
SUBPIXELS = np.array([[-1, -3], [3, -1], [-3, 1], [1, 3]], np.float32) / 8  # rotated grid


@dataclass(frozen=True)
class Scene:
    """One picture and what is to be found in it: n objects, 0 to MAX_OBJECTS."""

    image: UInt8[ndarray, "H W 3"]
    boxes_xyxy: Float32[ndarray, "n 4"]
    """Pixels: left and top edge of the first visible pixel, right and bottom edge of the last."""
    labels: Int64[ndarray, " n"]
    visibility: Float32[ndarray, " n"]
    """Visible pixels over the pixels of the picture that the object would cover alone, (0, 1]."""
    ignore: Bool[ndarray, " n"]
    """Hardly visible: below MIN_VISIBILITY or MIN_PIXELS."""


# --- drawing a world ---------------------------------------------------------------------------


def _yaw(angle: float) -> ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float32)


def _colour(rng: np.random.Generator, hue: tuple, saturation: tuple, value: tuple) -> ndarray:
    hsv = (rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))
    return np.square(colorsys.hsv_to_rgb(*hsv), dtype=np.float32)  # display -> linear light


def _two_tone(rng: np.random.Generator, calm: float) -> ndarray:
    """(2, 3) colours for tables and floors: shades of one with probability `calm`."""
    kinds = [
        ((0.05, 0.12), (0.25, 0.65), (0.35, 0.85)),  # wood
        ((0.0, 1.0), (0.0, 0.12), (0.2, 0.95)),  # stone, steel, white
        ((0.0, 1.0), (0.2, 0.6), (0.25, 0.75)),  # paint, cloth
    ]
    first, second = (_colour(rng, *kinds[rng.choice(3, p=[0.45, 0.35, 0.2])]) for _ in range(2))
    return np.stack([first, first * rng.uniform(0.4, 0.85) if rng.random() < calm else second])


def _material(rng, colours: ndarray, odds: list, wavelength: tuple, gloss: float = 0.0) -> Material:
    """`odds`: of each pattern; `wavelength`: range in decimetres."""
    waves = _yaw(rng.uniform(0, 2 * np.pi)) * np.float32(2 * np.pi / rng.uniform(*wavelength))
    pattern = PATTERNS[rng.choice(len(PATTERNS), p=odds)]
    return Material(colours, pattern, waves, gloss, float(10 ** rng.uniform(1.1, 2.1)))


def _draw_camera(rng: np.random.Generator, size: int) -> Camera:
    pitch, azimuth = rng.uniform(np.radians(18), np.radians(65)), rng.uniform(0, 2 * np.pi)
    roll, view = rng.normal(0, np.radians(3)), np.radians(rng.uniform(38, 58))
    distance = rng.uniform(2.0, 3.6) / np.tan(view / 2)  # a wide view comes closer
    right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    flat = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    forward = flat * np.cos(pitch) - np.array([0, 0, np.sin(pitch)])
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    axes = np.stack([c * right + s * down, c * down - s * right, forward]).astype(np.float32)
    position = np.append(rng.uniform(-0.4, 0.4, 2), 0.3) - distance * forward
    return Camera(position.astype(np.float32), axes, float(0.5 * size / np.tan(view / 2)), size)


def _draw_object(rng: np.random.Generator) -> tuple[Solid, float]:
    """A solid that touches z = 0 below the origin, and the radius of its footprint's circle."""
    kind = int(rng.integers(len(CLASSES)))
    axes, half = _yaw(rng.uniform(0, 2 * np.pi)), np.full(3, rng.uniform(0.25, 0.6), np.float32)
    if kind == BOX:
        half *= rng.uniform(0.55, 1.3, 3).astype(np.float32)
    elif kind == CYLINDER:
        half *= np.array([0.8, 0.8, rng.uniform(0.5, 1.6)], np.float32)
    lying = kind == CYLINDER and rng.random() < 0.15
    axes = axes[[2, 0, 1]] if lying else axes  # its third axis, the long one, becomes horizontal
    height, *footprint = half if lying else half[[2, 0, 1]]
    is_round = kind == SPHERE or (kind == CYLINDER and not lying)
    radius = footprint[0] if is_round else np.hypot(*footprint)
    colours = np.stack([_colour(rng, (0, 1), (0.1, 1), (0.2, 1)) for _ in range(2)])
    gloss = float(rng.uniform(0.2, 0.9)) if rng.random() < 0.5 else 0.0
    material = _material(rng, colours, [0.84, 0.06, 0.04, 0.03, 0.01, 0.02], (0.2, 0.6), gloss)
    return Solid(kind, np.array([0, 0, height], np.float32), axes, half, material), float(radius)


def draw_world(rng: np.random.Generator, size: int) -> World:
    """Camera, lamp, table and 1 to MAX_OBJECTS objects that stand free of each other."""
    camera = _draw_camera(rng, size)
    half = np.append(rng.uniform(2.2, 4.5, 2), 0.15).astype(np.float32)
    axes, odds = _yaw(rng.uniform(0, 2 * np.pi)), [0.15, 0.1, 0.12, 0.18, 0.35, 0.1]
    top = _material(rng, _two_tone(rng, 0.7), odds, (0.5, 1.6), float(rng.choice([0.0, 0.15])))
    solids = [Solid(BOX, np.array([0, 0, -0.15], np.float32), axes, half, top)]

    reach = rng.uniform(1.2, 2.4)  # decimetres: from crowded to scattered
    taken = np.empty((0, 3), np.float32)  # x, y and radius of the footprints so far
    for _ in range(rng.choice(MAX_OBJECTS, p=[0.14, 0.16, 0.17, 0.17, 0.18, 0.18]) + 1):
        solid, radius = _draw_object(rng)
        places = np.zeros((3, 40), np.float32)
        places[:2] = rng.uniform(-reach, reach, (2, 40))
        pixels, depth = camera.project(places + solid.centre[:, None])
        free = (np.abs(pixels - size / 2).max(0) < 0.48 * size) & (depth > 2)
        free &= (np.abs(axes[:2] @ places) < half[:2, None] - radius).all(0)
        away = np.hypot(*(places[:2, None] - taken[:, :2].T[:, :, None]))  # (taken, 40)
        free &= (away > taken[:, 2:] + radius + GAP).all(0)
        if free.any():  # else there is no room: one object fewer
            place = places[:, free.argmax()]
            taken = np.vstack([taken, [*place[:2], radius]])
            centre = solid.centre + place
            solids.append(Solid(solid.kind, centre, solid.axes, solid.half, solid.material))

    warm, turn, far = rng.uniform(-0.12, 0.12), rng.uniform(0, 2 * np.pi), rng.uniform(1, 6)
    tint = np.array([warm, 0, -warm], np.float32)
    return World(
        camera,
        solids,
        lamp=np.array([far * np.cos(turn), far * np.sin(turn), rng.uniform(4, 9)], np.float32),
        lamp_colour=(1 + tint) * np.float32(rng.uniform(0.7, 1.1)),
        ambient=(1 - tint) * np.float32(rng.uniform(0.15, 0.45)),
        floor_z=-rng.uniform(3, 7),
        floor=_material(rng, _two_tone(rng, 0.9), odds, (2, 8)),
        wall=_two_tone(rng, 1.0),
    )


# --- the picture -------------------------------------------------------------------------------


def _rough(colour: ndarray) -> ndarray:
    """(H, W) bool: pixels that differ from a neighbour; there one ray a pixel is not enough.

    Contrast finds outlines, edges of shadows and patterns alike.
    """
    tone = np.sqrt(colour.sum(0))  # the eye, too, tells dark shades apart better than light ones
    rough = np.zeros(tone.shape, bool)
    for view, edge in ((rough, np.diff(tone, axis=0)), (rough.T, np.diff(tone, axis=1).T)):
        edge = np.abs(edge) > 0.12
        view[1:] |= edge
        view[:-1] |= edge
    return rough


def _develop(colour: ndarray, rng: np.random.Generator) -> UInt8[ndarray, "H W 3"]:
    """What lens, sensor and camera make of linear light (3, H, W)."""
    side = np.float32(rng.uniform(0, 0.22))  # blur: the weight of each neighbour
    for _ in range(2):  # along the rows, then, transposed, along the columns
        padded = np.pad(colour, [(0, 0), (0, 0), (1, 1)], "edge")
        colour = (1 - 2 * side) * colour + side * (padded[..., 2:] + padded[..., :-2])
        colour = colour.transpose(0, 2, 1)
    exposure = np.float32(rng.uniform(0.16, 0.34)) / colour.mean()
    colour = colour * (exposure * rng.uniform(0.9, 1.1, (3, 1, 1)).astype(np.float32))
    colour = np.sqrt(np.clip(colour, 0, 1))  # gamma 2: linear -> display
    noise = np.float32(10 ** rng.uniform(-2.5, -1.5))  # of the sensor
    colour += noise * rng.standard_normal(colour.shape, np.float32)
    return (np.clip(colour, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)


def render_scene(seed: int, index: int, size: int = 128) -> Scene:
    """Scene `index` of `seed`, `size` pixels square; it depends on no other scene."""
    rng = np.random.default_rng((seed, index))
    world = draw_world(rng, size)
    centres = np.indices((size, size), np.float32)[::-1] + np.float32(0.5)  # (2, H, W): x, y
    colour, owner, alone = cast(world, world.camera.rays(centres.reshape(2, -1)))
    colour, owner = colour.reshape(3, size, size), owner.reshape(size, size)
    rough = _rough(colour)
    samples = (centres[:, None, rough] + SUBPIXELS.T[:, :, None]).reshape(2, -1)
    colour[:, rough] = cast(world, world.camera.rays(samples))[0].reshape(3, 4, -1).mean(1)

    found = [(i, *np.nonzero(owner == i)) for i in range(1, len(world.solids))]
    found = [(i, rows, cols) for i, rows, cols in found if rows.size]  # else wholly hidden
    boxes = [(x.min(), y.min(), x.max() + 1, y.max() + 1) for _, y, x in found]
    pixels = np.array([rows.size for _, rows, _ in found])
    visibility = (pixels / [alone[i] for i, *_ in found]).astype(np.float32)
    return Scene(
        image=_develop(colour, rng),
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array([world.solids[i].kind for i, *_ in found], np.int64),
        visibility=visibility,
        ignore=(visibility < MIN_VISIBILITY) | (pixels < MIN_PIXELS),
    )


# --- many scenes -------------------------------------------------------------------------------


def _render_chunk(seed: int, size: int, indices: range) -> dict[str, ndarray]:
    n = len(indices)
    arrays = {
        "images": np.zeros((n, size, size, 3), np.uint8),
        "boxes_xyxy": np.zeros((n, MAX_OBJECTS, 4), np.float32),
        "labels": np.full((n, MAX_OBJECTS), -1, np.int64),
        "visibility": np.zeros((n, MAX_OBJECTS), np.float32),
        "ignore": np.zeros((n, MAX_OBJECTS), bool),
    }
    for row, index in enumerate(indices):
        scene = render_scene(seed, index, size)
        arrays["images"][row] = scene.image
        for key in ("boxes_xyxy", "labels", "visibility", "ignore"):
            arrays[key][row, : len(scene.labels)] = getattr(scene, key)
    return arrays


@contextmanager
def _lean_workers() -> Iterator[None]:
    """Processes started inside have one thread each and do not import the caller's main module.

    A spawned worker would import the main script again: for `train` that is seconds of torch, and
    in a script without `if __name__ == "__main__"` it would start workers of its own.
    """
    main, threads = sys.modules["__main__"], os.environ.get("OPENBLAS_NUM_THREADS")
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        del os.environ["OPENBLAS_NUM_THREADS"]
        if threads is not None:
            os.environ["OPENBLAS_NUM_THREADS"] = threads


def render_split(
    seed: int,
    first_index: int,
    count: int,
    size: int = 128,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, ndarray]:
    """`count` >= 1 scenes from first_index on; `workers` (None: one per core) changes no value.

    Returns:
        images (N, H, W, 3) uint8, and with M = MAX_OBJECTS: boxes_xyxy (N, M, 4) float32 in pixels,
        labels (N, M) int64, visibility (N, M) float32, ignore (N, M) bool. Where a scene has
        fewer objects the rest is 0, with label -1.
    """
    workers, end = workers or len(os.sched_getaffinity(0)), first_index + count
    chunks = [range(i, min(i + 16, end)) for i in range(first_index, end, 16)]
    render = partial(_render_chunk, seed, size)
    with ExitStack() as stack:
        parts = map(render, chunks)
        if workers > 1 and len(chunks) > 2:
            spawn = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(workers, spawn))
            with _lean_workers():
                parts = pool.map(render, chunks)  # submits all, so that all workers start here
        bar = stack.enter_context(progress_bar(count, "scene", "rendering", disable=not progress))
        arrays = []
        for part in parts:
            arrays.append(part)
            bar.update(len(part["labels"]))
    return {key: np.concatenate([part[key] for part in arrays]) for key in arrays[0]}
