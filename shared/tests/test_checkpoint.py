"""Checkpoints that cannot be trusted, and writes that cannot finish."""

import errno
import io
import os
import pickle
import resource
import signal
from pathlib import Path

import pytest
import torch

from trainloop import checkpoint
from trainloop.checkpoint import atomic_write, load_checkpoint, save_checkpoint
from trainloop.errors import LabError, NonFiniteError
from trainloop.forks import run_forked


class Malicious:
    """Unpickling one leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def damage(path: Path, how: str, mark: Path) -> None:
    whole = path.read_bytes()
    content = torch.load(path, weights_only=True)
    if how == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "flipped":
        path.write_bytes(whole[:40] + bytes(200) + whole[240:])
    elif how == "text":
        path.write_text("not a checkpoint at all\n")
    elif how == "other text":  # in a pickle a t means: take a tuple off the stack, which is empty
        path.write_text("this is no checkpoint\n")
    elif how == "malicious":
        torch.save({**content, "extra": Malicious(mark)}, path)
    elif how == "malicious pickle":
        path.write_bytes(pickle.dumps(Malicious(mark)))
    elif how == "no dict":
        torch.save([1, 2, 3], path)
    elif how == "foreign":
        torch.save({"state_dict": {"weight": torch.zeros(3)}}, path)
    elif how == "other project":
        torch.save({**content, "project": "rl"}, path)
    elif how == "other shapes":
        content["states"]["model"]["0.weight"] = torch.zeros(3, 3)
        torch.save(content, path)
    elif how == "other parts":
        content["states"]["discriminator"] = {}
        torch.save(content, path)


@pytest.mark.parametrize(
    "how",
    [
        "truncated", "empty", "flipped", "text", "other text", "malicious", "malicious pickle",
        "no dict", "foreign", "other project", "other shapes", "other parts",
    ],
)  # fmt: skip
def test_damaged_checkpoints_are_refused(toy, runs, tmp_path, how):
    """One line that names the file; nothing executed, nothing overwritten."""
    with pytest.raises(NonFiniteError):
        toy.train(toy.ToyConfig(steps=60, explode_at=25))
    folder, mark = runs / "toy/latest", tmp_path / "executed"
    damage(folder / "last.pt", how, mark)
    before = {path.name: path.read_bytes() for path in folder.resolve().iterdir()}
    with pytest.raises(LabError) as caught:
        toy.train(toy.ToyConfig(resume=True))
    assert "\n" not in str(caught.value)
    assert str(folder.resolve() / "last.pt") in str(caught.value)
    assert not mark.exists(), "code in the checkpoint was run"
    assert {path.name: path.read_bytes() for path in folder.resolve().iterdir()} == before


def test_from_the_command_line_it_is_one_line_and_exit_2(toy, runs):
    with pytest.raises(NonFiniteError):
        toy.train(toy.ToyConfig(steps=60, explode_at=25))
    damage(runs / "toy/latest/last.pt", "truncated", runs)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import toy, trainloop;"
        "trainloop.entry_point(lambda: toy.train(trainloop.parse(toy.ToyConfig)))()"
    )
    done = run_forked(code, "--resume")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "cut short or damaged" in done.stderr.splitlines()[-1]


def test_missing_checkpoint():
    with pytest.raises(LabError, match="no checkpoint at"):
        load_checkpoint("nowhere/last.pt")


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})

    def full_disk(file) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, full_disk)
    assert load_checkpoint(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("room", [100, 20_000, 99_000])
def test_a_disk_that_fills_up_says_which_file_did_not_fit(tmp_path, room):
    """And keeps the old one."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            save_checkpoint(path, {"weights": [torch.zeros(5_000) for _ in range(5)]})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(path)
    assert load_checkpoint(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


class FullOnce(io.BufferedWriter):
    """A file on a disk that is full for one write, the third."""

    writes = 0

    def write(self, data) -> int:
        self.writes += 1
        if self.writes == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_what_torch_says_of_a_file_cut_short_does_not_hide_the_disk(tmp_path, monkeypatch):
    """It raises a RuntimeError about positions in the file."""
    file = FullOnce(io.FileIO(tmp_path / "file", "w"))
    monkeypatch.setattr(checkpoint, "atomic_write", lambda path, write: write(file))
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path / "last.pt", {"weights": torch.zeros(5_000)})


def test_also_is_the_same_file(tmp_path):
    save_checkpoint(tmp_path / "last.pt", {"step": 1}, also=tmp_path / "best.pt")
    assert (tmp_path / "last.pt").samefile(tmp_path / "best.pt")
    save_checkpoint(tmp_path / "last.pt", {"step": 2})
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 1
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 2
