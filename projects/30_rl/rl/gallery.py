"""Failures on purpose: each beside the same training without it, curve by curve."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rl.config import GalleryConfig
from rl.failures import BASES, FAILURES, Failure
from rl.study import curve, interquartile_curve, validations
from trainloop import Run, Training, train_all, write_text

Curves = list[tuple[list[float], list[float]]]
WIDTH = 2  # failures beside one another in the picture


def gallery(config: GalleryConfig) -> dict[str, float | int | None]:
    """Train healthy and failing runs with the same seeds; draw what tells them apart."""
    config = Run.options("rl", config, "gallery")
    run = Run.open("rl", config, "gallery")
    run.resume()
    chosen = {name: f for name, f in FAILURES.items() if not config.only or name in config.only}
    seeds = range(config.seed, config.seed + config.seeds)
    jobs = {}
    for seed in seeds:  # all kinds with the first seed first
        for base in dict.fromkeys(failure.base for failure in chosen.values()):
            jobs[f"{base}/seed-{seed}"] = [*words(config, base), f"--seed={seed}"]
        for name, failure in chosen.items():
            other = seed if failure.options else seed + config.seeds
            jobs[f"{name}/seed-{seed}"] = [
                *words(config, failure.base), *failure.options, f"--seed={other}"
            ]  # fmt: skip
    trained = train_all(run, jobs, config.workers)

    figure = Figure(figsize=(6.2 * WIDTH, 2.6 * -(-len(chosen) // WIDTH)), layout="constrained")
    axes = figure.subplots(-(-len(chosen) // WIDTH), 2 * WIDTH, squeeze=False)
    panels = axes.reshape(-1, 2)
    for pair in panels[len(chosen) :]:
        for axis in pair:
            axis.axis("off")
    lines = ["| failure | return at the end | without it | look at |", "|---|---|---|---|"]
    for (name, failure), pair in zip(chosen.items(), panels, strict=False):
        healthy = [trained[f"{failure.base}/seed-{seed}"] for seed in seeds]
        broken = [trained[f"{name}/seed-{seed}"] for seed in seeds]
        draw_failure(pair[0], pair[1], failure, healthy, broken)
        ends = {kind: np.array(last_returns(of)) for kind, of in
                {"broken": broken, "healthy": healthy}.items()}  # fmt: skip
        run.log(
            1,
            **{
                f"{name}/healthy": float(ends["healthy"].mean()),
                f"{name}/broken": float(ends["broken"].mean()),
                f"{name}/gap": float(ends["healthy"].mean() - ends["broken"].mean()),
            },
        )
        cells = [f"{ends[k].mean():.0f} ({ends[k].min():.0f} to {ends[k].max():.0f})" for k in ends]
        lines.append(f"| {failure.title} | {' | '.join(cells)} | {failure.label} |")
        print(f"{failure.title}: {failure.look}")
    run.picture("gallery", figure)
    table = "\n".join(lines) + "\n"
    print(table)
    write_text(run.folder / "gallery.md", table)
    return run.finish(trainings=len(trained))


def words(config: GalleryConfig, base: str) -> list[str]:
    """Options of a healthy training: to its end, however good it is."""
    steps = [f"--steps={config.steps}"] if config.steps else []
    return [*BASES[base], *steps, "--no-early-stop", "--no-pictures"]


def last_returns(trainings: list[Training], count: int = 3) -> list[float]:
    """Of each training the mean of its last validations: what it ends as, not what it once was."""
    return [float(np.mean(validations(one.folder)[1][-count:])) for one in trainings]


def draw_failure(
    left: Axes, right: Axes, failure: Failure, healthy: list[Training], broken: list[Training]
) -> None:
    """Left the validations, right the curve that tells; a line a seed, thick their middle."""
    for axis, metric in ((left, "val/return"), (right, failure.metric)):
        for trainings, colour in ((healthy, "C7"), (broken, "C3")):
            curves = [smoothed(*curve(one.folder, metric)) for one in trainings]
            draw_curves(axis, [found for found in curves if found[0]], colour)
        axis.grid(alpha=0.25)
        axis.tick_params(labelsize=8)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k")
    left.set_ylabel("validation return", fontsize=8)
    left.set_title(failure.title, fontsize=10, color="C3")
    right.set_title(failure.label, fontsize=10)
    if failure.metric in ("grad_norm", "approx_kl", "td_error"):
        right.set_yscale("log")


def draw_curves(axis: Axes, curves: Curves, colour: str) -> None:
    """Each curve thin, their interquartile mean thick."""
    for steps, values in curves:
        axis.plot(steps, values, color=colour, alpha=0.35, lw=0.8)
    if curves:
        at, _, middle, _ = interquartile_curve(curves)
        axis.plot(at, middle, color=colour, lw=2)


def smoothed(steps: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """A running mean over a thirtieth of a long curve."""
    width = len(values) // 30
    if width < 2:
        return steps, values
    means = np.convolve(values, np.ones(width) / width, "valid")
    return steps[width - 1 :], means.tolist()
