"""The commands: help, and misuse as one line with exit code 2."""

import sys

import pytest

from rl import cli
from rl.config import (
    CONFIGS,
    EvaluateConfig,
    GalleryConfig,
    PpoConfig,
    RewardsConfig,
    StudyConfig,
    WatchConfig,
    config_class,
)
from trainloop import LabError
from trainloop.testing import help_of, refused

COMMANDS = ("train", "evaluate", "watch", "study", "gallery", "rewards")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, monkeypatch, capsys):
    run = getattr(cli, command)
    assert run.__doc__ in help_of(run, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--env", "Nonsense-v0"], "--env Nonsense-v0: gymnasium says"),
        (["train", "--env", "Pendulum-v1"], "ppo needs discrete actions, Pendulum-v1 has Box"),
        (["train", "--algo", "sac"], "sac needs bounded continuous actions, CartPole-v1 has"),
        (["train", "--algo=q-learning"], "q-learning needs discrete or bounded observations"),
        (["train", "--reward", "dense", "--env", "Acrobot-v1"], "--reward dense is not known"),
        (["train", "--resume"], "nothing to resume"),
        (["train", "--gamma", "1.5"], "--gamma must be 0 to 1"),
        (["evaluate"], "no run of rl has a checkpoint"),
        (["watch", "--checkpoint", "missing.pt"], "no checkpoint at missing.pt"),
        (["watch", "--out", "film.avi"], "--out must end in .gif or .mp4"),
        (["study", "--options", "clip=0.1", "--algo", "dqn"], "--options clip=0.1: not an option"),
        (["study", "--env", "Pendulum-v1"], "ppo needs discrete actions"),
        (["gallery", "--only", "bad-luck"], "--only bad-luck: the gallery has"),
        (["rewards", "--envs", "Acrobot-v1"], "--envs must be of MountainCar-v0, CartPole-v1"),
    ],
)
def test_misuse_is_one_line(words, said, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    error = refused(getattr(cli, words[0]), words[1:], monkeypatch, capsys)
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs/rl").exists() or not list((tmp_path / "runs/rl").iterdir())


def test_an_unknown_algorithm_is_named(monkeypatch, capsys):
    assert "trpo" in refused(cli.train, ["--algo", "trpo"], monkeypatch, capsys)


def test_each_algorithm_has_its_own_options(run):
    assert config_class(["--algo", "dqn", "--double"]) is CONFIGS["dqn"]
    assert config_class(["--seed", "1", "--algo=sac"]) is CONFIGS["sac"]
    assert config_class([]) is PpoConfig
    run("a2c", steps=1)
    assert config_class(["--resume"]) is CONFIGS["a2c"]


def test_a_finished_run_of_another_algorithm_is_found_by_resume(run, monkeypatch, capsys):
    run("a2c", steps=1)
    monkeypatch.setattr(sys, "argv", ["train", "--resume"])
    with pytest.raises(SystemExit) as caught:
        cli.train()
    assert caught.value.code == 0
    error = refused(cli.train, ["--resume", "--algo", "dqn"], monkeypatch, capsys)
    assert "--algo dqn differs from the run to resume (a2c" in error


def test_presets_fill_what_is_left_out():
    settled = PpoConfig(lr=0.5).settled()
    assert settled.lr == 0.5
    assert settled.gae_lambda == 0.8  # CartPole's
    assert settled.epochs == 10  # the algorithm's
    assert settled.stop_at == 490
    assert PpoConfig(env="Taxi-v3").settled().gae_lambda == 0.95
    for algo, kind in CONFIGS.items():
        settled = kind(algo=algo, env_steps=10_000).settled()
        may_stay = {"clip_value", "target_entropy"}
        assert {k for k, v in vars(settled).items() if v is None} <= may_stay
        assert settled.iterations > 0


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (PpoConfig, {"steps": -1}), (PpoConfig, {"seed": -1}), (PpoConfig, {"precision": "bf16"}),
        (PpoConfig, {"env_steps": 0}), (PpoConfig, {"envs": 0}), (PpoConfig, {"lr": 0.0}),
        (PpoConfig, {"gamma": -0.1}), (PpoConfig, {"hidden": (0,)}), (PpoConfig, {"horizon": 0}),
        (PpoConfig, {"epochs": 0}), (PpoConfig, {"clip": 0.0}), (PpoConfig, {"gae_lambda": 1.1}),
        (PpoConfig, {"reward_scale": 0.0}), (PpoConfig, {"entropy_weight": -0.1}),
        (PpoConfig, {"eval_episodes": 0}), (PpoConfig, {"minibatch": 0}),
        (PpoConfig, {"max_grad_norm": 0.0}), (PpoConfig, {"clip_value": 0.0}),
        (CONFIGS["dqn"], {"tau": 0.0}), (CONFIGS["dqn"], {"n_step": 0}),
        (CONFIGS["dqn"], {"epsilon_end": 2.0}), (CONFIGS["dqn"], {"capacity": 0}),
        (CONFIGS["sac"], {"warmup": -1}), (CONFIGS["sac"], {"batch_size": 0}),
        (CONFIGS["q-learning"], {"tiles": 0}), (CONFIGS["a2c"], {"horizon": 0}),
        (CONFIGS["reinforce"], {"max_grad_norm": -1.0}),
        (StudyConfig, {"seeds": 1}), (StudyConfig, {"workers": -1}),
        (StudyConfig, {"options": ("lr",)}), (StudyConfig, {"options": ("seed=3",)}),
        (GalleryConfig, {"seeds": 1}), (RewardsConfig, {"seeds": 1}), (RewardsConfig, {"envs": ()}),
        (EvaluateConfig, {"episodes": 0}), (WatchConfig, {"most": 0}),
        (WatchConfig, {"window": True, "out": "a.gif"}),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(config, wrong):
    with pytest.raises(LabError) as caught:
        config(**wrong)
    assert f"--{next(iter(wrong)).replace('_', '-')}" in str(caught.value)
    assert "\n" not in str(caught.value)
