"""Sheets of 64 digits as PNG files, made once: each file says which table it was made from."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from houdini_bridge.config import RenderConfig, SheetOptions
from houdini_bridge.draw import draw, tiled
from houdini_bridge.faces import all_faces
from houdini_bridge.pool import in_order
from houdini_bridge.table import CELLS, FRAMES, ensure
from trainloop import atomic_write, progress_bar

KEY = "houdini_bridge.table"
"""Name of the PNG text chunk that holds the table's fingerprint."""
COMPRESSION = 1  # 3 ms a sheet and 14 kB; 6 (the usual) takes 6 ms for 10% less


@dataclass(frozen=True)
class SheetJob:
    """A sheet to make.

    Attributes:
        rows: of the table, one for each cell.
        fingerprint: of the table.
    """

    path: Path
    rows: np.ndarray
    fingerprint: str


def sheet_path(folder: Path, digit: int, frame: int) -> Path:
    """Where a sheet lies; Houdini writes the same name with $F4."""
    return folder / str(digit) / f"{digit}.{frame:04d}.png"


def chosen(options: SheetOptions, frames: int) -> Iterator[tuple[int, int]]:
    """(digit, frame) of each sheet, frame by frame: stopped early, there are some of each digit."""
    return ((digit, frame) for frame in range(1, frames + 1) for digit in options.digits)


def sheet_jobs(options: SheetOptions, seed: int) -> list[SheetJob]:
    """The sheets asked for, whether made already or not; writes the table.

    With `overwrite`, sheets of any other table are deleted.

    Raises:
        LabError: the folder holds another table, and `overwrite` is not given.
    """
    rows, fingerprint = ensure(options.render, seed, options.overwrite)
    if options.overwrite:
        for path in options.render.glob("[0-9]/[0-9].[0-9][0-9][0-9][0-9].png"):
            if not is_made(path, fingerprint):
                path.unlink()
    jobs = []
    for digit, frame in chosen(options, options.frames):
        first = (digit * FRAMES + frame - 1) * CELLS
        path = sheet_path(options.render, digit, frame)
        jobs.append(SheetJob(path, rows[first : first + CELLS], fingerprint))
    return jobs


def is_made(path: Path, fingerprint: str) -> bool:
    """Whether the sheet is there and was made from the table."""
    try:
        with Image.open(path) as image:  # reads no pixels
            return image.info.get(KEY) == fingerprint
    except OSError:  # not there, or no image
        return False


def make_sheet(job: SheetJob) -> bool:
    """Draw and write a sheet, unless it is there; whether it had to be made."""
    if is_made(job.path, job.fingerprint):
        return False
    faces = all_faces()
    pixels = tiled(draw(job.rows, [faces[row["face"], int(row["digit"])] for row in job.rows]))
    about = PngImagePlugin.PngInfo()
    about.add_text(KEY, job.fingerprint)
    job.path.parent.mkdir(parents=True, exist_ok=True)
    for stale in job.path.parent.glob(f".{job.path.name}.*.tmp"):
        stale.unlink()  # of a process that was killed
    save = partial(
        Image.fromarray(pixels).save, format="PNG", compress_level=COMPRESSION, pnginfo=about
    )
    atomic_write(job.path, save)
    return True


def render(config: RenderConfig) -> None:
    """Write the table and the sheets that are not there yet."""
    jobs = sheet_jobs(config, config.seed)
    if config.table_only:
        print(f"table: {config.render / 'table.csv'}")
        return
    made = 0
    with (
        in_order(make_sheet, jobs, config.workers) as results,
        progress_bar(len(jobs), "sheet") as bar,
    ):
        for new in results:
            made += new
            bar.update()
    print(f"{made} sheets made, {len(jobs) - made} were there: {config.render}", file=sys.stderr)
