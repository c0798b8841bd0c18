"""What the tests of several projects need."""

import contextlib
import importlib
import inspect
import io
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import batched
from pathlib import Path
from typing import Any

import pytest
import torch

from trainloop.checkpoint import load_checkpoint
from trainloop.cli import RunOptions
from trainloop.done_when import Criterion, criteria, judge, recorded
from trainloop.paths import module_name, project_folders
from trainloop.run import Run

# Warnings of torch's own code, and of the shape checks that only tests have. Reported, they cost
# 5 s: xdist's parent loads the home of a warning's class, and TracerWarning's is torch.
onnx_export = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch", "ignore::torch.jit.TracerWarning"
)


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, through dicts and lists."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same_run(a: Path, b: Path, project: str) -> None:
    """Two run folders hold the same metrics.jsonl, byte for byte, and the same final weights."""
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    first, second = (load_checkpoint(folder / "last.pt", project) for folder in (a, b))
    assert first["step"] == second["step"]
    assert first["best"] == second["best"]
    assert same(first["states"], second["states"])


def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture is saved: drawing took a third of what short trainings cost (measured)."""
    monkeypatch.setattr(Run, "picture", lambda *_: None)


def assert_resume_is_exact(
    train: Callable[[RunOptions], Any],
    config: RunOptions,
    project: str,
    stop_at: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A training that dies at a step and is resumed ends as one that was left alone."""
    draw_nothing(monkeypatch)
    folders = {}
    log = Run.log

    def die(run: Run, step: int, **values: Any) -> None:
        log(run, step, **values)
        if step == stop_at:
            raise InterruptedError

    for name in ("whole", "cut"):
        monkeypatch.setenv("LAB_RUNS", str(tmp_path / name))
        folders[name] = tmp_path / name / project / "latest"
        if name == "cut":
            with monkeypatch.context() as patch:
                patch.setattr(Run, "log", die)
                with pytest.raises(InterruptedError):
                    train(config)
            config = replace(config, resume=True)
        train(config)
    assert_same_run(folders["whole"], folders["cut"], project)


def help_of(
    command: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """What a command shows with --help, without frames and line breaks; it exits with 0."""
    monkeypatch.setattr(sys, "argv", [command.__name__, "--help"])
    with pytest.raises(SystemExit) as caught:
        command()
    assert caught.value.code == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def refused(
    command: Callable[[], None],
    options: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """What a command complains of, on stderr; it exits with 2."""
    monkeypatch.setattr(sys, "argv", [command.__name__, *options])
    with pytest.raises(SystemExit) as caught:
        command()
    assert caught.value.code == 2
    return capsys.readouterr().err


def done_when_parameters(project: str) -> list[Any]:
    """The criteria of a project, for pytest.mark.parametrize.

    Seconds on the wall are left to `lab check`: the machines of CI drift by more than half, and a
    test that fails because of a neighbour says nothing about the code.
    """
    clock = pytest.mark.skip(reason="wall-clock: held by `lab check`, on a quiet machine")
    long = pytest.mark.skip(reason="too long for CI: held by `lab check`")

    def marks(criterion: Criterion) -> list[pytest.MarkDecorator]:
        if criterion.metric == "wall_seconds":
            return [clock]
        return [] if criterion.ci else [long]

    return [pytest.param(c, id=c.id, marks=marks(c)) for c in criteria(project)]


def hold(criterion: Criterion, runs: Path) -> None:
    """Train what the criterion asks for, as a user would, into `runs`, and hold it to its figure.

    Seeds train side by side, one for each core; on a GPU one after the other. Criteria that ask
    for the same runs share them, as long as they are given the same `runs`.
    """
    project, command = criterion.project, criterion.command
    options = []
    for key, value in criterion.options.items():
        values = value if isinstance(value, list) else [value]
        options += [f"--{key.replace('_', '-')}", *map(str, values)]
    code = f"from {module_name(project)}.cli import {command.replace('-', '_')} as run; run()"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_RUNS", str(runs))
        alone = replace(criterion, seeds=1)
        done = recorded(project)
        missing = [
            [sys.executable, "-c", code, f"--seed={seed}", *options]
            for seed in range(criterion.seeds)
            if not judge(alone, [s for s in done if s["config"]["seed"] == seed]).values
        ]
        cores = 1 if torch.cuda.is_available() else len(os.sched_getaffinity(0))
        for commands in batched(missing, cores):
            # Two side by side take 0.8 of the time of one after the other (detection, mnist).
            threads = {"OMP_NUM_THREADS": str(cores // len(commands))} if len(commands) > 1 else {}
            train = partial(subprocess.run, check=True, env={**os.environ, **threads})
            with ThreadPoolExecutor(len(commands)) as pool:
                list(pool.map(train, commands))
        verdict = judge(criterion, recorded(project))
    print(f"{criterion.id}: {verdict.measured}, asked for {criterion.bound}, {verdict.values}")
    assert verdict.met, f"{criterion.id}: {verdict.measured}, asked for {criterion.bound}"


def configs(project: str) -> dict[str, type]:
    """The options of each of a project's commands: the dataclass it parses, without running it.

    Commands that read their words in another way (warmup's `bugs` has commands of its own) are left
    out.
    """
    scripts = tomllib.loads((project_folders()[project] / "pyproject.toml").read_text("utf-8"))
    found = {}

    def parse(config: type, description: str = "") -> None:
        raise _Asked(config)

    for name, reference in scripts["project"]["scripts"].items():
        module, function = reference.split(":")
        command = getattr(importlib.import_module(module), function)
        home = inspect.unwrap(getattr(command, "func", command)).__module__  # a partial's, too
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"{home}.parse", parse, raising=False)
            patch.setattr(sys, "argv", [name])
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    getattr(command, "__wrapped__", command)()
            except _Asked as asked:
                found[name] = asked.args[0]
            except SystemExit:
                continue
    return found


class _Asked(Exception):
    """Carries the class that a command wanted to parse."""
