"""Agents from checkpoints."""

import importlib
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from rl.config import CONFIGS, TrainConfig
from rl.envs import Envs
from rl.evaluate import Act
from trainloop import check, latest_checkpoint, load_checkpoint
from trainloop.checkpoint import load_into


class Loaded(NamedTuple):
    """An agent that is ready to play."""

    act: Act
    config: TrainConfig  # settled
    path: Path
    env_steps: int


def algorithm(name: str) -> ModuleType:
    """The module of `--algo NAME`."""
    return importlib.import_module(f"rl.{name.replace('-', '_')}")


def load_agent(checkpoint: str | Path = "", env: str = "") -> Loaded:
    """The agent of a checkpoint; left out: the best one of the newest run.

    Raises:
        LabError: no such checkpoint, damaged, foreign, or trained elsewhere than on `env`.
    """
    path = Path(checkpoint) if str(checkpoint) else latest_checkpoint("rl")
    saved = load_checkpoint(path, "rl")
    options = saved["config"]
    check("algo" in options, f"{path} holds no agent: it is of `{saved['command']}`")
    check(
        not env or env == options["env"],
        f"{path} was trained on {options['env']}, not on {env}: leave out --env, or train there",
    )
    kind = CONFIGS[options["algo"]]
    known = {field.name for field in fields(kind)}
    config = kind(**{name: value for name, value in options.items() if name in known}).settled()
    agent = algorithm(config.algo).build(config, Envs(config.env, 1, seed=0))
    load_into(path, {"agent": agent}, {"agent": saved["states"]["agent"]})
    return Loaded(agent.policy(), config, path, saved["states"]["progress"]["env_steps"])
