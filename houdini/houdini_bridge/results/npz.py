"""Reads `predictions.npz` and the atlas beside it, and refuses what Houdini would show wrongly.

The file is `np.savez_compressed` without pickles. N images, 10 classes:

    version        int     ()      1
    index          int     (N,)    which image of the test set; distinct
    label          int     (N,)    true class, 0 to 9
    prediction     int     (N,)    class of the largest probability
    probabilities  float   (N,10)  0 to 1, each row sums to 1
    embedding      float   (N,D)   what the classifier's last layer sees
    map2d, map3d   float   (N,2), (N,3)  the embedding, projected
    class_names    str     (10,)   any script
    atlas_columns  int     ()      images side by side in atlas.png
    atlas_cell     int     ()      pixels of an image's side

`atlas.png` is 8-bit grey and holds image i of the file (not of the test set) in cell i, row-major
from the top left corner.
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from trainloop import LabError, check

VERSION = 1
CLASSES = 10
INT32_MAX = 2**31 - 1  # Houdini's and USD's ids are written as int32
KINDS = {"i": "signed integers", "f": "floats", "U": "strings"}
FORM: dict[str, tuple[str, tuple[int | str, ...]]] = {
    "version": ("i", ()),
    "index": ("i", ("N",)),
    "label": ("i", ("N",)),
    "prediction": ("i", ("N",)),
    "probabilities": ("f", ("N", CLASSES)),
    "embedding": ("f", ("N", "D")),
    "map2d": ("f", ("N", 2)),
    "map3d": ("f", ("N", 3)),
    "class_names": ("U", (CLASSES,)),
    "atlas_columns": ("i", ()),
    "atlas_cell": ("i", ()),
}
"""Key -> kind of its dtype, shape. A letter stands for the same length everywhere."""


@dataclass(frozen=True)
class Results:
    """What a classifier says of N images; checked, see the module's docstring.

    Attributes:
        atlas: its pixels, 0 (black) to 255, row 0 at the top.
        atlas_path: where it was read.
    """

    index: Int[np.ndarray, "N"]
    label: Int[np.ndarray, "N"]
    prediction: Int[np.ndarray, "N"]
    probabilities: Float[np.ndarray, "N 10"]
    embedding: Float[np.ndarray, "N D"]
    map2d: Float[np.ndarray, "N 2"]
    map3d: Float[np.ndarray, "N 3"]
    class_names: tuple[str, ...]
    atlas_columns: int
    atlas_cell: int
    atlas: UInt8[np.ndarray, "H W"]
    atlas_path: Path

    def __len__(self) -> int:
        return len(self.index)


def read_results(path: Path) -> Results:
    """The predictions of a file, and `atlas.png` from the folder it lies in.

    Raises:
        LabError: a file is missing, damaged, of another form, or a value is out of its range.
    """
    arrays = _load(path)
    try:
        _check_form(arrays)
        _check_values(arrays)
        columns, cell = int(arrays["atlas_columns"]), int(arrays["atlas_cell"])
    except LabError as error:
        raise LabError(f"{path}: {error}: export the predictions again") from None
    atlas_path = path.with_name("atlas.png")
    atlas = _read_atlas(atlas_path, len(arrays["index"]), columns, cell)
    kept = {name: arrays[name] for name, (_, shape) in FORM.items() if "N" in shape}
    names = tuple(map(str, arrays["class_names"]))
    return Results(
        **kept,
        class_names=names,
        atlas_columns=columns,
        atlas_cell=cell,
        atlas=atlas,
        atlas_path=atlas_path,
    )


def _load(path: Path) -> dict[str, np.ndarray]:
    check(path.is_file(), f"there is no file {path}: name a predictions.npz")
    check(zipfile.is_zipfile(path), f"{path} is no .npz file, or is cut short")
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in FORM if name not in file.files]:
                raise LabError(f"{path} lacks {', '.join(missing)}: export the predictions again")
            return {name: file[name] for name in FORM}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        # ValueError: an array of objects, which would need pickle, or a broken header
        reason = str(error).partition("\n")[0]
        raise LabError(f"{path} is damaged or holds objects ({reason})") from None


def _check_form(arrays: dict[str, np.ndarray]) -> None:
    """Dtypes and shapes, and the same N everywhere."""
    lengths: dict[str, int] = {}
    for name, (kind, shape) in FORM.items():
        array = arrays[name]
        check(array.dtype.kind == kind, f"{name} holds {array.dtype}, not {KINDS[kind]}")
        fits = len(array.shape) == len(shape)
        for found, wanted in zip(array.shape, shape, strict=False):
            if isinstance(wanted, str):
                wanted = lengths.setdefault(wanted, found)
            fits = fits and found == wanted
        if not fits:
            wanted_shape = tuple(lengths.get(str(side), side) for side in shape)
            raise LabError(f"{name} has the shape {array.shape}, not {wanted_shape}")
    check(lengths["N"] > 0, "it holds no predictions")


def _check_values(arrays: dict[str, np.ndarray]) -> None:
    version = int(arrays["version"])
    check(version == VERSION, f"its version is {version}, this program reads {VERSION}")
    for name in ("probabilities", "embedding", "map2d", "map3d"):
        _refuse(~np.isfinite(arrays[name]).all(1), f"{name} is NaN or infinite")
    for name in ("label", "prediction"):
        _refuse((arrays[name] < 0) | (arrays[name] >= CLASSES), f"{name} is not 0 to {CLASSES - 1}")
    index, probabilities = arrays["index"], arrays["probabilities"]
    _refuse((index < 0) | (index > INT32_MAX), "index is negative or beyond int32")
    _, first = np.unique(index, return_index=True)
    _refuse(~np.isin(np.arange(len(index)), first), "index is there twice")
    _refuse((probabilities < 0).any(1), "a probability is negative")
    _refuse(np.abs(probabilities.sum(1) - 1) > 1e-3, "probabilities do not sum to 1")
    chosen = np.take_along_axis(probabilities, arrays["prediction"][:, None], 1)[:, 0]
    _refuse(chosen < probabilities.max(1), "prediction is not the most probable class")
    names = [str(name) for name in arrays["class_names"]]
    readable = all(name.strip() and name.isprintable() for name in names)
    check(readable, "a class name is empty or holds a control character")
    check(len(set(names)) == CLASSES, "two class names are the same")
    for name in ("atlas_columns", "atlas_cell"):
        check(int(arrays[name]) > 0, f"{name} is {arrays[name]}, not positive")


def _refuse(wrong: np.ndarray, what: str) -> None:
    """LabError with the first wrong row and how many there are."""
    if count := int(wrong.sum()):
        more = f" and {count - 1:,} more" if count > 1 else ""
        raise LabError(f"{what} in row {int(wrong.argmax())}{more}")


def _read_atlas(path: Path, count: int, columns: int, cell: int) -> UInt8[np.ndarray, "H W"]:
    check(path.is_file(), f"there is no {path}: it is exported together with predictions.npz")
    size = (columns * cell, -(-count // columns) * cell)
    try:
        with Image.open(path) as image:
            check(image.mode == "L", f"{path} is not 8-bit grey but {image.mode}: export it again")
            check(
                image.size == size,
                f"{path} is {image.width} x {image.height} pixels, not {size[0]} x {size[1]} "
                f"({count:,} images of {cell} x {cell} in {columns} columns): export it again",
            )
            return np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow raises SyntaxError on a broken PNG chunk
        raise LabError(f"{path} cannot be read as a PNG ({error}): export it again") from None
