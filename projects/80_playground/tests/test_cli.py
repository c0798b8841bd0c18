"""The commands: help, and misuse as one line with exit code 2."""

import pytest

from playground import cli
from trainloop.testing import help_of, refused

COMMANDS = ("train", "play", "evaluate", "add_noise", "export", "measure")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, monkeypatch, capsys):
    run = getattr(cli, command)
    assert run.__doc__ in help_of(run, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--data", "gone.npz"], "no file at gone.npz"),
        (["train", "--data", "digits"], "must be an .npz or a data.json"),
        (["train", "--layers", "0"], "--layers must be at most 4 numbers"),
        (["train", "--layers", "8", "8", "8", "8", "8"], "--layers must be at most 4"),
        (["train", "--device", "cuda"], "NumPy knows the CPU only"),
        (["train", "--precision", "bf16"], "NumPy trains in fp32 only"),
        (["train", "--noise", "0.9"], "--noise must be 0 to 0.5"),
        (["train", "--lr", "-1"], "--lr must not be negative"),
        (["train", "--clip", "0"], "--clip must be above 0"),
        (["train", "--resume"], "nothing to resume"),
        (["play", "--model", "gone.npz"], "no file at gone.npz"),
        (["play", "--port", "70000"], "--port must be"),
        (["play", "--web", "--home", "empty"], "no model to guess with"),
        (["evaluate"], "no run has left a model"),
        (["evaluate", "--out", "picture.bmp"], "--out must end in .png"),
        (["add_noise", "--data", "gone.json"], "no file at gone.json"),
        (["add_noise", "--data", "a.npz", "--copies", "0"], "--copies must be 1 to 100"),
        (["add_noise", "--data", "a.npz", "--stroke", "2"], "--stroke must be 0 to 1"),
        (["export", "--out", "net.pt"], "--out must end in .onnx"),
        (["export", "--model", "gone.npz"], "no file at gone.npz"),
        (["measure", "--kills", "0"], "--kills must be at least 1"),
        (["measure", "--resume"], "without --resume"),
    ],
)
def test_misuse_is_one_line(words, said, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    error = refused(getattr(cli, words[0]), words[1:], monkeypatch, capsys)
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1


def test_no_screen_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SDL_VIDEODRIVER", "nonsense")
    error = refused(cli.play, ["--home", str(tmp_path / "home")], monkeypatch, capsys)
    assert "there is no screen" in error
