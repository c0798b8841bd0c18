"""`lab report`: every run on one page that opens from disk and asks nothing of the network.

Python collects what the run folders hold; report.html, the page, draws it. What the runs hold goes
into it as JSON without a `<`, and the page's script puts it on screen as text, never as HTML, so a
run may be called anything. Nothing here imports torch.
"""

import base64
import io
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

from trainloop.done_when import Criterion, criteria, headline, judge, recorded
from trainloop.folder import current_commit, now, read_json, state
from trainloop.paths import project_folders, run_folders, workspace_root

PAGE = Path(__file__).with_name("report.html")
CURVE_POINTS = 200
PICTURED_RUNS = 4  # of each project, the newest that have pictures
PICTURES = 6  # of each run
WIDTH = 1000  # pixels; wider pictures are scaled down to it
PICTURE_BYTES = 800_000  # a picture that is larger even so is left out
ALL_BYTES = 18_000_000  # of all pictures; a third more in base64, so the page stays below 30 MB


@dataclass
class Pictures:
    """What was embedded and what was not, to be said on the page."""

    embedded: int = 0
    found: int = 0
    size: int = 0


def write_report(out: Path, projects: Iterable[str]) -> tuple[int, Pictures]:
    """Write the page about these projects to `out`. Returns the number of runs and the pictures."""
    from trainloop.checkpoint import write_text

    page, runs, pictures = report(list(projects))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    return runs, pictures


def report(projects: list[str]) -> tuple[str, int, Pictures]:
    """The page as text, the number of runs on it, and its pictures."""
    folders = project_folders()
    about, runs, unreadable = [], [], 0
    for project in projects:
        asked = criteria(project)
        summaries = recorded(project)
        about.append(
            {
                "name": project,
                "folder": folders[project].relative_to(workspace_root()).as_posix(),
                "done_when": [_criterion(c, summaries) for c in asked],
            }
        )
        for folder in run_folders(project):
            try:
                runs.append(_run(project, folder, asked))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                unreadable += 1  # no run, or damaged: said on the page
    pictures = _add_pictures(runs)
    runs.sort(key=lambda run: run["started"], reverse=True)
    places = {id(run): place for place, run in enumerate(runs)}
    for entry in about:
        entry["cover"] = next((places[id(r)] for r in _best_looking(runs, entry["name"])), None)
    data = {
        "made": now(),
        "commit": current_commit(),
        "projects": about,
        "runs": [{k: v for k, v in run.items() if k != "path"} for run in runs],
        "learning": _learning(workspace_root() / "LEARNING.md", projects),
        "unreadable": unreadable,
        "pictures": {"embedded": pictures.embedded, "found": pictures.found,
                     "runs": PICTURED_RUNS, "each": PICTURES},
    }  # fmt: skip
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return PAGE.read_text("utf-8").replace("{{data}}", text, 1), len(runs), pictures


def _criterion(criterion: Criterion, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of the done-when table."""
    verdict = judge(criterion, summaries)
    return {"id": criterion.id, "text": criterion.text, "metric": criterion.metric,
            "bound": criterion.bound, "measured": verdict.measured, "met": verdict.met,
            "runs": verdict.runs}  # fmt: skip


def _run(project: str, folder: Path, asked: list[Criterion]) -> dict[str, Any]:
    """What the page shows of a run, without its pictures; raises where it is no run."""
    about = read_json(folder / "config.json")
    curves = _curves(folder / "metrics.jsonl")
    summary = folder / "summary.json"
    finished = summary.exists()
    metrics = read_json(summary)["metrics"] if finished else {
        name: values[-1] for name, (_, values) in curves.items()
    }  # fmt: skip
    timing = folder / "timing.jsonl"
    seconds = metrics.get("wall_seconds")
    if seconds is None and timing.is_file() and (lines := timing.read_text("utf-8").splitlines()):
        seconds = json.loads(lines[-1])["wall_seconds"]
    return {
        "path": folder,
        "project": project,
        "name": folder.name,
        "command": str(about["command"]),
        "started": str(about["started"]),
        "state": state(folder),
        "finished": finished,
        "config": _finite(dict(about["config"])),
        "overrides": _finite(dict(about["overrides"])),
        "seed": about["config"].get("seed"),
        "commit": str(about.get("commit", "")),
        "device": str(about.get("device", "")),
        "torch": str(about.get("torch", "")),
        "seconds": seconds,
        "headline": headline(asked, metrics),
        "metrics": _finite(dict(metrics)),
        "curves": {
            name: thinned(steps, values)
            for name, (steps, values) in curves.items()
            if len(steps) > 1
        },
        "pictures": [],
    }


def _curves(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values of each metric; of a run that goes on the last line may be half there."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
            step = record.pop("step")
        except (ValueError, KeyError, AttributeError):
            continue
        for name, value in record.items():
            if isinstance(value, int | float) and math.isfinite(value):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(step)
                values.append(float(value))
    return curves


def thinned(steps: list[int], values: list[float]) -> tuple[list[int], list[float]]:
    """At most CURVE_POINTS points: of each stretch its lowest and its highest, so spikes stay."""
    chosen: Iterable[int] = range(len(steps))
    if len(steps) > CURVE_POINTS:
        cuts = [len(steps) * i // (CURVE_POINTS // 2) for i in range(CURVE_POINTS // 2 + 1)]
        chosen = []
        for start, end in pairwise(cuts):
            stretch = values[start:end]
            chosen += sorted({start + stretch.index(f(stretch)) for f in (min, max)})
    return [steps[i] for i in chosen], [float(f"{values[i]:.5g}") for i in chosen]


# --- pictures -----------------------------------------------------------------------------------


def _add_pictures(runs: list[dict[str, Any]]) -> Pictures:
    """Embed pictures of the newest runs of each project, the projects taking turns."""
    by_project: dict[str, list[tuple[dict[str, Any], list[Path]]]] = {}
    counted = Pictures()
    for run in runs:  # newest first within a project
        files = sorted(p for p in run["path"].iterdir() if p.suffix in (".png", ".gif"))
        files = [p for p in files if p.name != "curves.png"]  # the page draws them itself
        counted.found += len(files)
        if files:
            by_project.setdefault(run["project"], []).append((run, files[:PICTURES]))
    for turn in zip_longest(*(found[:PICTURED_RUNS] for found in by_project.values())):
        for run, files in filter(None, turn):
            for file in files:
                kind, content = _encoded(file)
                if content and counted.size + len(content) <= ALL_BYTES:
                    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
                    run["pictures"].append({"name": file.name, "src": source})
                    counted.embedded += 1
                    counted.size += len(content)
    return counted


def _encoded(file: Path) -> tuple[str, bytes]:
    """Kind and bytes of a picture, scaled down if it is large; no bytes where it is none."""
    from PIL import Image

    content = file.read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width > 2 * WIDTH or len(content) > PICTURE_BYTES // 2:
                if getattr(image, "is_animated", False) and len(content) <= PICTURE_BYTES:
                    return "gif", content  # its frames are the point of it
                image = image.convert("RGBA")
                image.thumbnail((WIDTH, 4 * WIDTH))
                buffer = io.BytesIO()
                image.save(buffer, "webp", quality=85, method=2)
                content = buffer.getvalue()
            kind = Image.open(io.BytesIO(content)).format.lower()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "", b""
    return kind, content if len(content) <= PICTURE_BYTES else b""


def _best_looking(runs: list[dict[str, Any]], project: str) -> list[dict[str, Any]]:
    """The project's runs with a picture: default trainings first, then others, newest first."""
    found = [run for run in runs if run["project"] == project and run["pictures"]]
    return sorted(found, key=lambda run: (run["command"] != "train", bool(run["overrides"])))


# --- words --------------------------------------------------------------------------------------


def _learning(path: Path, projects: list[str]) -> list[dict[str, Any]]:
    """Entries of LEARNING.md, newest first, each with the projects that its title names."""
    text = path.read_text("utf-8") if path.is_file() else ""
    entries = []
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        named = [p for p in projects if re.search(rf"(?<![\w-]){re.escape(p)}(?![\w-])", title)]
        entries.append({"title": title.strip(), "text": body.strip(), "projects": named})
    return entries[::-1]


def _finite(value: Any) -> Any:
    """The same without NaN and infinities, which JSON lacks: they become words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
