"""The learner's bench: working copies, the list of what is solved, and the process that runs them.

No torch here: `bugs list` answers at once.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from trainloop import LabError, runs_dir, write_text
from warmup.gym.registry import Fault

# --- working copies ------------------------------------------------------------------------------


def folder() -> Path:
    """Where the learner's copies lie; made if needed."""
    path = runs_dir() / "warmup-gym"
    path.mkdir(parents=True, exist_ok=True)
    return path


def working_copy(fault: Fault) -> Path:
    """The learner's file of this bug, handed out if there is none yet."""
    path = folder() / f"{fault.name}.py"
    if not path.exists():
        _write(path, fault.faulty)
    return path


def reset(fault: Fault) -> Path | None:
    """Hand out the broken file anew. Returns where the old one was moved to, None if it is equal.

    Backups are numbered and none is ever overwritten.
    """
    path = working_copy(fault)
    if path.read_bytes() == fault.faulty.encode():
        return None
    number = 1
    while (backup := path.with_name(f"{path.name}.bak{number}")).exists():
        number += 1
    path.rename(backup)
    _write(path, fault.faulty)
    return backup


def solved() -> set[str]:
    """Names of the bugs that were solved; LabError if the record cannot be read."""
    path = folder() / "solved.json"
    if not path.exists():
        return set()
    try:
        return set(json.loads(path.read_text("utf-8"))["solved"])
    except (ValueError, KeyError, TypeError):
        raise LabError(f"{path} is damaged: delete it, and solve again what it recorded") from None


def mark_solved(fault: Fault) -> set[str]:
    """Record this bug as solved; returns all that are."""
    names = solved() | {fault.name}
    _write(folder() / "solved.json", json.dumps({"solved": sorted(names)}, indent=1) + "\n")
    return names


def _write(path: Path, text: str) -> None:
    write_text(path, text)


# --- running them --------------------------------------------------------------------------------


def launch(task: str, fault: Fault, path: Path, seconds: int) -> dict:
    """Let a process of its own do `task` ("run" or "check") with the learner's file.

    Returns what `worker.work` returned. A script that does not end, or that ends its process, is
    reported as `{"broken": ...}` too. What the script prints is passed through.
    """
    with tempfile.TemporaryDirectory() as name:
        result, hang = Path(name) / "result.json", Path(name) / "hang.txt"
        command = [sys.executable, "-m", "warmup.gym.worker", task, str(fault.number), str(path)]
        command += [str(result), str(hang), str(seconds)]
        sys.stdout.flush()
        try:
            code = subprocess.run(command, timeout=seconds + 60, check=False).returncode
        except subprocess.TimeoutExpired:  # not even the watchdog got through
            return {"broken": f"{path.name} did not end within {seconds} seconds"}
        if result.exists():
            return json.loads(result.read_text("utf-8"))
        stuck = hang.read_text("utf-8") if hang.exists() else ""
    if not stuck:
        return {"broken": f"{path.name} ended the whole process, with exit code {code}"}
    line = re.search(rf'{re.escape(path.name)}", line (\d+)', stuck)
    where = f", it was at line {line[1]}" if line else ""
    return {"broken": f"{path.name} was still running after {seconds} seconds{where}"}
