"""Many seeds side by side, each in its own process; then what may be said."""

import csv
import io
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from active_learning.config import (
    CONTROLS,
    CompareConfig,
    CurveConfig,
    StudyConfig,
    TrainConfig,
)
from active_learning.detector import fit
from active_learning.pictures import draw_curves
from active_learning.protocol import START, load_splits
from active_learning.scenes import Frames
from active_learning.statistics import (
    Comparison,
    Curves,
    compare_curves,
    pair,
    sentence,
    verdict,
)
from trainloop import Run, atomic_write, check, progress_bar, runs_dir, train_all
from trainloop.folder import read_json
from trainloop.paths import run_folders

PROJECT = "active-learning"
UNITS = ("frames", "boxes")
NO_SETTING = ("strategies", "seed", "device", "resume")
"""Options of `curve` that two curves need not share to be held against each other."""


def study(config: StudyConfig) -> dict[str, float | int | None] | None:
    """All strategies asked for, with all seeds; with --background in a process of its own."""
    if config.background:
        return go_on_without_terminal()
    return run_study(config, "study")


def run_study(config: TrainConfig, command: str) -> dict[str, float | int | None]:
    """Run the curves, two or as many seeds at a time as there are cores; compare; draw.

    A seed is a process: it imports torch once, renders the pool once, and its strategies share the
    first training. Stopped and resumed it loses the training that was cut, at most.

    Raises:
        LabError: the pool is missing or too small, or there is nothing to resume.
    """
    config = Run.options(PROJECT, config, command)
    pool, _ = load_splits(config)
    run = Run.open(PROJECT, config, command)
    run.resume()
    seeds = range(config.seed, config.seed + config.seeds)
    jobs = {f"seed-{seed}": [*curve_options(config), f"--seed={seed}"] for seed in seeds}
    workers = min(config.workers or len(os.sched_getaffinity(0)), len(jobs))
    print(plan(config, pool, run.device, workers), file=sys.stderr, flush=True)
    with cells_bar(run.folder / "trainings", config):
        trained = train_all(run, jobs, config.workers, "curve")

    curves = gather([training.folder for training in trained.values()])
    atomic_write(run.folder / "rows.csv", lambda file: file.write(rows_csv(curves).encode()))
    found = comparisons(curves, config.target)
    text = report(curves, found)
    print(text)
    atomic_write(run.folder / "study.md", lambda file: file.write(text.encode()))
    run.picture(
        "learning", draw_curves(curves, f"{config.data or config.pool}, {len(seeds)} seeds")
    )
    from active_learning.picks import look

    look(run, config, trained[f"seed-{config.seed}"].folder)
    run.log(run.total, **figures(curves, found))
    return run.finish(trainings=config.trainings * len(seeds))


def go_on_without_terminal() -> None:
    """Run the same command in a session of its own, without --background."""
    log = runs_dir() / PROJECT / "study.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [word for word in sys.argv[1:] if word != "--background"]
    code = "from active_learning.cli import study; study()"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    print(f"process {process.pid} goes on; watch {log}, stop with `kill {process.pid}`, go on with")
    print(f"`uv run --package {PROJECT} study --resume --background`")


def curve_options(config: TrainConfig) -> list[str]:
    """What every curve is given: the study's options that a curve has, where not the default."""
    words = []
    for field in fields(CurveConfig):
        value = getattr(config, field.name)
        if field.name in ("seed", "device", "resume") or value == field.default:
            continue
        several = value if isinstance(value, tuple) else (value,)
        words += [f"--{field.name.replace('_', '-')}", *map(str, several)]
    return words


def plan(config: TrainConfig, pool: Frames, device: torch.device, workers: int) -> str:
    """How long it will take, from a few steps of a training on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))
    times: list[float] = []
    probe = type(config)(**{**asdict(config), "steps": 12, "resume": False})
    fit(pool.take(torch.arange(min(64, len(pool)))), probe, device, 0,
        lambda *_: times.append(time.perf_counter()))  # fmt: skip
    torch.set_num_threads(threads)
    step = (times[-1] - times[3]) / (len(times) - 4)
    each = step * config.steps + 1.0  # and a second for looking at test and pool
    total = each * config.trainings * -(-config.seeds // workers)
    return (
        f"{config.seeds} seeds x {config.trainings} trainings of {config.steps} steps, about "
        f"{each:.0f} s each, {workers} at a time: about {total / 60:.0f} min"
    )


@contextmanager
def cells_bar(home: Path, config: TrainConfig) -> Iterator[None]:
    """A bar of trainings over all seeds, by counting the lines that they write."""
    done = threading.Event()
    lines = config.rounds * len(config.strategies) + 1
    bar = progress_bar(lines * config.seeds, "round", "rounds of all seeds")

    def count() -> int:
        files = home.glob(f"*/{PROJECT}/*/metrics.jsonl")
        return sum(file.read_bytes().count(b"\n") for file in files if not file.parent.is_symlink())

    def watch() -> None:
        while not done.wait(1.0):
            bar.update(count() - bar.n)

    bar.update(count())
    bar.initial = bar.n  # what was there before says nothing about the rate
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        bar.update(count() - bar.n)
        bar.close()


# --- reading -------------------------------------------------------------------------------------


def gather(folders: list[Path]) -> dict[str, Curves]:
    """The complete curves of some runs of `curve`; of a strategy and seed the last one counts."""
    found: dict[str, dict[int, list[list[float]]]] = {}
    for folder in folders:
        config = read_json(folder / "config.json")["config"]
        rows = read_rows(folder / "metrics.jsonl", config["strategies"])
        for name in config["strategies"]:
            points = rows.get(START, []) + rows.get(name, [])
            if len(points) == config["rounds"] + 1:
                found.setdefault(name, {})[config["seed"]] = points
    curves = {}
    for name, of_seed in found.items():
        seeds = tuple(sorted(of_seed))
        table = torch.tensor([of_seed[seed] for seed in seeds], dtype=torch.double).numpy()
        curves[name] = Curves(seeds, *(table[..., i] for i in range(3)))
    return curves


def read_rows(path: Path, strategies: list[str]) -> dict[str, list[list[float]]]:
    """Frames, boxes and AP50 of each round by strategy, in the order of the rounds."""
    names = [*strategies, START]  # start is number -1
    rows: dict[str, list[list[float]]] = {}
    for line in path.read_text("utf-8").splitlines():
        record = json.loads(line)
        point = [record[key] for key in ("frames", "boxes", "ap50")]
        rows.setdefault(names[int(record["strategy"])], []).append(point)
    return rows


def recorded_curves() -> list[tuple[Path, dict[str, Any]]]:
    """Every run of `curve`, on its own or within a study, newest first, and its setting."""
    found = []
    for folder in run_folders(PROJECT):
        homes = [folder, *sorted(folder.glob(f"trainings/*/{PROJECT}/*"))]
        for home in homes:
            try:
                about = read_json(home / "config.json")
            except (OSError, ValueError):
                continue
            if about["command"] == "curve" and not home.is_symlink():
                setting = {k: v for k, v in about["config"].items() if k not in NO_SETTING}
                found.append((home, setting))
    return found


# --- saying --------------------------------------------------------------------------------------


def comparisons(
    curves: dict[str, Curves], target: float = 0.0
) -> dict[tuple[str, str], dict[str, Comparison]]:
    """Every strategy against every control that is there, by frames and by boxes."""
    return {
        (name, control): {
            unit: compare_curves(curves[name], curves[control], unit, target) for unit in UNITS
        }
        for name in curves
        for control in CONTROLS
        if control in curves and name != control
    }


def report(curves: dict[str, Curves], found: dict[tuple[str, str], dict[str, Comparison]]) -> str:
    """Markdown: how each strategy ended, how it compares, and what may be concluded."""
    lines = ["| strategy | seeds | frames | boxes | AP50 at the end |", "|---|---|---|---|---|"]
    for name, c in curves.items():
        spread = f" ± {c.ap50[:, -1].std(ddof=1):.3f}" if len(c.seeds) > 1 else ""
        lines.append(
            f"| {name} | {len(c.seeds)} | {c.frames[:, -1].mean():.0f} "
            f"| {c.boxes[:, -1].mean():.0f} | {c.ap50[:, -1].mean():.3f}{spread} |"
        )
    lines.append("")
    for (name, control), by_unit in found.items():
        for comparison in by_unit.values():
            area = comparison.area
            lines.append(
                f"- {sentence(name, control, comparison)}; AP50 {area.value:+.3f} on average "
                f"[{area.low:+.3f}, {area.high:+.3f}], ahead in {comparison.wins:.0%} of "
                f"{comparison.seeds} seeds"
            )
    lines.append("")
    for name in curves:
        against = [found[name, control] for control in CONTROLS if (name, control) in found]
        if len(against) == len(CONTROLS):
            lines.append(verdict(name, *([by[unit] for by in against] for unit in UNITS)))
    few = min(len(c.seeds) for c in curves.values())
    if few < 10:
        lines.append(f"\nWith {few} seeds this is a hint; a claim needs 10 (`study`).")
    return "\n".join(lines) + "\n"


def figures(
    curves: dict[str, Curves], found: dict[tuple[str, str], dict[str, Comparison]]
) -> dict[str, float | None]:
    """What the study's summary holds, by name."""
    values: dict[str, float | None] = {}
    for name, c in curves.items():
        values[f"{name}/ap50"] = float(c.ap50[:, -1].mean())
        values[f"{name}/boxes"] = float(c.boxes[:, -1].mean())
    for (name, control), by_unit in found.items():
        for unit, comparison in by_unit.items():
            ratio = dict(zip(("", "_low", "_high"), comparison.ratio, strict=True))
            for end, value in ratio.items():
                values[f"{name}/{unit}_of_{control}{end}"] = value
            values[f"{name}/area_{unit}_over_{control}"] = comparison.area.value
            values[f"{name}/area_{unit}_over_{control}_low"] = comparison.area.low
    for name in curves:
        for unit in UNITS:
            ends = [found[name, c][unit].ratio.high for c in CONTROLS if (name, c) in found]
            if len(ends) == len(CONTROLS):
                values[f"{name}/{unit}_high"] = max(ends)  # below 1: beats both controls
    return {k: v if v is None or math.isfinite(v) else None for k, v in values.items()}


def rows_csv(curves: dict[str, Curves]) -> str:
    """One row per strategy, seed and round."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["strategy", "seed", "round", "frames", "boxes", "ap50"])
    for name, c in curves.items():
        for s, seed in enumerate(c.seeds):
            for r in range(c.ap50.shape[1]):
                cost = (int(c.frames[s, r]), int(c.boxes[s, r]))
                writer.writerow([name, seed, r, *cost, f"{c.ap50[s, r]:.6f}"])
    return out.getvalue()


def compare(config: CompareConfig) -> dict[str, Comparison]:
    """Print how strategy a stands to b, from all recorded curves of one setting.

    Curves of different studies are paired by seed where everything else was the same: the first
    frames follow from the seed alone.

    Raises:
        LabError: no setting has two seeds of both.
    """
    recorded = recorded_curves()
    settings = [s for _, s in recorded if config.pool in ("", s["pool"])]
    for setting in settings:  # newest first
        folders = [folder for folder, other in reversed(recorded) if other == setting]
        curves = gather(folders)
        if config.a in curves and config.b in curves:
            a, b = pair(curves[config.a], curves[config.b])
            if len(a.seeds) >= 2:
                break
    else:
        where = f" on pool {config.pool}" if config.pool else ""
        both = f"{config.a} {config.b}"
        check(
            False,
            f"no two seeds of both {config.a} and {config.b}{where} are recorded: "
            f"`uv run --package {PROJECT} study --strategies {both}`",
        )
    found = {unit: compare_curves(a, b, unit, config.target) for unit in UNITS}
    print(f"pool {setting['data'] or setting['pool']}, {len(a.seeds)} seeds, {a.seeds}")
    for comparison in found.values():
        area = comparison.area
        print(sentence(config.a, config.b, comparison))
        print(
            f"  over the {comparison.unit} that both cover: AP50 {area.value:+.3f} on average "
            f"[{area.low:+.3f}, {area.high:+.3f}], ahead in {comparison.wins:.0%} of the seeds"
        )
    return found
