"""Training: the loops stand in the algorithms' own files, each to be read alone."""

from rl.agents import algorithm
from rl.config import TrainConfig
from trainloop import Run


def train(config: TrainConfig) -> dict[str, float | int | None]:
    """Train with the algorithm that the options name, or that of the run to resume."""
    return algorithm(Run.options("rl", config).algo).train(config)


if __name__ == "__main__":  # python -m rl.train
    from rl.cli import train as command

    command()
