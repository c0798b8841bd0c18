"""The commands of this project. torch is imported only after the options are read."""

from active_learning import config as options
from trainloop import entry_point, parse


@entry_point
def train() -> None:
    """Entropy and its two controls, four seeds: is it worth anything, and is it uncertainty?"""
    config = parse(options.TrainConfig, train.__doc__)
    from active_learning.train import train as run

    run(config)


@entry_point
def study() -> None:
    """Many strategies, ten seeds; stopped at any moment, it goes on with --resume."""
    config = parse(options.StudyConfig, study.__doc__)
    from active_learning.study import study as run

    run(config)


@entry_point
def curve() -> None:
    """One seed: train, ask, label, train anew, for each strategy."""
    config = parse(options.CurveConfig, curve.__doc__)
    from active_learning.protocol import curve as run

    run(config)


@entry_point
def compare() -> None:
    """Hold one strategy against another, over frames and over boxes, in words."""
    config = parse(options.CompareConfig, compare.__doc__)
    from active_learning.study import compare as run

    run(config)


@entry_point
def picks() -> None:
    """Draw what each strategy chose: contact sheets, classes, a map, its certainty."""
    config = parse(options.PicksConfig, picks.__doc__)
    from active_learning.picks import picks as run

    run(config)


@entry_point
def next_images() -> None:
    """Choose the photos to label next, from those labelled so far."""
    config = parse(options.NextConfig, next_images.__doc__)
    from active_learning.labelling import next_images as run

    run(config)
