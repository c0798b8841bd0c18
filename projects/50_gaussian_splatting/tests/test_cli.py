"""The commands: help, and misuse as one line with exit code 2."""

import pytest

from splatting import cli
from trainloop.testing import help_of, refused

COMMANDS = ("train", "fit_image", "evaluate", "ablate", "export", "view", "explain")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, monkeypatch, capsys):
    run = getattr(cli, command)
    assert run.__doc__ in help_of(run, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--data", "nowhere"], "no such folder"),
        (["train", "--backend", "gsplat"], "--backend gsplat"),
        (["train", "--mcmc", "--fixed"], "exclude each other"),
        (["fit_image", "--gaussians", "9000"], "more of them than there are pixels"),
        (["fit_image", "--photo", "nowhere.png"], "no picture at nowhere.png"),
        (["evaluate"], "no run of splatting has a checkpoint"),
        (["evaluate", "--model", "missing.ply"], "no .ply at missing.ply"),
        (["ablate", "--only", "nothing"], "--only knows default"),
        (["export", "--model", "missing.pt"], "no checkpoint at missing.pt"),
        (["export", "--out", "a.obj"], "--out must end in .ply"),
        (["view", "--out", "a.txt"], "--out must end in .html"),
    ],
)
def test_misuse_is_one_line(words, said, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    size = ["--size", "32"] if words[0] == "train" else []
    error = refused(getattr(cli, words[0]), [*words[1:], *size], monkeypatch, capsys)
    assert error.splitlines()[-1].startswith("error: ")
    assert said in error
    assert "Traceback" not in error
