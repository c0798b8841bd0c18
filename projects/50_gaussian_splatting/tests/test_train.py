"""The loop, exact resume, and the commands that read what it leaves."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from splatting import metrics, studies
from splatting.config import (
    AblateConfig,
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    TrainConfig,
)
from splatting.data import load
from splatting.evaluate import evaluate, load_gaussians, scores
from splatting.explain import explain
from splatting.export import export
from splatting.figures import draw_views
from splatting.gaussians import from_points
from splatting.ply import read_ply
from splatting.render import Renderer
from splatting.train import make_optimizer, train
from trainloop import Batches, LabError, Training
from trainloop.testing import assert_resume_is_exact, same

SIZE = 32


@pytest.fixture
def short(learned) -> TrainConfig:
    """The options of the finished run."""
    config = json.loads((learned / "config.json").read_text())["config"]
    return TrainConfig(**config)


def test_it_learns_and_leaves_pictures(short, learned):
    """Sixty steps are little: Adam moves a colour by at most 7e-4 a step (the rate of `sh0` times
    the harmonic C0) and a size by 0.5%. So it is held to what knows no camera and to its own
    beginning, and each view's loss to that of the same view 40 steps ago."""
    summary = json.loads((learned / "summary.json").read_text())["metrics"]
    scene = load("tabletop", SIZE, points=short.points)
    beginning = scores(
        from_points(scene.points, scene.rgb), scene.test, scene.background, Renderer(), 0
    )
    no_camera = scene.train.images.float().mean(0) / 255  # what is best without looking where
    blind = np.mean([metrics.psnr(no_camera, scene.test.image(i)) for i in range(len(scene.test))])
    assert summary["test/psnr"] > max(blind, beginning["psnr"]) + 1.5, "30% of the squared error"
    assert summary["test/ssim"] > beginning["ssim"] + 0.1
    assert summary["test/depth_error"] < beginning["depth_error"]
    assert 0 < summary["test/backend_difference"] < 1e-5
    assert summary["test/ply_exact"] == 1
    assert 0 < summary["gaussians"] <= 400
    lines = [json.loads(line) for line in (learned / "metrics.jsonl").open()]
    losses = [line["loss"] for line in lines if "loss" in line]
    batches = Batches(len(scene.train), 1, short.seed)
    views = [int(batches.at(step)) for step in range(1, short.steps + 1)]
    for view, loss in list(zip(views, losses, strict=True))[len(scene.train) :]:
        assert loss < losses[views.index(view)], "as it was at the first look"
    assert {"held_out.png", "progress.png", "turntable.gif", "splats.ply", "curves.png"} <= {
        path.name for path in learned.iterdir()
    }
    with Image.open(learned / "turntable.gif") as gif:
        assert gif.n_frames == 4


def test_one_view_can_be_learned_by_heart():
    """500 Gaussians, one picture: no part of the loop stands in the way.

    At the loop's own rates a colour could move by 0.07 in a hundred steps; one view alone bears
    four times as much.
    """
    scene = load("tabletop", SIZE, points=500)
    gaussians = from_points(scene.points, scene.rgb)
    optimizer = make_optimizer(gaussians)
    optimizer.param_groups[0]["lr"] = 3e-3
    for group in optimizer.param_groups[1:]:
        group["lr"] *= 4
    camera, truth, render = scene.train.cameras[20], scene.train.image(20), Renderer()
    for _ in range(100):
        image = render(gaussians, camera, scene.background, 0).image
        optimizer.zero_grad()
        (image - truth).abs().mean().backward()
        optimizer.step()
    assert metrics.psnr(image.detach(), truth) > 30


@pytest.mark.parametrize("options", [{}, {"mcmc": True}])
def test_resume_is_exact(short, options, tmp_path, monkeypatch, no_pictures):
    """Stopped after the set has changed, and it changes again at the steps 9 and 12."""
    monkeypatch.setattr("splatting.density.WARM_UP", 2)
    config = replace(short, steps=13, eval_every=8, refine_every=3, refine_until=1.0,
                     reset_every=7, turntable=0, grad_threshold=1e-5, **options)  # fmt: skip
    assert_resume_is_exact(train, config, "splatting", 11, tmp_path, monkeypatch)
    metrics = tmp_path / "whole/splatting/latest/metrics.jsonl"
    counts = {json.loads(line).get("gaussians") for line in metrics.open()}
    assert len(counts - {None}) > 1, "the set changed on the way"


@pytest.mark.parametrize(
    "options",
    [
        {"fixed": True, "isotropic": True},
        {"backend": "reference", "sh_degree": 0},
        {"unsorted": True},
    ],
)
def test_other_ways_run(short, options, runs, no_pictures):
    found = train(replace(short, steps=4, eval_every=4, turntable=0, points=50, **options))
    scene = load("tabletop", SIZE)
    empty = [metrics.psnr(scene.background.expand(SIZE, SIZE, 3), scene.test.image(i))
             for i in range(len(scene.test))]  # fmt: skip
    assert found["test/psnr"] > np.mean(empty) + 1


def test_the_backends_train_alike(short, runs, no_pictures):
    losses = []
    for backend in ("reference", "tiles"):
        train(replace(short, steps=5, eval_every=5, points=60, turntable=0, backend=backend))
        lines = (runs / "latest/metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines if '"loss"' in line])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_evaluate_repeats_the_trainings_figures(learned, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("splatting.figures.draw_views", partial(draw_views, most=2))
    trained = json.loads((learned / "summary.json").read_text())["metrics"]
    out = tmp_path / "new/e.png"
    found = evaluate(EvaluateConfig(model=str(learned / "last.pt"), split="test", out=out))
    assert found["psnr"] == pytest.approx(trained["test/psnr"], abs=1e-4)
    assert out.stat().st_size > 5000
    assert "test/psnr" in capsys.readouterr().out


def test_export_is_what_was_trained(short, learned, tmp_path, monkeypatch):
    out = tmp_path / "new/a.ply"
    export(ExportConfig(model=str(learned / "last.pt"), out=out))
    assert out.read_bytes() == (learned / "splats.ply").read_bytes()
    gaussians, config = load_gaussians(str(learned / "last.pt"))
    assert same(dict(read_ply(out).tensors()), dict(gaussians.tensors()))
    assert config["points"] == short.points
    monkeypatch.setenv("LAB_RUNS", str(learned.parents[1]))
    assert len(load_gaussians("")[0]) > 0


def test_no_view_sees_anything(short, runs, monkeypatch):
    def lost(*args):
        scene = load(*args)
        return replace(scene, points=scene.points + 1000)

    monkeypatch.setattr("splatting.train.load", lost)
    with pytest.raises(LabError, match="no view of tabletop sees a single Gaussian"):
        train(replace(short, steps=2))


def test_gsplat_wants_cuda(short, runs):
    with pytest.raises(LabError, match="--backend gsplat"):
        train(replace(short, steps=2, backend="gsplat"))


def test_ablate_asks_for_every_change(learned, runs, monkeypatch, capsys):
    asked = {}

    def all_alike(run, jobs, workers):
        asked.update(jobs)
        metrics = json.loads((learned / "summary.json").read_text())["metrics"]
        return {name: Training(learned, metrics, True) for name in jobs}

    monkeypatch.setattr(studies, "train_all", all_alike)
    draw = studies.draw_ablation
    monkeypatch.setattr(
        studies, "draw_ablation", lambda found, *rest: draw(dict(list(found.items())[:2]), *rest)
    )
    found = studies.ablate(AblateConfig(steps=100, seeds=2, size=SIZE))
    assert len(asked) == found["trainings"] == 2 * len(studies.CHANGES)
    for options in asked.values():
        names = [option.split("=")[0] for option in options]
        assert len(names) == len(set(names)), "no option is given twice"
    assert "--reset-every=0" in asked["no-reset-1"]
    table = (runs / "latest/ablation.md").read_text()
    assert table in capsys.readouterr().out
    assert "| balls only |" in table
    assert "± 0.00" in table
    assert (runs / "latest/ablation.png").stat().st_size > 5000
    with pytest.raises(LabError, match="--only knows default"):
        studies.ablate(AblateConfig(only=("nothing",)))


def test_explain_draws(tmp_path, monkeypatch):
    monkeypatch.setattr("splatting.explain.load", lambda *a, **k: load("tabletop", SIZE, 100))
    monkeypatch.setattr("splatting.explain.STEPS", 3)
    explain(ExplainConfig(out=tmp_path / "x"))
    names = {path.name for path in (tmp_path / "x").iterdir()}
    assert names == {"covariance.png", "jacobian.png", "blending.png", "density.png"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0}, {"seed": -1}, {"size": 8}, {"size": 0}, {"pixel_variance": 0.0},
        {"precision": "bf16"}, {"points": 3}, {"max_gaussians": 100}, {"refine_every": 0},
        {"refine_until": 1.5}, {"grad_threshold": 0.0}, {"reset_every": -1}, {"sh_degree": 4},
        {"sh_every": 0}, {"lr_means": 0.0}, {"lr_means_final": 0.0}, {"ssim": 1.1},
        {"eval_every": 0}, {"turntable": -1}, {"mcmc": True, "fixed": True},
        {"without": "clone", "fixed": True},
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(wrong):
    with pytest.raises(LabError) as caught:
        TrainConfig(**wrong)
    assert f"--{next(iter(wrong)).replace('_', '-')}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_loop_sees_the_gradient_of_every_parameter(learned):
    saved = torch.load(learned / "last.pt", weights_only=True)["states"]["optimizer"]["state"]
    assert len(saved) == 6
    assert all(state["exp_avg_sq"].abs().sum() > 0 for state in saved.values())
