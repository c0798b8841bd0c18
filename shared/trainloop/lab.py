"""The `lab` command: what was run, what is done, what was learned, what this machine lacks.

Nothing here imports torch before it must: `lab status` answers at once.
"""

import contextlib
import fcntl
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table
from tyro.extras import SubcommandApp

from trainloop.checkpoint import write_text
from trainloop.cli import check as check_that
from trainloop.cli import entry_point
from trainloop.done_when import Verdict, criteria, headline, judge, recorded, verdict_table
from trainloop.errors import LabError
from trainloop.folder import state
from trainloop.paths import data_dir, project_folders, run_folders, runs_dir, workspace_root

app = SubcommandApp()
Project = Annotated[str, tyro.conf.Positional]


@app.command
def status() -> None:
    """A table: project, last run, figures of the last default run, done-when met of how many."""
    table = Table("project", "last run", "state", "figures", "done-when")
    for project in project_folders():
        summaries = recorded(project)
        asked = criteria(project)
        verdicts = [judge(criterion, summaries) for criterion in asked]
        met = sum(verdict.met is True for verdict in verdicts)
        run, state = _last_run(project)
        default = [summary for summary in summaries if not summary["overrides"]]
        figures = headline(asked, default[-1]["metrics"]) if default else ""
        table.add_row(project, run, state, figures, f"{met} of {len(verdicts)}")
    Console().print(table)


@app.command
def check(project: Annotated[str | None, tyro.conf.Positional] = None) -> None:
    """Hold recorded runs against the done-when and tick ROADMAP.md.

    Args:
        project: only this one; all of them if left out. Exit code 0 only if every criterion holds.
    """
    projects = [_known(project)] if project else list(project_folders())
    verdicts = [judge(c, recorded(name)) for name in projects for c in criteria(name)]
    print(verdict_table(verdicts))
    tick(workspace_root() / "ROADMAP.md", verdicts)
    if not all(verdict.met for verdict in verdicts):
        raise SystemExit(1)


@app.command
def learn(project: Project, worked: str = "", failed: str = "", surprised: str = "") -> None:
    """Append a dated entry to LEARNING.md, with the newest run's figures; no flags: $EDITOR opens.

    Args:
        project: whose run it was.
        worked: what worked, with figures.
        failed: what did not, with figures: a negative result saves somebody an evening.
        surprised: what you did not expect.
    """
    summaries = recorded(_known(project))
    entry = learning_entry(project, summaries[-1] if summaries else None, worked, failed, surprised)
    if not (worked or failed or surprised):
        entry = _edited(entry)
    path = workspace_root() / "LEARNING.md"
    append(path, entry)
    print(f"appended to {path}")


@app.command
def report(out: Path | None = None, project: str | None = None) -> None:
    """Put all runs on one page to look through and compare: an HTML file that opens from disk.

    Args:
        out: the file; left out: report.html in the folder of the runs.
        project: only this one's runs; left out: those of all.
    """
    from trainloop.report import write_report

    path = runs_dir() / "report.html" if out is None else out
    check_that(not path.is_dir(), f"--out {path} is a folder: name a file")
    projects = [_known(project)] if project else list(project_folders())
    runs, pictures = write_report(path, projects)
    print(
        f"{runs} runs and {pictures.embedded} of {pictures.found} pictures on "
        f"{path} ({path.stat().st_size / 1e6:.1f} MB)"
    )


@app.command
def new(name: Project, number: int | None = None) -> None:
    """Make a project of the same house as the others from a template; its training works at once.

    Args:
        name: of its package: small letters, digits, hyphens.
        number: of its phase; left out: the next ten after the last one.
    """
    from trainloop.new import make_project

    home = make_project(name, number)
    print(
        f"made {home} and named it in pyproject.toml and ROADMAP.md. Now\n"
        f"    uv run --package {name} train\n"
        f"    uv run --package {name} pytest {home.relative_to(workspace_root())}\n"
        f"    uv run lab check {name}\n"
        "and add its row to the table in README.md once there is a figure to put into it."
    )


@app.command
def fetch(dataset: Annotated[str | None, tyro.conf.Positional] = None) -> None:
    """Get a data set ahead of time; with no name, list them.

    Args:
        dataset: its name.
    """
    from trainloop.datasets import DATASETS, is_present
    from trainloop.datasets import fetch as get

    if dataset is not None:
        print(get(dataset))
        return
    table = Table("data set", "what", "size", "here")
    for name, about in DATASETS.items():
        table.add_row(name, about.description, about.size, "yes" if is_present(name) else "")
    Console().print(table)


@app.command
def doctor() -> None:
    """Look for what would keep a project from running well, and say what to do about it."""
    marks = {"ok": "[green]ok  [/]", "note": "[yellow]note[/]", "bad": "[red]bad [/]"}
    console = Console(soft_wrap=True, highlight=False)
    found = [*torch_findings(), *machine_findings(), *data_findings()]
    for level, text in found:
        console.print(f"{marks[level]} {text}")
    if any(level == "bad" for level, _ in found):
        raise SystemExit(1)


# --- status and check ---------------------------------------------------------------------------


def _known(project: str) -> str:
    """The project's name; its folder's name or number does too."""
    folders = project_folders()
    for name, folder in folders.items():
        if project in (name, folder.name, folder.name.split("_")[0]):
            return name
    raise LabError(f"no project {project!r}: there are {', '.join(folders)}")


def _last_run(project: str) -> tuple[str, str]:
    """Name and state of the newest run folder."""
    for folder in run_folders(project):
        with contextlib.suppress(OSError, ValueError, KeyError):
            return folder.name, state(folder)
    return "", "never run"


def tick(roadmap: Path, verdicts: list[Verdict]) -> None:
    """Set the boxes `- [ ] `project/id` ...` of the roadmap to what the runs show.

    A criterion without enough runs here keeps its box: another machine may have ticked it.
    """
    if not roadmap.is_file():
        raise LabError(f"{roadmap} is missing: it holds the boxes to tick")
    text = before = roadmap.read_text("utf-8")
    for verdict in verdicts:
        name = f"{verdict.criterion.project}/{verdict.criterion.id}"
        box = re.compile(rf"^(\s*- )\[[ x]\]( `{re.escape(name)}`)", re.MULTILINE)
        if not box.search(text):
            raise LabError(f"{roadmap} has no line '- [ ] `{name}` ...': add it under its phase")
        if verdict.met is not None:
            text = box.sub(rf"\g<1>[{'x' if verdict.met else ' '}]\g<2>", text)
    if text != before:
        write_text(roadmap, text)


# --- learn --------------------------------------------------------------------------------------


def learning_entry(
    project: str, summary: dict[str, Any] | None, worked: str, failed: str, surprised: str
) -> str:
    """The entry as markdown; parts that were not given are left out, unless none was."""
    lines = [f"## {date.today()} · {project}", ""]
    if summary:
        seconds = summary["metrics"].get("wall_seconds") or 0
        lines += [
            f"Run `{summary['folder']}` at `{summary['commit'] or 'no commit'}`: "
            f"{headline(criteria(project), summary['metrics'])} "
            f"(seed {summary['config']['seed']}, {seconds:.0f} s)",
            "",
        ]
    parts = {"Worked": worked, "Failed": failed, "Surprised": surprised}
    given = {name: text for name, text in parts.items() if text} or parts
    return "\n".join(lines + [f"- **{name}**: {text}" for name, text in given.items()]) + "\n"


def _edited(entry: str) -> str:
    """The entry as the person leaves it in $EDITOR."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise LabError("say --worked, --failed or --surprised, or set $EDITOR to write the entry")
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "entry.md"
        draft.write_text(entry, "utf-8")
        status = subprocess.run([*shlex.split(editor), str(draft)], check=False).returncode
        edited = draft.read_text("utf-8").strip()
    if status != 0 or not edited or edited == entry.strip():
        raise LabError("the editor left the entry as it was: nothing appended")
    return edited + "\n"


def append(path: Path, entry: str) -> None:
    """Add an entry to the end of a file: whole, and after those of other processes."""
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("\n" + entry)  # closing writes it, then lets the lock go


# --- doctor -------------------------------------------------------------------------------------

Finding = tuple[Literal["ok", "note", "bad"], str]


def torch_findings() -> list[Finding]:
    """Does this build of torch fit the machine's GPU?"""
    import torch

    from trainloop.device import gpu_is_supported

    version = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name(0)
        capability = "sm_{}{}".format(*torch.cuda.get_device_capability(0))
        if not gpu_is_supported():
            known = " ".join(torch.cuda.get_arch_list())
            return [
                (
                    "bad",
                    f"{version} has no code for {name} ({capability}; it has {known}): change the "
                    "constraint in the root pyproject.toml as its comment says",
                )
            ]
        found: list[Finding] = [("ok", f"{version} fits {name} ({capability})")]
        if torch.cuda.get_device_capability(0) < (8, 0):
            found.append(("note", f"{name} has no fast bf16: use --precision fp32 or fp16"))
        return found
    if torch.backends.mps.is_available():
        return [("ok", f"{version} on Apple's GPU (mps)")]
    if shutil.which("nvidia-smi"):
        return [("bad", f"{version} sees no GPU although there is a driver: run nvidia-smi")]
    return [("ok", f"{version} on the CPU; no GPU found, and none is needed")]


def machine_findings() -> list[Finding]:
    """Cores, disk, editor."""
    import torch

    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    found: list[Finding] = [("ok", f"{cores} CPU cores, torch uses {threads}")]
    if threads < cores:
        found = [("note", f"torch uses {threads} of {cores} cores: unset OMP_NUM_THREADS")]
    for what, folder in {"runs": runs_dir(), "data": data_dir()}.items():
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(existing).free / 2**30
        if not os.access(existing, os.W_OK):
            found.append(("bad", f"{folder} cannot be written: set LAB_{what.upper()}"))
        elif free < 2:
            found.append(("bad", f"{free:.1f} GiB free for {folder}: make room"))
        else:
            found.append(("ok", f"{free:.0f} GiB free for {folder}"))
    if not (os.environ.get("VISUAL") or os.environ.get("EDITOR")):
        found.append(("note", "$EDITOR is not set: `lab learn` then needs --worked and the like"))
    if importlib.util.find_spec("pytest") is None:
        found.append(("note", "pytest is not installed: run with `uv run`, not with `python`"))
    return found


def data_findings() -> list[Finding]:
    """Which data sets are here already."""
    from trainloop.datasets import DATASETS, is_present

    here = [name for name in DATASETS if is_present(name)]
    absent = [name for name in DATASETS if name not in here]
    found: list[Finding] = [("ok", f"data here: {', '.join(here) or 'none'}")]
    if absent:
        names = ", ".join(absent)
        found.append(("note", f"fetched when first used, or by `lab fetch NAME`: {names}"))
    return found


@entry_point
def main() -> None:
    """Look after the lab: runs, done-when, the learning log, data sets, this machine."""
    app.cli(prog="lab", description=main.__doc__, config=(tyro.conf.FlagCreatePairsOff,))
