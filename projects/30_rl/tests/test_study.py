"""Statistics over seeds, and the commands that train many times, at tiny sizes in this process."""

import re
import sys

import numpy as np
import pytest
from scipy.stats import trim_mean

import rl.gallery
import rl.reward_lab
import rl.study
from rl import cli
from rl.config import (
    EvaluateConfig,
    GalleryConfig,
    RewardsConfig,
    StudyConfig,
    WatchConfig,
    config_class,
)
from rl.evaluate import interquartile_mean, performance_profile, stratified_bootstrap
from rl.failures import BASES, FAILURES
from rl.study import option_word
from rl.watch import evaluate, watch
from trainloop import LabError, Training, load_checkpoint, parse
from trainloop.curves import read_metrics

pytestmark = pytest.mark.usefixtures("unchecked")

SMALL = ("--eval-episodes=3", "--eval-every=1", "--horizon=16", "--envs=2")


@pytest.fixture
def here(monkeypatch):
    """Trainings of a study in this process, and what they were called with."""
    called = {}

    def train_all(run, jobs, workers=0, command="train"):
        done = {}
        for name, words in jobs.items():
            called[name] = words
            home = run.folder / "trainings" / name
            with monkeypatch.context() as patch:
                patch.setenv("LAB_RUNS", str(home))
                patch.setattr(sys, "argv", [command, *words, *SMALL])
                cli.train()
            folder = (home / "rl/latest").resolve()
            curves = read_metrics(folder / "metrics.jsonl")
            metrics = {name: values[-1] for name, (_, values) in curves.items()}
            notes = load_checkpoint(folder / "last.pt", "rl")["notes"]
            extra = {"stopped_early": 0, "cpu_seconds": 1.0, **notes}
            done[name] = Training(folder, {**metrics, **extra}, True)
        return done

    for module in (rl.study, rl.gallery, rl.reward_lab):
        monkeypatch.setattr(module, "train_all", train_all)
    return called


@pytest.mark.parametrize("count", [4, 8, 100])
def test_interquartile_mean_against_scipy(count):
    values = np.random.default_rng(0).standard_normal((3, count)) ** 3
    np.testing.assert_allclose(interquartile_mean(values), trim_mean(values, 0.25, axis=1))


def test_interquartile_mean_of_few():
    """Of three values a quarter each end is three quarters of the outer ones."""
    assert interquartile_mean(np.array([0.0, 3.0, 100.0])) == pytest.approx(
        (0.25 * 0 + 3 + 0.25 * 100) / 1.5
    )
    assert interquartile_mean(np.array([7.0])) == 7


def test_intervals_cover_the_truth():
    """Of 40 experiments of 20 seeds the 95% interval of the mean misses the truth few times."""
    rng, hits = np.random.default_rng(0), 0
    for experiment in range(40):
        returns = rng.normal(size=(20, 1)) + 0.1 * rng.normal(size=(20, 10))
        found = stratified_bootstrap(returns, lambda v: v.mean(-1), 300, experiment)
        assert found.low <= found.value <= found.high
        hits += found.low <= 0 <= found.high
    assert 33 <= hits <= 40


def test_seeds_are_what_is_drawn():
    """Ten seeds that differ widen the interval; a thousand episodes of each do not narrow it."""
    seeds = np.arange(10.0)[:, None]
    few = stratified_bootstrap(np.repeat(seeds, 5, 1))
    many = stratified_bootstrap(np.repeat(seeds, 1000, 1), draws=300)
    assert many.high - many.low > 0.7 * (few.high - few.low) > 1


def test_performance_profile():
    returns = np.array([1.0, 2.0, 2.0, 5.0])
    found = performance_profile(returns, np.array([0.0, 1.0, 2.0, 2.5, 6.0]))
    np.testing.assert_array_equal(found, [1, 1, 0.75, 0.25, 0])


def test_options_become_words():
    assert option_word("lr=1e-3") == "--lr=1e-3"
    assert option_word("prioritised=True") == "--prioritised"
    assert option_word("target_network=False") == "--no-target-network"


def test_study(here, tmp_path):
    config = StudyConfig(algo="a2c", seeds=3, steps=3, options=("horizon=8",))
    metrics = rl.study.study(config)
    folder = tmp_path / "runs/rl/latest"
    assert [words[-1] for words in here.values()] == ["--seed=0", "--seed=1", "--seed=2"]
    assert all("--horizon=8" in words and "--steps=3" in words for words in here.values())
    assert metrics["solved"] == 0
    assert metrics["steps_to_solve"] is None
    assert metrics["test/iqm_low"] <= metrics["test/iqm"] <= metrics["test/iqm_high"]
    rows = re.findall(r"^\| \d .*\| no \|$", (folder / "study.md").read_text(), re.MULTILINE)
    assert len(rows) == 3
    assert (folder / "study.png").stat().st_size > 10_000


def test_solved_needs_the_validation_and_the_test(here, monkeypatch):
    config = StudyConfig(algo="a2c", seeds=2, steps=2)
    monkeypatch.setattr(rl.study, "target", lambda env: 1.0)
    assert rl.study.study(config)["solved"] == 0  # good enough, but no validation said so
    before = rl.study.train_all

    def stopped(*arguments):
        done = before(*arguments)
        return {
            k: Training(t.folder, {**t.metrics, "stopped_early": 1}, True) for k, t in done.items()
        }

    monkeypatch.setattr(rl.study, "train_all", stopped)
    metrics = rl.study.study(config)
    assert metrics["solved"] == 2
    assert 0 < metrics["steps_to_solve"] <= 2 * 16 * 16


def test_gallery(here, tmp_path):
    only = ("learning-rate", "seed-luck")
    metrics = rl.gallery.gallery(GalleryConfig(only=only, seeds=2, steps=2))
    assert set(here) == {
        f"{kind}/seed-{seed}" for kind in ("ppo", "dqn", *only) for seed in range(2)
    }
    assert "--lr=0.09" in here["learning-rate/seed-0"]
    assert here["seed-luck/seed-0"] == [*here["dqn/seed-0"][:-1], "--seed=2"]
    gap = metrics["learning-rate/healthy"] - metrics["learning-rate/broken"]
    assert metrics["learning-rate/gap"] == pytest.approx(gap)
    folder = tmp_path / "runs/rl/latest"
    assert (folder / "gallery.png").stat().st_size > 10_000
    assert (folder / "gallery.md").read_text().count("\n") == 2 + len(only)


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_is_a_switch_of_train(name, monkeypatch):
    """Its words are options, two sentences say what to look at, and the metric is logged."""
    failure = FAILURES[name]
    words = [*BASES[failure.base], *failure.options]
    monkeypatch.setattr(sys, "argv", ["train", *words])
    config = parse(config_class(words))
    monkeypatch.setattr(sys, "argv", ["train", *BASES[failure.base]])
    healthy = parse(config_class(words))
    assert (config != healthy) == bool(failure.options)
    assert len(re.findall(r"[.!?](?:\s|$)", failure.look)) >= 2


def test_rewards(here, tmp_path, monkeypatch):
    monkeypatch.setattr(rl.reward_lab, "EPISODES", 3)
    monkeypatch.setattr(rl.reward_lab, "FILM_STEPS", 8)
    config = RewardsConfig(envs=("MountainCar-v0",), seeds=2, steps=1)
    metrics = rl.reward_lab.rewards(config)
    assert {words[1] for words in here.values()} == {
        f"--reward={name}" for name in rl.reward_lab.NAMES
    }
    assert metrics["MountainCar-v0/env"] == metrics["MountainCar-v0/env_asked"]
    assert 0 <= metrics["MountainCar-v0/sparse_asked"] <= 1
    folder = tmp_path / "runs/rl/latest"
    films = {path.name for path in folder.glob("*.gif")}
    assert films == {f"MountainCar_{name}.gif" for name in rl.reward_lab.NAMES}
    assert (folder / "rewards_MountainCar.png").exists()


def test_watch_and_evaluate(run, tmp_path, capsys, monkeypatch):
    folder = run("ppo", steps=2)
    out = watch(WatchConfig(out=str(tmp_path / "film.gif"), episodes=2, most=20))
    assert out.read_bytes().startswith(b"GIF")
    assert watch(WatchConfig(most=5)).parent.samefile(folder)
    figures = evaluate(EvaluateConfig(episodes=20))
    assert figures["least"] <= figures["interquartile mean"] <= 500
    assert "counts as solved" in capsys.readouterr().out
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(LabError, match="--window needs a display"):
        watch(WatchConfig(window=True))


def test_mp4_needs_ffmpeg(run, tmp_path, monkeypatch):
    run("ppo", steps=1)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(LabError, match=r"an \.mp4 needs ffmpeg"):
        watch(WatchConfig(out=str(tmp_path / "film.mp4")))
