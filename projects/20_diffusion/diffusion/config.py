"""Options of the commands; no torch here, so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from trainloop import RunOptions, check

Schedule = Literal["linear", "cosine", "sigmoid", "flow"]
Prediction = Literal["eps", "x0", "v", "flow"]
Weighting = Literal["simple", "min-snr"]
Sampler = Literal["ddpm", "ddim", "heun", "dpm", "euler"]
Toy = Literal["moons", "spirals", "letter"]

LABELLED = ("digits", "mnist", "fashion-mnist", "cifar10")


class Recipe(NamedTuple):
    """What is left at 0 on the command line comes from here."""

    steps: int
    batch_size: int
    lr: float


RECIPES = {
    "toy2d": Recipe(2500, 256, 2e-3),
    "digits": Recipe(3000, 32, 4e-3),
    "mnist": Recipe(2500, 32, 4e-3),
}
"""A data set without one takes MNIST's."""


@dataclass(frozen=True)
class Plan:
    """How to sample."""

    sampler: Sampler
    steps: int
    guidance: float = 1.0
    eta: float = 0.0
    noise_at_zero: bool = False

    def __str__(self) -> str:
        eta = f" eta {self.eta:g}" if self.eta else ""
        return f"{self.sampler}-{self.steps}{eta}, guidance {self.guidance:g}"


@dataclass(frozen=True, kw_only=True)
class DataOptions(RunOptions):
    """What to learn the distribution of."""

    data: str = "mnist"
    """toy2d, digits, mnist, fashion-mnist, cifar10, or a folder of images (with one folder for
    each label inside, or none)."""
    toy: Toy = "moons"
    """Which points in the plane toy2d is."""
    size: int = 0
    """Resize a folder's images to this many pixels a side, their middle square; 0: take them as
    they are, all of one size."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(DataOptions):
    """What to train on, how long, how, and how to sample at the end."""

    steps: int = 0
    """Optimiser steps of the whole run; 0: as the data set's recipe says."""
    batch_size: int = 0
    """Images a step, over all processes; 0: the recipe's."""
    lr: float = 0.0
    """Peak learning rate of AdamW; 0: the recipe's."""
    schedule: Schedule = "cosine"
    """How the signal fades; flow is rectified flow's straight line."""
    prediction: Prediction = "v"
    """What the network says about x_t."""
    weighting: Weighting = "simple"
    """What each t's error counts: 1, or min-SNR's."""
    gamma: float = 5.0
    """Where min-SNR cuts the signal-to-noise ratio."""
    T: int = 1000
    """Steps of the forward process."""
    widths: tuple[int, ...] = (32, 64, 96)
    """Channels of the U-Net at each resolution, multiples of 8."""
    ema: float = 0.995
    """Decay of the weights' moving average, which is what samples; 0: the weights as they are."""
    label_drop: float = 0.1
    """Share of the labels hidden in training, so that the network learns to do without."""
    sampler: Sampler = "dpm"
    """How to sample at the end."""
    sample_steps: int = 16
    """Its steps."""
    guidance: float = 2.0
    """Weight of the label when sampling: 0 ignores it, 1 is the model itself, more insists."""
    samples: int = 1000
    """How many to score at the end, as many of each label."""
    eval_every: int = 250
    """Steps between looks at the validation loss."""
    pictures: bool = True
    """Draw at the end; studies, which draw their own, do without."""
    time_scale: float = 1.0
    """What t is multiplied with before the network sees it. 0.001 is the mistake of a net built
    for 0..T that is given t/T."""
    pixels: Literal["symmetric", "unit"] = "symmetric"
    """Whether images go from -1 to 1, or, by mistake, from 0 to 1."""
    noise_at_zero: bool = False
    """The mistake of a ddpm that adds noise in its last step, too."""

    def __post_init__(self) -> None:
        check(self.steps >= 0, f"--steps must not be negative, not {self.steps}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(self.batch_size >= 0, f"--batch-size must not be negative, not {self.batch_size}")
        check(self.lr >= 0, f"--lr must not be negative, not {self.lr}")
        check(self.gamma > 0, f"--gamma must be above 0, not {self.gamma}")
        check(self.T >= 2, f"--T must be at least 2, not {self.T}")
        check(
            bool(self.widths) and all(width > 0 and width % 8 == 0 for width in self.widths),
            f"--widths must be multiples of 8, not {' '.join(map(str, self.widths)) or 'none'}",
        )
        check(0 <= self.ema < 1, f"--ema must be in [0, 1), not {self.ema}")
        check(0 <= self.label_drop <= 1, f"--label-drop must be in [0, 1], not {self.label_drop}")
        check(self.samples >= 2, f"--samples must be at least 2, not {self.samples}")
        check(self.eval_every >= 1, f"--eval-every must be at least 1, not {self.eval_every}")
        check(self.time_scale > 0, f"--time-scale must be above 0, not {self.time_scale}")
        check(self.size >= 0, f"--size must not be negative, not {self.size}")
        check(
            1 <= self.sample_steps <= self.T,
            f"--sample-steps must be 1 to {self.T}, the steps of the process (--T), not "
            f"{self.sample_steps}",
        )
        check(self.guidance >= 0, f"--guidance must not be negative, not {self.guidance}")
        check(
            self.schedule != "flow" or self.prediction != "eps",
            "--prediction eps says nothing of the data where the signal is 0, and --schedule flow "
            "ends there: predict flow, v or x0",
        )
        check(
            not self.noise_at_zero or self.sampler == "ddpm",
            f"--noise-at-zero is a mistake of --sampler ddpm, not of {self.sampler}",
        )

    @property
    def recipe(self) -> Recipe:
        """Steps, batch size and learning rate, the data set's where none was given."""
        default = RECIPES.get(self.data, RECIPES["mnist"])
        return Recipe(
            self.steps or default.steps,
            self.batch_size or default.batch_size,
            self.lr or default.lr,
        )

    @property
    def plan(self) -> Plan:
        """How to sample at the end."""
        return Plan(
            self.sampler, self.sample_steps, self.guidance, noise_at_zero=self.noise_at_zero
        )


@dataclass(frozen=True, kw_only=True)
class OracleConfig(RunOptions):
    """How closely to look."""

    steps: int = 50
    """Sampling steps to compare."""


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """Which network."""

    checkpoint: str = ""
    """A .pt of `train`; left out: the newest training's last.pt."""
    weights: Literal["ema", "model"] = "ema"
    """The averaged weights, or those that the optimiser left."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""


@dataclass(frozen=True, kw_only=True)
class SampleConfig(CheckpointOptions):
    """What to draw, and how."""

    count: int = 100
    """How many."""
    label: tuple[str, ...] = ()
    """What they shall show, in turn; left out: every label. `none` hides the label."""
    sampler: Sampler = "dpm"
    """ddpm (ancestral), ddim, heun, dpm (DPM-Solver++ 2M) or euler."""
    steps: int = 20
    """From noise to data; at most the T of the training."""
    guidance: float = 2.0
    """Weight of the label: 0 ignores it, 1 is the model itself, more insists."""
    eta: float = 0.0
    """Noise of ddim: 0 none, 1 as much as ddpm."""
    seed: int = 0
    """Sample i follows from the seed and i, whatever the others are."""
    noise_at_zero: bool = False
    """The mistake of a ddpm that adds noise in its last step, too."""
    out: Path = Path("samples.png")
    """The picture; single samples go to a folder of its name."""

    def __post_init__(self) -> None:
        check(self.count >= 1, f"--count must be at least 1, not {self.count}")
        check(self.steps >= 1, f"--steps must be at least 1, not {self.steps}")
        check(self.guidance >= 0, f"--guidance must not be negative, not {self.guidance}")
        check(0 <= self.eta <= 1, f"--eta must be in [0, 1], not {self.eta}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(self.out.suffix == ".png", f"--out must end in .png, not {self.out}")
        check(
            self.eta == 0 or self.sampler == "ddim",
            f"--eta is an option of --sampler ddim, not of {self.sampler}",
        )
        check(
            not self.noise_at_zero or self.sampler == "ddpm",
            f"--noise-at-zero is a mistake of --sampler ddpm, not of {self.sampler}",
        )


@dataclass(frozen=True, kw_only=True)
class ExportConfig(CheckpointOptions):
    """Which network to write, and where."""

    out: Path = Path("denoiser.onnx")
    """The ONNX file; the safetensors file has its name, too."""

    def __post_init__(self) -> None:
        check(self.out.suffix == ".onnx", f"--out must end in .onnx, not {self.out}")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(RunOptions):
    """Which network to score, and how to sample for it."""

    steps: int = 20
    """Sampling steps."""
    checkpoint: str = ""
    """A .pt of `train`; left out: the newest training's last.pt."""
    weights: Literal["ema", "model"] = "ema"
    """The averaged weights, or those that the optimiser left."""
    data: str = ""
    """What to hold the samples against; left out: what the network was trained on."""
    sampler: Sampler = "dpm"
    """ddpm (ancestral), ddim, heun, dpm (DPM-Solver++ 2M) or euler."""
    guidance: float = 2.0
    """Weight of the label: 0 ignores it, 1 is the model itself, more insists."""
    eta: float = 0.0
    """Noise of ddim: 0 none, 1 as much as ddpm."""
    samples: int = 1000
    """How many to score, as many of each label."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.guidance >= 0, f"--guidance must not be negative, not {self.guidance}")
        check(0 <= self.eta <= 1, f"--eta must be in [0, 1], not {self.eta}")
        check(self.samples >= 4, f"--samples must be at least 4, not {self.samples}")

    @property
    def plan(self) -> Plan:
        return Plan(self.sampler, self.steps, self.guidance, self.eta)


@dataclass(frozen=True, kw_only=True)
class SamplersConfig(RunOptions):
    """Quality against steps, of one network."""

    steps: int = 1000
    """Of the ancestral sampling that the others are held against; at most the network's T."""
    few: tuple[int, ...] = (5, 10, 20, 50)
    """Numbers of steps to try each sampler with."""
    checkpoint: str = ""
    """A .pt of `train`; left out: that of the newest training on --data."""
    data: str = "mnist"
    """digits, mnist, fashion-mnist or cifar10; not read with --checkpoint."""
    guidance: float = 2.0
    """Weight of the label; the default run's."""
    samples: int = 300
    """How many to score each time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.samples >= 4, f"--samples must be at least 4, not {self.samples}")
        check(self.guidance >= 0, f"--guidance must not be negative, not {self.guidance}")
        check(
            bool(self.few) and all(1 <= steps <= self.steps for steps in self.few),
            f"--few must be numbers of 1 to {self.steps}, the ancestral steps, not "
            f"{' '.join(map(str, self.few)) or 'none'}",
        )


@dataclass(frozen=True, kw_only=True)
class StudyOptions(RunOptions):
    """Short trainings that differ in one thing."""

    data: str = "digits"
    """digits, mnist, fashion-mnist or cifar10."""
    widths: tuple[int, ...] = (32, 64, 96)
    """Channels of the U-Net at each resolution."""
    samples: int = 300
    """How many to score of each."""
    workers: int = 0
    """Trainings at a time; 0: one for each core, or one on a GPU."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.data in LABELLED, f"--data must be one of {', '.join(LABELLED)}, not {self.data}"
        )
        check(self.samples >= 4, f"--samples must be at least 4, not {self.samples}")
        check(self.workers >= 0, f"--workers must not be negative, not {self.workers}")

    def options(self) -> list[str]:
        """What all trainings of the study have in common, as `train` reads it."""
        return [
            f"--data={self.data}",
            f"--steps={self.steps}",
            f"--eval-every={self.steps}",
            f"--samples={self.samples}",
            f"--precision={self.precision}",
            "--no-pictures",
            "--widths",
            *map(str, self.widths),
        ]


@dataclass(frozen=True, kw_only=True)
class CompareConfig(StudyOptions):
    """Schedules x objectives."""

    steps: int = 600
    """Optimiser steps of each training."""
    seeds: int = 3
    """Trainings of each kind, with the seeds `seed`, `seed` + 1, ..."""
    schedules: tuple[Schedule, ...] = ("linear", "cosine", "sigmoid", "flow")
    """Rows of the table."""
    predictions: tuple[Prediction, ...] = ("eps", "x0", "v", "flow")
    """Its columns; eps on the schedule flow is left out."""
    weightings: tuple[Weighting, ...] = ("simple",)
    """Each multiplies the columns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.seeds >= 1, f"--seeds must be at least 1, not {self.seeds}")
        for name in ("schedules", "predictions", "weightings"):
            check(bool(getattr(self, name)), f"--{name} must name at least one")


@dataclass(frozen=True, kw_only=True)
class FailuresConfig(StudyOptions):
    """What each mistake looks like."""

    data: str = "mnist"
    """digits, mnist, fashion-mnist or cifar10."""
    steps: int = 400
    """Optimiser steps of each training."""
