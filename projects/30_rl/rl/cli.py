"""The commands of this project. torch is imported only after the options are read."""

import importlib
import sys

from rl import config as options
from trainloop import entry_point, parse


@entry_point
def train() -> None:
    """Train an agent, validate it on the way, test the best one once at the end."""
    config = parse(options.config_class(sys.argv[1:]), train.__doc__)
    importlib.import_module(f"rl.{config.algo.replace('-', '_')}").train(config)
