"""The studies: the right trainings are asked for, and told of as they went."""

import json

import pytest
import tyro

from diffusion import studies
from diffusion.config import (
    CompareConfig,
    EvaluateConfig,
    FailuresConfig,
    OracleConfig,
    Plan,
    SamplersConfig,
    TrainConfig,
)
from diffusion.oracle import oracle
from diffusion.studies import FAILURES, Kind, compare_table, draw_compare, evaluate, samplers
from diffusion.train import train
from trainloop import LabError, Training
from trainloop.folder import newest_folder

from .conftest import SMALL


@pytest.fixture
def asked(monkeypatch, runs, quick):
    """The options of every training as `train` would read them; all get one small network."""
    train(SMALL)
    small = newest_folder("diffusion", "train")
    found = {}

    def fake(run, jobs, workers=0, command="train"):
        done = {}
        for name, options in jobs.items():
            found[name] = config = tyro.cli(TrainConfig, args=options)
            distance = 100.0 + 10 * config.seed + 50 * (config.schedule == "linear")
            done[name] = Training(small, {"test/fd": distance}, True)
        return done

    monkeypatch.setattr(studies, "train_all", fake)
    return found


def test_every_schedule_with_every_objective(asked, runs, capsys):
    metrics = studies.compare(
        CompareConfig(
            steps=7,
            seeds=2,
            seed=3,
            schedules=("linear", "cosine", "flow"),
            predictions=("eps", "v"),
            weightings=("simple", "min-snr"),
        )
    )
    assert metrics["trainings"] == len(asked) == (3 * 2 - 1) * 2 * 2
    seen = {(c.schedule, c.prediction, c.weighting, c.seed) for c in asked.values()}
    assert len(seen) == len(asked)
    assert {seed for *_, seed in seen} == {3, 4}
    assert not [kind for kind in seen if kind[:2] == ("flow", "eps")]
    assert {(c.steps, c.eval_every, c.samples, c.data, c.pictures) for c in asked.values()} == {
        (7, 7, 300, "digits", False)
    }
    assert metrics["fd_cosine-v"] == pytest.approx(135)
    assert metrics["fd_linear-eps-min-snr"] == pytest.approx(185)
    table = (runs / "latest/compare.md").read_text()
    assert table in capsys.readouterr().out
    assert "| linear | 185.0 ± 7.1 |" in table
    assert (runs / "latest/compare.png").stat().st_size > 5000
    assert (runs / "latest/compare_samples.png").exists()


def test_a_training_that_broke_off_is_told():
    table = compare_table(
        {Kind("cosine", "v", "simple"): [10.0, None], Kind("flow", "v", "simple"): [None, None]}
    )
    assert "| cosine | 10.0 |" in table
    assert "| flow | broke off |" in table
    draw_compare({Kind("flow", "v", "simple"): [None]})


def test_every_mistake_beside_none(asked, runs):
    metrics = studies.failures(FailuresConfig(data="digits", steps=7, samples=20))
    assert list(asked) == ["healthy", "linear", "no-ema", "time", "unit"]
    assert (asked["linear"].schedule, asked["healthy"].schedule) == ("linear", "cosine")
    assert asked["no-ema"].ema == 0 < asked["healthy"].ema
    assert asked["time"].time_scale == 0.001
    assert (asked["unit"].pixels, asked["healthy"].pixels) == ("unit", "symmetric")
    assert metrics["fd_linear"] == 150
    assert metrics["fd_noise"] > 0
    assert metrics["trainings"] == 5
    table = (runs / "latest/failures.md").read_text()
    assert all(f"| {failure.title} |" in table for failure in FAILURES.values())
    assert (runs / "latest/failures.png").exists()


def test_samplers_against_steps(runs, quick):
    train(SMALL)
    train(TrainConfig(data="toy2d", steps=1, sample_steps=1, samples=10, batch_size=4))
    metrics = samplers(SamplersConfig(data="digits", steps=50, few=(2, 50), samples=12))
    assert metrics["samplings"] == 4 * 2 + 1
    expected = metrics["fd_ddim_50"] / metrics["fd_ddpm_50"]
    assert metrics["ddim50_to_ancestral"] == pytest.approx(expected)
    table = (runs / "latest/samplers.md").read_text()
    assert "| sampler | 2 steps | 50 steps |" in table
    assert f"{metrics['fd_heun_2']:.1f} (3)" in table
    assert {"samplers.png", "steps.png"} <= {path.name for path in (runs / "latest").iterdir()}


def test_no_training_on_that_data(runs):
    with pytest.raises(LabError, match="no training on mnist yet"):
        samplers(SamplersConfig())


def test_evaluate_repeats_the_trainings_figures(runs, quick):
    first = train(SMALL)
    again = evaluate(EvaluateConfig(steps=3, samples=20))
    assert again["test/fd"] == pytest.approx(first["test/fd"], rel=1e-4)


def test_the_oracle_records_its_differences(runs):
    metrics = oracle(OracleConfig(steps=5))
    assert metrics["worst"] == max(
        metrics[name] for name in ("schedules", "add_noise", "ddpm", "ddim", "dpm", "euler")
    )
    assert 0 < metrics["worst"] < 1e-5
    assert json.loads((runs / "latest/summary.json").read_text())["command"] == "oracle"


def test_how_a_plan_is_told():
    assert str(Plan("ddim", 50, 2.0, eta=0.5)) == "ddim-50 eta 0.5, guidance 2"
