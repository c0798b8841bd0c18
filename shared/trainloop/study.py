"""A study: many trainings of one project side by side, each in its own process and folder."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainloop.curves import read_metrics
from trainloop.errors import LabError
from trainloop.paths import module_name
from trainloop.progress import progress_bar
from trainloop.run import NON_FINITE_ADVICE, Run


@dataclass(frozen=True)
class Training:
    """One training of a study.

    Attributes:
        folder: its run folder, with metrics.jsonl, best.pt and pictures.
        metrics: its figures; of a training whose loss was not finite, the last ones before.
        finished: whether it came to its end.
    """

    folder: Path
    metrics: dict[str, Any]
    finished: bool


def train_all(
    run: Run, jobs: dict[str, list[str]], workers: int = 0, command: str = "train"
) -> dict[str, Training]:
    """Run the project's `command` once for each job, as many at a time as there are cores.

    Small models gain little from a second thread and everything from a second training. On a GPU
    one training runs at a time. Stopped and resumed (`run.config.resume`), the study keeps what is
    finished and goes on with what was cut.

    Args:
        run: the study's own run; trainings go to its folder's `trainings/`.
        jobs: the options of each training by its name, which is the name of a folder too.
        workers: trainings at a time; 0: one for each core, or one on a GPU.

    Raises:
        LabError: a training ended for another reason than a loss that was not finite.
    """
    cores = len(os.sched_getaffinity(0))
    workers = min(workers or (cores if run.device.type == "cpu" else 1), len(jobs))
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, cores // workers))}
    running: set[subprocess.Popen] = set()

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    pool = ThreadPoolExecutor(workers)
    bar = progress_bar(len(jobs), "training", command)
    try:
        waiting = {
            pool.submit(
                _train, run, command, run.folder / "trainings" / name, options, environment, running
            ): name
            for name, options in jobs.items()
        }
        done = {}
        for future in as_completed(waiting):
            done[waiting[future]] = future.result()
            bar.update()
        return {name: done[name] for name in jobs}
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(running):
            process.terminate()  # they finish their step, save, and can be resumed
        raise
    finally:
        bar.close()
        pool.shutdown()
        signal.signal(signal.SIGTERM, before)


def _train(
    run: Run,
    command: str,
    home: Path,
    options: list[str],
    environment: dict[str, str],
    running: set[subprocess.Popen],
) -> Training:
    """One training to its end, or from where it was cut, or nothing where it is finished."""
    home.mkdir(parents=True, exist_ok=True)
    folder = _newest(home, run.project)
    finished = folder is not None and (folder / "summary.json").exists()
    if not finished:
        # What was cut before its first checkpoint starts anew in the same folder.
        again = ["--resume"] if folder is not None else []
        module = module_name(run.project)
        code = f"from {module}.cli import {command.replace('-', '_')} as run; run()"
        with (home / "output.txt").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *options, *again, f"--device={run.config.device}"],
                env={**environment, "LAB_RUNS": str(home)},
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is the study's business
            )
            running.add(process)
            process.wait()
            running.discard(process)
        folder = _newest(home, run.project)
        said = (home / "output.txt").read_text("utf-8", errors="replace").strip()
        finished = process.returncode == 0
        if folder is None or not (finished or NON_FINITE_ADVICE in said):
            raise LabError(
                f"a training stopped with code {process.returncode}: "
                f"{said.splitlines()[-1] if said else 'no output'} ({home / 'output.txt'})"
            )
    if finished:
        metrics = json.loads((folder / "summary.json").read_text("utf-8"))["metrics"]
    else:
        curves = read_metrics(folder / "metrics.jsonl")
        metrics = {name: values[-1] for name, (_, values) in curves.items()}
    return Training(folder, metrics, finished)


def _newest(home: Path, project: str) -> Path | None:
    """The training's run folder (not the link `latest`), if it has begun."""
    found = [path for path in (home / project).glob("*") if not path.is_symlink()]
    return max(found, default=None)
