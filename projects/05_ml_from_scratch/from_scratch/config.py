"""Options of `train`; each lesson has its own beside it."""

from dataclasses import dataclass

from from_scratch.lesson import LESSONS
from trainloop import RunOptions, check


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunOptions):
    """All lessons with their default options."""

    steps: int = len(LESSONS)
    """How many of the lessons, from the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        most = len(LESSONS)
        check(self.steps <= most, f"--steps: there are {most} lessons, not {self.steps}")
