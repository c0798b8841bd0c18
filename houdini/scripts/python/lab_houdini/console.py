"""What the command lines here have in common: one line for a mistake, the seam, saving."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from lab_houdini.plan import Plan
from lab_houdini.table import SceneError


class Parser(argparse.ArgumentParser):
    """Raises SystemExit(2), after one line, where the command line makes no sense."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; --help lists the options\n")


def told(job: Callable[[], None]) -> int:
    """Do a job; 0, or 2 after one line for what the user can mend."""
    try:
        job()
    except SceneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `build_scene.py --dry-run | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def build(seam: ModuleType, plan: Plan, hip: Path, overwrite: bool) -> Path:
    """Build and save: the plan's files are named from where the scene is."""
    there = [hip.with_suffix(end) for end in (".hip", ".hiplc", ".hipnc")]  # licences differ
    if not overwrite and (old := [path for path in there if path.exists()]):
        raise SceneError(f"there is a scene {old[0]} already: name another, or add --overwrite")
    seam.build(plan)
    saved: Path = seam.save(hip)
    return saved


def load_seam() -> ModuleType:
    """The module that imports `hou`.

    Raises:
        SceneError: this is no Houdini.
    """
    try:
        from lab_houdini import seam
    except ImportError as error:
        if error.name != "hou":
            raise
        raise SceneError("no Houdini here: run this with hython, or add --dry-run") from error
    return seam
