"""The members beside one another: the same words, the same order, quick to start, no option wrong.

What is meant to differ is listed here by name.
"""

import dataclasses
import math
import re
import resource
import subprocess
import sys
import types
import typing
from functools import cache
from pathlib import Path

import pytest

from trainloop.cli import check_finite
from trainloop.errors import LabError
from trainloop.paths import module_name, project_folders, workspace_root
from trainloop.testing import configs

PROJECTS = project_folders()

WORDS = {
    "steps": int, "seed": int, "seeds": int, "device": str, "precision": str, "resume": bool,
    "data": str, "batch_size": int, "lr": float, "weight_decay": float, "dropout": float,
    "ema": float, "epochs": int, "eval_every": int, "width": int, "workers": int, "out": str,
    "checkpoint": str, "accumulate": int, "image_size": int, "split": str, "optimizer": str,
}  # fmt: skip
"""Options that mean the same wherever they are, and what a word after them is read as. A path is a
word; a choice is a word; an option that may be left to a preset is what the preset's value is."""
SYNONYMS = {
    "learning_rate": "lr", "iterations": "steps", "iters": "steps", "num_steps": "steps",
    "n_steps": "steps", "max_steps": "steps", "random_seed": "seed", "num_seeds": "seeds",
    "batch": "batch_size", "minibatch_size": "batch_size", "wd": "weight_decay",
    "ema_decay": "ema", "num_epochs": "epochs", "eval_interval": "eval_every",
    "num_workers": "workers", "dataset": "data", "data_dir": "data", "output": "out",
    "ckpt": "checkpoint", "model_path": "checkpoint", "backend_device": "device",
    "dtype": "precision", "continue": "resume", "restart": "resume", "optimiser": "optimizer",
}  # fmt: skip


@cache
def options(project: str) -> dict[str, dict[str, typing.Any]]:
    """Name and type of each option of each command."""
    return {command: typing.get_type_hints(config) for command, config in configs(project).items()}


def base(hint: typing.Any) -> type:
    """int of `int | None`, str of a Literal of words and of Path."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    if typing.get_origin(hint) is typing.Literal:
        return type(typing.get_args(hint)[0])
    if typing.get_origin(hint) is not None:
        return typing.get_origin(hint)
    return str if hint is Path else hint


@pytest.mark.parametrize("project", PROJECTS)
def test_the_same_words_for_the_same_options(project):
    for command, hints in options(project).items():
        for name, hint in hints.items():
            assert name not in SYNONYMS, f"{command} --{name}: here it is called {SYNONYMS[name]}"
            if name in WORDS:
                assert base(hint) is WORDS[name], f"{command}: --{name} is {hint}"
    assert {"steps", "seed", "device", "precision", "resume"} <= set(options(project)["train"])


def test_the_words_are_in_use():
    used = {name for project in PROJECTS for hints in options(project).values() for name in hints}
    assert set(WORDS) <= used


# --- every option's wrong value -----------------------------------------------------------------

MEANT = {("rl", "train", "stop_at", "-1.0")}  # a return: CartPole's are positive, Acrobot's not
"""(project, command, option, value) that makes sense all the same."""


def wrong_values(hint: typing.Any) -> list[typing.Any]:
    if base(hint) is int:
        return [-1]
    return [-1.0, math.nan, math.inf] if base(hint) is float else []


def something(hint: typing.Any, place: int) -> typing.Any:
    """A value for an option that has no default, another one at another place."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)[place]
    return (Path("x"),) if base(hint) is tuple else hint(f"x{place}")


def refusal(config: type, name: str, value: typing.Any) -> str | None:
    """What `parse` says of a value of one option, the others at their defaults."""
    hints = typing.get_type_hints(config)
    needed = {
        field.name: something(hints[field.name], place)
        for place, field in enumerate(dataclasses.fields(config))
        if field.default is field.default_factory is dataclasses.MISSING
    }
    try:
        check_finite(config(**{**needed, name: value}))
    except LabError as error:
        return str(error)
    return None


def accepted(project: str) -> set[tuple[str, str, str]]:
    """(command, option, value) of wrong values that are taken, or refused without their name."""
    found = set()
    for command, config in configs(project).items():
        for name, hint in options(project)[command].items():
            for value in wrong_values(hint):
                said = refusal(config, name, value)
                flag = "-" * min(len(name), 2) + name.replace("_", "-")  # -n, --steps
                if said is None or flag not in said or "\n" in said:
                    found.add((command, name, str(value)))
    return found


@pytest.mark.parametrize("project", PROJECTS)
def test_every_number_that_makes_no_sense_is_refused(project):
    """-1, NaN and inf for each numeric option of each command, by a line that names the option."""
    assert accepted(project) <= {(c, n, v) for p, c, n, v in MEANT if p == project}


# --- READMEs ------------------------------------------------------------------------------------

ORDER = ("Done when", "Results", "How it works", "What fails, and why", "Metrics",
         "Ran, and not run", "Exercises")  # fmt: skip
"""The sections of every README; it may have others between them."""


def sections(project: str) -> list[str]:
    text = (PROJECTS[project] / "README.md").read_text("utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^## (.+)$", text, re.MULTILINE)
    return found[: found.index("Exercises") + 1] if "Exercises" in found else found


@pytest.mark.parametrize("project", PROJECTS)
def test_readme_sections_stand_in_the_same_order(project):
    found = sections(project)
    assert found[0] == ORDER[0]
    assert found[-1] == ORDER[-1]
    assert tuple(title for title in found if title in ORDER) == ORDER


@pytest.mark.parametrize("project", PROJECTS)
def test_readme_begins_with_a_picture_and_a_command(project):
    text = (PROJECTS[project] / "README.md").read_text("utf-8")
    picture, command = text.index("\n!["), text.index("\n```sh\nuv run --package")
    assert text.startswith("# ")
    assert picture < command < text.index("\n## Done when")
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (PROJECTS[project] / path).is_file(), f"{path} is not there"


def test_the_root_readme_shows_every_project():
    """A picture in the gallery, and a row of the table."""
    root = workspace_root()
    text = (root / "README.md").read_text("utf-8")
    shown = dict(re.findall(r'<a href="([^"]+)"><img src="([^"]+)"', text))
    for project, folder in PROJECTS.items():
        home = folder.relative_to(root).as_posix()
        assert (root / shown[home]).is_file()
        assert shown[home].startswith(f"{home}/docs/")
        assert re.search(rf"^\| \[\w+\]\({home}\) \| `{project}` \|", text, re.MULTILINE)


# --- start-up -----------------------------------------------------------------------------------

HEAVY = ("torch", "matplotlib", "scipy", "sklearn", "torchvision", "pandas", "onnx", "gymnasium")


def cpu_seconds(code: str, *words: str) -> tuple[float, str]:
    """CPU seconds of a Python program, and the heavy modules that it loaded."""
    code += f"\nfinally: print('loaded', *[m for m in {HEAVY} if m in sys.modules])"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, done.stdout.rpartition("loaded")[2].strip()


@pytest.mark.parametrize("project", PROJECTS)
def test_help_is_quick(project):
    """Meant: 1.5 s of CPU. Held to twice that, since cores of CI and neighbours differ so much."""
    code = f"import sys\ntry: from {module_name(project)}.cli import train; train()"
    spent, loaded = cpu_seconds(code, "--help")
    assert not loaded
    assert spent < 3


def test_status_is_quick():
    """Meant: 1 s of CPU, held to twice that."""
    spent, loaded = cpu_seconds("import sys\ntry: from trainloop.lab import main; main()", "status")
    assert not loaded
    assert spent < 2
