"""Reads what `import` wrote: `map2d.json`, what goes for all points, and `map2d.csv`, a row each.

`houdini_bridge.results` writes both and says what the columns mean. Here they are held against
what the scene and the panel rely on.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_houdini.table import SceneError

VERSION = 1
NAMES = ("map2d", "map3d")
AGAIN = "run `uv run --package houdini import` again"


@dataclass(frozen=True)
class Result:
    """An import.

    Attributes:
        path: of the .json; .geo and .csv of the same name and the atlas lie beside it.
        count: predictions.
        class_names: of all classes, any script.
        atlas: the images: image i in cell i, row-major from the top left corner.
        cell: pixels of an image's side.
        columns: images side by side in the atlas.
        rows: of images in the atlas.
        size: longest side of the map, in Houdini's units.
        pscale: side of a card.
    """

    path: Path
    count: int
    class_names: tuple[str, ...]
    atlas: Path
    cell: int
    columns: int
    rows: int
    size: float
    pscale: float

    @property
    def geometry(self) -> Path:
        return self.path.with_suffix(".geo")

    @property
    def table(self) -> Path:
        return self.path.with_suffix(".csv")


@dataclass(frozen=True)
class Prediction:
    """A row of the table.

    Attributes:
        image: its number in the test set.
        label, pred: true and predicted class.
        probabilities: of all classes.
    """

    image: int
    label: int
    pred: int
    probabilities: tuple[float, ...]

    @property
    def confidence(self) -> float:
        return self.probabilities[self.pred]

    @property
    def correct(self) -> bool:
        return self.pred == self.label


def read(path: Path) -> Result:
    """The result at `path`: a file of it, or the folder that holds it.

    Raises:
        SceneError: a file is missing, broken or of another version.
    """
    path = _found(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SceneError(f"cannot read {path}: {error}") from error
    try:
        version = content["version"]
        names = tuple(str(name) for name in content["class_names"])
        atlas = path.parent / str(content["atlas"])
        numbers = [int(content[name]) for name in ("count", "cell", "columns", "rows")]
        lengths = [float(content[name]) for name in ("size", "pscale")]
    except (KeyError, TypeError, ValueError) as error:
        raise SceneError(f"{path} is not of this version ({error!r}): {AGAIN}") from error
    if version != VERSION or min(*numbers, len(names)) < 1 or min(lengths) <= 0:
        raise SceneError(f"{path} is not of this version: {AGAIN}")
    result = Result(path, numbers[0], names, atlas, *numbers[1:], *lengths)
    for file in (result.geometry, result.table, atlas):
        if not file.is_file():
            raise SceneError(f"there is no {file}, which {path.name} belongs to: {AGAIN}")
    return result


def _found(path: Path) -> Path:
    path = path.absolute()
    if not path.is_dir():
        return path.with_suffix(".json")
    there = [path / f"{name}.json" for name in NAMES if (path / f"{name}.json").is_file()]
    if len(there) != 1:
        what = "two results" if there else "no result"
        raise SceneError(f"there is {what} in {path}: name a map2d.json or map3d.json")
    return there[0]


def predictions(result: Result) -> list[Prediction]:
    """All rows of a result's table, in its order.

    Raises:
        SceneError: the file cannot be read, or is not of this form.
    """
    path, classes = result.table, len(result.class_names)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [_prediction(row, classes) for row in csv.DictReader(file)]
    except OSError as error:
        raise SceneError(f"cannot read {path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise SceneError(f"{path} is not of this version ({error!r}): {AGAIN}") from error
    if len(rows) != result.count:
        raise SceneError(f"{path} has {len(rows)} rows, not {result.count}: {AGAIN}")
    return rows


def _prediction(row: dict[str, Any], classes: int) -> Prediction:
    image, label, pred = (int(row[name]) for name in ("image", "label", "pred"))
    if not (0 <= label < classes and 0 <= pred < classes):
        raise ValueError(f"class {label} or {pred} of {classes}")
    return Prediction(image, label, pred, tuple(float(row[f"p{k}"]) for k in range(classes)))
