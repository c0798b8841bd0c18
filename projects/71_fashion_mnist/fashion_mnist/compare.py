"""Four architectures, the same number of steps, three seeds each."""

import statistics
from dataclasses import dataclass

from matplotlib.figure import Figure

from fashion_mnist.config import CompareConfig
from trainloop import Run, Training, train_all, write_text
from trainloop.curves import read_metrics


@dataclass(frozen=True)
class Row:
    """One architecture, and what each seed gave."""

    model: str
    parameters: int
    cpu_seconds: tuple[float, ...]
    accuracy: tuple[float, ...]
    """On test images."""
    curves: tuple[tuple[list[int], list[float]], ...]
    """Steps and accuracy on validation images."""


def compare(config: CompareConfig) -> dict[str, float | int | None]:
    """Train them side by side with the default recipe; nothing is chosen by what comes out.

    Raises:
        LabError: nothing to resume, or a training failed.
    """
    config = Run.options("fashion-mnist", config, "compare")
    run = Run.open("fashion-mnist", config, "compare")
    run.resume()
    seeds = range(config.seed, config.seed + config.seeds)
    jobs = {
        f"{model}/seed-{seed}": [
            f"--model={model}",
            f"--seed={seed}",
            f"--steps={config.steps}",
            f"--eval-every={-(-config.steps // 8)}",
            f"--precision={config.precision}",
        ]
        for seed in seeds  # all architectures with the first seed first
        for model in config.models
    }
    trained = train_all(run, jobs, config.workers)
    rows = [row(model, [trained[f"{model}/seed-{s}"] for s in seeds]) for model in config.models]
    table = comparison_table(rows)
    print(table)
    write_text(run.folder / "compare.md", table)
    run.picture("compare", draw(rows))
    for found in rows:
        run.log(
            config.steps,
            **{
                f"test/accuracy_{found.model}": statistics.fmean(found.accuracy),
                f"parameters_{found.model}": found.parameters,
                f"cpu_seconds_{found.model}": statistics.fmean(found.cpu_seconds),
            },
        )
    return run.finish(trainings=len(trained))


def row(model: str, trainings: list[Training]) -> Row:
    """What the trainings of one architecture gave; a training that diverged counts as 0."""
    return Row(
        model,
        trainings[0].metrics.get("parameters", 0),
        tuple(training.metrics.get("cpu_seconds", 0.0) for training in trainings),
        tuple(training.metrics.get("test/accuracy") or 0.0 for training in trainings),
        tuple(
            read_metrics(training.folder / "metrics.jsonl").get("val/accuracy", ([], []))
            for training in trainings
        ),
    )


def comparison_table(rows: list[Row]) -> str:
    """Markdown: parameters, CPU seconds, test accuracy with its standard deviation over seeds."""
    lines = ["| model | parameters | CPU seconds | test accuracy |", "|---|---|---|---|"]
    for found in rows:
        mean, spread = statistics.fmean(found.accuracy), statistics.stdev(found.accuracy)
        seconds = statistics.fmean(found.cpu_seconds)
        accuracy = f"{mean:.2%} ± {spread:.2%}"
        lines.append(f"| {found.model} | {found.parameters:,} | {seconds:.0f} | {accuracy} |")
    return "\n".join(lines) + "\n"


def draw(rows: list[Row]) -> Figure:
    """Left the way there, right what a second of CPU buys."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, found in enumerate(rows):
        for steps, values in found.curves:
            left.plot(steps, [100 * v for v in values], color=f"C{k}", alpha=0.3, linewidth=1)
        if all(steps for steps, _ in found.curves):
            means = [statistics.fmean(at) for at in zip(*(v for _, v in found.curves), strict=True)]
            left.plot(found.curves[0][0], [100 * v for v in means], color=f"C{k}", marker=".",
                      label=found.model)  # fmt: skip
        accuracy = [100 * a for a in found.accuracy]
        right.plot(found.cpu_seconds, accuracy, "o", color=f"C{k}", alpha=0.4)
        middle = (statistics.fmean(found.cpu_seconds), statistics.fmean(accuracy))
        right.plot(*middle, "_", color=f"C{k}", ms=18, mew=2.5)
        away = (0, 10) if k % 2 else (0, -18)  # neighbours' names do not meet
        right.annotate(f"{found.model}, {found.parameters:,}", middle, away, fontsize=9,
                       textcoords="offset points", ha="center")  # fmt: skip
    left.set(xlabel="step", ylabel="validation accuracy (%)")
    if left.get_legend_handles_labels()[0]:
        left.legend(frameon=False, loc="lower right")
    right.set(xlabel="CPU seconds of a training", ylabel="test accuracy (%)", xscale="log")
    low, high = right.get_xlim()
    ticks = [t * 10**k for k in range(6) for t in (1, 2, 5) if low <= t * 10**k <= high]
    right.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    right.minorticks_off()
    right.margins(x=0.3, y=0.2)
    for axis in (left, right):
        axis.grid(alpha=0.25)
    return figure
