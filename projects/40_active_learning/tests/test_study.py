"""A study end to end, what it writes, how it is stopped, and what may be said from its rows."""

import csv
import json
import os
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import tyro
from PIL import Image

from active_learning import scenes
from active_learning import study as study_module
from active_learning.config import CompareConfig, CurveConfig, PicksConfig, StudyConfig, TrainConfig
from active_learning.picks import picks
from active_learning.protocol import curve
from active_learning.statistics import Curves
from active_learning.study import (
    compare,
    comparisons,
    curve_options,
    figures,
    gather,
    report,
    rows_csv,
)
from active_learning.train import train
from trainloop import LabError, Training
from trainloop.folder import newest_folder
from trainloop.forks import ForkedPython
from trainloop.testing import assert_same_run

from .conftest import TINY

SMALL = TrainConfig(**{**TINY, "rounds": 1}, seeds=2)


def train_here(run, jobs, workers=0, command="train"):
    """`train_all` in this process: five starts of torch are most of what a small study costs."""
    done = {}
    for name, options in jobs.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LAB_RUNS", str(run.folder / "trainings" / name))
            metrics = curve(tyro.cli(CurveConfig, args=options))
            done[name] = Training(newest_folder("active-learning", command), metrics, True)
    return done


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """The folder of a finished study of three strategies with two seeds."""
    home = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_RUNS", str(home))
        patch.setattr(study_module, "train_all", train_here)
        patch.setattr(scenes, "TEST_FRAMES", 60)
        patch.setattr(scenes, "VALIDATION_FRAMES", 60)
        train(SMALL)
    return (home / "active-learning/latest").resolve()


def test_a_study_leaves_rows_pictures_and_a_verdict(studied):
    with (studied / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2 * 2  # strategies, seeds, rounds with the first
    assert {row["strategy"] for row in rows} == {"random", "non-empty", "entropy"}
    first = {(row["seed"], row["ap50"]) for row in rows if row["round"] == "0"}
    assert len(first) == 2, "the first training is everybody's"
    text = (studied / "study.md").read_text()
    assert "entropy needs" in text or "does not reach" in text
    assert "a claim needs 10" in text
    metrics = json.loads((studied / "summary.json").read_text())["metrics"]
    assert metrics["trainings"] == 2 * (1 + 3)
    assert {"entropy/frames_of_random", "entropy/boxes_high", "random/ap50"} <= set(metrics)
    for name in ("learning", "picks", "classes", "certainty", "map"):
        assert (studied / f"{name}.png").stat().st_size > 8_000
    with Image.open(studied / "map.gif") as gif:
        assert gif.n_frames == 1


def test_every_curve_is_asked_for_as_it_should_be(studied):
    homes = sorted(studied.glob("trainings/*/active-learning/latest"))
    configs = [json.loads((home / "config.json").read_text())["config"] for home in homes]
    assert [config["seed"] for config in configs] == [0, 1]
    shared = [{k: v for k, v in config.items() if k != "seed"} for config in configs]
    assert shared[0] == shared[1]
    assert {k: shared[0][k] for k in TINY} == {**TINY, "rounds": 1}


def test_options_survive_the_command_line():
    config = StudyConfig(**TINY, pool="rare", strategies=("badge", "core-set"), rarity=3.5)
    asked = tyro.cli(CurveConfig, args=[*curve_options(config), "--seed=4"])
    for name in CurveConfig.__dataclass_fields__:
        if name not in ("seed", "device"):
            assert getattr(asked, name) == getattr(config, name), name
    assert curve_options(TrainConfig()) == []
    default = tyro.cli(CurveConfig, args=curve_options(StudyConfig()))
    assert default.strategies == StudyConfig().strategies


def test_killed_and_resumed_is_as_left_alone(tiny, runs, monkeypatch, tmp_path):
    """SIGKILL between two trainings, or in one; --resume ends with the same rows and picks."""
    code = (
        "from active_learning import scenes; from active_learning.cli import curve\n"
        f"scenes.TEST_FRAMES = scenes.VALIDATION_FRAMES = {scenes.TEST_FRAMES}; curve()"
    )
    words = [f"--{k.replace('_', '-')}={v}" for k, v in TINY.items()]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = ForkedPython([sys.executable, "-c", code, *words], env={**os.environ, **threads})
    home = runs / "active-learning"
    deadline = time.monotonic() + 300
    while not any(path.stat().st_size for path in home.glob("*/last.pt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not list(home.glob("*/summary.json")), "it was still at work"
    curve(replace(tiny, resume=True))
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "whole"))
    curve(tiny)
    assert_same_run(home / "latest", tmp_path / "whole/active-learning/latest", "active-learning")


def test_compare_pairs_what_is_recorded(studied, tiny, monkeypatch, capsys):
    """A study, and a curve of another strategy with the same seeds, run by itself."""
    monkeypatch.setenv("LAB_RUNS", str(studied.parents[1]))
    for seed in (0, 1):
        options = {**TINY, "rounds": 1, "strategies": ("core-set",), "seed": seed}
        curve(CurveConfig(**options))
    found = compare(CompareConfig(a="core-set", b="random", target=0.001))
    assert found["frames"].seeds == 2
    said = capsys.readouterr().out
    assert "pool half-empty, 2 seeds, (0, 1)" in said
    assert "core-set needs" in said or "core-set does not reach" in said
    curve(CurveConfig(**{**TINY, "rounds": 1, "strategies": ("margin",), "lr": 1e-3}))
    with pytest.raises(LabError, match="no two seeds of both margin and random are recorded"):
        compare(CompareConfig(a="margin", b="random"))
    with pytest.raises(LabError, match="on pool rare are recorded"):
        compare(CompareConfig(a="entropy", b="random", pool="rare"))


def test_picks_of_a_recorded_curve(tiny, runs, capsys):
    curve(replace(tiny, strategies=("random", "entropy", "badge", "core-set")))
    picks(PicksConfig())
    folder = runs / "active-learning/latest"
    assert {"picks.png", "picks_all.png", "map.gif"} <= {path.name for path in folder.iterdir()}
    with Image.open(folder / "map.gif") as gif:
        assert gif.n_frames == 2
    with pytest.raises(LabError, match="no curve of seed 5"):
        picks(PicksConfig(seed=5))


def made(ap50: float, boxes: float, seeds: int = 10) -> Curves:
    """Straight to an AP50 after 300 frames with so many boxes."""
    part = np.linspace(0.2, 1, 5)
    cost = np.tile(part, (seeds, 1))
    return Curves(tuple(range(seeds)), 300 * cost, boxes * cost, ap50 * cost)


def test_figures_and_report():
    """Entropy as good as non-empty, both twice as good as random, with twice the boxes."""
    curves = {"random": made(0.3, 300), "non-empty": made(0.6, 600), "entropy": made(0.6, 600)}
    found = comparisons(curves)
    values = figures(curves, found)
    assert values["entropy/frames_of_random"] == pytest.approx(0.5)
    assert values["entropy/frames_of_random_high"] == pytest.approx(0.5)
    assert values["entropy/boxes_of_random"] == pytest.approx(1)
    assert values["entropy/frames_of_non-empty"] == pytest.approx(1)
    assert values["entropy/boxes_high"] == pytest.approx(1), "the worse of the two controls"
    text = report(curves, found)
    assert "| entropy | 10 | 300 | 600 | 0.600 ± 0.000 |" in text
    assert "entropy needs 0.50x the frames of random" in text
    assert "nothing shown for uncertainty itself" in text
    assert "hint" not in text, "ten seeds are enough"
    curves["badge"] = made(0.6, 300)
    both = {"random": made(0.3, 300), "non-empty": made(0.3, 300), "badge": made(0.6, 300)}
    assert "badge saves boxes against both controls" in report(both, comparisons(both))


def test_rows_and_gather(studied):
    folders = sorted(path.resolve() for path in studied.glob("trainings/*/active-learning/latest"))
    curves = gather(folders)
    assert curves["entropy"].seeds == (0, 1)
    assert curves["entropy"].frames.tolist() == [[12, 22]] * 2
    assert (curves["entropy"].ap50[:, 0] == curves["random"].ap50[:, 0]).all()
    assert rows_csv(curves) == (studied / "rows.csv").read_text()


def test_background(monkeypatch, runs, capsys):
    started = []

    class Fake:
        pid = 42

        def __init__(self, words, **options):
            started.append((words, options["start_new_session"]))

    monkeypatch.setattr(study_module.subprocess, "Popen", Fake)
    monkeypatch.setattr(sys, "argv", ["study", "--background", "--pool", "rare"])
    assert study_module.study(StudyConfig(background=True, pool="rare")) is None
    ((words, alone),) = started
    assert alone
    assert words[-2:] == ["--pool", "rare"]
    assert "process 42 goes on" in capsys.readouterr().out
