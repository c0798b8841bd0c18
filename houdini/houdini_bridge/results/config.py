"""Options of `import` and `check-onnx`; no NumPy here, so that `--help` is quick."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from trainloop import check


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Which predictions to write for Houdini, and how large."""

    predictions: Positional[Path]
    """predictions.npz as `uv run --package fashion-mnist export` writes it, atlas.png beside it."""
    map: Literal["2d", "3d"] = "2d"
    """Which map of the embeddings gives the points' places; files are called map2d or map3d."""
    size: float = 10.0
    """Longest side of the map, in Houdini's units (metres)."""
    out: str = ""
    """Folder of the files; left out: a folder `houdini` beside predictions.npz. Files of an earlier
    import are replaced."""

    def __post_init__(self) -> None:
        known = math.isfinite(self.size) and 1e-3 <= self.size <= 1e6
        check(known, f"--size must be 0.001 to 1000000 units, not {self.size}")

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return Path(self.out).absolute() if self.out else self.predictions.absolute().parent / HOME


HOME = "houdini"


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Which models to check."""

    models: Positional[tuple[Path, ...]]
    """.onnx files as `uv run --package fashion-mnist export` writes them."""

    def __post_init__(self) -> None:
        check(bool(self.models), "name an .onnx file")
