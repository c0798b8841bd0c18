"""Where things lie: the workspace, its data, its runs, and each project's pyproject.toml."""

import os
import tomllib
from functools import cache
from pathlib import Path


@cache
def workspace_root() -> Path:
    """The folder of the workspace's pyproject.toml; the current folder where there is none.

    Looked up from this file, not from the current folder, so that commands work from anywhere.
    """
    for folder in Path(__file__).resolve().parents:
        pyproject = folder / "pyproject.toml"
        if pyproject.is_file() and "[tool.uv.workspace]" in pyproject.read_text("utf-8"):
            return folder
    return Path.cwd()


def runs_dir() -> Path:
    """Where run folders are written: $LAB_RUNS, or `runs/` in the workspace."""
    return Path(os.environ.get("LAB_RUNS") or workspace_root() / "runs").absolute()


def run_folders(project: str) -> list[Path]:
    """The project's run folders, newest first; without the link `latest`."""
    found = (runs_dir() / project).glob("*")
    return sorted((p for p in found if p.is_dir() and not p.is_symlink()), reverse=True)


def data_dir() -> Path:
    """Where data sets are cached: $LAB_DATA, or `data/` in the workspace."""
    return Path(os.environ.get("LAB_DATA") or workspace_root() / "data").absolute()


@cache
def project_folders() -> dict[str, Path]:
    """Every project of the workspace by its package name, in the order of the roadmap."""
    root = workspace_root()
    folders = [
        *sorted((root / "projects").glob("*/pyproject.toml")),
        root / "houdini/pyproject.toml",
    ]
    return {
        tomllib.loads(path.read_text("utf-8"))["project"]["name"]: path.parent
        for path in folders
        if path.is_file()
    }


def module_name(project: str) -> str:
    """The Python module of a project: what its build backend names, else its own with underscores.

    houdini's is `houdini_bridge`: a module `houdini` would stand in the way of Houdini's own.
    """
    if (folder := project_folders().get(project)) is not None:
        tool = tomllib.loads((folder / "pyproject.toml").read_text("utf-8")).get("tool", {})
        named = tool.get("uv", {}).get("build-backend", {}).get("module-name")
        if named is not None:
            return named
    return project.replace("-", "_")
