"""Options of the commands; no torch here, so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from trainloop import RunOptions, check


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunOptions):
    """How to train the detector. The defaults take under five minutes on two cores."""

    steps: int = 3200
    """Optimiser steps of the whole run."""
    data: str = "tabletop"
    """`tabletop` (rendered scenes), or a folder of your own photos in COCO format."""
    image_size: int = 128
    """Side of the square that images are fitted into, in pixels; a multiple of 16."""
    widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    """Channels of the backbone at strides 2, 4, 8 and 16."""
    batch_size: int = 16
    """Images a step, over all processes."""
    lr: float = 8e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.05
    """AdamW's decay, on convolution weights only."""
    clip: float = 10.0
    """Largest norm of the gradient; a larger one is scaled down to it."""
    ema: float = 0.998
    """Decay of the weights' moving average, which is what gets evaluated."""
    top: int = 8
    """Points that learn from each object (task-aligned assignment)."""
    box_weight: float = 2.0
    """Weight of the box loss against the classification loss."""
    eval_every: int = 800
    """Steps between looks at the validation images."""
    overfit: int = 0
    """Train and evaluate on just so many training images, without augmentation: a check that the
    model can learn at all. 0: train as usual."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "eval_every", "top"):
            value = getattr(self, name)
            check(value >= 1, f"--{name.replace('_', '-')} must be at least 1, not {value}")
        check(
            self.image_size >= 32 and self.image_size % 16 == 0,
            f"--image-size must be a multiple of 16, at least 32, not {self.image_size}",
        )
        check(self.lr > 0, f"--lr must be above 0, not {self.lr}")
        check(0 <= self.ema < 1, f"--ema must be in [0, 1), not {self.ema}")
        check(self.overfit >= 0, f"--overfit must not be negative, not {self.overfit}")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which checkpoint to hold against which images."""

    checkpoint: Path | None = None
    """A last.pt or best.pt; the newest run's if left out."""
    data: str = ""
    """`tabletop` or a COCO folder; what the checkpoint was trained on if left out."""
    split: Literal["train", "val", "test"] = "val"
    """Which part of the data. Read test once, when nothing is left to decide."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    out: Path = Path("evaluate.png")
    """The picture of what was found."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Which pictures to look at, and with what."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Pictures of any size, in any format that Pillow reads."""
    checkpoint: Path | None = None
    """A last.pt or best.pt; the newest run's if left out."""
    score: float = 0.4
    """Show what is at least this likely, 0..1."""
    out: Path = Path("predictions")
    """Folder for the drawn boxes and predictions.json."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        check(0 <= self.score <= 1, f"--score must be in [0, 1], not {self.score}")
