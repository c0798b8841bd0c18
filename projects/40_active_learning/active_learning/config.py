"""Options of the commands; no torch here, so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from active_learning.pools import POOLS, Knobs, knobs
from trainloop import RunOptions, check

Strategy = Literal[
    "random", "non-empty", "most-boxes",
    "least-confidence", "margin", "entropy", "entropy-mean", "entropy-max",
    "bald", "committee", "core-set", "badge",
    "class-entropy", "diverse-entropy", "diverse-class-entropy", "oracle",
]  # fmt: skip
STRATEGIES: tuple[Strategy, ...] = Strategy.__args__
CONTROLS: tuple[Strategy, ...] = ("random", "non-empty")
"""What a claim about uncertainty has to beat."""
Pool = Literal[tuple(POOLS)]


@dataclass(frozen=True, kw_only=True)
class DetectorOptions(RunOptions):
    """The pool, and the detector that is trained again and again."""

    steps: int = 240
    """Optimiser steps of each training, however many frames are labelled."""
    pool: Pool = "half-empty"
    """Rendered scenes of that name; `pools.py` says what each is for."""
    data: str = ""
    """A folder in COCO format as the pool, instead of rendered scenes."""
    image_size: int = 64
    """Pixels a side, 64 to 96 for the scenes; photos are letterboxed to it. A multiple of 8."""
    pool_seed: int = 0
    """Of the rendered scenes. One pool for all seeds: what varies is what was labelled first."""
    frames: int | None = None
    """Frames of the pool; this and the next six: None leaves it to the named pool."""
    empty: float | None = None
    """Share of frames that show nothing."""
    objects: int | None = None
    """Most objects of a frame."""
    clip: int | None = None
    """Mean number of nearly equal frames in a row."""
    parked: float | None = None
    """How unequal the lengths of the clips are; 0: all equal."""
    rarity: float | None = None
    """How many times as often as a rare class a common one is shown."""
    dark: float | None = None
    """Share of dark scenes."""
    batch_size: int = 16
    """Frames a step."""
    lr: float = 6e-3
    """Peak learning rate of AdamW."""
    width: int = 16
    """Channels at half resolution; 16: 72 thousand parameters."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("frames", "objects", "clip", "batch_size"):
            value = getattr(self, name)
            option = f"--{name.replace('_', '-')}"
            check(value is None or value >= 1, f"{option} must be at least 1, not {value}")
        for name in ("empty", "dark"):
            value = getattr(self, name)
            check(value is None or 0 <= value < 1, f"--{name} must be in [0, 1), not {value}")
        fits = 64 <= self.image_size <= 512 and self.image_size % 8 == 0
        check(fits, f"--image-size must be a multiple of 8 from 64, not {self.image_size}")
        check(
            bool(self.data) or self.image_size <= 96,
            f"--image-size of rendered scenes is 64 to 96, not {self.image_size}",
        )
        check(self.rarity is None or self.rarity >= 1, f"--rarity is at least 1, not {self.rarity}")
        check(self.parked is None or self.parked >= 0, f"--parked is at least 0, not {self.parked}")
        check(self.width >= 4, f"--width must be at least 4, not {self.width}")
        check(self.lr > 0, f"--lr must be above 0, not {self.lr}")
        check(self.pool_seed >= 0, f"--pool-seed must not be negative, not {self.pool_seed}")

    @property
    def knobs(self) -> Knobs:
        """The named pool's, with what was given on top."""
        names = ("frames", "empty", "objects", "clip", "parked", "rarity", "dark")
        return knobs(self.pool, **{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class CurveConfig(DetectorOptions):
    """Train, ask, label, train anew: one seed, each strategy from the same first frames."""

    strategies: tuple[Strategy, ...] = ("random", "non-empty", "entropy")
    """Who chooses the frames to label; `strategies.py` has a function for each."""
    start: int = 30
    """Frames labelled at first, drawn by the seed, the same for all strategies."""
    query: int = 30
    """Frames labelled in each round."""
    rounds: int = 3
    """Rounds after the first training."""
    members: int = 3
    """Nets of the committee, the evaluated one among them."""
    passes: int = 10
    """Forward passes with dropout, for BALD."""
    score_on: Literal["test", "val"] = "test"
    """Frames that AP is measured on; nothing but the oracle chooses by val."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("start", "query", "rounds"):
            check(getattr(self, name) >= 1, f"--{name} must be at least 1")
        check(self.members >= 2, f"--members must be at least 2, not {self.members}")
        check(self.passes >= 2, f"--passes must be at least 2, not {self.passes}")
        check(
            0 < len(self.strategies) == len(set(self.strategies)),
            f"--strategies must be different ones, not {' '.join(self.strategies) or 'none'}",
        )
        needed, there = self.start + self.rounds * self.query, self.knobs.frames
        check(
            bool(self.data) or needed <= there,
            f"a pool of {there:,} frames is smaller than --start and {self.rounds} rounds of "
            f"--query ask for, {needed:,}: label fewer, or raise --frames",
        )

    @property
    def trainings(self) -> int:
        """Of one seed: the first one is shared, a committee and an oracle cost more."""
        per_round = {"committee": self.members, "oracle": 1 + ORACLE_BATCHES}
        return 1 + self.rounds * sum(per_round.get(name, 1) for name in self.strategies)


ORACLE_BATCHES = 6
"""Batches that the oracle trains for in each round."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(CurveConfig):
    """A study of a strategy and its two controls, small enough for five minutes."""

    seeds: int = 3
    """Curves of each strategy, with the seeds `seed`, `seed` + 1, ...; 10 for a claim."""
    target: float = 0.0
    """AP50 at which costs are compared; 0: what the weaker of two ends with."""
    workers: int = 0
    """Seeds at a time; 0: one for each core, or one on a GPU."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.seeds >= 2, f"--seeds must be at least 2 for an interval, not {self.seeds}")
        check(self.workers >= 0, f"--workers must not be negative, not {self.workers}")
        check(0 <= self.target < 1, f"--target must be in [0, 1), not {self.target}")


@dataclass(frozen=True, kw_only=True)
class StudyConfig(TrainConfig):
    """All strategies but the oracle, ten seeds: hours, in the background."""

    strategies: tuple[Strategy, ...] = tuple(name for name in STRATEGIES if name != "oracle")
    """Who chooses the frames to label."""
    seeds: int = 10
    """Curves of each strategy, with the seeds `seed`, `seed` + 1, ..."""
    background: bool = False
    """Go on without this terminal, writing to study.log in the folder of runs."""


@dataclass(frozen=True)
class CompareConfig:
    """Two strategies, from the curves recorded so far, paired by seed."""

    a: Annotated[Strategy, tyro.conf.Positional]
    """The one that is said to be better."""
    b: Annotated[Strategy, tyro.conf.Positional]
    """The one to hold it against."""
    pool: str = ""
    """Curves of that pool; left out: of the newest run that has both."""
    target: float = 0.0
    """AP50 at which costs are compared; 0: what the weaker of the two ends with."""

    def __post_init__(self) -> None:
        check(self.a != self.b, f"compare needs two strategies, not {self.a} twice")
        check(0 <= self.target < 1, f"--target must be in [0, 1), not {self.target}")


@dataclass(frozen=True, kw_only=True)
class PicksConfig:
    """Whose picks to look at."""

    run: str = ""
    """Folder of a run of `curve`, `train` or `study`; left out: the newest."""
    seed: int | None = None
    """Which of a study's seeds; None: its first."""

    def __post_init__(self) -> None:
        check(self.seed is None or self.seed >= 0, f"--seed must not be negative, not {self.seed}")


@dataclass(frozen=True, kw_only=True)
class NextConfig:
    """A pool of photos, what is labelled of it, and how many to label next."""

    data: Path
    """Folder of photos, with subfolders."""
    labelled: tuple[Path, ...] = ()
    """COCO JSON as CVAT or Label Studio export it; none: nothing is labelled yet."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 50
    """Photos to label next."""
    strategy: Strategy = "diverse-class-entropy"
    """Who chooses them."""
    out: Path = Path("next")
    """Folder for next.txt, next.json (COCO, with boxes to correct) and next.png."""
    steps: int = 600
    """Optimiser steps of the training on what is labelled."""
    image_size: int = 128
    """Pixels a side that photos are letterboxed to. A multiple of 8."""
    seed: int = 0
    """Of the training and the draws."""

    def __post_init__(self) -> None:
        check(self.n >= 1, f"-n must be at least 1, not {self.n}")
        check(self.steps >= 1, f"--steps must be at least 1, not {self.steps}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        fits = 64 <= self.image_size <= 512 and self.image_size % 8 == 0
        check(fits, f"--image-size must be a multiple of 8 from 64, not {self.image_size}")
        check(self.strategy != "oracle", "--strategy oracle knows the labels: it is for studies")
