"""Studies: every training once, in its own folder, whatever happens on the way."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainloop.errors import LabError
from trainloop.forks import ForkedPython, run_forked
from trainloop.run import Run
from trainloop.study import train_all

CLI = """
from toy import ToyConfig, nap_at_each_step, train as run
from trainloop import entry_point, parse
import os

@entry_point
def train():
    nap_at_each_step(float(os.environ.get("NAP", "0")))
    run(parse(ToyConfig))
"""

STUDY = """
import sys, types
import trainloop.study
from toy import ToyConfig
from trainloop import Run, train_all
from trainloop.forks import ForkedPython
trainloop.study.subprocess = types.SimpleNamespace(Popen=ForkedPython)
run = Run.open("toy", ToyConfig(steps=40, resume="--resume" in sys.argv), "study")
train_all(run, {name: ["--steps=40"] for name in "ab"}, workers=2)
run.finish()
"""


@pytest.fixture
def package(runs, tmp_path, monkeypatch):
    """The toy as a project with a command line; its trainings inherit the path."""
    home = tmp_path / "package/toy"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text(Path(__file__).with_name("toy.py").read_text())
    (home / "cli.py").write_text(CLI)
    monkeypatch.setenv("PYTHONPATH", str(home.parent))
    return runs


@pytest.fixture
def forked(monkeypatch):
    """Trainings start in milliseconds; that of `test_misuse...` starts as it does for users."""
    monkeypatch.setattr("trainloop.study.subprocess", SimpleNamespace(Popen=ForkedPython))


def open_study(toy) -> Run:
    return Run.open("toy", toy.ToyConfig(steps=5), "study")


def test_each_training_once_by_its_name(package, toy, forked):
    run = open_study(toy)
    jobs = {
        "short/seed-0": ["--steps=12"],
        "short/seed-1": ["--steps=12", "--seed=1"],
        "broken": ["--steps=12", "--explode-at=11"],
    }
    trained = train_all(run, jobs, workers=2)
    assert list(trained) == list(jobs)
    for name, training in trained.items():
        assert training.folder.is_relative_to(run.folder / "trainings" / name)
        config = json.loads((training.folder / "config.json").read_text())["config"]
        assert config["steps"] == 12
        assert config["seed"] == (1 if name == "short/seed-1" else 0)
    assert trained["short/seed-0"].metrics["samples_seen"] == 12 * 32
    assert trained["short/seed-0"].metrics["loss"] != trained["short/seed-1"].metrics["loss"]
    assert [training.finished for training in trained.values()] == [True, True, False]
    assert trained["broken"].metrics["val/accuracy"] > 0, "its last figures before the end"
    assert "loss" in trained["broken"].metrics
    written = (trained["short/seed-0"].folder / "summary.json").stat().st_mtime_ns
    assert train_all(run, {"short/seed-0": jobs["short/seed-0"]}) == {
        "short/seed-0": trained["short/seed-0"]
    }
    assert (trained["short/seed-0"].folder / "summary.json").stat().st_mtime_ns == written
    folders = {path.name for path in package.joinpath("toy").iterdir()}
    assert folders == {run.folder.name, "latest"}, "trainings are not among the project's own runs"


def test_misuse_stops_the_study_with_its_line(package, toy):
    with pytest.raises(LabError, match="code 2: error: --steps must be at least 1, not 0"):
        train_all(open_study(toy), {"bad": ["--steps=0"]}, workers=1)


def test_stopped_and_resumed(package):
    """SIGTERM stops the trainings too; what is finished stays, what was cut goes on."""
    slow = {**os.environ, "NAP": "0.05"}
    study = ForkedPython([sys.executable, "-c", STUDY], env=slow)
    home = package / "toy"
    deadline = time.monotonic() + 60
    while len(list(home.glob("2*/trainings/*/toy/2*/last.pt"))) < 2:  # two are past step 10
        assert study.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    study.send_signal(signal.SIGTERM)
    assert study.wait(60) != 0
    (folder,) = home.glob("2*")
    assert not list(folder.glob("trainings/*/toy/2*/summary.json")), "none had the time to finish"
    before = {path: path.parent.name for path in folder.glob("trainings/*/toy/2*/last.pt")}

    done = run_forked(STUDY, "--resume")
    assert done.returncode == 0, done.stderr
    assert len(list(folder.glob("trainings/*/toy/2*/summary.json"))) == 2
    again = {path: path.parent.name for path in folder.glob("trainings/*/toy/2*/last.pt")}
    assert before.items() <= again.items(), "cut trainings went on in their folders"
    assert len(again) == 2
