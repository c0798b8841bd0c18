"""The predictions as Houdini's point attributes: what all files of an import say alike.

    P           place on the map, centred on the origin; z is 0 on the 2-D map
    Cd          colour of the predicted class, linear RGB
    uv          lower left corner of the image in the atlas; its opposite corner is uv + uv_size
    pscale      side of a card
    confidence  probability of the predicted class
    image       number of the image in the test set
    label, pred true and predicted class
    variant     which asset to copy here: the predicted class
    correct     1 where pred is label
    ink         mean grey of the image, 0 (black) to 1, as the file has it: a program that reads
                other greys has changed their colour space
    class_name  of the predicted class

What is seen (colour, asset, name) is what the classifier says; `correct` and `label` tell where it
is wrong.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, Shaped, UInt8

from houdini_bridge.results.npz import Results

SRGB = np.array(
    [
        [0.122, 0.467, 0.706], [1.000, 0.498, 0.055], [0.173, 0.627, 0.173], [0.839, 0.153, 0.157],
        [0.580, 0.404, 0.741], [0.549, 0.337, 0.294], [0.890, 0.467, 0.761], [0.498, 0.498, 0.498],
        [0.737, 0.741, 0.133], [0.090, 0.745, 0.812],
    ]
)  # fmt: skip
"""A colour for each class, as a screen shows it: Tableau's ten."""


@dataclass(frozen=True)
class Cloud:
    """N points with attributes; see the module's docstring.

    Attributes:
        values: attribute -> its values, float32 or int32, in the order of the files.
        class_names: of the ten classes; point i has the name `class_names[pred[i]]`.
        uv_size: width and height of an image in the atlas, in texture coordinates.
    """

    values: dict[str, Shaped[np.ndarray, "N ..."]]
    class_names: tuple[str, ...]
    uv_size: Float32[np.ndarray, "2"]

    def __len__(self) -> int:
        return len(self.values["P"])

    def __getitem__(self, name: str) -> Shaped[np.ndarray, "N ..."]:
        return self.values[name]


def cloud_of(results: Results, which: str, size: float | int) -> Cloud:
    """The attributes of all predictions.

    Args:
        which: map, "2d" or "3d".
        size: longest side of the map's bounding box afterwards.
    """
    positions = place(results.map2d if which == "2d" else results.map3d, size)
    columns, count = results.atlas_columns, len(results)
    rows = -(-count // columns)
    prediction = results.prediction.astype(np.int32)
    chosen = np.take_along_axis(results.probabilities, results.prediction[:, None], 1)[:, 0]
    # of a square as large as the map the cards would cover a third: maps have dense places
    side = 0.6 * size / count**0.5
    values = {
        "P": positions,
        "Cd": linear(SRGB)[prediction],
        "uv": atlas_uv(np.arange(count), columns, rows),
        "pscale": np.full(count, side, np.float32),
        "confidence": chosen.astype(np.float32),
        "image": results.index.astype(np.int32),
        "label": results.label.astype(np.int32),
        "pred": prediction,
        "variant": prediction,
        "correct": (results.label == results.prediction).astype(np.int32),
        "ink": ink(results.atlas, results.atlas_cell)[:count],
    }
    return Cloud(values, results.class_names, np.array([1 / columns, 1 / rows], np.float32))


def ink(atlas: UInt8[np.ndarray, "H W"], cell: int) -> Float32[np.ndarray, "cells"]:
    """Mean grey of each of the atlas's cells, 0 to 1, in reading order."""
    high, wide = (side // cell for side in atlas.shape)
    cells = atlas.reshape(high, cell, wide, cell).mean((1, 3))
    return (cells.ravel() / 255).astype(np.float32)


def place(points: Float[np.ndarray, "N K"], size: float | int) -> Float32[np.ndarray, "N 3"]:
    """2-D or 3-D points, centred on the origin and scaled alike along all axes to fit the size.

    A single point, or points that are all the same, lie on the origin.
    """
    points = points.astype(np.float64)  # float32 maps may span more than float32 can subtract
    low, high = points.min(0), points.max(0)
    extent = (high - low).max()
    centred = (points - (low + high) / 2) * (size / extent if extent > 0 else 1.0)
    return np.pad(centred, ((0, 0), (0, 3 - centred.shape[1]))).astype(np.float32)


def atlas_uv(cells: Int[np.ndarray, "N"], columns: int, rows: int) -> Float32[np.ndarray, "N 3"]:
    """Lower left corner of atlas cells in texture coordinates.

    The atlas counts its rows from the top, texture coordinates start at the bottom: v is flipped
    here and nowhere else. The third component is 0: Houdini's uv has three.
    """
    row, column = np.divmod(cells, columns)
    corner = np.stack([column / columns, 1 - (row + 1) / rows, np.zeros(len(cells))], 1)
    return corner.astype(np.float32)


def linear(srgb: Float[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """sRGB in 0..1 to linear light (IEC 61966-2-1), as Cd and USD's displayColor are."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )


def plain(values: Shaped[np.ndarray, "*shape"]) -> list:
    """Values as nested lists of Python numbers, for text files.

    A float32 becomes the shortest decimal that reads back as the same float32: 0.1, where `tolist`
    gives 0.10000000149011612.
    """
    if values.dtype != np.float32:
        return values.tolist()
    # most values are there often (ten colours, one pscale), and text is slow: each only once
    once, where = np.unique(values, return_inverse=True)
    return once.astype("U32").astype(np.float64)[where].reshape(values.shape).tolist()
