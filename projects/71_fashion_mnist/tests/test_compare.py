"""The comparison: the right trainings are asked for, and told of as they went."""

import json

import pytest
import tyro

from fashion_mnist import compare as module
from fashion_mnist.compare import Row, compare, comparison_table, draw
from fashion_mnist.config import CompareConfig, TrainConfig
from trainloop import Training

PARAMETERS = {"linear": 7_850, "mlp": 269_322, "cnn": 24_922, "resnet": 74_618}


@pytest.fixture
def asked(monkeypatch, tmp_path) -> dict[str, TrainConfig]:
    """The options of every training as its command would read them; figures are made up."""
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    found = {}

    def fake(run, jobs, workers=0, command="train"):
        done = {}
        for name, options in jobs.items():
            found[name] = config = tyro.cli(TrainConfig, args=options)
            folder = run.folder / "trainings" / name
            folder.mkdir(parents=True)
            lines = [{"step": s, "val/accuracy": 0.8 + s / 1000} for s in (25, 50, 75, 100)]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
            accuracy = {"linear": 0.84, "resnet": 0.92}[config.model] + config.seed / 1000
            done[name] = Training(
                folder,
                {"test/accuracy": accuracy, "parameters": PARAMETERS[config.model],
                 "cpu_seconds": 10.0 + config.seed},
                True,
            )  # fmt: skip
        return done

    monkeypatch.setattr(module, "train_all", fake)
    return found


def test_every_model_with_every_seed_and_the_same_budget(asked, tmp_path, capsys):
    metrics = compare(CompareConfig(models=("linear", "resnet"), steps=100, seed=5))
    assert {(c.model, c.seed) for c in asked.values()} == {
        (model, seed) for model in ("linear", "resnet") for seed in (5, 6, 7)
    }
    assert {(c.steps, c.eval_every, c.preset) for c in asked.values()} == {(100, 13, "default")}
    assert {c.recipe.batch_size for c in asked.values()} == {TrainConfig().recipe.batch_size}
    assert metrics["trainings"] == 6
    assert metrics["test/accuracy_resnet"] == pytest.approx(0.926)
    assert metrics["parameters_linear"] == 7_850
    home = tmp_path / "runs/fashion-mnist/latest"
    table = (home / "compare.md").read_text()
    assert "| linear | 7,850 | 16 | 84.60% ± 0.10% |" in table
    assert table in capsys.readouterr().out
    assert (home / "compare.png").stat().st_size > 10_000


def test_a_training_that_diverged_counts_as_nothing(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.3}\n')
    found = module.row("cnn", [Training(tmp_path, {}, False)] * 2)
    assert found.accuracy == (0.0, 0.0)
    assert "| cnn | 0 | 0 | 0.00% ± 0.00% |" in comparison_table([found])
    draw([found, found])


def test_the_picture_shows_what_the_table_says():
    curve = ([10, 20], [0.5, 0.75])
    rows = [Row("linear", 7850, (10.0, 12.0), (0.8, 0.84), (curve, curve)),
            Row("cnn", 9, (100.0, 100.0), (0.9, 0.92), (curve, curve))]  # fmt: skip
    left, right = draw(rows).axes
    means = [line for line in left.lines if line.get_label() == "linear"]
    assert means[0].get_ydata() == pytest.approx([50, 75])
    assert right.lines[1].get_xdata() == pytest.approx([11])
    assert right.lines[1].get_ydata() == pytest.approx([82])
    assert [text.get_text() for text in right.texts] == ["linear, 7,850", "cnn, 9"]
