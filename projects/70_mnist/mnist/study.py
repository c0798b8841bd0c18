"""Do rendered digits help? Real images alone, real and rendered, rendered alone; seed by seed."""

import statistics
from collections.abc import Sequence

from matplotlib.figure import Figure

from mnist.config import StudyConfig
from mnist.data import synthetic_files
from mnist.statistics import Interval, interval
from trainloop import Run, check, train_all, write_text

Accuracies = dict[int, list[float]]  # of each seed, by the number of real images


def synthetic_study(config: StudyConfig) -> dict[str, float | int | None]:
    """Train all kinds with the same number of steps; hold them against each other in pairs.

    Real images are repeated until they are about as many as the rendered ones: a batch of a mixed
    training is half real. Validation images are not used; nothing is chosen here.

    Raises:
        LabError: the rendered digits are missing, or fewer than `config.mix`.
    """
    config = Run.options("mnist", config, "synthetic-study")
    there = sum(map(len, synthetic_files(config.synthetic_folder)))
    check(
        config.mix <= there,
        f"--mix asks for {config.mix:,} rendered digits, {config.synthetic_folder} holds {there:,}",
    )
    run = Run.open("mnist", config, "synthetic-study")
    run.resume()
    seeds = range(config.seed, config.seed + config.seeds)
    jobs = {
        f"{kind}/seed-{seed}": [*options, *shared_options(config), f"--seed={seed}"]
        for seed in seeds  # all kinds with the first seed first
        for kind, options in kinds(config).items()
    }
    trained = train_all(run, jobs, config.workers)
    accuracy = {
        kind: [trained[f"{kind}/seed-{seed}"].metrics.get("test/accuracy") or 0.0 for seed in seeds]
        for kind in kinds(config)
    }
    real = {count: accuracy[f"real-{count}"] for count in sorted(config.real)}
    mixed = {count: accuracy[f"mixed-{count}"] for count in sorted(config.real)}
    alone = accuracy["rendered"]

    table = study_table(real, mixed, alone)
    print(table)
    write_text(run.folder / "synthetic.md", table)
    run.picture("synthetic", draw_study(real, mixed, alone))
    for count in real:
        gain = paired_gain(real[count], mixed[count])
        run.log(
            config.steps,
            **{
                f"accuracy_real_{count}": statistics.fmean(real[count]),
                f"accuracy_mixed_{count}": statistics.fmean(mixed[count]),
                f"gain_{count}": gain.mean,
                f"gain_{count}_low": gain.low,
                f"gain_{count}_high": gain.high,
            },
        )
    run.log(config.steps, accuracy_rendered=statistics.fmean(alone))
    return run.finish(trainings=len(trained))


def kinds(config: StudyConfig) -> dict[str, list[str]]:
    """What `train` is given for each kind of training."""
    rendered = [f"--mix={config.mix}", f"--synthetic={config.synthetic_folder}"]
    found = {"rendered": ["--real=0", *rendered]}
    for count in config.real:
        repeat = max(1, round(config.mix / count))
        found[f"real-{count}"] = [f"--real={count}"]
        found[f"mixed-{count}"] = [f"--real={count}", f"--repeat={repeat}", *rendered]
    return found


def shared_options(config: StudyConfig) -> list[str]:
    """What every training is given; it looks at validation images once, at its end."""
    return [
        f"--steps={config.steps}",
        f"--eval-every={config.steps}",
        f"--width={config.width}",
        f"--precision={config.precision}",
    ]


def paired_gain(real: Sequence[float], mixed: Sequence[float]) -> Interval:
    """What the rendered digits added to the accuracy, from trainings with the same seeds."""
    return interval([ours - theirs for ours, theirs in zip(mixed, real, strict=True)])


def verdict(gain: Interval) -> str:
    """What a gain's interval allows to say."""
    if gain.low > 0:
        return "helps"
    return "harms" if gain.high < 0 else "no difference shown"


def study_table(real: Accuracies, mixed: Accuracies, alone: list[float]) -> str:
    """Markdown: accuracies with their 95% intervals, and the paired gain in percentage points."""
    lines = [
        "| real images | real alone | with rendered | gain in points, paired | rendered digits |",
        "|---|---|---|---|---|",
    ]
    for count in real:
        gain = paired_gain(real[count], mixed[count])
        points = f"{100 * gain.mean:+.2f} ({100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
        cells = (percent(real[count]), percent(mixed[count]), points, verdict(gain))
        lines.append(f"| {count:,} | {' | '.join(cells)} |")
    lines.append(f"| 0 | | {percent(alone)} | | |")
    return "\n".join(lines) + "\n"


def percent(accuracies: Sequence[float]) -> str:
    """Mean and half the width of its 95% interval."""
    mean, low, high = interval(accuracies)
    return f"{mean:.2%} ± {(high - low) / 2:.2%}"


def draw_study(real: Accuracies, mixed: Accuracies, alone: list[float]) -> Figure:
    """Left the error of the three kinds, right the paired gain; bars are 95% intervals."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    counts = list(real)
    for label, colour, marker, of in (
        ("real alone", "C7", "o", real),
        ("real and rendered", "C0", "s", mixed),
    ):
        errors = [[100 * (1 - accuracy) for accuracy in of[count]] for count in counts]
        means = [statistics.fmean(values) for values in errors]
        for count, values in zip(counts, errors, strict=True):
            left.plot([count] * len(values), values, marker, color=colour, alpha=0.35, ms=4)
        left.plot(counts, means, color=colour, marker=marker, label=label)
    floor = 100 * (1 - statistics.fmean(alone))
    left.axhline(floor, color="C1", linestyle="--", label="rendered alone")
    left.set(ylabel="wrong on test images (%)", yscale="log")
    ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50) if left.get_ylim()[0] <= t <= left.get_ylim()[1]]
    left.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    left.legend(frameon=False, fontsize=9)

    gains = [paired_gain(real[count], mixed[count]) for count in counts]
    bars = [[100 * (g.mean - g.low) for g in gains], [100 * (g.high - g.mean) for g in gains]]
    right.errorbar(counts, [100 * g.mean for g in gains], bars, fmt="s", color="C0", capsize=4)
    right.axhline(0, color="black", linewidth=0.8)
    right.set_yscale("symlog", linthresh=0.1)  # hundredths of a point and whole ones
    right.set_yticks([-10, -1, -0.1, 0, 0.1, 1, 10], ["-10", "-1", "-0.1", "0", "0.1", "1", "10"])
    lowest, highest = (f(100 * g[i] for g in gains) for f, i in ((min, 1), (max, 2)))
    right.set_ylim(min(3 * lowest, -0.15), max(3 * highest, 0.15))
    right.set_ylabel("gain by rendered digits (points)")
    for count, gain in zip(counts, gains, strict=True):
        right.annotate(f"{100 * gain.mean:+.2f}", (count, 100 * gain.high), (0, 6),
                       textcoords="offset points", ha="center", fontsize=9)  # fmt: skip
    right.margins(x=0.18)
    for axis in (left, right):
        axis.set_xscale("log")
        axis.set_xticks(counts, [f"{count:,}" for count in counts])
        axis.minorticks_off()
        axis.set_xlabel("real training images")
        axis.grid(alpha=0.25)
    return figure
