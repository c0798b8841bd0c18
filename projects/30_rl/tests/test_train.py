# ruff: noqa: C408  dict(..) needs no quotes
"""Exact resume of every algorithm, early stopping, what a run leaves behind."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rl.agents import algorithm, load_agent
from rl.config import CONFIGS, PpoConfig
from rl.evaluate import TEST, play
from rl.presets import ALGORITHMS
from rl.train import train
from trainloop import LabError, load_checkpoint
from trainloop.testing import assert_resume_is_exact

TINY = dict(pictures=False, eval_episodes=3, eval_every=2, steps=5)
KINDS = {
    "ppo": dict(horizon=40, envs=3, minibatch=64, epochs=2),
    "a2c": dict(horizon=20, envs=3),
    "reinforce": dict(envs=3),
    "dqn": dict(horizon=20, envs=3, updates=4, warmup=100, batch_size=16, capacity=150),
    "sac": dict(env="Pendulum-v1", horizon=30, envs=2, updates=4, warmup=100, batch_size=16),
    "q-learning": dict(env="FrozenLake-v1", horizon=30, envs=2),
}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_resume_is_exact(algo, tmp_path, monkeypatch):
    config = CONFIGS[algo](algo=algo, **{**TINY, **KINDS[algo]})
    assert_resume_is_exact(algorithm(algo).train, config, "rl", 4, tmp_path, monkeypatch)


def test_resume_is_exact_with_every_switch_of_dqn(tmp_path, monkeypatch):
    config = CONFIGS["dqn"](
        algo="dqn", env="MountainCar-v0", prioritised=True, dueling=True, reward="shaped",
        **TINY, **KINDS["dqn"],
    )  # fmt: skip
    assert_resume_is_exact(algorithm("dqn").train, config, "rl", 4, tmp_path, monkeypatch)


def test_resume_after_the_run_had_stopped_early(tmp_path, monkeypatch):
    """Killed between its last checkpoint and its end it must not train on."""
    config = PpoConfig(**{**TINY, **KINDS["ppo"], "stop_at": 1.0})
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "whole"))
    whole = train(config)
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "cut"))
    with monkeypatch.context() as patch:
        patch.setattr("rl.session.Session.finish", lambda *_: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):
            train(config)
    again = train(replace(config, resume=True))
    assert whole["stopped_early"] == again["stopped_early"] == 1
    for name in ("env_steps", "test/return", "loss"):
        assert whole[name] == again[name]
    assert whole["env_steps"] < 5 * 40 * 3
    files = [
        (tmp_path / kind / "rl/latest/metrics.jsonl").read_bytes() for kind in ("whole", "cut")
    ]
    assert files[0] == files[1]


def test_seconds_go_on_where_they_stopped(run, monkeypatch, tmp_path):
    folder = run("ppo", **{**TINY, **KINDS["ppo"]})
    notes = load_checkpoint(folder / "last.pt", "rl")["notes"]
    assert 0 < notes["learning_cpu_seconds"] < 60


def test_it_ends_with_its_environment_steps(run, lines):
    folder = run("ppo", env_steps=500, **KINDS["ppo"], eval_every=100)
    played = [line["env_steps"] for line in lines(folder) if "env_steps" in line]
    assert played[-2] < 500 <= played[-1]
    assert sum("val/return" in line for line in lines(folder)) == 1, (
        "at the end there is always one"
    )
    assert json.loads((folder / "summary.json").read_text())["steps"] == len(played)


def test_reset_steps_are_not_counted(run, lines):
    folder = run("dqn", **{**TINY, **KINDS["dqn"]})
    saved = load_checkpoint(folder / "last.pt", "rl")["states"]
    assert saved["progress"]["env_steps"] < 5 * 20 * 3
    assert saved["replay"]["size"] == 150


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_the_best_agent_is_what_was_tested(algo, run, lines):
    folder = run(algo, **{**TINY, **KINDS[algo]})
    tested = next(line["test/return"] for line in lines(folder) if "test/return" in line)
    loaded = load_agent()
    assert loaded.path == folder.parent / "latest" / "best.pt" or loaded.path.parent.samefile(
        folder
    )
    again = play(loaded.act, loaded.config.env, 3, TEST)
    assert again.returns.mean() == pytest.approx(tested)
    best = max(line["val/return"] for line in lines(folder) if "val/return" in line)
    assert load_checkpoint(folder / "best.pt", "rl")["best"] == best


def test_what_is_logged(run, lines):
    for algo in ALGORITHMS:
        folder = run(algo, **{**TINY, **KINDS[algo]})
        logged = set().union(*(line.keys() for line in lines(folder)))
        wanted = {"env_steps", "train_return", "value", "val/return", "test/return"}
        wanted |= {
            "ppo": {"approx_kl", "clip_fraction", "entropy", "explained_variance"},
            "a2c": {"entropy", "explained_variance"},
            "reinforce": {"entropy", "explained_variance"},
            "dqn": {"epsilon", "td_error"},
            "sac": {"entropy", "alpha"},
            "q-learning": {"epsilon", "td_error"},
        }[algo]
        assert wanted <= logged


def test_pictures(run):
    folder = run("ppo", **{**TINY, **KINDS["ppo"], "pictures": True})
    assert (folder / "learning.png").stat().st_size > 5_000
    assert (folder / "agent.gif").read_bytes().startswith(b"GIF")


def test_a_probe_draws_no_film(run):
    folder = run("ppo", "probe/Bandit-v0", steps=2, pictures=True)
    assert not (folder / "agent.gif").exists()
    assert (folder / "learning.png").exists()


def test_other_seeds_other_runs(run, lines):
    one, two = (
        lines(run("ppo", seed=seed, **{**TINY, **KINDS["ppo"]}))[0]["loss"] for seed in (0, 1)
    )
    assert one != two


def test_checkpoints_of_others_are_refused(run, tmp_path):
    folder = run("ppo", **{**TINY, **KINDS["ppo"]})
    with pytest.raises(LabError, match="was trained on CartPole-v1, not on Acrobot-v1"):
        load_agent(folder / "best.pt", "Acrobot-v1")
    (tmp_path / "cut.pt").write_bytes((folder / "best.pt").read_bytes()[:1000])
    with pytest.raises(LabError, match="cut short or damaged"):
        load_agent(tmp_path / "cut.pt")


def test_greedy_policies_do_not_share_what_they_return(run):
    """An agent's actions are the same whoever else plays beside it."""
    run("ppo", **{**TINY, **KINDS["ppo"]})
    act = load_agent().act
    x = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    together, alone = act(x), np.concatenate([act(row[None]) for row in x])
    np.testing.assert_array_equal(together, alone)
