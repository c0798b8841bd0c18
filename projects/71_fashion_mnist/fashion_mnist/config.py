"""Options of the commands; no torch here, so that `--help` is quick."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from tyro.conf import Suppress

from trainloop import RunOptions, check

TRAINING_IMAGES = 55_000  # Fashion-MNIST's 60,000 less 5,000 for validation
MODELS = ("linear", "mlp", "cnn", "resnet")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a training is made of, every choice made; `TrainConfig` explains each."""

    model: Literal["linear", "mlp", "cnn", "resnet"] = "cnn"
    width: int = 16
    blocks: int = 1
    epochs: int = 8
    dropout: float = 0.0
    batch_size: int = 256
    lr: float = 8e-3
    weight_decay: float = 0.05
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    flip: bool = True
    shift: int = 1
    cutout: int = 0
    smoothing: float = 0.0
    mixup: float = 0.0
    ema: float = 0.99
    flip_test: bool = True

    def __post_init__(self) -> None:
        for name, low, below, unit in (
            ("width", 1, 1025, "channels"),
            ("blocks", 1, 33, "blocks"),
            ("epochs", 1, 10_001, "epochs"),
            ("dropout", 0, 1, ""),
            ("batch_size", 2, TRAINING_IMAGES + 1, "images"),
            ("weight_decay", 0, 10, ""),
            ("shift", 0, 15, "pixels"),
            ("cutout", 0, 29, "pixels"),
            ("smoothing", 0, 1, ""),
            ("mixup", 0, 100, ""),
            ("ema", 0, 1, ""),
        ):
            value = getattr(self, name)
            whole = isinstance(value, int) and isinstance(low, int) and unit
            bounds = f"{low} to {below - 1:,} {unit}" if whole else f"in [{low}, {below})"
            option = name.replace("_", "-")
            check(low <= value < below, f"--{option} must be {bounds}, not {value}")
        check(0 < self.lr < 100, f"--lr must be above 0 and below 100, not {self.lr}")


PRESETS = {
    "default": Recipe(),
    "best": Recipe(
        model="resnet",
        width=24,
        epochs=28,
        dropout=0.1,
        batch_size=128,
        lr=5e-3,
        cutout=8,
        smoothing=0.05,
        ema=0.998,
    ),
}
"""default: the best that five minutes on two cores gave; best: an hour or more on one."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunOptions):
    """What to train, how, and how long. Options left out are the preset's."""

    preset: Literal["default", "best"] = "default"
    """Where the options that are left out come from: under five minutes on two cores, or the one
    long run of the README."""
    model: Literal["linear", "mlp", "cnn", "resnet"] | None = None
    """The architecture. [cnn, best: resnet]"""
    width: int | None = None
    """Channels of the first convolution; the perceptron's hidden layers have 16 times as many
    units. [16, best: 24]"""
    blocks: int | None = None
    """Residual blocks at each of resnet's three resolutions. [1]"""
    steps: int = 0
    """Optimiser steps of the whole run; 0: what --epochs comes to."""
    epochs: int | None = None
    """Passes over the training images, unless --steps is given. [8, best: 28]"""
    dropout: float | None = None
    """Share of the features dropped before the last layer. [0, best: 0.1]"""
    batch_size: int | None = None
    """Images a step, over all processes. [256, best: 128]"""
    lr: float | None = None
    """Peak learning rate of AdamW. [0.008, best: 0.005]"""
    weight_decay: float | None = None
    """AdamW's decay, on convolution and linear weights only. [0.05]"""
    schedule: Literal["one-cycle", "cosine", "constant"] | None = None
    """one-cycle: the rate up for three tenths and down to nothing, the momentum the other way;
    cosine: a short warm-up, then down; constant: neither. [one-cycle]"""
    flip: bool | None = None
    """Mirror half of the training images left to right. [True]"""
    shift: int | None = None
    """Move training images by up to this many pixels each way. [1]"""
    cutout: int | None = None
    """Blacken a square of this many pixels in each training image; 0: none. [0, best: 8]"""
    smoothing: float | None = None
    """Label smoothing: this share of each label is spread over all classes. [0, best: 0.05]"""
    mixup: float | None = None
    """MixUp: blend pairs of images and labels, the weight drawn from Beta(a, a); 0: none. [0]"""
    ema: float | None = None
    """Decay of the weights' moving average, which is evaluated and kept; 0: the weights
    themselves. [0.99, best: 0.998]"""
    flip_test: bool | None = None
    """When predicting, average what is seen in an image and in its mirror image: twice the work.
    [True]"""
    eval_every: int = 430
    """Steps between looks at the validation images; 430 of 256 images are two epochs."""

    def __post_init__(self) -> None:
        check(self.steps >= 0, f"--steps must not be negative, not {self.steps}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(self.eval_every >= 1, f"--eval-every must be at least 1, not {self.eval_every}")
        check(
            self.preset in PRESETS,
            f"--preset must be one of {', '.join(PRESETS)}, not {self.preset}",
        )
        check(
            self.model is None or self.model in MODELS,
            f"--model must be one of {', '.join(MODELS)}, not {self.model}",
        )
        _ = self.recipe  # complains of what is out of range

    @property
    def recipe(self) -> Recipe:
        """The preset's, with what was given put in its place."""
        return recipe_of(self.preset, {f.name: getattr(self, f.name) for f in fields(Recipe)})


def recipe_of(preset: str, given: dict[str, Any]) -> Recipe:
    """A preset's recipe, with what of `given` is not None put in its place."""
    return replace(PRESETS[preset], **{k: v for k, v in given.items() if v is not None})


@dataclass(frozen=True, kw_only=True)
class CompareConfig(RunOptions):
    """The same budget for every architecture, each with the same seeds."""

    steps: int = 300
    """Optimiser steps of each training, of 256 images."""
    models: tuple[str, ...] = MODELS
    """Which architectures."""
    seeds: int = 3
    """Trainings of each, with the seeds `seed`, `seed` + 1, ..."""
    workers: int = 0
    """Trainings at a time; 0: one for each core, or one on a GPU."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.seeds >= 2, f"--seeds must be at least 2 for a spread, not {self.seeds}")
        check(self.workers >= 0, f"--workers must not be negative, not {self.workers}")
        check(
            bool(self.models) and set(self.models) <= set(MODELS),
            f"--models must be of {', '.join(MODELS)}, not {', '.join(self.models) or 'none'}",
        )
        check(
            len(set(self.models)) == len(self.models),
            f"--models names one twice: {', '.join(self.models)}",
        )


@dataclass(frozen=True, kw_only=True)
class LookOptions(RunOptions):
    """Which model to look at. What is looked at is a run of its own, with a folder of its own."""

    steps: Suppress[int] = 1
    precision: Suppress[str] = "fp32"
    resume: Suppress[bool] = False
    model_file: str = ""
    """A checkpoint of `train`; left out: the newest run's."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(LookOptions):
    """Which model to look into, and how much of it to draw."""

    mapped: int = 3_000
    """Test images on the map of embeddings, drawn by the seed; t-SNE takes a second for 100."""
    shown: int = 24
    """Images in each picture of mistakes and suspects."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            100 <= self.mapped <= 10_000,
            f"--mapped must be 100 to 10,000 images, not {self.mapped:,}",
        )
        check(1 <= self.shown <= 200, f"--shown must be 1 to 200 images, not {self.shown}")


@dataclass(frozen=True, kw_only=True)
class ExportConfig(LookOptions):
    """Which model to hand over, with how many predictions, and where to."""

    images: int = 10_000
    """Test images to predict, from the first on."""
    maps: Literal["tsne", "pca"] = "tsne"
    """How embeddings become places: t-SNE keeps neighbours together, PCA is linear and quick."""
    maps_3d: Literal["tsne", "pca"] = "pca"
    """The same in three dimensions, where t-SNE takes more than twice as long as in two."""
    out: str = ""
    """Folder of the files; left out: the run's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            (100 if "tsne" in (self.maps, self.maps_3d) else 4) <= self.images <= 10_000,
            f"--images must be 100 to 10,000 (with --maps pca 4 to 10,000), not {self.images:,}",
        )
