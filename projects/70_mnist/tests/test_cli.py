"""The commands: help, and misuse as one line with exit code 2."""

import pytest

from mnist import cli
from trainloop.testing import help_of, refused

COMMANDS = ("train", "models", "synthetic_study", "predict", "export")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, monkeypatch, capsys):
    run = getattr(cli, command)
    assert run.__doc__ in help_of(run, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--mix", "1"], "--mix must be a share"),
        (["train", "--real", "60000"], "--real must be 0 to 55,000"),
        (["synthetic_study", "--synthetic", "nowhere"], "houdini digits` makes them"),
        (["models", "--synthetic", "nowhere"], "houdini digits` makes them"),
        (["predict", "missing.png"], "no run of mnist has a checkpoint"),
        (["export", "--model", "missing.safetensors"], "no model at missing.safetensors"),
        (["export", "--out", "digits.pt"], "--out must end in .onnx"),
    ],
)
def test_misuse_is_one_line(words, said, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    error = refused(getattr(cli, words[0]), words[1:], monkeypatch, capsys)
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
