"""The commands: help, and misuse as one line with exit code 2."""

import pytest

from language_model import cli
from trainloop.testing import help_of, refused

COMMANDS = ("train", "finetune", "sample", "evaluate", "look", "compare", "cache", "oracle")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, monkeypatch, capsys):
    run = getattr(cli, command)
    assert run.__doc__ in help_of(run, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--heads", "3"], "--width 128 must be an even multiple of --heads 3"),
        (["train", "--data", "missing.txt"], "--data must be shakespeare or a .txt"),
        (["train", "--data", "short.txt"], "too few for a context of --block 64"),
        (["train", "--tokens", "gpt2", "--gpt2", "./nowhere/x"], "there is no folder"),
        (["finetune", "--init", "a/b/c"], "there is no folder a/b/c"),
        (["sample"], "no run of language-model has a checkpoint"),
        (["sample", "--checkpoint", "x.pt"], "no checkpoint at x.pt"),
        (["evaluate", "--init", "."], ". lacks vocab.json, merges.txt"),
        (["look", "--checkpoint", "y.pt"], "no checkpoint at y.pt"),
    ],
)
def test_misuse_is_one_line(words, said, plays, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("a\n" * 34)  # 62 characters to train on
    error = refused(getattr(cli, words[0]), words[1:], monkeypatch, capsys)
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
