"""The commands: help, and misuse as one line with exit code 2."""

import sys

import pytest

from playground import cli

COMMANDS = ("train", "play", "evaluate", "add_noise", "export", "measure")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    with pytest.raises(SystemExit) as caught:
        getattr(cli, command)()
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert getattr(cli, command).__doc__ in shown


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
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as caught:
        getattr(cli, words[0])()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1


def test_no_screen_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SDL_VIDEODRIVER", "nonsense")
    monkeypatch.setattr(sys, "argv", ["play", "--home", str(tmp_path / "home")])
    with pytest.raises(SystemExit) as caught:
        cli.play()
    assert caught.value.code == 2
    assert "there is no screen" in capsys.readouterr().err
