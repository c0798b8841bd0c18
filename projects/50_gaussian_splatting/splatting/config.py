"""Options of the commands; no torch here, so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainloop import RunOptions, check

Backend = Literal["tiles", "reference", "gsplat"]


@dataclass(frozen=True, kw_only=True)
class DataOptions(RunOptions):
    """What to look at, and how it is drawn."""

    data: str = "tabletop"
    """tabletop (ray-traced by this project, with exact depth), or a folder: NeRF-synthetic's
    transforms_train.json, or COLMAP's sparse/0 and images/."""
    size: int = 128
    """Side of the tabletop's pictures in pixels. A folder's are shrunk by a whole number until
    they are no larger; 0 leaves them as they are."""
    backend: Backend = "tiles"
    """tiles: compiled, on the CPU; reference: plain torch, slow; gsplat: on CUDA, if installed."""
    pixel_variance: float = 0.3
    """Added to the variance of every Gaussian's picture, in px^2: the window that a pixel is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.size == 0 or 16 <= self.size <= 4096,
            f"--size must be 16 to 4096 pixels, or 0 for a folder's own, not {self.size}",
        )
        check(self.size > 0 or self.data != "tabletop", "--size 0 is for folders of pictures")
        check(
            self.pixel_variance > 0, f"--pixel-variance must be above 0, not {self.pixel_variance}"
        )
        check(
            self.precision == "fp32",
            f"--precision {self.precision}: splatting is done in fp32 only",
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(DataOptions):
    """What to train on, how long, and how the set of Gaussians may change."""

    steps: int = 5000
    """Optimiser steps, each on one view."""
    max_gaussians: int = 5000
    """Density control stops adding here."""
    points: int = 2000
    """Gaussians to begin with."""
    init: Literal["points", "random"] = "points"
    """Begin on surfaces, where they are known (tabletop, COLMAP), or anywhere in a cube."""
    mcmc: bool = False
    """MCMC (Kheradmand 2024) instead of clone, split, prune and reset: dead Gaussians move to
    living ones, and noise explores."""
    fixed: bool = False
    """No density control: the Gaussians that it begins with are all."""
    without: Literal["nothing", "clone", "split", "prune"] = "nothing"
    """A part of density control to leave out, to see what it is for."""
    refine_every: int = 100
    """Steps between changes of the set."""
    refine_until: float = 0.6
    """Share of the run after which the set stays as it is."""
    grad_threshold: float = 2e-4
    """Mean pull on a centre, in halves of the picture, from which a Gaussian is cloned or split."""
    reset_every: int = 1200
    """Steps between resets of all opacities to 0.01; 0: never. Not with --mcmc."""
    sh_degree: int = 3
    """Highest degree of the spherical harmonics, 0 to 3."""
    sh_every: int = 500
    """Steps before each next degree joins in."""
    lr_means: float = 4e-4
    """Learning rate of the centres at the first step, in units of the cameras' extent."""
    lr_means_final: float = 0.01
    """What is left of it at the last step; it falls exponentially."""
    ssim: float = 0.2
    """Weight of 1 - SSIM in the loss; the rest is the mean absolute error."""
    isotropic: bool = False
    """Balls only: one scale for each Gaussian."""
    unsorted: bool = False
    """Blend in the order in which the Gaussians are stored: a failure on purpose."""
    eval_every: int = 500
    """Steps between looks at the validation views."""
    turntable: int = 36
    """Frames of turntable.gif; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("refine_every", "sh_every", "eval_every"):
            value = getattr(self, name)
            check(value >= 1, f"--{name.replace('_', '-')} must be at least 1, not {value}")
        for name in ("reset_every", "turntable"):
            value = getattr(self, name)
            check(value >= 0, f"--{name.replace('_', '-')} must not be negative, not {value}")
        check(self.points >= 4, f"--points must be at least 4, not {self.points}")
        check(
            self.max_gaussians >= self.points,
            f"--max-gaussians {self.max_gaussians} is less than --points {self.points}",
        )
        check(not (self.mcmc and self.fixed), "--mcmc and --fixed exclude each other")
        check(
            self.without == "nothing" or not (self.mcmc or self.fixed),
            "--without leaves out a part of what --mcmc and --fixed do not have",
        )
        check(
            0 <= self.refine_until <= 1,
            f"--refine-until must be in [0, 1], not {self.refine_until}",
        )
        check(
            self.grad_threshold > 0, f"--grad-threshold must be above 0, not {self.grad_threshold}"
        )
        check(0 <= self.sh_degree <= 3, f"--sh-degree must be 0 to 3, not {self.sh_degree}")
        check(self.lr_means > 0, f"--lr-means must be above 0, not {self.lr_means}")
        check(
            0 < self.lr_means_final <= 1,
            f"--lr-means-final must be in (0, 1], not {self.lr_means_final}",
        )
        check(0 <= self.ssim <= 1, f"--ssim must be in [0, 1], not {self.ssim}")


@dataclass(frozen=True, kw_only=True)
class FitConfig(RunOptions):
    """Which photo, how many 2-D Gaussians, how long."""

    photo: str = "flower"
    """flower or china, which scikit-learn ships, or the path of any picture."""
    steps: int = 2000
    """Optimiser steps, each on the whole picture."""
    gaussians: int = 1000
    """How many."""
    size: int = 128
    """The middle square of the photo is resized to this many pixels."""
    sweep: tuple[int, ...] = ()
    """Numbers of Gaussians to fit as well, for the table of dB against bytes: 100 250 500 1500."""
    lr: float = 0.02
    """Peak learning rate of Adam; centres and sizes have their own units (see fit_image.py)."""
    eval_every: int = 100
    """Steps between looks at the picture."""
    frames: int = 30
    """Of fit.gif; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(16 <= self.size <= 1024, f"--size must be 16 to 1024 pixels, not {self.size}")
        most = self.size**2 // 9
        for option, n in (("gaussians", self.gaussians), *(("sweep", n) for n in self.sweep)):
            check(
                4 <= n <= most,
                f"--{option} must be 4 to {most}, not {n}: each has 9 parameters, and more of them "
                f"than there are pixels ({self.size}x{self.size}) would describe nothing",
            )
        check(self.lr > 0, f"--lr must be above 0, not {self.lr}")
        check(self.eval_every >= 1, f"--eval-every must be at least 1, not {self.eval_every}")
        check(self.frames >= 0, f"--frames must not be negative, not {self.frames}")
        check(self.precision == "fp32", f"--precision {self.precision}: fp32 only")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which Gaussians to hold against which views."""

    model: str = ""
    """A checkpoint of `train` or a .ply; left out: the newest run's best checkpoint."""
    data: str = ""
    """As of `train`; left out: what the checkpoint was trained on, or the tabletop for a .ply."""
    split: Literal["val", "test"] = "val"
    """Held-out views: to tune on, or to report once."""
    out: Path = Path("evaluation.png")
    """Where the picture goes: rendered, true, and the difference."""

    def __post_init__(self) -> None:
        check(self.out.suffix == ".png", f"--out must end in .png, not {self.out}")


@dataclass(frozen=True, kw_only=True)
class AblateConfig(RunOptions):
    """The default training, and one change at a time."""

    steps: int = 1200
    """Optimiser steps of each training."""
    only: tuple[str, ...] = ()
    """Changes by name (see studies.py); all if left out."""
    seeds: int = 1
    """Trainings of each kind, with the seeds `seed`, `seed` + 1, ..."""
    size: int = 128
    """Side of the pictures in pixels."""
    workers: int = 0
    """Trainings at a time; 0: one for each core."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.seeds >= 1, f"--seeds must be at least 1, not {self.seeds}")
        check(self.workers >= 0, f"--workers must not be negative, not {self.workers}")
        check(16 <= self.size <= 4096, f"--size must be 16 to 4096 pixels, not {self.size}")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which Gaussians to write, and where."""

    model: str = ""
    """A checkpoint of `train`; left out: the newest run's best."""
    out: Path = Path("splats.ply")
    """Binary little-endian, the fields of the 3DGS reference implementation."""

    def __post_init__(self) -> None:
        check(self.out.suffix == ".ply", f"--out must end in .ply, not {self.out}")


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """Which Gaussians to put on a page."""

    model: str = ""
    """A checkpoint of `train` or any 3DGS .ply; left out: the newest run's best checkpoint."""
    out: Path = Path("splats.html")
    """One file with everything in it; it asks the network for nothing."""
    open: bool = False
    """Show it in the browser."""

    def __post_init__(self) -> None:
        check(self.out.suffix == ".html", f"--out must end in .html, not {self.out}")


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Where the mathematics' pictures go."""

    out: Path = Path("explain")
    """A folder."""
