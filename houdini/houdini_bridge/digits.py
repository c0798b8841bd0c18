"""The whole way as one run: a step draws a sheet and cuts it into 64 digits."""

import sys
import time
from dataclasses import dataclass

import trainloop
from houdini_bridge.config import DigitsConfig
from houdini_bridge.cut import CutJob, Record, cut_sheet
from houdini_bridge.pool import in_order
from houdini_bridge.sheets import SheetJob, is_made, make_sheet, sheet_jobs
from houdini_bridge.table import CELL, CELLS, GRID
from trainloop import Run


@dataclass(frozen=True)
class Both:
    """A sheet to draw and to cut."""

    sheet: SheetJob
    cut: CutJob


def make_digits(job: Both) -> tuple[bool, str]:
    """Whether the sheet had to be made, and `cut.cut_sheet`'s answer."""
    return make_sheet(job.sheet), cut_sheet(job.cut)


def digits(config: DigitsConfig) -> dict[str, float | int | None]:
    """Draw and cut what is not there yet; where all of it is there, no run is recorded.

    Returns:
        The run's metrics: `images`, the digits there at its end, and `seconds`, the wall time of
        making them, which is None where some had been made before.

    Raises:
        LabError: the folders hold the digits of another seed or look.
    """
    config = Run.options("houdini", config, "digits")
    record, jobs = Record(config.output), []
    for sheet in sheet_jobs(config, config.seed):
        digit, frame = int(sheet.rows["digit"][0]), int(sheet.rows["frame"][0])
        before = record.origins.get((digit, frame), "")
        cut = CutJob(sheet.path, config.output, digit, frame, CELL, GRID, before, config.overwrite)
        jobs.append(Both(sheet, cut))
    if config.overwrite:
        record.forget_lost(config.render)
    if not config.resume and all(map(is_complete, jobs)):
        print(f"all {len(jobs) * CELLS:,} digits are there: {config.output}", file=sys.stderr)
        return {"images": float(len(jobs) * CELLS)}

    run = Run.open("houdini", config, "digits")
    start = run.resume()
    new = 0
    with in_order(make_digits, jobs[start:], config.workers) as results:
        for step in run.steps(start):
            drawn, origin = next(results)
            if origin:
                record.add(jobs[step - 1].cut, origin)
            new += bool(drawn and origin)
    images = sum(path.exists() for job in jobs for path in job.cut.paths)
    seconds = time.perf_counter() - trainloop.STARTED if new == len(jobs) else None
    run.log(len(jobs), images=float(images), seconds=seconds)
    return run.finish()


def is_complete(job: Both) -> bool:
    """Whether the sheet is there and its digits were cut from it."""
    return (
        is_made(job.sheet.path, job.sheet.fingerprint)
        and job.cut.origin(job.sheet.path.read_bytes()) == job.cut.before
        and all(path.exists() for path in job.cut.paths)
    )
