"""Options of the commands; no torch and no NumPy here, so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Suppress

from trainloop import RunOptions, check, data_dir

HOME = "synthetic-digits"


@dataclass(frozen=True, kw_only=True)
class SheetOptions:
    """Which sheets, where they lie, and how many processes work on them."""

    digits: tuple[int, ...] = tuple(range(10))
    """Only these digits."""
    frames: int = 64
    """Only so many sheets of each digit, from the first; the table always holds all 64."""
    render_dir: str = ""
    """Folder of the table and the sheets; left out: data/synthetic-digits/render."""
    output_dir: str = ""
    """Folder of the cut digits, one folder a digit; left out: data/synthetic-digits/output."""
    workers: int = 0
    """Processes; 0: one for each core. The digits are the same with any number."""
    overwrite: bool = False
    """Replace what another seed or look has left there."""

    def __post_init__(self) -> None:
        known = all(0 <= digit <= 9 for digit in self.digits)
        check(
            known and 0 < len(self.digits) == len(set(self.digits)),
            f"--digits must be different ones of 0 to 9, not {' '.join(map(str, self.digits))}",
        )
        check(1 <= self.frames <= 64, f"--frames must be 1 to 64, not {self.frames}")
        check(self.workers >= 0, f"--workers must not be negative, not {self.workers}")

    @property
    def render(self) -> Path:
        """The folder of table and sheets."""
        return Path(self.render_dir).absolute() if self.render_dir else data_dir() / HOME / "render"

    @property
    def output(self) -> Path:
        """The folder of the cut digits."""
        return Path(self.output_dir).absolute() if self.output_dir else data_dir() / HOME / "output"


@dataclass(frozen=True, kw_only=True)
class RenderConfig(SheetOptions):
    """How to draw the sheets."""

    output_dir: Suppress[str] = ""
    seed: int = 0
    """Every row of the table follows from it, and every pixel from its row."""
    table_only: bool = False
    """Write the table and leave the drawing to Houdini."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")


@dataclass(frozen=True, kw_only=True)
class CutConfig(SheetOptions):
    """How to cut sheets into digits."""

    frames: int = 0
    """Sheets of each digit; 0: as many as table.json says, or 64 without one."""
    cell: int = 0
    """Pixels of a cell's side; 0: as table.json says, or 28 without one."""
    grid: int = 0
    """Cells of a sheet's side; 0: as table.json says, or 8 without one."""
    keep_going: bool = False
    """Cut what can be cut, list the rest, and exit with code 1."""

    def __post_init__(self) -> None:
        check(self.frames >= 0, f"--frames must not be negative, not {self.frames}")
        check(self.cell >= 0, f"--cell must not be negative, not {self.cell}")
        check(self.grid >= 0, f"--grid must not be negative, not {self.grid}")
        SheetOptions(digits=self.digits, workers=self.workers)


@dataclass(frozen=True, kw_only=True)
class DigitsConfig(SheetOptions, RunOptions):
    """Render and cut, as a run: a step is a sheet."""

    steps: Suppress[int] = 640
    device: Suppress[str] = "cpu"
    precision: Suppress[str] = "fp32"

    def __post_init__(self) -> None:
        SheetOptions.__post_init__(self)
        RunOptions.__post_init__(self)
        object.__setattr__(self, "steps", self.frames * len(self.digits))


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunOptions):
    """How to train a small CNN on synthetic digits alone. The defaults take about a minute."""

    steps: int = 2000
    """Optimiser steps."""
    source: Literal["all", "stroke", "font"] = "all"
    """Which digits to train on: all, or only those of a pen, or of a font."""
    output_dir: str = ""
    """Folder of the cut digits; left out: data/synthetic-digits/output, made if it is not there."""
    batch_size: int = 128
    """Images a step."""
    lr: float = 5e-3
    """Peak learning rate of AdamW, reached after a fifth of the run."""
    width: int = 8
    """Channels of the first convolution; later ones have 2x and 4x as many."""
    shift: int = 1
    """Images are moved by up to this many pixels each way."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.batch_size >= 1, f"--batch-size must be at least 1, not {self.batch_size}")
        check(self.width >= 1, f"--width must be at least 1, not {self.width}")
        check(self.lr > 0, f"--lr must be above 0, not {self.lr}")
        check(0 <= self.shift <= 14, f"--shift must be 0 to 14 pixels, not {self.shift}")
