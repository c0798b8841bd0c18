"""Studies: the right trainings are asked for, and what they gave is what table and picture say."""

import json

import pytest
import tyro

from detection import studies
from detection.config import AblateConfig, FailuresConfig, TrainConfig, TransferConfig
from trainloop import LabError, Training


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """Instead of training, read each training's options as its command would, and make figures up.

    AP is 0.5 + seed / 100, better by 0.02 with DIoU and by 0.1 with a pretrained backbone.
    """
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    asked = {}

    def fake(run, jobs, workers=0, command="train"):
        done = {}
        for name, options in jobs.items():
            folder = run.folder / "trainings" / name
            folder.mkdir(parents=True)
            if command == "train":
                asked[name] = tyro.cli(TrainConfig, args=options)
                ap = 0.5 + asked[name].seed / 100
                ap += 0.02 * (asked[name].box_loss == "diou")
                ap += 0.1 * bool(asked[name].backbone_weights)
                figures = {"val/ap": ap, "val/ap50": ap + 0.2, "test/ap": ap}
                lines = [{"step": step, "loss_class": 9 / step, "loss_box": 1.0, "grad_norm": 3.0}
                         for step in range(1, 20)]  # fmt: skip
                text = "\n".join(map(json.dumps, [*lines, {"step": 20, **figures}]))
                (folder / "metrics.jsonl").write_text(text)
                finished = asked[name].lr < 0.3
                done[name] = Training(folder, figures if finished else {}, finished)
            else:
                done[name] = Training(folder, {}, True)
        return done

    monkeypatch.setattr(studies, "train_all", fake)
    asked["home"] = tmp_path / "detection/latest"
    return asked


def test_ablation_changes_one_thing_at_a_time(trainings):
    metrics = studies.ablate(AblateConfig(seed=4, seeds=2, steps=7))
    home = trainings.pop("home")
    assert metrics["trainings"] == len(trainings) == 20
    usual = TrainConfig(steps=7, eval_every=7, assignment="task-aligned")
    changed = {}
    for name, config in trainings.items():
        assert (config.steps, config.eval_every) == (7, 7)
        different = {
            field: getattr(config, field)
            for field in vars(usual)
            if getattr(config, field) != getattr(usual, field) and field != "seed"
        }
        assert len(different) <= 1, name
        changed.setdefault(tuple(different.items()), []).append(config.seed)
    assert len(changed) == 10
    assert all(sorted(seeds) == [4, 5] for seeds in changed.values())
    assert metrics["val/ap_baseline"] == pytest.approx(0.545)
    assert metrics["val/ap_diou"] == pytest.approx(0.565)
    assert metrics["best_gain"] == pytest.approx(0.02)
    table = (home / "ablation.md").read_text()
    assert "| box-loss diou | 0.565 ± 0.007 | 0.765 ± 0.007 | +0.020 ± 0.000 |" in table
    assert "| class-loss focal | 0.545 ± 0.007 | 0.745 ± 0.007 | +0.000 ± 0.000 |" in table
    assert (home / "ablation.png").stat().st_size > 10_000


def test_transfer_pairs_seeds(trainings):
    metrics = studies.transfer(TransferConfig(seeds=3, scenes=(50, 200)))
    home = trainings.pop("home")
    assert len(trainings) == 12
    for name, config in trainings.items():
        kind, count = name.split("/")[0].split("-")
        assert config.images == int(count)
        assert bool(config.backbone_weights) == (kind == "pretrained")
        if config.backbone_weights:
            assert f"pretrain/seed-{config.seed}" in config.backbone_weights, "each seed its own"
    assert metrics["gain_200"] == pytest.approx(0.1)
    assert metrics["least_gain_50"] == pytest.approx(0.1)
    assert metrics["test/ap_scratch_200"] == pytest.approx(0.51)
    table = (home / "transfer.md").read_text()
    assert "| 200 | 0.510 ± 0.010 | 0.610 ± 0.010 | +0.100 ± 0.000 |" in table
    assert (home / "transfer.png").stat().st_size > 10_000


def test_transfer_from_a_given_checkpoint(trainings):
    studies.transfer(TransferConfig(seeds=1, scenes=(50,), pretrained="mine.pt"))
    trainings.pop("home")
    assert {config.backbone_weights for config in trainings.values()} == {"", "mine.pt"}


def test_failures_have_healthy_twins_and_may_break_off(trainings):
    metrics = studies.failures(FailuresConfig(steps=20))
    home = trainings.pop("home")
    assert len(trainings) == 6
    assert trainings["healthy/seed-0"].unlabelled == 0
    assert trainings["ignored/seed-0"].ignored == "background"
    twin = trainings["healthy-unlabelled/seed-0"]
    assert twin.unlabelled == trainings["ignored/seed-0"].unlabelled > 0
    assert twin.ignored == "masked"
    assert metrics["val/ap_lr"] == 0, "it broke off before it was looked at"
    assert metrics["val/ap_healthy"] == pytest.approx(0.5)
    assert (home / "failures.png").stat().st_size > 20_000


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (AblateConfig, {"seeds": 0}),
        (AblateConfig, {"workers": -1}),
        (TransferConfig, {"scenes": ()}),
        (TransferConfig, {"scenes": (50, 0)}),
        (FailuresConfig, {"batch_size": 0}),
    ],
)
def test_wrong_options_are_one_line(config, wrong):
    with pytest.raises(LabError, match=f"--{next(iter(wrong)).replace('_', '-')}"):
        config(**wrong)
