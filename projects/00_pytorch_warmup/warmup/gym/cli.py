"""`bugs`: the commands of the debugging gym. torch is imported only in the process that trains."""

import textwrap
from typing import Annotated

import tyro
from tyro.extras import SubcommandApp

from trainloop import atomic_write, check, entry_point
from warmup.gym import bench
from warmup.gym.registry import FAULTS, Fault, find

app = SubcommandApp()
Number = Annotated[int, tyro.conf.Positional]
BUGS = "uv run --package warmup bugs"


@entry_point
def bugs() -> None:
    """Sixteen small training scripts, each wrong in one place: run them, mend them, be checked."""
    app.cli(prog="bugs", description=bugs.__doc__, config=(tyro.conf.FlagCreatePairsOff,))


@app.command(name="list")
def list_bugs() -> None:
    """The bugs as a colleague would report them, and which of them are solved."""
    done = bench.solved()
    for fault in FAULTS:
        print(f"{fault.number:>2}  {'solved' if fault.name in done else '':6}  {fault.symptom}")
    print(f"\n{len(done)} of {len(FAULTS)} solved. Begin one with: {BUGS} run NUMBER")


@app.command
def run(number: Number, seconds: int = 60) -> None:
    """Run your copy of a bug beside the healthy script, and draw both.

    Args:
        number: which bug, as `bugs list` numbers them.
        seconds: a script that takes longer is stopped.
    """
    fault, answer = _ask("run", number, seconds)
    mine, healthy = answer["mine"], answer["healthy"]
    print(f"{fault.number}  {fault.symptom}\n\n{table(mine, healthy)}\n")

    from warmup.gym.draw import draw  # matplotlib takes its time

    picture = bench.folder() / f"{fault.name}.png"
    figure = draw(mine, healthy, fault.symptom, fault.look_at)
    atomic_write(picture, lambda file: figure.savefig(file, dpi=110))
    print(f"picture  {picture}\nedit     {bench.working_copy(fault)}")
    print(f"then     {BUGS} solve {number}    (or run {number}, hint {number}, reset {number})")


@app.command
def hint(number: Number, level: int = 1) -> None:
    """A hint; the higher its level, the more it tells.

    Args:
        number: which bug.
        level: from 1 on.
    """
    fault = find(number)
    most = len(fault.hints)
    check(1 <= level <= most, f"--level must be 1 to {most}, not {level}")
    print(f"hint {level} of {most}: {fault.hints[level - 1]}")
    if level < most:
        print(f"more: {BUGS} hint {number} --level {level + 1}")


@app.command
def solve(number: Number, seconds: int = 60) -> None:
    """Hold your copy against the check of its behaviour. Exit code 0 if it is mended, else 1.

    Args:
        number: which bug.
        seconds: a script that takes longer is stopped.
    """
    fault, answer = _ask("check", number, seconds)
    if "unmended" in answer:
        print(f"not yet: {answer['unmended']}")
        raise SystemExit(1)
    done = bench.mark_solved(fault)
    print(f"solved: {fault.symptom}\n\n{textwrap.fill(fault.lesson, 88)}\n")
    left = [other for other in FAULTS if other.name not in done]
    if left:
        print(f"{len(done)} of {len(FAULTS)} solved. Next: {BUGS} run {left[0].number}")
    else:
        print(f"All {len(FAULTS)} solved. Well done: few people can find every one of these.")


@app.command
def reset(number: Number) -> None:
    """Take the broken script anew; your copy is kept beside it.

    Args:
        number: which bug.
    """
    fault = find(number)
    backup = bench.reset(fault)
    print(f"{bench.working_copy(fault)} is as it was handed out")
    if backup:
        print(f"your version is {backup}")


def table(mine: dict[str, list[float]], healthy: dict[str, list[float]]) -> str:
    """First and last value of every quantity that either script reports."""
    names = list(dict.fromkeys([*healthy, *mine]))
    head = "first and last epoch"
    width = max(map(len, [head, *names]))
    lines = [f"{head:{width}}  {'your script':>17}  {'healthy':>17}"]
    for name in names:
        cells = [(curves.get(name) or ["-"])[i] for curves in (mine, healthy) for i in (0, -1)]
        text = [f"{cell:8.3f}" if isinstance(cell, float) else f"{cell:>8}" for cell in cells]
        lines.append(f"{name:{width}}  {text[0]} {text[1]}  {text[2]} {text[3]}")
    return "\n".join(lines)


def _ask(task: str, number: int, seconds: int) -> tuple[Fault, dict]:
    """Let the other process do it; a script that cannot be run ends this one with exit code 1."""
    fault = find(number)
    check(seconds >= 1, f"--seconds must be at least 1, not {seconds}")
    answer = bench.launch(task, fault, bench.working_copy(fault), seconds)
    if "broken" in answer:
        print(answer["broken"])
        raise SystemExit(1)
    return fault, answer


if __name__ == "__main__":
    bugs()
