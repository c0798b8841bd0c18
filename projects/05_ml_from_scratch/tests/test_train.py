"""All lessons as one run, and each as a command."""

import importlib
import json
import sys

import pytest

from from_scratch import lesson, train
from from_scratch.config import TrainConfig
from trainloop import LabError


@pytest.fixture
def short(monkeypatch, tmp_path):
    """Two lessons of a second each."""
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    monkeypatch.setattr(train, "LESSONS", ("pca", "naive_bayes"))
    return tmp_path


def test_every_lesson_keeps_the_contract():
    for name in lesson.LESSONS:
        module = importlib.import_module(f"from_scratch.{name}")
        assert module.Config().seed == 0
        assert callable(module.run)
        assert module.__doc__.splitlines()[0].endswith(".")
        assert hasattr(importlib.import_module("from_scratch.cli"), name)


def test_a_lesson_a_step(short):
    metrics = train.train(TrainConfig(steps=2))
    folder = short / "from-scratch/latest"
    assert metrics["naive_bayes/test_accuracy"] > 0.8
    assert metrics["pca/max_difference_to_sklearn"] < 1e-8
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert [line["step"] for line in lines] == [1, 2]
    assert {path.name.split("_")[0] for path in folder.glob("*.png")} == {"pca", "naive"}


def test_stopped_between_two_lessons(short, monkeypatch):
    bayes = importlib.import_module("from_scratch.naive_bayes")
    with monkeypatch.context() as patch:
        patch.setattr(bayes, "run", lambda *_: (_ for _ in ()).throw(InterruptedError))
        with pytest.raises(InterruptedError):
            train.train(TrainConfig(steps=2))
    pca = importlib.import_module("from_scratch.pca")
    monkeypatch.setattr(pca, "run", None)  # a second time would fail
    metrics = train.train(TrainConfig(steps=2, resume=True))
    assert metrics.keys() >= {"pca/test_error", "naive_bayes/test_accuracy"}


def test_a_lesson_as_a_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["pca", "--seed", "1"])
    lesson.main("pca")
    said = capsys.readouterr().out
    assert "explained_variance" in said
    pictures = list((tmp_path / "from-scratch-lessons/pca").glob("*.png"))
    assert pictures
    assert all(str(path) in said for path in pictures)


def test_wrong_options_are_one_line(monkeypatch, capsys):
    with pytest.raises(LabError, match="--steps: there are 12 lessons"):
        TrainConfig(steps=13)
    monkeypatch.setattr(sys, "argv", ["k_means", "--seed", "-1"])
    with pytest.raises(SystemExit) as caught:
        lesson.main("k_means")
    assert caught.value.code == 2
    assert "--seed" in capsys.readouterr().err
