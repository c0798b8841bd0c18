"""The commands of this project. torch is imported only after the options are read."""

from trainloop import entry_point, parse
from warmup import config as options


@entry_point
def train() -> None:
    """Train a classifier, look at validation images on the way, test once at the end."""
    config = parse(options.TrainConfig, train.__doc__)
    from warmup.train import train as run

    run(config)


@entry_point
def overfit() -> None:
    """Fit 32 images to the last one: the first thing to try with any new model or loop."""
    config = parse(options.OverfitConfig, overfit.__doc__)
    from warmup.overfit import overfit as run

    run(config)


@entry_point
def lr_find() -> None:
    """Let the learning rate grow until the training breaks, and read a good one off the curve."""
    config = parse(options.LrFindConfig, lr_find.__doc__)
    from warmup.lr_find import lr_find as run

    run(config)


@entry_point
def profile() -> None:
    """Where a training step's time goes: by part, by operator, and as a trace for Perfetto."""
    config = parse(options.ProfileConfig, profile.__doc__)
    from warmup.profiling import profile as run

    run(config)


@entry_point
def inspect() -> None:
    """Activations, gradients, dead units and update sizes of every layer in a short training."""
    config = parse(options.InspectConfig, inspect.__doc__)
    from warmup.inspection import inspect as run

    run(config)
