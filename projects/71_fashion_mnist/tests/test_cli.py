"""The commands: help, and misuse as one line with exit code 2."""

from pathlib import Path

import pytest
import torch

from fashion_mnist import cli
from trainloop import load_checkpoint
from trainloop.testing import help_of, refused

COMMANDS = ("train", "compare", "evaluate", "export")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, monkeypatch, capsys):
    run = getattr(cli, command)
    assert run.__doc__ in help_of(run, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--mixup", "-1"], "--mixup must be in [0, 100)"),
        (["train", "--cutout", "29"], "--cutout must be 0 to 28 pixels"),
        (["compare", "--models", "vit"], "--models must be of linear, mlp, cnn, resnet"),
        (["compare", "--seeds", "1"], "--seeds must be at least 2"),
        (["evaluate"], "no run of fashion-mnist has a checkpoint"),
        (["evaluate", "--model-file", "missing.pt"], "no checkpoint at missing.pt"),
        (["evaluate", "--mapped", "5"], "--mapped must be 100 to 10,000"),
        (["export", "--images", "50"], "--images must be 100 to 10,000"),
    ],
)
def test_misuse_is_one_line(words, said, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    error = refused(getattr(cli, words[0]), words[1:], monkeypatch, capsys)
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1


def test_an_unknown_model_is_refused(monkeypatch, capsys):
    error = refused(cli.train, ["--model", "vit"], monkeypatch, capsys)
    assert "linear" in error
    assert "vit" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("command", ["evaluate", "export"])
@pytest.mark.parametrize("kind", ["foreign", "corrupt", "empty", "of compare", "not ended", "size"])
def test_a_wrong_checkpoint_is_one_line(
    command, kind, checkpoint, tiny, monkeypatch, tmp_path, capsys
):
    path, content = tmp_path / "wrong.pt", load_checkpoint(checkpoint)
    if kind == "corrupt":
        path.write_bytes(Path(checkpoint).read_bytes()[:5000])
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        change = {
            "foreign": {"project": "mnist"},
            "of compare": {"command": "compare"},
            "not ended": {"notes": {}},
            "size": {"config": {**content["config"], "width": 5}},
        }
        torch.save({**content, **change[kind]}, path)
    error = refused(getattr(cli, command), ["--model-file", str(path)], monkeypatch, capsys)
    said = {
        "foreign": "belongs to project 'mnist'",
        "corrupt": "damaged",
        "empty": "damaged",
        "of compare": "was written by `compare`",
        "not ended": "has not ended",
        "size": "does not fit",
    }[kind]
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists(), "no run folder is left behind"
