"""`lab new`: what it makes trains at once, and what it cannot make leaves nothing."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from trainloop import new
from trainloop.done_when import criteria
from trainloop.errors import LabError
from trainloop.forks import run_forked
from trainloop.paths import workspace_root

ROOT = workspace_root()
RUFF = shutil.which("ruff", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")


@pytest.fixture
def skeleton(tmp_path, monkeypatch) -> Path:
    """A copy of what `lab new` reads and edits, with two of the projects."""
    for name in ("pyproject.toml", "ROADMAP.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("projects/70_mnist", "projects/80_playground"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(ROOT / folder / "pyproject.toml", tmp_path / folder)
    monkeypatch.setattr(new, "workspace_root", lambda: tmp_path)
    folders = {"mnist": tmp_path / "projects/70_mnist",
               "playground": tmp_path / "projects/80_playground"}  # fmt: skip
    monkeypatch.setattr(new, "project_folders", lambda: dict(folders))
    return tmp_path


def state(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def run(root: Path, code: str, *words: str) -> subprocess.CompletedProcess:
    """Python in the copied workspace, with its own trainloop and the new project."""
    path = os.pathsep.join(map(str, [root / "shared", *root.glob("projects/9*")]))
    afresh = (
        "import os, sys\n"
        f"os.chdir({str(root)!r})\n"
        "for name in [name for name in sys.modules if name.partition('.')[0] == 'trainloop']:\n"
        "    del sys.modules[name]\n"
    )
    return run_forked(
        afresh + code, *words,
        env={**os.environ, "PYTHONPATH": path, "LAB_RUNS": str(root / "runs"), "COLUMNS": "200",
             "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_new_project_is_green_and_trains_at_once(skeleton):
    """Made by the command, then tested, trained and held to its done-when, as a user would."""
    shutil.copytree(ROOT / "shared/trainloop", skeleton / "shared/trainloop")
    lab = "from trainloop.lab import main; main()"
    done = run(skeleton, lab, "new", "tiny-digits")
    assert done.returncode == 0, done.stderr
    home = skeleton / "projects/90_tiny_digits"
    assert str(home) in done.stdout
    code = (
        "import sys, pytest\n"
        "assert pytest.main(['-q', '-x', '-n0', '-pno:cacheprovider', sys.argv[1]]) == 0\n"
        "from tiny_digits.cli import train\n"
        "sys.argv = ['train']; train()"
    )
    done = run(skeleton, code, str(home))
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "open  tiny-digits/accuracy" in done.stderr, "the done-when table at its end"
    summary = json.loads((skeleton / "runs/tiny-digits/latest/summary.json").read_text())
    assert summary["metrics"]["test/accuracy"] > 0.85


def test_the_house_it_makes(skeleton):
    home = new.make_project("tiny-digits")
    assert home == skeleton / "projects/90_tiny_digits"
    text = (skeleton / "pyproject.toml").read_text()
    table = tomllib.loads(text)
    assert table["tool"]["uv"]["reinstall-package"][-1] == "tiny-digits"
    assert text.count("tiny_digits,beartype.beartype") == 1
    roadmap = (skeleton / "ROADMAP.md").read_text()
    (criterion,) = criteria("tiny-digits", home / "pyproject.toml")
    box = f"- [ ] `tiny-digits/accuracy` {criterion.text}\n"
    assert box in roadmap
    assert roadmap.index("playground/accuracy") < roadmap.index(box) < roadmap.index("## Houdini")
    assert roadmap.replace("\n\n\n", "") == roadmap
    assert not [p for p in home.rglob("*") if p.is_file() and "{{" in p.read_text("utf-8")]
    assert not list(skeleton.glob(".new-*"))


@pytest.mark.skipif(RUFF is None, reason="ruff is not installed")
@pytest.mark.parametrize("name", ["ab", "zoo-of-animals", "a-name-of-24-letters-yes"])
def test_it_is_clean_whatever_its_name(skeleton, name):
    """The order of imports and the breaking of lines depend on it."""
    (skeleton / "shared").symlink_to(ROOT / "shared")  # ruff sorts what it finds there as ours
    home = new.make_project(name)
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [RUFF, *words, "--no-cache", str(home)], cwd=skeleton, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnist", "a project 'mnist' already"), ("trainloop", "already"),
        ("Digits", "is no name"), ("tiny_digits", "is no name"), ("9lives", "is no name"),
        ("../up", "is no name"), ("a--b", "is no name"), ("", "is no name"),
        ("x" * 25, "is no name"), ("naïve", "is no name"), ("import", "means something in Python"),
        ("json", "means something in Python"), ("torch", "depends on"), ("tests", "tests"),
    ],
)  # fmt: skip
def test_names_that_are_refused(skeleton, name, said, monkeypatch):
    if name == "tests":  # whatever can be imported would be hidden, or hide the project
        monkeypatch.setattr(new.importlib.util, "find_spec", lambda module: object())
    before = state(skeleton)
    with pytest.raises(LabError, match=said) as caught:
        new.make_project(name)
    assert "\n" not in str(caught.value)
    assert state(skeleton) == before


def test_a_locked_package_is_refused(skeleton):
    """scikit-learn's module has another name, but a member called so would take its place."""
    (skeleton / "uv.lock").write_text('[[package]]\nname = "scikit-learn"\n')
    with pytest.raises(LabError, match="depends on"):
        new.make_project("scikit-learn")


def test_numbers(skeleton):
    assert new.make_project("first", 5).name == "05_first"
    for number, said in {80: "is taken", 100: "0 to 99", -1: "0 to 99"}.items():
        with pytest.raises(LabError, match=said):
            new.make_project("second", number)


@pytest.mark.parametrize("last", [85, 90, 97, 99])
def test_the_next_number(monkeypatch, last):
    folders = {str(n): Path(f"{n}_x") for n in (0, 5, last)}
    monkeypatch.setattr(new, "project_folders", lambda: {**folders, "houdini": Path("houdini")})
    assert new._free_number(None) == {85: 90, 90: 91, 97: 98, 99: 1}[last]


@pytest.mark.parametrize("broken", ["pyproject.toml", "ROADMAP.md", "rename", "template"])
def test_nothing_half_made_is_left(skeleton, monkeypatch, broken):
    if broken == "pyproject.toml":
        path = skeleton / broken
        path.write_text(path.read_text().replace("reinstall-package = [", "reinstall = ["))
    elif broken == "ROADMAP.md":
        (skeleton / broken).unlink()
    elif broken == "rename":  # a disk that is full, or Ctrl-C, at the last moment

        def fail(self, target):
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "rename", fail)
    else:
        monkeypatch.setattr(new, "criteria", lambda *_: 1 / 0)
    before = state(skeleton)
    with pytest.raises((LabError, KeyboardInterrupt, ZeroDivisionError)):
        new.make_project("tiny-digits")
    assert state(skeleton) == before
    assert sorted(p.name for p in (skeleton / "projects").iterdir()) == [
        "70_mnist", "80_playground"
    ]  # fmt: skip


def test_the_command_refuses_in_one_line():
    command = Path(sys.executable).with_name("lab")
    for words in (["new", "mnist"], ["new", "70"], ["new", "a/b"]):
        done = subprocess.run([command, *words], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
