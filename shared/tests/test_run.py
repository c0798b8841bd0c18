"""Runs: exact resume, stopping, refusing, and what lies in the folder."""

import errno
import json
import os
import signal
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from trainloop.batches import Batches
from trainloop.checkpoint import load_checkpoint
from trainloop.cli import RunOptions, entry_point
from trainloop.device import seed_step
from trainloop.ema import Ema
from trainloop.errors import LabError, NonFiniteError
from trainloop.folder import new_folder, resumed_config
from trainloop.forks import run_forked
from trainloop.run import Run
from trainloop.schedule import warmup_cosine
from trainloop.testing import assert_resume_is_exact, assert_same_run

TOY = Path(__file__).with_name("toy.py")


def test_killed_ten_times_ends_as_if_left_alone(tmp_path):
    """SIGKILL at random moments, some in the middle of a checkpoint's write."""
    code = f"import sys; sys.path.insert(0, {str(TOY.parent)!r}); import toy; toy.main({{kills}})"
    for name, kills in {"whole": 0, "killed": 10}.items():
        environment = {**os.environ, "LAB_RUNS": str(tmp_path / name), "OMP_NUM_THREADS": "1"}
        done = run_forked(code.format(kills=kills), env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "killed/toy"
    assert_same_run(tmp_path / "whole/toy/latest", folder / "latest", "toy")
    assert len([p for p in folder.iterdir() if not p.is_symlink()]) == 1, (
        "each resume found the run"
    )
    assert not list((folder / "latest").glob(".*.tmp")), "nothing half-written is left"


@pytest.mark.parametrize("stop_at", [1, 10, 11, 59, 60])
def test_resume_is_exact(toy, tmp_path, monkeypatch, stop_at):
    config = toy.ToyConfig(steps=60)
    assert_resume_is_exact(toy.train, config, "toy", stop_at, tmp_path, monkeypatch)


def test_resume_with_another_seed_is_seen(toy, tmp_path, monkeypatch):
    """The comparison above can fail: another seed gives other weights."""
    for seed in (0, 1):
        monkeypatch.setenv("LAB_RUNS", str(tmp_path / str(seed)))
        toy.train(toy.ToyConfig(steps=20, seed=seed))
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "0/toy/latest", tmp_path / "1/toy/latest", "toy")


def test_curves(plot_curves, tmp_path):
    """A plot for each metric with two points; a long one has a mean, and a spike does not rule."""
    path = tmp_path / "metrics.jsonl"
    noisy = [10.0 if step == 50 else 1 / step for step in range(1, 601)]
    lines = [{"step": step, "loss": loss} for step, loss in enumerate(noisy, start=1)]
    lines += [{"step": step, "val/ap": step / 600, "undefined": None} for step in (300, 600)]
    path.write_text("\n".join(map(json.dumps, [*lines, {"step": 600, "test/ap": 0.5}])))
    loss, ap = plot_curves(path).axes
    assert (loss.get_title(), ap.get_title()) == ("loss", "val/ap")
    each, mean = loss.lines
    assert len(each.get_xdata()) == 600
    width = 600 // 30
    np.testing.assert_allclose(mean.get_ydata()[0], np.mean(noisy[:width]))
    assert mean.get_xdata()[0] == width, "a mean stands where its last step is"
    assert loss.get_ylim()[1] < 1
    assert ap.lines[0].get_ydata().tolist() == [0.5, 1.0]
    path.write_text("")
    assert plot_curves(path) is None


def test_folder(toy, runs, curves):
    run = toy.train(toy.ToyConfig(steps=40))
    names = {path.name for path in run.folder.iterdir() if not path.name.startswith("events.")}
    assert names == {
        ".lock", "best.pt", "config.json", "curves.png", "last.pt",
        "metrics.jsonl", "summary.json", "timing.jsonl",
    }  # fmt: skip
    assert len(list(run.folder.glob("events.*"))) == 1
    assert (runs / "toy/latest").resolve() == run.folder
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").open()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 41))
    assert not any("seconds" in name for line in lines for name in line), "no wall-clock in it"
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["overrides"] == {"steps": 40}
    assert summary["metrics"]["loss"] == lines[-3]["loss"]
    assert summary["metrics"]["samples_seen"] == 40 * 32
    assert (
        load_checkpoint(run.folder / "best.pt", "toy")["best"] >= lines[-1]["test/accuracy"] - 0.2
    )


def test_best_is_the_best_and_last_the_last(toy, runs, monkeypatch):
    """A metric that falls after step 20: best.pt stays there, last.pt goes on."""
    save = Run.save
    fake = {10: 0.1, 20: 0.9, 30: 0.5}
    monkeypatch.setattr(Run, "save", lambda run, step, metric=None: save(run, step, fake.get(step)))
    run = toy.train(toy.ToyConfig(steps=30))
    assert load_checkpoint(run.folder / "best.pt")["step"] == 20
    assert load_checkpoint(run.folder / "last.pt")["step"] == 30


def test_non_finite_loss_stops_and_keeps_what_was_saved(toy, runs):
    with pytest.raises(NonFiniteError) as caught:
        toy.train(toy.ToyConfig(steps=60, explode_at=25))
    message = str(caught.value)
    assert "\n" not in message
    assert "loss is nan at step 25" in message
    assert "at step 24" in message
    assert "last.pt holds step 20" in message
    assert load_checkpoint(runs / "toy/latest/last.pt")["step"] == 20
    assert not (runs / "toy/latest/summary.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_signal_saves_and_resume_goes_on(toy, tmp_path, monkeypatch, number):
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "whole"))
    toy.train(toy.ToyConfig(steps=40))
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "cut"))
    log = Run.log

    def stop(run: Run, step: int, **values) -> None:
        log(run, step, **values)
        if step == 13 and "loss" in values:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", stop)
        with pytest.raises(SystemExit) as caught:
            toy.train(toy.ToyConfig(steps=40))
    assert caught.value.code == 130
    assert load_checkpoint(tmp_path / "cut/toy/latest/last.pt")["step"] == 13
    assert signal.getsignal(number) is not stop, "the handlers are put back"
    toy.train(toy.ToyConfig(steps=40, resume=True))
    assert_same_run(tmp_path / "whole/toy/latest", tmp_path / "cut/toy/latest", "toy")


def test_resume_keeps_the_options_and_refuses_others(toy, runs):
    with pytest.raises(LabError, match="nothing to resume"):
        toy.train(toy.ToyConfig(resume=True))
    with pytest.raises(NonFiniteError):
        toy.train(toy.ToyConfig(steps=60, batch_size=16, seed=3, explode_at=25))
    before = (runs / "toy/latest/metrics.jsonl").read_bytes()
    with pytest.raises(LabError, match="--steps 80 differs"):
        toy.train(toy.ToyConfig(steps=80, resume=True))
    assert (runs / "toy/latest/metrics.jsonl").read_bytes() == before
    with pytest.raises(NonFiniteError, match="step 25"):  # explode_at came from the run
        toy.train(toy.ToyConfig(resume=True))
    assert json.loads((runs / "toy/latest/config.json").read_text())["config"]["batch_size"] == 16


def test_a_study_may_be_resumed_with_other_workers(tmp_path):
    """Where a run is computed may change, what it computes may not."""

    @dataclass(frozen=True, kw_only=True)
    class StudyConfig(RunOptions):
        steps: int = 5
        workers: int = 0

    then = {"config": {"steps": 7, "seed": 1, "device": "cuda", "workers": 1, "resume": False}}
    (tmp_path / "config.json").write_text(json.dumps(then))
    found = resumed_config(StudyConfig(workers=2, resume=True), tmp_path)
    assert (found.steps, found.seed, found.device, found.workers) == (7, 1, "auto", 2)
    with pytest.raises(LabError, match="--steps 9 differs"):
        resumed_config(StudyConfig(steps=9, resume=True), tmp_path)


def test_resume_of_a_finished_run_does_nothing(toy, runs):
    toy.train(toy.ToyConfig(steps=20))
    before = sorted((p.name, p.stat().st_mtime_ns) for p in (runs / "toy/latest/").iterdir())
    with pytest.raises(SystemExit) as caught:
        toy.train(toy.ToyConfig(steps=20, resume=True))
    assert caught.value.code == 0
    assert (
        sorted((p.name, p.stat().st_mtime_ns) for p in (runs / "toy/latest/").iterdir()) == before
    )


def test_two_processes_cannot_train_one_run(toy, runs):
    with pytest.raises(NonFiniteError):
        toy.train(toy.ToyConfig(steps=60, explode_at=25))
    import fcntl

    with (runs / "toy/latest/.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(LabError, match="another process"):
            toy.train(toy.ToyConfig(resume=True))


def test_runs_of_one_second_get_folders_of_their_own(toy, runs):
    first, second = (Run.open("toy", toy.ToyConfig()) for _ in range(2))
    assert first.folder != second.folder
    assert (runs / "toy/latest").resolve() == second.folder


def test_undefined_metrics_are_null(toy, runs):
    run = Run.open("toy", toy.ToyConfig(steps=1))
    run.resume()
    run.log(1, ap=None, grad_norm=torch.tensor(float("inf")), loss=torch.tensor(0.5))
    assert run.finish()["ap"] is None
    assert json.loads((run.folder / "metrics.jsonl").read_text()) == {
        "step": 1, "ap": None, "grad_norm": None, "loss": 0.5,
    }  # fmt: skip


def test_devices_that_are_not_there(toy, runs):
    if not torch.cuda.is_available():
        with pytest.raises(LabError, match="cuda is not available"):
            toy.train(toy.ToyConfig(device="cuda"))
    assert not runs.exists(), "no folder for a run that could not begin"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains(toy, runs, precision):
    run = toy.train(toy.ToyConfig(steps=40, precision=precision))
    losses = [json.loads(line).get("loss") for line in (run.folder / "metrics.jsonl").open()]
    losses = [loss for loss in losses if loss is not None]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


# --- the small parts ----------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "batch"), [(10, 3), (10, 10), (3, 10), (1, 4), (1000, 64)])
def test_batches_are_epochs_without_gaps(count, batch):
    batches = Batches(count, batch, seed=5)
    stream = torch.cat([batches.at(step) for step in range(1, 3 * count // batch + 3)])
    for epoch in range(len(stream) // count):
        part = stream[epoch * count : (epoch + 1) * count]
        assert sorted(part.tolist()) == list(range(count))
    again = Batches(count, batch, seed=5)
    for step in (7, 2, 3, 1):
        assert torch.equal(again.at(step), batches.at(step)), "any order of asking"
    if count > 10:
        assert not torch.equal(Batches(count, batch, seed=6).at(1), batches.at(1))


def test_seeds_of_neighbouring_steps_are_unrelated():
    def draw(seed: int, step: int) -> torch.Tensor:
        seed_step(seed, step, torch.device("cpu"))
        return torch.randn(1000)

    draws = [draw(seed, step) for seed in range(4) for step in range(8)]
    correlation = torch.corrcoef(torch.stack(draws)) - torch.eye(len(draws))
    assert correlation.abs().max() < 0.15  # 4.7 standard deviations
    assert torch.equal(draw(2, 3), draw(2, 3))


def test_ema_is_the_recursion():
    model = torch.nn.BatchNorm1d(2)
    ema = Ema(model, decay=0.5)
    expected = torch.ones(2)
    for step in range(1, 20):
        with torch.no_grad():
            model.weight.add_(1.0)
        model(torch.randn(8, 2))
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
        ema.update()
    assert torch.allclose(ema.model.weight, expected)
    assert ema.model.num_batches_tracked == model.num_batches_tracked == 19
    other = Ema(torch.nn.BatchNorm1d(2), decay=0.5)
    other.load_state_dict(ema.state_dict())
    assert other.updates == 19
    with torch.no_grad():
        model.weight.add_(1.0)
    assert torch.equal(other.model.weight, ema.model.weight)


def test_schedule():
    factors = [warmup_cosine(step, 100, warmup=0.1, final=0.02) for step in range(1, 101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(0.02)
    assert all(a >= b for a, b in pairwise(factors[9:]))
    assert warmup_cosine(1, 1) == 1.0


def test_bad_common_options(toy):
    for options in ({"steps": 0}, {"seed": -1}):
        with pytest.raises(LabError):
            replace(toy.ToyConfig(), **options)


def test_a_place_whose_name_is_no_utf8_is_refused(monkeypatch, tmp_path):
    """As one with umlauts is under LC_ALL=C where Python's UTF-8 mode is switched off."""
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "L\udcffufe"))
    with pytest.raises(LabError, match=r"set LC_ALL=C\.UTF-8"):
        new_folder("toy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EPERM])
def test_a_place_where_nothing_can_be_written_is_one_line(reason, capsys):
    def command() -> None:
        raise OSError(reason, os.strerror(reason), "last.pt")

    with pytest.raises(SystemExit) as caught:
        entry_point(command)()
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"error: {os.strerror(reason)}: last.pt\n"
