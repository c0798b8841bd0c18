"""Builds the scene of a jitter table: `hython build_scene.py --table FOLDER`.

Runs in Houdini's Python, where none of the lab's packages are; `--dry-run` runs anywhere.
"""

import argparse
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NoReturn

if not __package__:  # run as a file: the package's folder is the path's first entry then
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from lab_houdini import table
from lab_houdini.plan import Plan, listing, scene
from lab_houdini.table import SceneError

ROOT = Path(__file__).resolve().parents[4]
"""The checkout, whose `cut` command cuts the sheets."""


@dataclass(frozen=True)
class Arguments:
    """The command line; see `parse` for what each means."""

    table: Path
    hip: Path | None = None
    render_dir: Path | None = None
    output_dir: Path | None = None
    uv: str | None = None
    overwrite: bool = False
    cook: bool = False
    dry_run: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; --help lists the options\n")


def parse(argv: list[str]) -> Arguments:
    """The command line. Raises SystemExit(2), after one line, where it makes no sense."""
    parser = _Parser("build_scene.py", description=__doc__)
    add = parser.add_argument
    add("--table", type=Path, required=True, metavar="PATH", help="table.csv, or its folder")
    add("--hip", type=Path, metavar="PATH", help="the scene (default: beside the table's folder)")
    add("--render-dir", type=Path, metavar="PATH", help="for sheets (default: the table's folder)")
    add("--output-dir", type=Path, metavar="PATH", help="for digits (default: output/ beside it)")
    add("--uv", metavar="COMMAND", help="how to call uv (default: as found on PATH)")
    add("--overwrite", action="store_true", help="replace the scene that is there")
    add("--cook", action="store_true", help="render and cut at once")
    add("--dry-run", action="store_true", help="print the plan; needs no Houdini")
    return Arguments(**vars(parser.parse_args(argv)))


def hip_of(arguments: Arguments) -> Path:
    """Where the scene is saved. A table's folder is `render`; the scene stands beside it."""
    folder = table_folder(arguments)
    return (arguments.hip or folder.parent / "synthetic_digits.hip").absolute()


def table_folder(arguments: Arguments) -> Path:
    path = arguments.table.absolute()
    return path if path.is_dir() else path.parent


def planned(arguments: Arguments) -> Plan:
    """The plan of the command line.

    Raises:
        SceneError: the table cannot be read, or a path would not do.
    """
    rows = table.read(arguments.table)
    folder = table_folder(arguments)
    render_dir = (arguments.render_dir or folder).absolute()
    output_dir = (arguments.output_dir or folder.parent / "output").absolute()
    uv = arguments.uv or shutil.which("uv") or "uv"
    command = [uv, "run", "--project", ROOT, "--package", "houdini", "cut", "--overwrite"]
    folders = ["--render-dir", render_dir, "--output-dir", output_dir]
    return scene(rows, hip_of(arguments), render_dir, [str(part) for part in command + folders])


def main(argv: list[str]) -> int:
    """Do what the command line says; 0, or 2 after one line for what the user can mend."""
    arguments = parse(argv)
    try:
        plan = planned(arguments)
        if arguments.dry_run:
            print(listing(plan), flush=True)
            return 0
        seam = _seam()
        print(f"built {len(plan.nodes)} nodes, saved {_build(seam, plan, arguments)}")
        if arguments.cook:
            seam.cook(plan)
            print(f"rendered {len(plan.sheets)} sheets and cut them")
    except SceneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `build_scene.py --dry-run | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def from_shelf() -> None:
    """The shelf tool: asks for a table, builds its scene into the open one, and saves that."""
    seam = _seam()
    chosen = seam.ask_for_table()
    if chosen is None:
        return
    try:
        arguments = Arguments(chosen)
        plan = planned(arguments)
        hip = _build(seam, plan, arguments)
        seam.tell(f"Built {len(plan.nodes)} nodes, saved {hip}. To render, cook {plan.cook}.")
    except SceneError as error:
        seam.tell(str(error))


def _build(seam: ModuleType, plan: Plan, arguments: Arguments) -> Path:
    """Build and save: the plan's files are named from where the scene is."""
    hip = hip_of(arguments)
    there = [hip.with_suffix(end) for end in (".hip", ".hiplc", ".hipnc")]  # licences differ
    if not arguments.overwrite and (old := [path for path in there if path.exists()]):
        raise SceneError(f"there is a scene {old[0]} already: name another, or add --overwrite")
    seam.build(plan)
    saved: Path = seam.save(hip)
    return saved


def _seam() -> ModuleType:
    try:
        from lab_houdini import seam
    except ImportError as error:
        if error.name != "hou":
            raise
        raise SceneError("no Houdini here: run this with hython, or add --dry-run") from error
    return seam


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
