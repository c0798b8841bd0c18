"""The commands: help, and misuse as one line with exit code 2."""

from pathlib import Path

import pytest

from active_learning import cli
from active_learning.config import (
    CompareConfig,
    CurveConfig,
    DetectorOptions,
    NextConfig,
    StudyConfig,
    TrainConfig,
)
from trainloop import LabError
from trainloop.testing import help_of, refused

COMMANDS = ("train", "study", "curve", "compare", "picks", "next_images")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, monkeypatch, capsys):
    run = getattr(cli, command)
    assert run.__doc__ in help_of(run, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--frames", "100"], "a pool of 100 frames is smaller than --start"),
        (["train", "--data", "nowhere"], "no folder nowhere: give the one with the photos"),
        (["train", "--resume"], "nothing to resume"),
        (["train", "--seeds", "1"], "--seeds must be at least 2"),
        (["curve", "--strategies", "random", "random"], "--strategies must be different ones"),
        (["study", "--image-size", "128"], "--image-size of rendered scenes is 64 to 96"),
        (["compare", "entropy", "random"], "no two seeds of both entropy and random"),
        (["compare", "entropy", "entropy"], "compare needs two strategies"),
        (["picks"], "no curve in runs of active-learning: `train` first"),
        (["picks", "--run", "nowhere"], "no curve in nowhere"),
        (["next_images", "--data", "nowhere"], "no folder nowhere"),
        (["next_images", "--data", ".", "-n", "0"], "-n must be at least 1"),
    ],
)
def test_misuse_is_one_line(words, said, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    error = refused(getattr(cli, words[0]), words[1:], monkeypatch, capsys)
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("runs/active-learning/*")), "no run folder is left behind"


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (DetectorOptions, {"steps": 0}), (DetectorOptions, {"seed": -1}),
        (DetectorOptions, {"empty": 1.0}), (DetectorOptions, {"dark": -0.1}),
        (DetectorOptions, {"frames": 0}), (DetectorOptions, {"objects": 0}),
        (DetectorOptions, {"clip": 0}), (DetectorOptions, {"rarity": 0.5}),
        (DetectorOptions, {"parked": -1.0}), (DetectorOptions, {"image_size": 60}),
        (DetectorOptions, {"width": 3}), (DetectorOptions, {"lr": 0.0}),
        (DetectorOptions, {"batch_size": 0}), (DetectorOptions, {"pool_seed": -1}),
        (CurveConfig, {"start": 0}), (CurveConfig, {"query": 0}), (CurveConfig, {"rounds": 0}),
        (CurveConfig, {"strategies": ()}), (CurveConfig, {"members": 1}),
        (CurveConfig, {"passes": 1}),
        (TrainConfig, {"workers": -1}), (TrainConfig, {"target": 1.0}),
        (StudyConfig, {"seeds": 1}),
        (CompareConfig, {"target": -0.1, "a": "entropy", "b": "random"}),
        (NextConfig, {"steps": 0, "data": Path("x")}),
        (NextConfig, {"seed": -1, "data": Path("x")}),
        (NextConfig, {"image_size": 130, "data": Path("x")}),
        (NextConfig, {"strategy": "oracle", "data": Path("x")}),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(config, wrong):
    with pytest.raises(LabError) as caught:
        config(**wrong)
    assert f"--{next(iter(wrong)).replace('_', '-')}" in str(caught.value)
    assert "\n" not in str(caught.value)
