"""The commands of this project. torch is imported only after the options are read."""

import sys

from rl import config as options
from trainloop import entry_point, parse


@entry_point
def train() -> None:
    """Train an agent, validate it on the way, test the best one once at the end."""
    config = parse(options.config_class(sys.argv[1:]), train.__doc__)
    from rl.train import train as run

    run(config)


@entry_point
def evaluate() -> None:
    """Play test episodes with an agent: mean, interquartile mean, worst."""
    config = parse(options.EvaluateConfig, evaluate.__doc__)
    from rl.watch import evaluate as run

    run(config)


@entry_point
def watch() -> None:
    """Film an agent, or show it in a window."""
    config = parse(options.WatchConfig, watch.__doc__)
    from rl.watch import watch as run

    run(config)


@entry_point
def study() -> None:
    """One algorithm with many seeds: how often, how good, how soon."""
    config = parse(options.StudyConfig, study.__doc__)
    from rl.study import study as run

    run(config)


@entry_point
def gallery() -> None:
    """Nine failures beside healthy trainings, and the curve that tells."""
    config = parse(options.GalleryConfig, gallery.__doc__)
    from rl.gallery import gallery as run

    run(config)


@entry_point
def rewards() -> None:
    """Ask for different things: sparse, dense, shaped, and a reward that is hacked."""
    config = parse(options.RewardsConfig, rewards.__doc__)
    from rl.reward_lab import rewards as run

    run(config)
