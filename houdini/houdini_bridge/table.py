"""The jitter table: one row a sprite, read by this renderer and by the Houdini scene alike.

The two share what is drawn, how it is bent and where it stands; they do not share pixels.
`render/table.csv` holds the rows, `render/table.json` what goes for all of them: the geometry of a
sheet, every face as coordinates or as a font file, and the meaning of each column as it stands
below. The order of the columns and their meaning are a contract: append, never change.

From a face to pixels (x to the right, y down, both in pixels from the centre of the cell):

    p = BOX * (q - 0.5)                        q: a face's point; (0.5, 0.5) is its centre of mass
    p = R(rotate_deg) S(slant_deg) diag(scale_x, scale_y) p
    p = p + d(p) - mean of d over the drawing  d: warp, see `houdini_bridge.draw.warp`
    p = p + (offset_x_px, offset_y_px)

    R = [[cos, sin], [-sin, cos]]              positive: counter-clockwise as seen
    S = [[1, -tan], [0, 1]]                    positive: the top leans right, as in italics

then the pen, or the filled outline, as coverage v in 0..1 (1 is ink), and on it in this order
blur, contrast, noise.
"""

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from houdini_bridge.draw import BOX, CELL, GRID, PRESSURE
from houdini_bridge.faces import FONTS, all_faces, font_file
from houdini_bridge.look import sample
from trainloop import LabError, atomic_write, write_text

VERSION = 1
"""Of the two files' form."""
CODE = ("draw.py", "faces.py", "look.py", "strokes.py")
"""What the digits follow from: sheets that were made by another edition of it are made anew."""
DIGITS, FRAMES, CELLS = 10, 64, GRID * GRID

COLUMNS = {
    "digit": (int, "", "what is drawn: 0 to 9"),
    "frame": (int, "", "1 to 64: the sheet; Houdini's frame number"),
    "cell": (int, "", "0 to 63, row-major from the top left corner of the sheet"),
    "source": (str, "", "font: a filled outline; stroke: a pen along a polyline"),
    "face": (str, "", "a key of `fonts` or of `strokes` in table.json"),
    "slant_deg": (float, "degrees", "shear; positive: the top leans right"),
    "rotate_deg": (float, "degrees", "about the centre of mass; positive: counter-clockwise"),
    "scale_x": (float, "", "times the face's own size, before slant and rotation"),
    "scale_y": (float, "", "times the face's own size, before slant and rotation"),
    "offset_x_px": (float, "pixels", "of the centre of mass from the cell's centre; +: right"),
    "offset_y_px": (float, "pixels", "of the centre of mass from the cell's centre; +: down"),
    "stroke_px": (
        float,
        "pixels",
        "stroke: width of the pen, which no scale changes; font: what the outline's stems gain "
        "(negative: lose), half of it on each side",
    ),
    "warp_px": (float, "pixels", "root mean square of each component of the displacement"),
    "warp_scale_px": (
        float,
        "pixels",
        "correlation length l of the displacement: exp(-r^2 / 2 l^2) at distance r",
    ),
    "blur_px": (float, "pixels", "sigma of a Gaussian blur"),
    "noise": (float, "", "sigma of n in v * (1 + n): of the ink alone, black stays black"),
    "contrast": (float, "", "v to the power of 1 / contrast; above 1 greys get brighter"),
    "seed": (int, "", "int32; of the warp, the pen's pressure and the noise"),
}

DTYPE = np.dtype(
    [(name, {int: "i8", float: "f8", str: "U32"}[kind]) for name, (kind, _, _) in COLUMNS.items()]
)


def generate(seed: int) -> str:
    """table.csv of a seed, as text: 10 digits x 64 frames x 64 cells."""
    faces, rows = all_faces(), np.zeros(CELLS, DTYPE)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for digit in range(DIGITS):
        for frame in range(1, FRAMES + 1):
            sample(seed, digit, frame, rows, faces)
            writer.writerows(
                [f"{value:.4f}" if isinstance(value, float) else value for value in row.item()]
                for row in rows
            )
    return text.getvalue()


def parse_rows(text: str) -> np.ndarray:
    """The rows of a table.csv.

    Raises:
        LabError: columns or values are not those of this version, or rows are missing.
    """
    header, *lines = text.split("\n")
    if header != ",".join(COLUMNS):
        raise LabError("its columns are not those of this version")
    try:
        table = np.zeros(0, DTYPE)
        if any(lines):  # of nothing at all loadtxt says a line of its own
            table = np.loadtxt(lines, DTYPE, comments=None, delimiter=",", ndmin=1)
    except ValueError as error:
        said = str(error).partition(";")[0]  # after it comes advice to who calls loadtxt
        raise LabError(f"its rows are damaged ({said})") from None
    if len(table) != DIGITS * FRAMES * CELLS:
        raise LabError(f"it has {len(table):,} rows, not {DIGITS * FRAMES * CELLS:,}")
    return table


def read_rows(folder: Path) -> np.ndarray:
    """The rows of the table in a folder.

    Raises:
        LabError: there is none, or it is damaged.
    """
    path = folder / "table.csv"
    try:
        return parse_rows(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{path} cannot be read ({error}): render it first") from None
    except LabError as error:
        raise LabError(f"{path}: {error}: render it again with --overwrite") from None


def fingerprint(seed: int) -> str:
    """What table and sheets are made from: the seed, the code that draws, and the fonts."""
    digest = hashlib.sha256(f"{VERSION} {seed}".encode())
    for module in CODE:
        digest.update(Path(__file__).with_name(module).read_bytes())
    for (name, digit), face in all_faces().items():
        digest.update(f"{name} {digit}".encode() + face.points.tobytes())
    return digest.hexdigest()


def describe(seed: int, text: str) -> dict[str, Any]:
    """table.json: what goes for all rows."""
    faces = all_faces()
    return {
        "version": VERSION,
        "seed": seed,
        "fingerprint": fingerprint(seed),
        "rows_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "digits": DIGITS,
        "frames": FRAMES,
        "grid": GRID,
        "cell": CELL,
        "box": BOX,
        "pressure": PRESSURE,
        "file": "{digit}/{digit}.{frame:04d}.png",
        "styles": ["font", "stroke"],
        "columns": {
            name: {"type": kind.__name__, "unit": unit, "meaning": meaning}
            for name, (kind, unit, meaning) in COLUMNS.items()
        },
        "fonts": {
            name: {
                "file": file,
                "path": str(font_file(file)),
                "centre_em": [faces[name, digit].centre for digit in range(DIGITS)],
                "size_em": [faces[name, digit].size for digit in range(DIGITS)],
            }
            for name, file in FONTS.items()
        },
        "strokes": {face.name: face.lines for face in faces.values() if face.source == "stroke"},
    }


def ensure(folder: Path, seed: int, overwrite: bool) -> tuple[np.ndarray, str]:
    """The table of a seed, written to the folder where it is not there yet.

    Returns:
        Its rows (as read back: rounded as in the file), and its fingerprint.

    Raises:
        LabError: the folder holds another table or a damaged one, and `overwrite` is not given.
    """
    wanted, there = fingerprint(seed), _there(folder)
    if there.get("fingerprint") == wanted:
        text = (folder / "table.csv").read_text("utf-8")
    elif there and not overwrite:
        other = f"seed {there['seed']}" if there["seed"] != seed else "another look, or was edited"
        raise LabError(
            f"the table in {folder} is of {other}: --overwrite replaces it and its digits, or "
            "choose another --render-dir and --output-dir"
        )
    else:
        text = generate(seed)
        folder.mkdir(parents=True, exist_ok=True)
        # table.json last: where it is, table.csv is the one that it speaks of
        write_text(folder / "table.csv", text)
        described = _json(describe(seed, text)).encode()
        atomic_write(folder / "table.json", lambda file: file.write(described))
    return parse_rows(text), wanted


def _there(folder: Path) -> dict[str, Any]:
    """Seed and fingerprint of a folder's table; no fingerprint if it is damaged; {} without one."""
    if not (folder / "table.json").exists():
        return {}
    try:
        found = json.loads((folder / "table.json").read_text("utf-8"))
        text = (folder / "table.csv").read_text("utf-8")
        whole = hashlib.sha256(text.encode()).hexdigest() == found["rows_sha256"]
        return {"seed": found["seed"], "fingerprint": found["fingerprint"] if whole else ""}
    except (OSError, ValueError, KeyError, TypeError):
        return {"seed": "unknown", "fingerprint": ""}


def geometry(folder: Path) -> dict[str, Any]:
    """table.json of a folder with sheets, or what it would say of geometry where there is none.

    Raises:
        LabError: table.json is damaged.
    """
    found: dict[str, Any] = {"grid": GRID, "cell": CELL, "frames": FRAMES}
    path = folder / "table.json"
    if path.exists():
        try:
            there = json.loads(path.read_text("utf-8"))
            found = {**there, **{name: int(there[name]) for name in found}}
        except (ValueError, KeyError, TypeError):
            raise LabError(
                f"{path} is damaged: `uv run --package houdini render --overwrite` writes it anew, "
                "or delete it and give --grid and --cell"
            ) from None
    return found


def _json(described: dict[str, Any]) -> str:
    """One line a key: to be read by people too, and thousands of coordinates."""
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in described.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"
