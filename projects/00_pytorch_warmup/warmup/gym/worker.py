"""The process that runs a learner's script: `python -m warmup.gym.worker TASK NUMBER FILE ...`.

A process of its own, so that an endless loop or a crash is that of the script alone. It leaves its
answer in a file; standard output is the script's.
"""

import faulthandler
import json
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from trainloop import atomic_write
from warmup.gym.checks import run_check
from warmup.gym.registry import find
from warmup.gym.spy import Unmended

KEEP = "keep the names, arguments and results of the functions"


def work(task: str, number: int, path: Path) -> dict[str, Any]:
    """Run a learner's script, or hold it against its check.

    Args:
        task: "run" or "check".
        number: which bug it is.
        path: the learner's file.

    Returns:
        {"unmended": what it does wrong} or {"broken": why it could not be run}; else {} for a
        check, and for a run {"mine": curves, "healthy": curves}, each {name: values by epoch}.
    """
    try:
        module = load(path.read_bytes(), str(path))
        if task == "run":
            mine = curves(module)
            return {"mine": mine, "healthy": curves(load(find(number).healthy, "healthy"))}
        run_check(number, module)
    except Unmended as error:
        return {"unmended": str(error)}
    except (Exception, SystemExit) as error:
        return {"broken": explain(error, path)}
    return {}


def load(source: str | bytes, name: str) -> ModuleType:
    """The module of this source text. `name` is the file that tracebacks name."""
    module = ModuleType("learner")
    module.__file__ = name
    exec(compile(source, name, "exec"), module.__dict__)
    return module


def curves(module: ModuleType) -> dict[str, list[float]]:
    """What `main` returns at seed 0, as plain numbers."""
    found = module.main(seed=0)
    return {str(name): [float(value) for value in values] for name, values in found.items()}


def explain(error: BaseException, path: Path) -> str:
    """The error as its author wants to see it: the script's own lines, nothing of the gym's."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path.name}, line {error.lineno}: {error.msg}"
    if isinstance(error, AttributeError) and getattr(error.obj, "__name__", "") == "learner":
        return f"{path.name} has no {error.name}() any more: {KEEP}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    what = "".join(traceback.format_exception_only(error)).strip()
    if not frames:
        return f"{path.name} cannot be used as before: {KEEP} ({what})"
    return "".join(traceback.format_list(frames)) + what


def main() -> None:
    task, number, path, result, hang, seconds = sys.argv[1:]
    torch.set_num_threads(1)
    with Path(hang).open("w") as file:
        faulthandler.dump_traceback_later(float(seconds), exit=True, file=file)
        answer = json.dumps(work(task, int(number), Path(path))).encode()
        faulthandler.cancel_dump_traceback_later()
    atomic_write(Path(result), lambda file: file.write(answer))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
