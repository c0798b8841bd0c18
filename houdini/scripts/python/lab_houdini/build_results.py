"""Builds the scene of an import: `hython build_results.py --result FOLDER --model MODEL.onnx`.

Runs in Houdini's Python, where none of the lab's packages are; `--dry-run` runs anywhere.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a file: the package's folder is the path's first entry then
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from lab_houdini import onnx_file, result
from lab_houdini.console import Parser, build, load_seam, told
from lab_houdini.plan import Plan, listing
from lab_houdini.results_plan import scene
from lab_houdini.table import SceneError


@dataclass(frozen=True)
class Arguments:
    """The command line; see `parse` for what each means."""

    result: Path
    model: Path | None = None
    hip: Path | None = None
    overwrite: bool = False
    dry_run: bool = False


def parse(argv: list[str]) -> Arguments:
    """The command line. Raises SystemExit(2), after one line, where it makes no sense."""
    parser = Parser("build_results.py", description=__doc__)
    add = parser.add_argument
    add("--result", type=Path, required=True, metavar="PATH", help="map2d.json, or its folder")
    add("--model", type=Path, metavar="PATH", help="an .onnx file to run on the images")
    add("--hip", type=Path, metavar="PATH", help="the scene (default: results.hip beside it)")
    add("--overwrite", action="store_true", help="replace the scene that is there")
    add("--dry-run", action="store_true", help="print the plan; needs no Houdini")
    return Arguments(**vars(parser.parse_args(argv)))


def planned(arguments: Arguments) -> tuple[Plan, Path]:
    """The plan of the command line, and where its scene is saved.

    Raises:
        SceneError: the result or the model will not do.
    """
    found = result.read(arguments.result)
    model = onnx_file.classifier(arguments.model.absolute()) if arguments.model else None
    hip = (arguments.hip or found.path.parent / "results.hip").absolute()
    return scene(found, hip, model), hip


def main(argv: list[str]) -> int:
    """Do what the command line says; 0, or 2 after one line for what the user can mend."""
    arguments = parse(argv)

    def job() -> None:
        plan, hip = planned(arguments)
        if arguments.dry_run:
            print(listing(plan), flush=True)
            return
        saved = build(load_seam(), plan, hip, arguments.overwrite)
        print(f"built {len(plan.nodes)} nodes, saved {saved}")

    return told(job)


def from_shelf() -> None:
    """The shelf tool: asks for an import and a model, builds into the open scene, and saves it."""
    seam = load_seam()
    chosen = seam.ask_for("What `import` wrote (map2d.json)", "*.json")
    if chosen is None:
        return
    model = seam.ask_for("The exported model; Cancel for none", "*.onnx")
    try:
        plan, hip = planned(Arguments(chosen, model))
        saved = build(seam, plan, hip, overwrite=False)
        seam.tell(f"Built {len(plan.nodes)} nodes, saved {saved}. Panel: ML Learning Lab Results.")
    except SceneError as error:
        seam.tell(str(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
