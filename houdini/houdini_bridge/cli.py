"""The commands of this project. torch is imported only after the options are read."""

from houdini_bridge.config import CutConfig, DigitsConfig, RenderConfig, TrainConfig
from trainloop import entry_point, parse


@entry_point
def digits() -> None:
    """Draw 40,960 synthetic digits and cut them into PNG files of 28x28 pixels."""
    config = parse(DigitsConfig, digits.__doc__)
    from houdini_bridge.digits import digits as run

    run(config)


@entry_point
def render() -> None:
    """Write the jitter table, and draw its sheets of 8x8 digits."""
    config = parse(RenderConfig, render.__doc__)
    from houdini_bridge.sheets import render as run

    run(config)


@entry_point
def cut() -> None:
    """Cut sheets of digits, drawn here or by Houdini, into PNG files."""
    config = parse(CutConfig, cut.__doc__)
    from houdini_bridge.cut import cut as run

    run(config)


@entry_point
def train() -> None:
    """Train a small CNN on synthetic digits alone, and test it on MNIST's training images."""
    config = parse(TrainConfig, train.__doc__)
    from houdini_bridge.train import train as run

    run(config)
