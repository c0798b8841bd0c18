"""Runs in a temporary folder, without the pictures that a person would want."""

import json
from collections.abc import Callable
from pathlib import Path

import jaxtyping
import pytest
import torch

from rl.config import CONFIGS
from rl.train import train
from trainloop import load_checkpoint


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """No TensorBoard, no waiting for the disk: most of a short run's time."""
    monkeypatch.setattr("os.fsync", lambda file: None)
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("trainloop.run.Run._to_tensorboard", lambda *_: None)


@pytest.fixture
def unchecked(monkeypatch) -> None:
    """No shape is checked: at a million calls of functions that other tests check, that took 37 of
    the 83 s of all tests here (measured)."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def run(tmp_path) -> Callable[..., Path]:
    """Trains with these options; returns the run's folder."""

    def train_it(algo: str, env: str = "CartPole-v1", **options) -> Path:
        options = {"pictures": False, "eval_episodes": 5, "early_stop": False, **options}
        train(CONFIGS[algo](algo=algo, env=env, **options))
        return tmp_path / "runs/rl/latest"

    return train_it


@pytest.fixture
def trained(run) -> Callable[..., torch.nn.Module]:
    """Trains with these options; returns the last agent, not the best one."""

    def train_it(algo: str, env: str, **options) -> torch.nn.Module:
        from rl.agents import algorithm
        from rl.envs import Envs

        folder = run(algo, env, **options)
        config = CONFIGS[algo](algo=algo, env=env, **options).settled()
        agent = algorithm(algo).build(config, Envs(env, 1, 0))
        agent.load_state_dict(load_checkpoint(folder / "last.pt", "rl")["states"]["agent"])
        return agent

    return train_it


@pytest.fixture
def lines() -> Callable[[Path], list[dict]]:
    """metrics.jsonl of a run's folder."""
    return lambda folder: [json.loads(line) for line in (folder / "metrics.jsonl").open()]
