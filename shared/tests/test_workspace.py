"""The workspace itself: its members, its one environment, its lock file."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from trainloop.done_when import criteria
from trainloop.paths import module_name, project_folders, workspace_root

ROOT = workspace_root()
ROOT_TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECTS = project_folders()
UV = os.environ.get("UV") or shutil.which("uv")

needs_uv = pytest.mark.skipif(UV is None, reason="uv is not on PATH")


def uv(*words: str, cwd: Path = ROOT) -> str:
    """What a uv command prints; VIRTUAL_ENV is ours and would be warned about."""
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    done = subprocess.run(
        [UV, *words], cwd=cwd, capture_output=True, text=True, env={**environment, "COLUMNS": "100"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("project", PROJECTS)
def test_every_project_is_the_same_house(project):
    folder = PROJECTS[project]
    table = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    module = module_name(project)
    assert table["project"]["scripts"]["train"] == f"{module}.cli:train"
    assert "trainloop[test]" in table["dependency-groups"]["dev"]
    assert (folder / module / "train.py").is_file()
    assert list((folder / "tests").glob("test_*.py"))
    readme = (folder / "README.md").read_text("utf-8")
    assert f"uv run --package {project} train" in readme
    assert "## Done when" in readme
    assert criteria(project), "no done-when in its pyproject.toml"
    roadmap = (ROOT / "ROADMAP.md").read_text("utf-8")
    for criterion in criteria(project):
        assert f"] `{project}/{criterion.id}`" in roadmap, "no box in ROADMAP.md"
    assert project in ROOT_TABLE["tool"]["uv"]["reinstall-package"]
    addopts = " ".join(ROOT_TABLE["tool"]["pytest"]["ini_options"]["addopts"])
    assert re.search(rf"--jaxtyping-packages=[\w,.]*\b{module}\b", addopts)
    others = [module_name(name) for name in PROJECTS if name != project]
    for path in (folder / module).rglob("*.py"):
        imports = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text("utf-8"), re.MULTILINE)
        assert not set(imports) & set(others), f"{path} imports another project"


def test_roadmap_has_no_box_of_a_criterion_that_is_gone():
    known = {f"{name}/{criterion.id}" for name in PROJECTS for criterion in criteria(name)}
    roadmap = (ROOT / "ROADMAP.md").read_text("utf-8")
    assert set(re.findall(r"^- \[[ x]\] `([\w-]+/[\w-]+)`", roadmap, re.MULTILINE)) == known


@needs_uv
def test_train_of_each_package_is_its_own(pytestconfig):
    """A, B, A: all bring a script called `train`, into one environment."""
    a, b, *_ = [name for name in PROJECTS if name in ("warmup", "detection")]
    for name in (a, b, a):
        shown = uv("run", "--package", name, "train", "--help")
        code = f"from {name}.cli import train; print(train.__doc__)"
        asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert asked.stdout.strip() in shown, f"`uv run --package {name} train` ran another one"


def packages(lock: Path) -> dict[tuple[str, str], set[str]]:
    """(name, version) -> the hashes of its files."""
    found = {}
    for package in tomllib.loads(lock.read_text("utf-8"))["package"]:
        files = [*package.get("wheels", []), package.get("sdist", {})]
        key = (package["name"], package.get("version", ""))
        found[key] = {file["hash"] for file in files if "hash" in file}
    return found


def neutral_lock() -> str:
    """The lock as git stores it: the committed one, or the work tree's through the filter."""
    script = [sys.executable, str(ROOT / ".ci/neutral_lock.py")]
    lock = (ROOT / "uv.lock").read_text("utf-8")
    return subprocess.run(script, input=lock, capture_output=True, text=True, check=True).stdout


def test_the_committed_lock_names_no_index():
    stored = subprocess.run(["git", "show", ":uv.lock"], cwd=ROOT, capture_output=True, text=True)
    if stored.returncode:
        pytest.skip("no git checkout here")
    assert "registry" in stored.stdout
    assert not re.search(r"https?://|file://", stored.stdout)
    assert "\nmembers = [" not in stored.stdout
    assert stored.stdout == neutral_lock(), "uv.lock differs from what is committed: git add it"


@needs_uv
@pytest.mark.network
def test_completing_the_lock_changes_no_version_and_no_hash(tmp_path):
    """What a fresh clone does before anything else."""
    for path in ["pyproject.toml", ".python-version", "README.md", "shared", "projects", "houdini"]:
        if (ROOT / path).is_dir():
            for found in (ROOT / path).rglob("*"):
                if found.name in ("pyproject.toml", "README.md"):
                    copy = tmp_path / found.relative_to(ROOT)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(found.read_bytes())
        elif (ROOT / path).exists():
            (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    lock = tmp_path / "uv.lock"
    lock.write_text(neutral_lock())
    before = packages(lock)
    uv("lock", cwd=tmp_path)
    assert packages(lock) == before
    assert all(hashes for (name, _), hashes in before.items() if name == "torch")
    assert "http" in lock.read_text(), "and it is complete again"
