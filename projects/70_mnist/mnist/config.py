"""Options of the commands; no torch here, so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from trainloop import RunOptions, check, data_dir

TRAINING_IMAGES = 55_000  # MNIST's 60,000 less 5,000 for validation


@dataclass(frozen=True, kw_only=True)
class SyntheticOptions(RunOptions):
    """Where the rendered digits are."""

    synthetic: str = ""
    """Folder with 0/*.png .. 9/*.png, 28x28, white on black; left out: where
    `uv run --package houdini digits` writes them, data/synthetic-digits/output."""

    @property
    def synthetic_folder(self) -> Path:
        """The folder, whether it is there or not."""
        default = data_dir() / "synthetic-digits/output"
        return Path(self.synthetic).absolute() if self.synthetic else default


@dataclass(frozen=True, kw_only=True)
class TrainConfig(SyntheticOptions):
    """What to train on, how long, and how."""

    steps: int = 0
    """Optimiser steps of the whole run; 0: what --epochs comes to."""
    epochs: int = 5
    """Passes over the training images, unless --steps is given."""
    real: int = TRAINING_IMAGES
    """Real training images, as many of each class as there are, drawn by the seed; 0: none."""
    mix: float | int = 0.0
    """Rendered digits to add. Below 1: their share of the mixed set, so 0.41 adds 41 for every 59
    real ones. Above 1: their number."""
    repeat: int = 1
    """Times that an epoch shows each real image, so that many rendered ones do not drown few."""
    width: int = 16
    """Channels of the first convolution (8: 18 thousand parameters, 16: 71 thousand)."""
    dropout: float = 0.2
    """Share of the features dropped before the last layer."""
    batch_size: int = 128
    """Images a step, over all processes."""
    lr: float = 5e-3
    """Peak learning rate of AdamW, reached after a fifth of the run."""
    weight_decay: float = 0.05
    """AdamW's decay, on convolution and linear weights only."""
    shift: int = 1
    """Training images are moved by up to this many pixels each way."""
    ema: float = 0.99
    """Decay of the weights' moving average, which is what gets evaluated and kept."""
    eval_every: int = 430
    """Steps between looks at the validation images; 430 are an epoch of 55,000 images."""

    def __post_init__(self) -> None:
        check(self.steps >= 0, f"--steps must not be negative, not {self.steps}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        for name in ("epochs", "repeat", "width", "eval_every"):
            value = getattr(self, name)
            check(value >= 1, f"--{name.replace('_', '-')} must be at least 1, not {value}")
        check(
            0 <= self.real <= TRAINING_IMAGES,
            f"--real must be 0 to {TRAINING_IMAGES:,}, all but 5,000 of MNIST's training images, "
            f"not {self.real:,}",
        )
        check(
            0 <= self.mix < 1 or (self.mix > 1 and self.mix % 1 == 0),
            f"--mix must be a share in [0, 1) or a whole number above 1, not {self.mix:g}",
        )
        check(
            self.real > 0 or self.mix > 1,
            "--real 0 leaves nothing to train on: add a number of rendered digits, --mix 40960",
        )
        check(
            not self.synthetic or self.mix > 0,
            "--synthetic is not read without --mix: say how many, such as --mix 0.41",
        )
        check(0 <= self.dropout < 1, f"--dropout must be in [0, 1), not {self.dropout}")
        check(self.batch_size >= 2, f"--batch-size must be at least 2, not {self.batch_size}")
        check(self.lr > 0, f"--lr must be above 0, not {self.lr}")
        check(self.weight_decay >= 0, f"--weight-decay must be at least 0, not {self.weight_decay}")
        check(0 <= self.shift <= 14, f"--shift must be 0 to 14 pixels, not {self.shift}")
        check(0 <= self.ema < 1, f"--ema must be in [0, 1), not {self.ema}")


@dataclass(frozen=True, kw_only=True)
class StudyConfig(SyntheticOptions):
    """Real images alone against real ones with rendered ones, and rendered ones alone."""

    steps: int = 600
    """Optimiser steps of each training: with more images each is seen less often."""
    seeds: int = 5
    """Trainings of each kind, with the seeds `seed`, `seed` + 1, ..."""
    real: tuple[int, ...] = (100, 1_000, 10_000, TRAINING_IMAGES)
    """Numbers of real training images."""
    mix: int = 40_960
    """Number of rendered ones."""
    width: int = 8
    """Channels of the first convolution."""
    workers: int = 0
    """Trainings at a time; 0: one for each core, or one on a GPU."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.seeds >= 2, f"--seeds must be at least 2 for an interval, not {self.seeds}")
        check(self.mix >= 2, f"--mix must be at least 2 images, not {self.mix}")
        check(self.width >= 1, f"--width must be at least 1, not {self.width}")
        check(self.workers >= 0, f"--workers must not be negative, not {self.workers}")
        fits = all(1 <= count <= TRAINING_IMAGES for count in self.real)
        check(
            fits and 0 < len(self.real) == len(set(self.real)),
            f"--real must be different numbers of 1 to {TRAINING_IMAGES:,}, not "
            f"{' '.join(map(str, self.real)) or 'none'}",
        )


@dataclass(frozen=True, kw_only=True)
class ModelsConfig(SyntheticOptions):
    """Which models to train and keep."""

    steps: int = 0
    """Optimiser steps of each training; 0: each model's own number of epochs."""
    names: tuple[str, ...] = ("mnist_cnn", "mnist_cnn_01", "mnist_cnn_02")
    """mnist_cnn: 5 epochs; mnist_cnn_01: 15 epochs; mnist_cnn_02: 5 epochs, 41% rendered digits."""
    workers: int = 0
    """Trainings at a time; 0: one for each core, or one on a GPU."""

    def __post_init__(self) -> None:
        check(self.steps >= 0, f"--steps must not be negative, not {self.steps}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(self.workers >= 0, f"--workers must not be negative, not {self.workers}")
        known = ModelsConfig.names
        check(
            bool(self.names) and set(self.names) <= set(known),
            f"--names must be of {', '.join(known)}, not {', '.join(self.names) or 'none'}",
        )


@dataclass(frozen=True)
class PredictConfig:
    """Which pictures to read, and with what."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Photos or drawings of one digit each, dark on light or light on dark."""
    model: str = ""
    """A .safetensors of `models` or a checkpoint of `train`; left out: mnist_cnn_01 if it was
    kept, else the newest run's checkpoint."""
    show: bool = False
    """Draw what becomes of each picture on its way into the net."""

    def __post_init__(self) -> None:
        check(bool(self.images), "predict needs at least one picture")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which model to write as ONNX, and where."""

    model: str = ""
    """As for `predict`."""
    out: Path = Path("mnist.onnx")
    """The file for any number of images; the one for a single image gets `_1` before the dot."""

    def __post_init__(self) -> None:
        check(self.out.suffix == ".onnx", f"--out must end in .onnx, not {self.out}")
