"""Reads the jitter table: `table.csv`, a row a sprite, and `table.json`, what goes for all of them.

`houdini_bridge.table`, which writes both, says what the columns mean. Here the table is only held
against what the scene relies on, because a wrong row shows in Houdini late and far from its cause.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS: dict[str, type[int] | type[float] | type[str]] = {
    "digit": int,
    "frame": int,
    "cell": int,
    "source": str,
    "face": str,
    "slant_deg": float,
    "rotate_deg": float,
    "scale_x": float,
    "scale_y": float,
    "offset_x_px": float,
    "offset_y_px": float,
    "stroke_px": float,
    "warp_px": float,
    "warp_scale_px": float,
    "blur_px": float,
    "noise": float,
    "contrast": float,
    "seed": int,
}
"""Column -> kind, in the order of the file."""

Polyline = list[tuple[float, float]]


class SceneError(Exception):
    """What the person at the keyboard can mend, in one line."""


@dataclass(frozen=True)
class Table:
    """What the scene needs to know of a table before Houdini reads its rows.

    Attributes:
        path: of table.csv.
        cell: pixels of a cell's side.
        grid: cells of a sheet's side.
        frames: sheets of a digit; numbered from 1.
        box: pixels of the larger side of a face, before a row's scale.
        pressure: how much a pen's width varies along its way: rms, as a share of the width.
        digits: which are drawn, in the order of the rows.
        faces: for each digit the faces its rows name, (source, face), sorted.
        fonts: face -> absolute path of the font file.
        strokes: face -> polylines in the unit square, y down, centre of mass at (0.5, 0.5).
    """

    path: Path
    cell: int
    grid: int
    frames: int
    box: float
    pressure: float
    digits: tuple[int, ...]
    faces: dict[int, list[tuple[str, str]]]
    fonts: dict[str, Path]
    strokes: dict[str, list[Polyline]]

    @property
    def pixels(self) -> int:
        """The side of a sheet."""
        return self.cell * self.grid


def columns(path: Path) -> dict[str, Any]:
    """Column -> its values, ints, floats or strings as in KINDS.

    Raises:
        SceneError: the file cannot be read, or is not of this form.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)  # ValueError: an empty file
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise SceneError(f"cannot read the table {path}: {error}") from error
    if header != list(KINDS):
        raise SceneError(f"{path} has the columns {header}, not {list(KINDS)}")
    if bad := [number for number, row in enumerate(rows, 2) if len(row) != len(KINDS)]:
        raise SceneError(f"{path}, line {bad[0]}: not {len(KINDS)} fields; write the table anew")
    values = {}
    for (name, kind), column in zip(KINDS.items(), zip(*rows, strict=True), strict=True):
        try:
            values[name] = [kind(field) for field in column]
        except ValueError as error:
            raise SceneError(f"{path}, column {name}: {error}") from error
    return values


def read(path: Path) -> Table:
    """The table at `path` (table.csv or its folder), held against what the scene relies on.

    Raises:
        SceneError: a file is missing or broken, rows are out of order, or a face is not described.
    """
    path = path / "table.csv" if path.is_dir() else path
    values, described = columns(path), _described(path.with_name("table.json"))
    try:
        cell, grid, frames = (int(described[name]) for name in ("cell", "grid", "frames"))
        box, pressure = float(described["box"]), float(described["pressure"])
        fonts = {name: Path(font["path"]) for name, font in described["fonts"].items()}
        strokes = {
            name: [[(float(x), float(y)) for x, y in line] for line in lines]
            for name, lines in described["strokes"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SceneError(
            f"{path.with_name('table.json')} is not of this version: {error!r}"
        ) from error
    digits = tuple(dict.fromkeys(values["digit"]))
    expected = [(d, f, c) for d in digits for f in range(1, frames + 1) for c in range(grid**2)]
    found = list(zip(values["digit"], values["frame"], values["cell"], strict=True))
    if found != expected:
        raise SceneError(
            f"{path} does not hold {frames} sheets of {grid**2} cells for each digit, in order; "
            "write the table anew with `render --overwrite`"
        )
    faces: dict[int, set[tuple[str, str]]] = {digit: set() for digit in digits}
    for digit, source, face in zip(values["digit"], values["source"], values["face"], strict=True):
        faces[digit].add((source, face))
    known = {*(("font", face) for face in fonts), *(("stroke", face) for face in strokes)}
    if unknown := sorted(set().union(*faces.values()) - known):
        raise SceneError(f"{path} draws {unknown[0]}, which table.json does not describe")
    used = {digit: sorted(drawn) for digit, drawn in faces.items()}
    return Table(path, cell, grid, frames, box, pressure, digits, used, fonts, strokes)


def _described(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SceneError(f"cannot read {path}, which stands beside table.csv: {error}") from error
    if not isinstance(described, dict):
        raise SceneError(f"{path} is no JSON object")
    return described
