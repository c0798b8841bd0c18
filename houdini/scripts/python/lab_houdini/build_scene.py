"""Builds the scene of a jitter table: `hython build_scene.py --table FOLDER`.

Runs in Houdini's Python, where none of the lab's packages are; `--dry-run` runs anywhere.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a file: the package's folder is the path's first entry then
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from lab_houdini import table
from lab_houdini.console import Parser, build, load_seam, told
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


def parse(argv: list[str]) -> Arguments:
    """The command line. Raises SystemExit(2), after one line, where it makes no sense."""
    parser = Parser("build_scene.py", description=__doc__)
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

    def job() -> None:
        plan = planned(arguments)
        if arguments.dry_run:
            print(listing(plan), flush=True)
            return
        seam = load_seam()
        saved = build(seam, plan, hip_of(arguments), arguments.overwrite)
        print(f"built {len(plan.nodes)} nodes, saved {saved}")
        if arguments.cook:
            seam.cook(plan)
            print(f"rendered {len(plan.sheets)} sheets and cut them")

    return told(job)


def from_shelf() -> None:
    """The shelf tool: asks for a table, builds its scene into the open one, and saves that."""
    seam = load_seam()
    chosen = seam.ask_for("The jitter table (table.csv)", "*.csv")
    if chosen is None:
        return
    try:
        arguments = Arguments(chosen)
        plan = planned(arguments)
        hip = build(seam, plan, hip_of(arguments), overwrite=False)
        seam.tell(f"Built {len(plan.nodes)} nodes, saved {hip}. To render, cook {plan.cook}.")
    except SceneError as error:
        seam.tell(str(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
