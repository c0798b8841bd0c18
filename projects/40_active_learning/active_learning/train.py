"""The default: entropy against its two controls, in five minutes, with a verdict.

A study trains detectors: `detector.fit` is the loop, `protocol.curve` what is done with it, round
by round.
"""

from active_learning.config import TrainConfig
from active_learning.study import run_study


def train(config: TrainConfig) -> dict[str, float | int | None]:
    """Run the study of `config.strategies`; see `study.run_study`."""
    return run_study(config, "train")
