"""Predictions made by hand for the tests: no two values alike, and images without symmetry."""

from pathlib import Path

import numpy as np
from PIL import Image

from houdini_bridge.results import write as writer
from houdini_bridge.results.config import ImportConfig

CELL, COLUMNS = 5, 3
NAMES = [
    *("T-shirt/top", "Hose", "Größe, «L»", "платье", "コート"),
    *("$a_b$", "_bag", 'a "b"', "x y", "ñ"),
]


def arrays(count: int = 7) -> dict[str, np.ndarray]:
    """The content of a predictions.npz."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (count, 10))
    probabilities = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    prediction = probabilities.argmax(1)
    label = np.where(np.arange(count) % 3 == 1, (prediction + 1) % 10, prediction)
    map3d = random.normal(0, 7, (count, 3)).astype(np.float32) + np.float32(3)
    return {
        "version": np.array(1),
        "index": 100 + random.permutation(count),
        "label": label,
        "prediction": prediction,
        "probabilities": probabilities,
        "embedding": random.normal(size=(count, 4)).astype(np.float32),
        "map2d": map3d[:, :2] * np.float32(0.1),
        "map3d": map3d,
        "class_names": np.array(NAMES),
        "atlas_columns": np.array(COLUMNS),
        "atlas_cell": np.array(CELL),
    }


def image_of(number: int) -> np.ndarray:
    """Image i of the atlas: an L, brighter with i, that is itself in no mirror and no turn."""
    image = np.zeros((CELL, CELL), np.uint8)
    image[:, 0] = image[-1, :3] = 20 + number
    return image


def atlas(count: int = 7, columns: int = COLUMNS) -> np.ndarray:
    """Images in reading order, an image at a time."""
    pixels = np.zeros((-(-count // columns) * CELL, columns * CELL), np.uint8)
    for number in range(count):
        top, left = number // columns * CELL, number % columns * CELL
        pixels[top : top + CELL, left : left + CELL] = image_of(number)
    return pixels


def write(folder: Path, count: int = 7, **changed) -> Path:
    """predictions.npz with some arrays changed (None: left out), and the atlas beside it."""
    content = {**arrays(count), **changed}
    np.savez_compressed(
        folder / "predictions.npz",
        **{name: array for name, array in content.items() if array is not None},
    )
    Image.fromarray(atlas(count)).save(folder / "atlas.png")
    return folder / "predictions.npz"


def imported(folder: Path, count: int = 7, which: str = "2d", **changed) -> Path:
    """What `import` writes, without the picture; the atlas as PGM too, for the VEX shim."""
    config = ImportConfig(predictions=write(folder, count, **changed), map=which)
    drawn, writer.preview = writer.preview, lambda *_: None
    try:
        writer.write(config)
    finally:
        writer.preview = drawn
    Image.fromarray(atlas(count)).save(config.folder / "atlas.pgm")
    return config.folder
