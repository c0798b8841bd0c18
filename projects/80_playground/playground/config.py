"""Options of the commands; nothing heavy here, so that `--help` is quick."""

from dataclasses import dataclass, field
from pathlib import Path

from playground.optimise import USUAL_LR, Method
from trainloop import RunOptions, check, data_dir


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """Noise augmentation, drawn anew for each image."""

    noise: float = 0.0
    """Share of the pixels that become a random grey, up to 0.5."""
    shift: float = 0.0
    """Furthest move in pixels, each way, up to 8."""
    rotate: float = 0.0
    """Furthest turn in degrees, each way, up to 90."""
    stroke: float = 0.0
    """How far strokes grow or shrink; 1 is a pixel on each side."""

    def __post_init__(self) -> None:
        for name, most in (("noise", 0.5), ("shift", 8.0), ("rotate", 90.0), ("stroke", 1.0)):
            value = getattr(self, name)
            check(0 <= value <= most, f"--{name} must be 0 to {most:g}, not {value:g}")

    @property
    def augment(self):
        """The same as `augment.Augment`."""
        from playground.augment import Augment

        return Augment(self.noise, self.shift, self.rotate, self.stroke)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(NoiseOptions, RunOptions):
    """What to train on, how long, and how."""

    steps: int = 0
    """Optimiser steps of the whole run; 0: what --epochs comes to."""
    device: str = "cpu"
    """NumPy knows the CPU only."""
    epochs: int = 10
    """Passes over the training images, unless --steps is given."""
    data: str = "mnist"
    """mnist, or a file of drawings that the window saved: my.npz or data.json."""
    layers: tuple[int, ...] = (16, 16)
    """Units of the hidden layers; 784 pixels come before them, 10 digits after."""
    batch_size: int = 64
    """Images a step."""
    optimizer: Method = "momentum"
    """gradient-descent, momentum (0.9) or adam."""
    lr: float = 0.0
    """Learning rate at the start, which falls to nothing as a cosine; 0: the optimiser's usual
    one."""
    clip: float = 5.0
    """Longest gradient; a longer one keeps its direction."""

    def __post_init__(self) -> None:
        NoiseOptions.__post_init__(self)
        check(self.steps >= 0, f"--steps must not be negative, not {self.steps}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(self.device in ("cpu", "auto"), f"--device {self.device}: NumPy knows the CPU only")
        check(self.precision == "fp32", f"--precision {self.precision}: NumPy trains in fp32 only")
        check(self.epochs >= 1, f"--epochs must be at least 1, not {self.epochs}")
        check(self.batch_size >= 1, f"--batch-size must be at least 1, not {self.batch_size}")
        check(self.lr >= 0, f"--lr must not be negative, not {self.lr:g}")
        check(self.clip > 0, f"--clip must be above 0, not {self.clip:g}")
        check_layers(self.layers)

    @property
    def start_lr(self) -> float:
        return self.lr or USUAL_LR[self.optimizer]


@dataclass(frozen=True, kw_only=True)
class PlayConfig:
    """Where your drawings are, and how to look at them."""

    home: Path = field(default_factory=lambda: data_dir() / "playground")
    """Folder of your drawings and your model; made if it is not there."""
    model: str = ""
    """A model.npz to start with; left out: that of the folder, else the newest run of `train`, else
    one that has learned nothing yet."""
    web: bool = False
    """Serve a page for a browser instead of opening a window."""
    host: str = "127.0.0.1"
    """With --web, who may connect: this machine alone. 0.0.0.0 lets everybody in your network draw,
    guess and add samples; there is no password, so only where you trust them all."""
    port: int = 8080
    """With --web; 0 takes a free one and says which."""
    frames: int = 60
    """Frames a second of the window."""

    def __post_init__(self) -> None:
        check(0 <= self.port <= 65535, f"--port must be 0 to 65535, not {self.port}")
        check(10 <= self.frames <= 240, f"--frames must be 10 to 240, not {self.frames}")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which model to hold against which digits."""

    model: str = ""
    """A model.npz; left out: that of the newest run of `train`."""
    data: str = "mnist"
    """mnist (its test images), or a file of drawings: my.npz or data.json."""
    out: Path = Path("confusion.png")
    """The picture of who is taken for whom."""


@dataclass(frozen=True, kw_only=True)
class AddNoiseConfig(NoiseOptions):
    """Which drawings to copy, how often, and what happens to the copies."""

    data: Path
    """The drawings: my.npz or data.json."""
    out: Path = Path("noisy.npz")
    """Where they go with their copies; .npz or .json."""
    copies: int = 4
    """Noisy copies of each drawing; the drawing itself stays."""
    seed: int = 0
    """Of the noise."""
    noise: float = 0.02
    shift: float = 1.0
    rotate: float = 10.0
    stroke: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check(1 <= self.copies <= 100, f"--copies must be 1 to 100, not {self.copies}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which model to write as ONNX, and where."""

    model: str = ""
    """As for `evaluate`."""
    out: Path = Path("playground.onnx")
    """The file for any number of images; the one for a single image gets `_1` before the dot."""

    def __post_init__(self) -> None:
        check(self.out.suffix == ".onnx", f"--out must end in .onnx, not {self.out}")


@dataclass(frozen=True, kw_only=True)
class MeasureConfig(RunOptions):
    """How long to watch the window."""

    steps: int = 600
    """Frames to draw while the net trains."""
    device: str = "cpu"
    """NumPy knows the CPU only."""
    kills: int = 10
    """Processes that label drawings and are killed at a random moment."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.device in ("cpu", "auto"), f"--device {self.device}: NumPy knows the CPU only")
        check(self.precision == "fp32", f"--precision {self.precision}: NumPy trains in fp32 only")
        check(not self.resume, "measure takes a minute: it starts anew, without --resume")
        check(self.kills >= 1, f"--kills must be at least 1, not {self.kills}")


def check_layers(layers: tuple[int, ...]) -> None:
    """LabError where the hidden layers are too many or too wide."""
    from playground.net import DEEPEST, WIDEST

    check(
        len(layers) <= DEEPEST and all(1 <= units <= WIDEST for units in layers),
        f"--layers must be at most {DEEPEST} numbers of 1 to {WIDEST}, not "
        f"{' '.join(map(str, layers))}",
    )
