"""Options of the commands; no torch here, so that `--help` is quick."""

from dataclasses import dataclass
from typing import Literal

from trainloop import RunOptions, check


@dataclass(frozen=True, kw_only=True)
class NetOptions(RunOptions):
    """What is trained on what."""

    data: Literal["digits", "mnist", "fashion-mnist", "cifar10"] = "mnist"
    """The images. digits (8x8) are always there, the others are fetched once."""
    model: Literal["linear", "mlp", "cnn"] = "cnn"
    """One linear layer; two hidden layers; five convolutions."""
    width: int = 16
    """Channels of the cnn's first convolution (8: 18 thousand parameters, 16: 71 thousand), or a
    sixteenth of the mlp's first hidden layer."""
    lr: float = 5e-3
    """Learning rate of AdamW; its peak where there is a schedule."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.width >= 1, f"--width must be at least 1, not {self.width}")
        check(self.lr > 0, f"--lr must be above 0, not {self.lr}")


@dataclass(frozen=True, kw_only=True)
class RecipeOptions(NetOptions):
    """How it is trained."""

    batch_size: int = 128
    """Images a step, over all processes."""
    weight_decay: float = 0.05
    """AdamW's decay, on convolution and linear weights only."""
    dropout: float = 0.2
    """Share of the features dropped before the last layer."""
    shift: int = 1
    """Training images are moved by up to this many pixels each way."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.batch_size >= 2, f"--batch-size must be at least 2, not {self.batch_size}")
        check(self.weight_decay >= 0, f"--weight-decay must be at least 0, not {self.weight_decay}")
        check(0 <= self.dropout < 1, f"--dropout must be in [0, 1), not {self.dropout}")
        check(0 <= self.shift <= 14, f"--shift must be 0 to 14 pixels, not {self.shift}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RecipeOptions):
    """How to train a model, and how often to look."""

    steps: int = 2150
    """Optimiser steps: 5 epochs of 55,000 images at the default batch size."""
    ema: float = 0.99
    """Decay of the weights' moving average, which is what gets evaluated."""
    eval_every: int = 430
    """Steps between looks at the validation images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.eval_every >= 1, f"--eval-every must be at least 1, not {self.eval_every}")
        check(0 <= self.ema < 1, f"--ema must be in [0, 1), not {self.ema}")


@dataclass(frozen=True, kw_only=True)
class OverfitConfig(NetOptions):
    """Fit a handful of images: no augmentation, no dropout, no decay, a constant rate."""

    steps: int = 200
    """Optimiser steps, each on all of the images."""
    images: int = 32
    """How many training images, drawn by the seed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(2 <= self.images <= 1000, f"--images must be 2 to 1000, not {self.images}")


@dataclass(frozen=True, kw_only=True)
class LrFindConfig(RecipeOptions):
    """A short training whose learning rate grows until it breaks; --lr is not used."""

    steps: int = 200
    """Optimiser steps from the lowest rate to the highest."""
    low: float = 1e-6
    """The first learning rate."""
    high: float = 3.0
    """The last one; the sweep ends before it where the loss explodes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.steps >= 20, f"--steps must be at least 20 for a sweep, not {self.steps}")
        check(
            0 < self.low < self.high,
            f"--low must be above 0 and below --high, not {self.low} and {self.high}",
        )


@dataclass(frozen=True, kw_only=True)
class ProfileConfig(RecipeOptions):
    """Where the time of a training step goes."""

    steps: int = 60
    """Optimiser steps: the first third warms up, the rest is timed, but for the last ones (at most
    five), which torch's profiler records."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.steps >= 3, f"--steps must be at least 3, not {self.steps}")
        check(not self.resume, "--resume: a profile takes seconds, start it anew")


@dataclass(frozen=True, kw_only=True)
class InspectConfig(RecipeOptions):
    """What goes on in the layers while a model trains."""

    steps: int = 200
    """Optimiser steps."""
    every: int = 5
    """Steps between looks into the layers."""
    init_scale: float = 1.0
    """Multiplies all initial weights: try 0.1 and 10 with --model mlp."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.every >= 1, f"--every must be at least 1, not {self.every}")
        check(self.init_scale > 0, f"--init-scale must be above 0, not {self.init_scale}")
