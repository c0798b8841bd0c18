"""The same training with one part changed, some seeds each."""

import statistics
from dataclasses import dataclass

from matplotlib.figure import Figure

from language_model.config import CompareConfig
from trainloop import Run, Training, atomic_write, train_all
from trainloop.curves import read_metrics

DEFAULT = "default"
VARIANTS: dict[str, dict[str, list[str]]] = {
    "architecture": {
        DEFAULT: [],
        "learned-positions": ["--positions=learned"],
        "rms-norm": ["--norm=rms"],
        "gelu": ["--activation=gelu"],
        "no-qk-norm": ["--no-qk-norm"],
        "tied": ["--tied"],
        "no-ngrams": ["--ngrams=1", "--lr-rest=0.002"],
        "trigrams": ["--ngrams=3"],
        "gpt2": ["--positions=learned", "--activation=gelu", "--no-qk-norm", "--tied", "--bias",
                 "--ngrams=1", "--lr-rest=0.002"],
    },
    "optimizer": {
        DEFAULT: [],
        "muon-lr-0.01": ["--lr=0.01"],
        "muon-lr-0.04": ["--lr=0.04"],
        "adamw": ["--optimizer=adamw", "--lr-rest=0.003"],
        "lr-rest-0.003": ["--lr-rest=0.003"],
        "lr-rows-0.03": ["--lr-rows=0.03"],
        "ema": ["--ema=0.99"],
    },
    "tokens": {
        DEFAULT: [],
        "bpe-512": ["--tokens=bpe", "--vocabulary=512"],
        "bpe-2048": ["--tokens=bpe", "--vocabulary=2048"],
    },
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One variant, and what each seed gave on the validation text."""

    name: str
    parameters: int
    cpu_seconds: tuple[float, ...]
    bits: tuple[float, ...]
    """A character, at the end."""
    curves: tuple[tuple[list[int], list[float]], ...]
    """Steps and bits a character."""


def compare(config: CompareConfig) -> dict[str, float | int | None]:
    """Train all variants for as many steps, side by side; the test text is not looked at.

    Raises:
        LabError: nothing to resume, or a training failed.
    """
    config = Run.options("language-model", config, "compare")
    run = Run.open("language-model", config, "compare")
    run.resume()
    seeds = range(config.seed, config.seed + config.seeds)
    variants = VARIANTS[config.vary]
    jobs = {
        f"{name}/seed-{seed}": [
            *options,
            f"--seed={seed}",
            f"--steps={config.steps}",
            f"--eval-every={-(-config.steps // 3)}",
            f"--precision={config.precision}",
            "--no-test",
            "--no-pictures",
        ]
        for seed in seeds  # all variants with the first seed first
        for name, options in variants.items()
    }
    trained = train_all(run, jobs, config.workers)
    rows = [row(name, [trained[f"{name}/seed-{seed}"] for seed in seeds]) for name in variants]
    table = comparison_table(rows)
    print(table)
    atomic_write(run.folder / "compare.md", lambda file: file.write(table.encode()))
    run.picture("compare", draw(rows))
    for found in rows:
        run.log(
            config.steps,
            **{
                f"val/bits_per_character_{found.name}": statistics.fmean(found.bits),
                f"cpu_seconds_{found.name}": statistics.fmean(found.cpu_seconds),
            },
        )
    return run.finish(trainings=len(trained))


def row(name: str, trainings: list[Training]) -> Row:
    """What the trainings of one variant gave; one that diverged counts as 8 bits, a blind guess."""
    metric = "val/bits_per_character"
    return Row(
        name,
        trainings[0].metrics.get("parameters", 0),
        tuple(training.metrics.get("cpu_seconds", 0.0) for training in trainings),
        tuple(
            (training.metrics.get(metric) if training.finished else None) or 8.0
            for training in trainings
        ),
        tuple(
            read_metrics(training.folder / "metrics.jsonl").get(metric, ([], []))
            for training in trainings
        ),
    )


def comparison_table(rows: list[Row]) -> str:
    """Markdown: bits a character, and less those of the first row, seed by seed."""
    lines = [
        "| variant | parameters | CPU seconds | bits a character | less the default's, paired |",
        "|---|---|---|---|---|",
    ]
    for found in rows:
        paired = [ours - first for ours, first in zip(found.bits, rows[0].bits, strict=True)]
        gain = f"{mean_spread(paired, '+.3f')}" if found is not rows[0] else ""
        seconds = f"{statistics.fmean(found.cpu_seconds):.0f}"
        bits = mean_spread(found.bits, ".3f")
        lines.append(f"| {found.name} | {found.parameters:,} | {seconds} | {bits} | {gain} |")
    return "\n".join(lines) + "\n"


def mean_spread(values: tuple[float, ...] | list[float], form: str) -> str:
    """Mean and, of more than one, standard deviation."""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{form}}{spread}"


def draw(rows: list[Row]) -> Figure:
    """Left the way there, right the difference from the default, seed by seed; it names colours."""
    figure = Figure(figsize=(10.5, 0.3 * len(rows) + 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, found in enumerate(rows):
        for steps, values in found.curves:
            left.plot(steps, values, color=f"C{k}", alpha=0.3, linewidth=1)
        if all(steps for steps, _ in found.curves):
            means = [statistics.fmean(at) for at in zip(*(v for _, v in found.curves), strict=True)]
            left.plot(found.curves[0][0], means, color=f"C{k}", marker=".")
        paired = [ours - first for ours, first in zip(found.bits, rows[0].bits, strict=True)]
        right.plot(paired, [k] * len(paired), "o", color=f"C{k}", alpha=0.5)
        right.plot(statistics.fmean(paired), k, "|", color=f"C{k}", ms=16, mew=2.5)
    left.set(xlabel="step", ylabel="validation bits a character")
    right.axvline(0, color="black", linewidth=0.8)
    right.set_yticks(range(len(rows)), [found.name for found in rows])
    right.invert_yaxis()
    right.set_xlabel("bits a character more than the default")
    for axis in (left, right):
        axis.grid(alpha=0.25)
    return figure
