"""Options of the commands; no torch here, so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from trainloop import RunOptions, check

Augmentation = Literal["colour", "flip", "scale", "crop", "mosaic"]
Backbone = Literal[
    "small",
    "resnet18",
    "resnet18-imagenet",
    "resnet50",
    "resnet50-imagenet",
    "mobilenet-v3",
    "mobilenet-v3-imagenet",
]
Assignment = Literal["atss", "task-aligned", "simota", "centre"]
ClassLoss = Literal["bce", "quality-focal", "varifocal", "focal"]
BoxLoss = Literal["giou", "iou", "diou", "ciou"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunOptions):
    """How to train the detector. The defaults take under five minutes on two cores."""

    steps: int = 3200
    """Optimiser steps of the whole run."""
    data: str = "tabletop"
    """`tabletop` (rendered scenes), `voc2007`, `voc2012`, or a folder of your own photos in COCO's
    or VOC's format."""
    images: int = 0
    """Train on so many images of the training set only. 0: on all."""
    per_class: int = 0
    """Train on the first so many images of each class, by a hash of their names. 0: on all."""
    image_size: int = 128
    """Side of the square that images are fitted into, in pixels; a multiple of 16 (32 for
    torchvision's backbones)."""
    augment: tuple[Augmentation, ...] = ("colour", "flip")
    """Changes to the training images that take the boxes along, drawn anew at each step."""
    backbone: Backbone = "small"
    """The network below the pyramid; `-imagenet` fetches torchvision's weights."""
    backbone_weights: str = ""
    """A file of weights for the backbone: torchvision's .pth, or a checkpoint of `pretrain`
    (`pretrain` alone: the newest)."""
    freeze: int = 0
    """Leave the first so many stages of the backbone as they are."""
    freeze_batchnorm: bool = False
    """Leave statistics and scales of the backbone's BatchNorm as they are: for small batches."""
    widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    """Channels of the small backbone at strides 2, 4, 8 and 16."""
    prior: float = 0.01
    """Probability of every class at every point to begin with."""
    assignment: Assignment = "atss"
    """Which points answer for which object. `centre` adds FCOS's centerness branch."""
    top: int | None = None
    """Candidates a level (atss: 9), points for each object (task-aligned: 8), or IoUs that decide
    the number of points (simota: 10)."""
    class_loss: ClassLoss = "bce"
    """Loss of class probabilities. `focal` wants 1 of every positive, the others its quality."""
    box_loss: BoxLoss = "giou"
    """Similarity of boxes whose distance from 1 is the box loss."""
    box_weight: float = 2.0
    """Weight of the box loss against the classification loss."""
    normalise: Literal["targets", "images"] = "targets"
    """Divide the loss by the sum of all targets in the batch, or by the number of images."""
    ignored: Literal["masked", "background"] = "masked"
    """Take points in ignored regions out of the loss, or punish what they find."""
    unlabelled: float = 0.0
    """Share of the training objects to mark as ignored: labels that are known to be missing."""
    batch_size: int = 16
    """Images a step, over all processes."""
    accumulate: int = 1
    """Parts of the batch that go through the model one after the other, to save memory."""
    lr: float = 8e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.05
    """AdamW's decay, on convolution weights only."""
    clip: float = 10.0
    """Largest norm of the gradient; a larger one is scaled down to it."""
    ema: float = 0.998
    """Decay of the weights' moving average, which is what gets evaluated."""
    eval_every: int = 800
    """Steps between looks at the validation images."""
    overfit: int = 0
    """Train and evaluate on just so many training images, without augmentation: a check that the
    model can learn at all. 0: train as usual."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "accumulate", "eval_every"):
            value = getattr(self, name)
            check(value >= 1, f"--{name.replace('_', '-')} must be at least 1, not {value}")
        for name in ("images", "per_class", "freeze", "overfit"):
            value = getattr(self, name)
            check(value >= 0, f"--{name.replace('_', '-')} must not be negative, not {value}")
        check(self.top is None or self.top >= 1, f"--top must be at least 1, not {self.top}")
        check(
            self.assignment != "centre" or self.top is None,
            "--top means nothing to --assignment centre: leave it out",
        )
        multiple = 16 if self.backbone == "small" else 32
        check(
            self.image_size >= 32 and self.image_size % multiple == 0,
            f"--image-size must be a multiple of {multiple}, at least 32, not {self.image_size}",
        )
        check(
            self.batch_size % self.accumulate == 0,
            f"--batch-size {self.batch_size} cannot be had in {self.accumulate} equal parts: "
            "make it a multiple of --accumulate",
        )
        check(0 < self.prior < 1, f"--prior must be in (0, 1), not {self.prior}")
        check(0 <= self.unlabelled < 1, f"--unlabelled must be in [0, 1), not {self.unlabelled}")
        check(self.lr > 0, f"--lr must be above 0, not {self.lr}")
        check(self.clip > 0, f"--clip must be above 0, not {self.clip}")
        check(self.weight_decay >= 0, f"--weight-decay must be at least 0, not {self.weight_decay}")
        check(self.box_weight >= 0, f"--box-weight must be at least 0, not {self.box_weight}")
        check(0 <= self.ema < 1, f"--ema must be in [0, 1), not {self.ema}")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunOptions):
    """How to train the small backbone as a classifier of object crops."""

    steps: int = 1000
    """Optimiser steps of the whole run."""
    data: str = "tabletop"
    """Whose objects: rendered scenes of their own, or the training set of `voc2007` or a folder."""
    image_size: int = 128
    """Side of the square that images are fitted into, in pixels."""
    crop_size: int = 64
    """Side of the crops, in pixels."""
    widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    """Channels of the backbone at strides 2, 4, 8 and 16."""
    batch_size: int = 64
    """Crops a step."""
    lr: float = 8e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.05
    """AdamW's decay, on convolution weights only."""
    ema: float = 0.998
    """Decay of the weights' moving average, which is what a detector starts from."""
    eval_every: int = 500
    """Steps between looks at crops from the validation images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "eval_every"):
            value = getattr(self, name)
            check(value >= 1, f"--{name.replace('_', '-')} must be at least 1, not {value}")
        for name in ("image_size", "crop_size"):
            value = getattr(self, name)
            check(
                value >= 32 and value % 16 == 0,
                f"--{name.replace('_', '-')} must be a multiple of 16, at least 32, not {value}",
            )
        check(self.lr > 0, f"--lr must be above 0, not {self.lr}")
        check(self.weight_decay >= 0, f"--weight-decay must be at least 0, not {self.weight_decay}")
        check(0 <= self.ema < 1, f"--ema must be in [0, 1), not {self.ema}")


@dataclass(frozen=True, kw_only=True)
class StudyConfig(RunOptions):
    """Options that every study shares; `seed` is the first of its seeds."""

    seeds: int = 3
    """Trainings of each kind, with the seeds `seed`, `seed` + 1, ..."""
    data: str = "tabletop"
    """What to train on, as in `train`."""
    assignment: Assignment = "task-aligned"
    """What all trainings use; not the default of `train`, which the ablation has changed."""
    image_size: int = 128
    """Side of the square that images are fitted into, in pixels."""
    batch_size: int = 16
    """Images a step."""
    workers: int = 0
    """Trainings at a time. 0: one for each core; one on a GPU."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("seeds", "batch_size"):
            value = getattr(self, name)
            check(value >= 1, f"--{name.replace('_', '-')} must be at least 1, not {value}")
        check(self.image_size >= 32, f"--image-size must be at least 32, not {self.image_size}")
        check(self.workers >= 0, f"--workers must not be negative, not {self.workers}")

    def options(self, looks: int = 1) -> list[str]:
        """What each training of the study is given; `looks` at the validation images on its way."""
        return [
            f"--steps={self.steps}",
            f"--data={self.data}",
            f"--assignment={self.assignment}",
            f"--image-size={self.image_size}",
            f"--batch-size={self.batch_size}",
            f"--precision={self.precision}",
            f"--eval-every={-(-self.steps // looks)}",
        ]


@dataclass(frozen=True, kw_only=True)
class AblateConfig(StudyConfig):
    """One factor at a time: assignment, box loss, class loss."""

    steps: int = 300
    """Optimiser steps of each training: the fixed budget."""


@dataclass(frozen=True, kw_only=True)
class TransferConfig(StudyConfig):
    """A pretrained backbone against a fresh one, by the number of labelled scenes."""

    steps: int = 400
    """Optimiser steps of each training."""
    scenes: tuple[int, ...] = (50, 200, 1000)
    """Numbers of labelled training images."""
    pretrained: str = ""
    """The checkpoint to start from; one is made by `pretrain` if left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for count in self.scenes:
            check(count >= 1, f"--scenes must be at least 1, not {count}")
        check(bool(self.scenes), "--scenes needs at least one number")


@dataclass(frozen=True, kw_only=True)
class FailuresConfig(StudyConfig):
    """Four failures on purpose, each beside a healthy training."""

    steps: int = 300
    """Optimiser steps of each training."""
    seeds: int = 1
    """Trainings of each kind."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which checkpoint to hold against which images."""

    checkpoint: Path | None = None
    """A last.pt or best.pt; the newest run's if left out."""
    data: str = ""
    """`tabletop`, `voc2007`, `voc2012`, or a COCO or VOC folder; what the checkpoint was trained on
    if left out."""
    split: Literal["train", "val", "test"] = "val"
    """Which part of the data. Read test once, when nothing is left to decide."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    out: Path = Path("evaluate.png")
    """The picture of what was found."""


@dataclass(frozen=True, kw_only=True)
class ErrorsConfig(EvaluateConfig):
    """What kinds of error cost how much, and which images are the worst."""

    out: Path = Path("errors")
    """Folder for errors.png, worst.png and errors.md."""
    worst: int = 12
    """How many of the worst images to draw."""
    score: float = 0.3
    """Score from which a detection counts in the confusion matrix and is drawn, 0..1."""

    def __post_init__(self) -> None:
        check(0 <= self.score <= 1, f"--score must be in [0, 1], not {self.score}")
        check(self.worst >= 1, f"--worst must be at least 1, not {self.worst}")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Which data to draw the augmentations of."""

    data: str = "tabletop"
    """As in `train`."""
    image_size: int = 128
    """Side of the square that images are fitted into, in pixels."""
    count: int = 6
    """How many images."""
    seed: int = 0
    """Of the random draws."""
    out: Path = Path("augmentations.png")
    """The picture."""

    def __post_init__(self) -> None:
        check(self.image_size >= 32, f"--image-size must be at least 32, not {self.image_size}")
        check(self.count >= 1, f"--count must be at least 1, not {self.count}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which checkpoint to write as ONNX."""

    checkpoint: Path | None = None
    """A last.pt or best.pt; the newest run's if left out."""
    out: Path = Path("detector.onnx")
    """The file."""
    score: float = 0.05
    """Leave out what is less likely than this, 0..1."""
    iou: float = 0.6
    """Of two boxes of a class that overlap more than this, the better one stays."""
    most: int = 100
    """At most so many boxes an image."""

    def __post_init__(self) -> None:
        for name in ("score", "iou"):
            value = getattr(self, name)
            check(0 <= value <= 1, f"--{name} must be in [0, 1], not {value}")
        check(self.most >= 1, f"--most must be at least 1, not {self.most}")


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
