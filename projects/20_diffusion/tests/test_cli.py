"""The commands: help, and misuse as one line with exit code 2."""

import sys
from dataclasses import replace

import pytest

from diffusion import cli
from diffusion.train import train
from trainloop import LabError, latest_checkpoint
from trainloop.testing import help_of, onnx_export, refused

from .conftest import SMALL

COMMANDS = (
    "train", "sample", "evaluate", "samplers", "compare", "failures", "oracle", "export",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, monkeypatch, capsys):
    run = getattr(cli, command)
    assert run.__doc__ in help_of(run, monkeypatch, capsys)


def said_by(words: list[str], monkeypatch, capsys) -> str:
    """What the command prints before it exits with code 2: one line."""
    error = refused(getattr(cli, words[0]), words[1:], monkeypatch, capsys)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--data", "imagenet"], "is no folder, nor one of toy2d"),
        (["train", "--sample-steps", "1001"], "--sample-steps must be 1 to 1000"),
        (["train", "--schedule", "flow", "--prediction", "eps"], "--prediction eps says nothing"),
        (["sample", "--checkpoint", "nowhere.pt"], "no checkpoint at nowhere.pt"),
        (["sample"], "no run of diffusion has a checkpoint"),
        (["evaluate", "--samples", "1"], "--samples must be at least 4"),
        (["samplers", "--few", "2000"], "--few must be numbers of 1 to 1000"),
        (["compare", "--data", "toy2d"], "--data must be one of digits"),
        (["export", "--out", "net.pt"], "--out must end in .onnx"),
    ],
)
def test_misuse_is_one_line(words, said, runs, monkeypatch, capsys):
    assert said in said_by(words, monkeypatch, capsys)
    assert not runs.exists(), "no run folder is left behind"


@pytest.fixture(scope="module")
def trained(quick, tmp_path_factory):
    """The checkpoint of a run of digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_RUNS", str(tmp_path_factory.mktemp("runs")))
        train(SMALL)
        return latest_checkpoint("diffusion", "last.pt")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "--label", "11"], "--label 11 is unknown: this network knows 0, 1, 2"),
        (["sample", "--steps", "51"], "--steps must be 1 to 50"),
        (["evaluate", "--steps", "51"], "--steps must be 1 to 50, the network's T, not 51"),
        (["evaluate", "--data", "toy2d"], "was trained on digits (1, 8, 8), not on toy2d (2,)"),
        (["samplers"], "--steps must be 1 to 50, the network's T, not 1000"),
    ],
)
def test_what_does_not_fit_the_checkpoint(words, said, trained, runs, monkeypatch, capsys):
    assert said in said_by([*words, "--checkpoint", str(trained)], monkeypatch, capsys)


def test_samples_are_drawn(trained, monkeypatch, tmp_path, capsys):
    out = tmp_path / "pictures/threes.png"
    words = ["sample", "--label", "3", "none", "--count", "12", "--steps", "4", "--guidance", "2"]
    monkeypatch.setattr(sys, "argv", [*words, "--out", str(out), "--checkpoint", str(trained)])
    cli.sample()
    assert out.stat().st_size > 2000
    assert "12 samples, dpm-4, guidance 2, seed 0" in capsys.readouterr().out


@onnx_export
def test_both_files_are_written(trained, monkeypatch, tmp_path, capsys):
    out = tmp_path / "net.onnx"
    monkeypatch.setattr(sys, "argv", ["export", "--out", str(out), "--checkpoint", str(trained)])
    cli.export()
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx", "net.safetensors"}
    assert capsys.readouterr().out.count("of torch") == 2


def test_a_cut_checkpoint_is_one_line(trained, tmp_path, monkeypatch, capsys):
    cut = tmp_path / "cut.pt"
    cut.write_bytes(trained.read_bytes()[:5000])
    said = said_by(["sample", "--checkpoint", str(cut)], monkeypatch, capsys)
    assert "is cut short or damaged" in said


def test_a_folder_of_mixed_images_leaves_no_run(runs, tmp_path):
    from PIL import Image

    for number in range(25):
        Image.new("L", (8 + number % 2, 8)).save(tmp_path / f"{number:02}.png")
    with pytest.raises(LabError, match="make them alike, or give --size"):
        train(replace(SMALL, data=str(tmp_path)))
    assert not runs.exists()
