"""What each member imports is what its own pyproject.toml asks for, and the other way round.

All members share one environment, where an undeclared import goes unseen until somebody installs
the member alone. `.ci/alone` does just that, in minutes; this reads the files, in a second.
"""

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import pytest

from trainloop import new
from trainloop.forks import run_forked
from trainloop.paths import module_name, project_folders, workspace_root

MEMBERS = {"trainloop": workspace_root() / "shared", **project_folders()}
WITH_DEV = ("tests/*.py", "benchmarks/*.py", "*/testing.py", "*/oracle.py")
"""Files that may use the dev group too, which `uv run --package X` installs."""
NOT_ASKED_FOR = {
    "houdini": {"hou", "PySide6"},  # Houdini's own Python brings them
    "splatting": {"gsplat", "lpips"},  # for those who have installed them, and a card or weights
}
NOT_IMPORTED = {
    "beartype", "pytest-xdist", "mypy", "types-houdini",  # by pytest's options, by a command
    "tensorboard",  # by torch.utils.tensorboard
    "ipykernel",  # by the notebooks' kernel
    "scikit-learn",  # by trainloop, as a place of data
    "pygame-ce",  # by gymnasium, which draws with it
}  # fmt: skip


class Import(NamedTuple):
    """One imported module: where, the first part of its name, and what it may come from."""

    place: str
    name: str
    guarded: bool  # its absence is caught, so it may come from an extra
    with_dev: bool


BY_NAME = re.compile(r"""\b(?:import_module|importorskip|__import__)\(["']([\w.]+)""")


def imported(text: str) -> Iterator[tuple[int, str, bool]]:
    """Line, module, guarded: every absolute import in a file, by statement or by name."""
    for found in BY_NAME.finditer(text):
        if found[1][0] == ".":
            continue  # of its own package
        yield text.count("\n", 0, found.start()) + 1, found[1].split(".")[0], False
    for node, guarded in statements(ast.parse(text).body, False):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        yield from ((node.lineno, name.split(".")[0], guarded) for name in names)


def statements(nodes: list[ast.AST], guarded: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Each statement, also those inside of others, and whether a missing module is caught there."""
    for node in nodes:
        yield node, guarded
        handlers = getattr(node, "handlers", [])
        caught = "".join(ast.unparse(handler.type) for handler in handlers if handler.type)
        is_guard = "ImportError" in caught or "ModuleNotFoundError" in caught
        yield from statements(getattr(node, "body", []), guarded or is_guard)
        for part in ("handlers", "orelse", "finalbody", "cases"):
            yield from statements(getattr(node, part, []), guarded)


def source(path: Path) -> str:
    """The Python in a file; of a notebook its code, one cell after the other."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        return text
    cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return re.sub(r"^[%!].*", "", "\n".join("".join(cell) for cell in cells), flags=re.MULTILINE)


@cache
def imports(folder: Path) -> list[Import]:
    """Those of a member's files; not of its own modules, nor of scripts beside a script."""
    found = []
    own = {module_name(table(folder)["project"]["name"])}
    own |= {path.name for path in folder.glob("scripts/python/*")}
    for path in [*folder.rglob("*.py"), *folder.rglob("*.ipynb")]:
        place = path.relative_to(folder)
        text = source(path)
        if re.search("^# /// script", text, re.MULTILINE):
            continue  # dependencies of its own (PEP 723)
        with_dev = any(place.match(pattern) for pattern in WITH_DEV)
        beside = {other.stem for other in path.parent.glob("*.py")} if with_dev else set()
        found += [
            Import(f"{place.as_posix()}:{line}", name, guarded, with_dev)
            for line, name, guarded in imported(text)
            if name not in sys.stdlib_module_names | own | beside
        ]
    return found


@cache
def table(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))


@cache
def modules(name: str) -> set[str]:
    """What can be imported of a distribution; its own name where it is not installed here."""
    try:
        found = distribution(name)
    except PackageNotFoundError:  # a marker or an extra says so
        return {name.replace("-", "_")}
    if (tops := found.read_text("top_level.txt")) is not None:
        return set(tops.split())
    return {re.split("[/.]", str(file))[0] for file in found.files if file.suffix == ".py"}


def provided(requirements: list[str]) -> dict[str, set[str]]:
    """The modules by the name asked for: of the distributions themselves, not what those ask for.

    An extra of a member of the workspace stands for what it asks for.
    """
    found = {}
    for requirement in requirements:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement).groups()
        if name not in MEMBERS:
            found[name] = modules(name)
            continue
        found[name] = {module_name(name)}
        for extra in extras.split(",") if extras else ():
            found |= provided(table(MEMBERS[name])["project"]["optional-dependencies"][extra])
    return found


def asked(folder: Path, kind: str) -> list[str]:
    """The requirements of a member of one kind: dependencies, extras, or groups for developers."""
    project = table(folder)["project"]
    by_name = {
        "dependencies": {"": project["dependencies"]},
        "extras": project.get("optional-dependencies", {}),
        "groups": table(folder).get("dependency-groups", {}),
    }[kind]
    return [requirement for requirements in by_name.values() for requirement in requirements]


def undeclared(folder: Path) -> list[str]:
    """`FILE:LINE: MODULE` of each import that the member in that folder did not ask for."""
    always, if_there, dev = (
        set().union(*provided(asked(folder, kind)).values())
        for kind in ("dependencies", "extras", "groups")
    )
    always |= NOT_ASKED_FOR.get(table(folder)["project"]["name"], set())
    return [
        f"{place}: {name}"
        for place, name, guarded, with_dev in imports(folder)
        if name not in always | (if_there if guarded else set()) | (dev if with_dev else set())
    ]


def idle(folder: Path) -> set[str]:
    """The distributions that the member asks for and imports nowhere."""
    requirements = [*asked(folder, "dependencies"), *asked(folder, "groups")]
    names = {found.name for found in imports(folder)}
    alone = [requirement for requirement in requirements if "[" not in requirement]
    return {name for name, found in provided(alone).items() if not found & names}


@pytest.mark.parametrize("member", MEMBERS)
def test_each_member_asks_for_what_it_imports(member):
    assert not undeclared(MEMBERS[member])


@pytest.mark.parametrize("member", MEMBERS)
def test_and_imports_what_it_asks_for(member):
    assert idle(MEMBERS[member]) <= NOT_IMPORTED


@pytest.mark.parametrize("member", MEMBERS)
def test_every_module_can_be_imported(member):
    """Also what no other test touches. testing.py is left out: it asks for pytest."""
    module = module_name(member)
    code = (
        f"import pkgutil, importlib, {module} as m\n"
        "for found in pkgutil.walk_packages(m.__path__, m.__name__ + '.'):\n"
        "    if found.name != 'trainloop.testing':\n"
        "        print(importlib.import_module(found.name).__name__)"
    )
    done = run_forked(code)
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    assert ("trainloop.run" if member == "trainloop" else f"{module}.train") in names


def test_a_new_project_does_too(tmp_path):
    """What `lab new` makes."""
    for path in new.TEMPLATE.rglob("*.in"):
        target = tmp_path / path.relative_to(new.TEMPLATE).with_suffix("")
        target.parent.mkdir(exist_ok=True)
        text = new.filled(path.read_text("utf-8"), {"project": "zoo", "module": "zoo"})
        target.write_text(text)
    assert len(imports(tmp_path)) > 10
    assert not undeclared(tmp_path)
    assert not idle(tmp_path)


def test_what_is_seen(tmp_path):
    """A member made for it, with every way of importing."""
    files = {
        "pyproject.toml": """
            project.name = "zoo"
            project.dependencies = ["numpy>=2", "scikit-learn", "trainloop", "tqdm; 1 > 2"]
            project.optional-dependencies.fast = ["not-installed"]
            dependency-groups.dev = ["scipy", "trainloop[test]"]""",
        "zoo/good.py": """
            import os.path, numpy.linalg, zoo.bad
            from sklearn import datasets
            from . import bad
            def late():
                import trainloop.run
            try:
                import not_installed
            except (KeyError, ImportError):
                not_installed = None""",
        "zoo/bad.py": """
            import torch.nn
            import pytest
            from mnist.data import load
            import not_installed
            import good
            def late():
                if os:
                    from PIL import Image
            try:
                import yaml
            except ModuleNotFoundError:
                import simplejson
            except KeyError:
                importlib.import_module("rich.table")
                importlib.import_module(".good", "zoo")""",
        "tests/test_good.py": "import pytest, scipy, hypothesis, zoo.good, helper",
        "tests/test_bad.py": f"import torch; pytest.{'importorskip'}('lxml.etree')",
        "tests/helper.py": "",
        "benchmarks/alone.py": "# /// script\nimport anything",
        "notebooks/zoo.ipynb": json.dumps(
            {"cells": [{"cell_type": "code", "source": ["%matplotlib\n", "import pandas"]}]}
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(re.sub(r"^ {12}", "", text, flags=re.MULTILINE))
    seen = [re.sub(r":\d+:", "", found) for found in sorted(undeclared(tmp_path))]
    bad = ("torch", "pytest", "mnist", "not_installed", "good", "PIL", "yaml", "simplejson", "rich")
    assert sorted(seen) == sorted(
        [*(f"zoo/bad.py {name}" for name in bad), "tests/test_bad.py torch",
         "tests/test_bad.py lxml", "notebooks/zoo.ipynb pandas"]
    )  # fmt: skip
    assert idle(tmp_path) == {"tqdm"}
