"""Done-when: criteria of a project, from its pyproject.toml, held against recorded runs.

[[tool.lab.done-when]]
id = "ap50"
text = "AP50 of at least 0.90 on held-out scenes after the default run"
metric = "test/ap50"          # a key of the run's summary
at-least = 0.90               # or at-most
seeds = 3                     # the mean of that many seeds counts; 1 if left out
with = { data = "toy2d" }     # options of the run; none: the default run
command = "train"             # the command that records it; `train` if left out
ci = false                    # too long for CI: held by `lab check` alone; true if left out
"""

import json
import math
import statistics
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainloop.errors import LabError
from trainloop.paths import project_folders, run_folders


@dataclass(frozen=True)
class Criterion:
    """One line of a project's done-when."""

    project: str
    id: str
    text: str
    metric: str
    at_least: float = -math.inf
    at_most: float = math.inf
    seeds: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    command: str = "train"
    ci: bool = True

    @property
    def bound(self) -> str:
        """The figure asked for, as a person writes it."""
        if self.at_least > -math.inf:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}"


@dataclass(frozen=True)
class Verdict:
    """What recorded runs say of a criterion.

    Attributes:
        values: the metric of each seed that counts, newest run per seed.
        met: None where fewer seeds are recorded than the criterion asks for.
        runs: names of the run folders.
    """

    criterion: Criterion
    values: tuple[float, ...]
    met: bool | None
    runs: tuple[str, ...] = ()

    @property
    def measured(self) -> str:
        if not self.values:
            return "no run"
        mean = statistics.fmean(self.values)
        spread = f" ± {statistics.stdev(self.values):.2g}" if len(self.values) > 1 else ""
        asked = self.criterion.seeds
        seeds = f" ({len(self.values)} of {asked} seeds)" if asked > 1 else ""
        return f"{mean:.4g}{spread}{seeds}"


def criteria(project: str, pyproject: Path | None = None) -> list[Criterion]:
    """The done-when of a project; empty where its pyproject.toml is not at hand (a plain wheel).

    Raises:
        LabError: a criterion lacks a key or has one that means nothing.
    """
    if pyproject is None:
        folder = project_folders().get(project)
        if folder is None:
            return []
        pyproject = folder / "pyproject.toml"
    entries = tomllib.loads(pyproject.read_text("utf-8")).get("tool", {}).get("lab", {})
    found = []
    for entry in entries.get("done-when", []):
        values = {_FIELDS.get(key, key): value for key, value in entry.items()}
        bounds = {k: float(v) for k, v in values.items() if k in ("at_least", "at_most")}
        try:
            criterion = Criterion(project, **{**values, **bounds})
        except TypeError as error:
            raise LabError(f"{pyproject}: done-when {entry.get('id', entry)}: {error}") from None
        if (criterion.at_least == -math.inf) == (criterion.at_most == math.inf):
            raise LabError(f"{pyproject}: done-when {criterion.id} needs at-least or at-most")
        found.append(criterion)
    return found


_FIELDS = {"with": "options", "at-least": "at_least", "at-most": "at_most"}


def recorded(project: str) -> list[dict[str, Any]]:
    """Summaries of the project's finished runs, oldest first; a damaged one is left out."""
    summaries = []
    for folder in reversed(run_folders(project)):
        try:
            summary = json.loads((folder / "summary.json").read_text("utf-8"))
            summaries.append({**summary, "folder": folder.name})
        except (OSError, ValueError):
            continue
    return summaries


def judge(criterion: Criterion, summaries: list[dict[str, Any]]) -> Verdict:
    """Hold a criterion against finished runs of the right command and options.

    The newest run of each seed counts, and of those the newest `seeds` ones: choosing the best
    seeds is not possible. A missing or NaN figure fails.
    """
    newest = {
        summary["config"]["seed"]: summary
        for summary in summaries
        if summary["command"] == criterion.command and summary["overrides"] == criterion.options
    }
    # A dict keeps the place of the first insertion: order by when the run began instead.
    chosen = sorted(newest.values(), key=lambda summary: summary["started"])[-criterion.seeds :]
    values = tuple(_number(summary["metrics"].get(criterion.metric)) for summary in chosen)
    met = None
    if len(values) >= criterion.seeds:
        met = criterion.at_least <= statistics.fmean(values) <= criterion.at_most
    return Verdict(criterion, values, met, tuple(s.get("folder", "") for s in chosen))


def headline(asked: list[Criterion], metrics: dict[str, Any]) -> str:
    """The figures that a project's done-when asks for, else its test figures."""
    names = list(dict.fromkeys(c.metric for c in asked if c.metric in metrics))
    names = names or [name for name in metrics if name.startswith("test/")][:2]
    figures = ((name, metrics[name]) for name in names)
    return ", ".join(f"{k} {v:.4g}" if v is not None else f"{k} undefined" for k, v in figures)


def _number(value: float | int | None) -> float:
    return math.nan if value is None else float(value)


def verdict_table(verdicts: list[Verdict]) -> str:
    """One line a criterion: mark, id, measured, bound, text."""
    marks = {True: "done", False: "NOT MET", None: "open"}
    rows = [
        (marks[v.met], f"{v.criterion.project}/{v.criterion.id}", v.measured, v.criterion.bound)
        for v in verdicts
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        + f"  {verdict.criterion.text}"
        for row, verdict in zip(rows, verdicts, strict=True)
    )
