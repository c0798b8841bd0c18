"""Cut sheets, ours or Houdini's, into digits: output/{digit}/{frame}_{cell}.png.

Every sheet is read and looked at before the first digit is written, and every file is moved into
place complete. `cut.jsonl` beside the digits' folders tells which sheet, by its hash, the digits
came from: those are not cut again, and a sheet that has changed since is not cut silently.
"""

import hashlib
import io
import json
import os
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from houdini_bridge.config import CutConfig
from houdini_bridge.pool import in_order
from houdini_bridge.sheets import chosen, sheet_path
from houdini_bridge.table import geometry
from trainloop import LabError, progress_bar

RECORD = "cut.jsonl"


@dataclass(frozen=True)
class CutJob:
    """A sheet to cut.

    Attributes:
        cell: pixels of a cell's side.
        grid: cells of the sheet's side.
        before: what the digits there were cut from, as `origin` has it; empty: not known.
        overwrite: replace them where that is another sheet.
    """

    sheet: Path
    output: Path
    digit: int
    frame: int
    cell: int
    grid: int
    before: str = ""
    overwrite: bool = False

    @property
    def paths(self) -> list[Path]:
        """The files that it makes, row by row from the top left."""
        folder = self.output / str(self.digit)
        return [folder / f"{self.frame:04d}_{cell:02d}.png" for cell in range(self.grid**2)]

    def origin(self, content: bytes) -> str:
        """What digits are cut from: cell, grid and the hash of the sheet."""
        return f"{self.cell} {self.grid} {hashlib.sha256(content).hexdigest()}"


def read_gray(path: Path, content: bytes, cell: int, grid: int) -> UInt8[np.ndarray, "side side"]:
    """The pixels of a sheet: 8 bits, gray (BT.601 of colours), transparency over black.

    16 bits are scaled, by rounding for gray, by leaving out the lower ones for colours.

    Args:
        path: for messages.
        content: of the file.

    Raises:
        LabError: no image, a damaged one, or one of another size.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.size != (cell * grid, cell * grid):
                raise LabError(_wrong_size(path, image.size, cell, grid))
            if image.mode.startswith("I"):  # 16 bits of gray
                return np.rint(np.clip(np.asarray(image), 0, 65535) / 257).astype(np.uint8)
            rgba = np.asarray(image.convert("RGBA"))
            gray = np.asarray(image.convert("RGB").convert("L"))
            return np.rint(gray * (rgba[..., 3] / 255)).astype(np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise LabError(
            f"{path} is damaged or no image: render it again, as PNG (gray, RGB or RGBA)"
        ) from None


def _wrong_size(path: Path, size: tuple[int, int], cell: int, grid: int) -> str:
    width, height = size
    hint = "--grid and --cell"
    if width == height and width % grid == 0:
        hint = f"--cell {width // grid}"
    return (
        f"{path} is {width}x{height} pixels, and {grid}x{grid} cells of {cell} make "
        f"{grid * cell}x{grid * cell}: give {hint}, or render it in that size"
    )


def cells(sheet: UInt8[np.ndarray, "H W"], grid: int) -> UInt8[np.ndarray, "n h w"]:
    """The cells of a sheet, row-major from the top left."""
    side = sheet.shape[0] // grid
    return sheet.reshape(grid, side, grid, side).swapaxes(1, 2).reshape(-1, side, side)


def png(pixels: UInt8[np.ndarray, "h w"]) -> bytes:
    """A gray PNG of 8 bits, unfiltered (ISO/IEC 15948): Pillow takes 100 us more for each digit."""
    height, width = pixels.shape
    lines = np.zeros((height, width + 1), np.uint8)  # each begins with the number of its filter
    lines[:, 1:] = pixels
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def read_sheet(job: CutJob) -> tuple[UInt8[np.ndarray, "side side"], str]:
    """Pixels and origin of a sheet that may be cut.

    Raises:
        LabError: it is missing or unusable, or the digits there are another sheet's.
    """
    try:
        content = job.sheet.read_bytes()
    except OSError as error:
        raise LabError(f"{job.sheet}: {error.strerror}: render it, or name --render-dir") from None
    sheet, origin = read_gray(job.sheet, content, job.cell, job.grid), job.origin(content)
    if job.before not in ("", origin) and not job.overwrite:
        raise LabError(
            f"{job.paths[0].parent} holds digits of another {job.sheet.name}: --overwrite replaces "
            "them, or choose another --output-dir"
        )
    return sheet, origin


def cut_sheet(job: CutJob) -> str:
    """Cut a sheet, unless its digits are there; the origin if it had to be cut, else empty.

    Raises:
        LabError: as `read_sheet` does.
    """
    sheet, origin = read_sheet(job)
    if job.before == origin and all(path.exists() for path in job.paths):
        return ""
    folder = job.paths[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    left = {*folder.glob(f"{job.frame:04d}_*.png"), *folder.glob(f".{job.frame:04d}.*.tmp")}
    for path in left - set(job.paths):
        path.unlink()  # of a larger grid, or of a process that was killed
    temporary = folder / f".{job.frame:04d}.{os.getpid()}.tmp"
    try:
        for path, pixels in zip(job.paths, cells(sheet, job.grid), strict=True):
            # Not trainloop's atomic_write, which waits for the disk: 40,960 times. What a power cut
            # takes is not in the record yet, or is seen to be missing.
            temporary.write_bytes(png(pixels))
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return origin


class Record:
    """cut.jsonl: a line for each sheet that was cut, the last one of a sheet counts."""

    def __init__(self, output: Path) -> None:
        """Read it; a line that a kill has torn is left out."""
        self.output, self.origins = output, {}
        path = output / RECORD
        for line in path.read_text("utf-8").splitlines() if path.exists() else []:
            try:
                entry = json.loads(line)
                self.origins[entry["digit"], entry["frame"]] = str(entry["origin"])
            except (ValueError, KeyError, TypeError):
                continue

    def add(self, job: CutJob, origin: str) -> None:
        """Note that the sheet's digits are all there."""
        entry = {"digit": job.digit, "frame": job.frame, "origin": origin}
        with (self.output / RECORD).open("a", encoding="utf-8") as file:
            file.write("\n" * (file.tell() > 0) + json.dumps(entry))  # never onto a torn line

    def forget_lost(self, render: Path) -> None:
        """Delete the digits of sheets that are gone."""
        for digit, frame in self.origins:
            if not sheet_path(render, digit, frame).exists():
                for path in (self.output / str(digit)).glob(f"{frame:04d}_*.png"):
                    path.unlink()


def cut(config: CutConfig) -> None:
    """Cut the sheets that are not cut yet.

    Raises:
        LabError: a sheet cannot be cut (nothing was written then, without `keep_going`).
        SystemExit: with code 1 if `keep_going` left something out.
    """
    about, record = geometry(config.render), Record(config.output)
    cell, grid = config.cell or about["cell"], config.grid or about["grid"]
    jobs = [
        CutJob(sheet_path(config.render, digit, frame), config.output, digit, frame, cell, grid,
               record.origins.get((digit, frame), ""), config.overwrite)
        for digit, frame in chosen(config, config.frames or about["frames"])
    ]  # fmt: skip
    wrong = {}
    for job in jobs:
        try:
            read_sheet(job)
        except LabError as error:
            wrong[job] = str(error)
    if wrong and not config.keep_going:
        more = f" ({len(wrong) - 1} more of {len(jobs)} sheets cannot be cut either)"
        rest = f"{more}; --keep-going cuts the others" if len(wrong) > 1 else ""
        raise LabError(next(iter(wrong.values())) + rest)
    if config.overwrite:
        record.forget_lost(config.render)
    jobs, new = [job for job in jobs if job not in wrong], 0
    with (
        in_order(cut_sheet, jobs, config.workers) as results,
        progress_bar(len(jobs), "sheet") as bar,
    ):
        for job, origin in zip(jobs, results, strict=True):
            if origin:
                record.add(job, origin)
                new += 1
            bar.update()
    print(
        f"{new} sheets cut into {new * grid**2:,} digits, {len(jobs) - new} were cut before: "
        f"{config.output}",
        file=sys.stderr,
    )
    for line in wrong.values():
        print(f"left out: {line}", file=sys.stderr)
    if wrong:
        raise SystemExit(1)
