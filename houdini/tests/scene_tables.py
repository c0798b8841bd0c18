"""Small jitter tables for the tests of the scene: one sheet of a digit, or a few."""

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from houdini_bridge.faces import all_faces
from houdini_bridge.look import sample
from houdini_bridge.table import CELLS, COLUMNS, DTYPE, describe


def sheet(digit: int, frame: int = 1, **columns: Any) -> np.ndarray:
    """The rows of one sheet as the lab draws them, some columns replaced by a value."""
    rows = np.zeros(CELLS, DTYPE)
    sample(0, digit, frame, rows, all_faces())
    for name, value in columns.items():
        rows[name] = value
    return rows


@cache
def all_faces_described() -> dict[str, Any]:
    """table.json as the lab writes it."""
    return describe(0, "")


def write(folder: Path, rows: np.ndarray, frames: int = 1, **described: Any) -> Path:
    """A folder with table.csv and table.json; keys of the latter replaced by `described`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row.item() for row in rows)
    content = {**all_faces_described(), "frames": frames, **described}
    (folder / "table.json").write_text(json.dumps(content), encoding="utf-8")
    return folder
