"""Checkpoints: written whole or not at all, read without running what is in them."""

import contextlib
import json
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from trainloop.errors import LabError
from trainloop.paths import run_folders

FORMAT = 1


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of the system that names no file names this one: a full disk does not say what did
    not fit."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)
        raise


def atomic_write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it into place.

    Whoever reads `path` finds the old content or the new, never a part, however the process ends.
    """
    writer = f"{os.getpid()}-{threading.get_ident()}"  # two may write at once: each its own file
    temporary = path.with_name(f".{path.name}.{writer}.tmp")
    try:
        with naming(path), temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # the data must be on disk before the name points to it
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    atomic_write(path, lambda file: file.write(text.encode()))


def save_checkpoint(path: Path, content: dict[str, Any], also: Path | None = None) -> None:
    """Write `content` (tensors, numbers, strings, dicts and lists of them) to `path`.

    `also` becomes a second name of the same file, and gets it first: a process killed in between
    leaves the pair such that resuming from `path` writes `also` again.
    """
    import torch

    def write(file: BinaryIO) -> None:
        try:
            torch.save({"trainloop": FORMAT, **content}, file)
        except RuntimeError as error:  # torch, closing a file cut short, hides why it is short
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        file.flush()
        if also is not None:
            link = also.with_name(f".{also.name}.{os.getpid()}.tmp")
            link.unlink(missing_ok=True)
            os.link(file.name, link)
            os.fsync(file.fileno())
            link.replace(also)

    atomic_write(path, write)


def load_checkpoint(path: Path | str, project: str | None = None) -> dict[str, Any]:
    """Read a checkpoint of this lab on the CPU.

    Only tensors and plain values are unpickled (`weights_only=True`): code in the file is refused,
    not run.

    Raises:
        LabError: the file is missing, cut short, no checkpoint of ours, or of another project.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise LabError(f"no checkpoint at {path}: train first, or name one with --checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise LabError(
            f"{path} holds objects other than tensors and plain values, or is no checkpoint: "
            "refused, nothing in it was run"
        ) from None
    except (RuntimeError, EOFError, ValueError, LookupError, AssertionError, OSError):
        raise LabError(
            f"{path} is cut short or damaged: use another checkpoint or train again"
        ) from None
    if not isinstance(content, dict) or content.get("trainloop") != FORMAT:
        raise LabError(f"{path} is not a checkpoint written by this lab's trainloop")
    if project is not None and content.get("project") != project:
        raise LabError(
            f"{path} belongs to project {content.get('project')!r}, not to {project!r}: "
            "name a checkpoint of this project"
        )
    return content


def latest_checkpoint(
    project: str, name: str = "best.pt", commands: tuple[str, ...] = ("train",)
) -> Path:
    """The checkpoint of the newest run of `commands`: `best.pt`, or `last.pt` without a best.

    Raises:
        LabError: the project has no run with a checkpoint yet.
    """
    for run in run_folders(project):
        with contextlib.suppress(OSError, ValueError, KeyError):
            if json.loads((run / "config.json").read_text("utf-8"))["command"] not in commands:
                continue
        for candidate in (run / name, run / "last.pt"):
            if candidate.is_file():
                return candidate
    raise LabError(
        f"no run of {project} has a checkpoint: `uv run --package {project} {commands[0]}` first"
    )


def load_into(path: Path, states: dict[str, Any], saved: dict[str, Any]) -> None:
    """Give each object of `states` its part of `saved`; LabError where they do not fit together."""
    missing = sorted(set(states) ^ set(saved))
    if missing:
        raise LabError(
            f"{path} and this program disagree on what a run holds: {', '.join(missing)}"
        )
    for name, target in states.items():
        try:
            target.load_state_dict(saved[name])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            with contextlib.suppress(IndexError):
                error = str(error).splitlines()[-1].strip() or error
            raise LabError(f"{path} does not fit this program's {name}: {error}") from None
