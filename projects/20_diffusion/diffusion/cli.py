"""The commands of this project. torch is imported only after the options are read."""

from diffusion import config as options
from trainloop import entry_point, parse


@entry_point
def train() -> None:
    """Train a denoiser, sample from it once at the end, score the samples, draw."""
    config = parse(options.TrainConfig, train.__doc__)
    from diffusion.train import train as run

    run(config)
