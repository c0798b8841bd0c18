"""The study and the kept models: the right trainings are asked for, and told of as they went."""

import json
from dataclasses import replace

import pytest
import tyro

from mnist import models, study
from mnist.config import ModelsConfig, StudyConfig, TrainConfig
from mnist.evaluate import log_probabilities, scores
from mnist.model import load_model, models_dir
from mnist.statistics import Interval, interval
from mnist.study import draw_study, paired_gain, study_table, verdict
from mnist.train import train
from trainloop import LabError, Training
from trainloop.folder import newest_folder


@pytest.fixture
def asked(monkeypatch, tmp_path) -> dict[str, TrainConfig]:
    """The options of every training as its command would read them; figures are made up.

    Rendered digits add 2 points to 100 real images and 0.3, give or take by seed, to others.
    """
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    found = {}

    def fake(run, jobs, workers=0, command="train"):
        for name, options in jobs.items():
            found[name] = config = tyro.cli(TrainConfig, args=options)
            accuracy = 0.9 + config.seed / 1000
            if config.real and config.mix:
                accuracy += 0.02 if config.real == 100 else 0.003 * (-1) ** config.seed
            metrics = {"test/accuracy": accuracy}
            found[name] = config
            yield name, Training(run.folder, metrics, True)

    monkeypatch.setattr(study, "train_all", lambda *args: dict(fake(*args)))
    return found


def test_every_kind_with_every_seed(asked, rendered):
    config = StudyConfig(steps=7, seed=3, seeds=2, real=(100, 20), mix=90, synthetic=str(rendered))
    metrics = study.synthetic_study(config)
    assert metrics["trainings"] == len(asked) == (2 * 2 + 1) * 2
    assert {(c.steps, c.eval_every, c.width) for c in asked.values()} == {(7, 7, 8)}
    kinds = {}
    for name, training in asked.items():
        kind = (training.real, training.mix, training.repeat)
        kinds.setdefault((name.split("/")[0], *kind), []).append(training.seed)
    assert kinds == {
        ("rendered", 0, 90, 1): [3, 4],
        ("real-100", 100, 0, 1): [3, 4],
        ("mixed-100", 100, 90, 1): [3, 4],
        ("real-20", 20, 0, 1): [3, 4],
        ("mixed-20", 20, 90, 4): [3, 4],
    }
    assert all(t.synthetic == str(rendered) for t in asked.values() if t.mix)


def test_the_figures_are_those_of_the_trainings(asked, rendered, tmp_path, capsys):
    config = StudyConfig(seeds=5, real=(100, 1000), mix=90, synthetic=str(rendered))
    metrics = study.synthetic_study(config)
    assert metrics["accuracy_real_100"] == pytest.approx(0.902)
    assert metrics["accuracy_mixed_100"] == pytest.approx(0.922)
    assert metrics["accuracy_rendered"] == pytest.approx(0.902)
    assert metrics["gain_100"] == pytest.approx(0.02)
    assert metrics["gain_100_low"] == pytest.approx(0.02), "the seeds' differences cancel in pairs"
    expected = interval([0.003, -0.003, 0.003, -0.003, 0.003])
    names = ("gain_1000", "gain_1000_low", "gain_1000_high")
    assert [metrics[name] for name in names] == pytest.approx(list(expected))
    home = tmp_path / "runs/mnist/latest"
    table = (home / "synthetic.md").read_text()
    assert table in capsys.readouterr().out
    assert "| 100 | 90.20% ± 0.20% | 92.20% ± 0.20% | +2.00 (+2.00 to +2.00) | helps |" in table
    assert "| no difference shown |" in table
    assert (home / "synthetic.png").stat().st_size > 10_000


def test_verdicts():
    assert verdict(Interval(0.02, 0.001, 0.04)) == "helps"
    assert verdict(Interval(-0.02, -0.04, -0.001)) == "harms"
    assert verdict(Interval(0.02, -0.001, 0.04)) == "no difference shown"
    assert paired_gain([0.5, 0.7], [0.6, 0.8]).low == pytest.approx(0.1)


def test_the_picture_shows_what_the_table_says():
    real, mixed = {10: [0.5, 0.6], 100: [0.9, 0.91]}, {10: [0.7, 0.8], 100: [0.9, 0.92]}
    left, right = draw_study(real, mixed, [0.6, 0.62]).axes
    lines = {line.get_label(): line for line in left.lines}
    assert lines["real alone"].get_ydata() == pytest.approx([45, 9.5])
    assert lines["real and rendered"].get_ydata() == pytest.approx([25, 9])
    assert lines["rendered alone"].get_ydata()[0] == pytest.approx(39)
    assert [text.get_text() for text in right.texts] == ["+20.00", "+0.50"]
    assert study_table(real, mixed, [0.6, 0.62]).count("\n") == 5


def test_no_rendered_digits_no_study(monkeypatch, tmp_path, rendered):
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    for command, config in (
        (study.synthetic_study, StudyConfig()),
        (models.models, ModelsConfig()),
    ):
        with pytest.raises(LabError, match="`uv run --package houdini digits` makes them"):
            command(config)
    with pytest.raises(LabError, match=r"asks for 121 rendered digits, .* holds 120"):
        study.synthetic_study(StudyConfig(mix=121, synthetic=str(rendered)))
    assert not (tmp_path / "runs").exists(), "no run folder is left behind"


def test_models_are_kept_with_a_card(tiny, rendered, monkeypatch, tmp_path):
    """What is in the files is what was trained, and the card tells how."""
    asked, names = {}, ("mnist_cnn_01", "mnist_cnn_02")

    def train_here(run, jobs, workers=0):
        done = {}
        for name, options in jobs.items():
            asked[name] = tyro.cli(TrainConfig, args=options)
            small = replace(asked[name], width=4, real=500, mix=90 if asked[name].mix else 0)
            monkeypatch.setenv("LAB_RUNS", str(run.folder / name))
            metrics = train(small)
            done[name] = Training(newest_folder("mnist", "train"), metrics, True)
        monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
        return done

    monkeypatch.setattr(models, "train_all", train_here)
    metrics = models.models(ModelsConfig(steps=9, seed=2, names=names, synthetic=str(rendered)))
    recipes = {name: (c.epochs, c.mix, c.steps, c.seed) for name, c in asked.items()}
    assert recipes == {
        "mnist_cnn_01": (15, 0, 9, 2),
        "mnist_cnn_02": (5, 0.41, 9, 2),
    }
    for name in recipes:
        kept = load_model(models_dir() / f"{name}.safetensors")
        found = scores(log_probabilities(kept, tiny.images), tiny.labels)
        assert metrics[f"test/accuracy_{name}"] == found["accuracy"]
        card = (models_dir() / f"{name}.md").read_text()
        assert f"| accuracy, test images | {found['accuracy']:.2%} |" in card
        assert "| seed | 2 |" in card
        assert f'load_model("{name}.safetensors")' in card
        assert ("90 rendered digits" in card) == (name == "mnist_cnn_02")
        assert str(tmp_path) not in card, "no path of this machine"
    summary = json.loads((newest_folder("mnist", "models") / "summary.json").read_text())
    assert summary["metrics"]["trainings"] == 2
