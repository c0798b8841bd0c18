"""Run folders on disk: made, found, locked, described."""

import contextlib
import fcntl
import json
import os
import subprocess
from dataclasses import MISSING, Field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from trainloop.cli import RunOptions
from trainloop.errors import LabError
from trainloop.paths import run_folders, runs_dir, workspace_root

WHERE = ("device", "workers")  # where a run is computed, not what: these may change on the way


def new_folder(project: str) -> Path:
    """A folder named after this second, made."""
    home = runs_dir() / project
    try:
        str(home).encode()
    except UnicodeEncodeError:  # TensorBoard, for one, could not write there
        raise LabError(f"{str(home)!a} is no UTF-8 in this locale: set LC_ALL=C.UTF-8") from None
    home.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ["", *(f"_{n}" for n in range(2, 100))]:
        with contextlib.suppress(FileExistsError):
            (home / (stamp + suffix)).mkdir()
            return home / (stamp + suffix)
    raise LabError(f"{home} already has a hundred runs of this second")


def newest_folder(project: str, command: str) -> Path:
    """The newest run of `command`; LabError if there is none."""
    for folder in run_folders(project):
        with contextlib.suppress(OSError, ValueError):
            if read_json(folder / "config.json")["command"] == command:
                return folder
    raise LabError(f"nothing to resume in {runs_dir() / project}: leave out --resume")


def lock(folder: Path):
    """Hold the run folder until this process ends; LabError if another one does."""
    file = (folder / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise LabError(f"another process is training {folder}: wait for it or stop it") from None
    return file


def point_latest(folder: Path) -> None:
    """Let `latest` point to a run, at no moment to nothing."""
    home = folder.parent
    link = home / f".latest.{os.getpid()}.tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(home / "latest")


def state(folder: Path) -> str:
    """How far a run came: finished, or saved at a step.

    Raises:
        OSError, ValueError, KeyError: it is no run folder, or damaged.
    """
    steps = read_json(folder / "config.json")["config"]["steps"]
    if (folder / "summary.json").exists():
        return "finished"
    timing = folder / "timing.jsonl"
    lines = timing.read_text("utf-8").splitlines() if timing.exists() else []
    done = json.loads(lines[-1])["step"] if lines else 0
    return f"saved at {done} of {steps}" if steps else f"saved at {done}"  # 0: by --epochs


def overrides(config: RunOptions) -> dict[str, Any]:
    """The options that differ from their defaults and make the run another experiment."""
    return {
        name: value
        for name, value in _not_default(config).items()
        if name not in ("seed", "resume", *WHERE)
    }


def resumed_config[Config: RunOptions](config: Config, folder: Path) -> Config:
    """The options of the run in `folder`, on the device and with the workers asked for now.

    Raises:
        LabError: an option given now differs from the run's.
    """
    path = folder / "config.json"
    then = read_json(path)["config"]
    for name, value in _not_default(config).items():
        if name not in ("resume", *WHERE) and _as_json(value) != then.get(name):
            raise LabError(
                f"--{name.replace('_', '-')} {value} differs from the run to resume "
                f"({then.get(name)} in {path}): leave it out, or start a new run"
            )
    kept = {}
    for field in fields(config):
        value = then.get(field.name, _default(field))
        is_tuple = isinstance(_default(field), tuple)  # which JSON does not know
        kept[field.name] = tuple(value) if is_tuple else value
    where = {name: getattr(config, name) for name in WHERE if name in kept}
    return replace(config, **{**kept, **where, "resume": True})


def _not_default(config: RunOptions) -> dict[str, Any]:
    values = {
        field.name: (getattr(config, field.name), _default(field)) for field in fields(config)
    }
    return {name: value for name, (value, default) in values.items() if value != default}


def _default(field: Field) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def current_commit() -> str:
    """The commit of the workspace, with a plus where its files differ; empty outside git."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=workspace_root(), capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return ""


def now() -> str:
    """Local time with its offset, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def json_bytes(value: Any, indent: int | None = 2) -> bytes:
    """JSON in UTF-8 with a line end; ValueError on NaN, which is no JSON."""
    text = json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    return (text + "\n").encode()


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text("utf-8"))
