"""The commands of this project. torch is imported only after the options are read."""

from trainloop import entry_point, parse
from warmup.config import TrainConfig


@entry_point
def train() -> None:
    """Train a small CNN on MNIST and test it once."""
    config = parse(TrainConfig, train.__doc__)
    from warmup.train import train as run

    run(config)
