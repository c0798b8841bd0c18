"""One algorithm, many seeds: how often, how good, how soon; with intervals."""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy import ndarray

from rl.agents import load_agent
from rl.config import CONFIGS, StudyConfig, target
from rl.envs import check_supported
from rl.evaluate import (
    TEST,
    Estimate,
    interquartile_mean,
    performance_profile,
    play,
    stratified_bootstrap,
)
from trainloop import Run, Training, train_all, write_text
from trainloop.curves import read_metrics


@dataclass(frozen=True)
class Seed:
    """What one training came to."""

    seed: int
    returns: Float[ndarray, " E"]  # of the test episodes
    env_steps: int  # played when it stopped
    seconds: float  # of CPU, playing and learning
    all_seconds: float  # of CPU, the whole process
    solved: bool  # a validation stopped it, and the test agrees


def study(config: StudyConfig) -> dict[str, float | int | None]:
    """Train every seed in a process of its own, as many at a time as there are cores."""
    config = Run.options("rl", config, "study")
    check_supported(config.algo, config.env)
    CONFIGS[config.algo](algo=config.algo, env=config.env)
    run = Run.open("rl", config, "study")
    run.resume()
    words = [f"--algo={config.algo}", f"--env={config.env}", "--no-pictures"]
    words += [option_word(option) for option in config.options]
    words += [f"--steps={config.steps}"] if config.steps else []
    numbers = range(config.seed, config.seed + config.seeds)
    jobs = {f"seed-{seed}": [*words, f"--seed={seed}"] for seed in numbers}
    trained = train_all(run, jobs, config.workers)
    bar = target(config.env)
    seeds = [read_seed(seed, trained[f"seed-{seed}"], bar) for seed in numbers]

    returns = np.stack([seed.returns for seed in seeds])
    middle = stratified_bootstrap(returns)
    table = study_table(seeds, middle)
    print(table)
    write_text(run.folder / "study.md", table)
    curves = [validations(trained[f"seed-{seed}"].folder) for seed in numbers]
    title = f"{config.algo} on {config.env}, {config.seeds} seeds"
    run.picture("study", draw_study(title, curves, returns, middle, bar))
    solved = [seed for seed in seeds if seed.solved]
    run.log(
        run.total or 1,
        **{
            "test/return": float(returns.mean()),
            "test/iqm": middle.value,
            "test/iqm_low": middle.low,
            "test/iqm_high": middle.high,
            "test/worst_seed": float(returns.mean(1).min()),
            "solved": len(solved),
            "steps_to_solve": statistics.median(s.env_steps for s in solved) if solved else None,
            "seconds_to_solve": statistics.median(s.seconds for s in solved) if solved else None,
            "slowest_cpu_seconds": max(seed.all_seconds for seed in seeds),
        },
    )
    return run.finish(trainings=len(trained))


def option_word(option: str) -> str:
    """name=value as a word of `train`'s command line, where True and False are flags."""
    name, _, value = option.partition("=")
    name = name.replace("_", "-")
    flags = {"True": f"--{name}", "False": f"--no-{name}"}
    return flags.get(value, f"--{name}={value}")


def read_seed(seed: int, training: Training, bar: float) -> Seed:
    """The test episodes again (they follow from their seeds) and the books of a training."""
    agent = load_agent(training.folder / "best.pt")
    episodes = play(agent.act, agent.config.env, agent.config.eval_episodes, TEST)
    figures = training.metrics
    return Seed(
        seed,
        episodes.returns,
        int(figures["env_steps"]),
        figures["learning_cpu_seconds"],
        figures["cpu_seconds"],
        bool(figures["stopped_early"]) and float(episodes.returns.mean()) >= bar,
    )


def validations(folder: Path) -> tuple[list[float], list[float]]:
    """Environment steps and mean returns of a run's validations."""
    return curve(folder, "val/return")


def curve(folder: Path, metric: str) -> tuple[list[float], list[float]]:
    """A metric of a run over environment steps."""
    curves = read_metrics(folder / "metrics.jsonl")
    at = dict(zip(*curves["env_steps"], strict=True))
    steps, values = curves.get(metric, ([], []))
    return [at[step] for step in steps], values


def study_table(seeds: list[Seed], middle: Estimate) -> str:
    """Markdown: a row a seed, then what they have in common."""
    lines = [
        "| seed | test return | worst episode | env steps | CPU s learning | in all | solved |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed in seeds:
        mean, spread = seed.returns.mean(), seed.returns.std()
        lines.append(
            f"| {seed.seed} | {mean:.1f} ± {spread:.1f} | {seed.returns.min():.0f} "
            f"| {seed.env_steps:,} | {seed.seconds:.1f} | {seed.all_seconds:.1f} "
            f"| {'yes' if seed.solved else 'no'} |"
        )
    solved = [seed for seed in seeds if seed.solved]
    lines.append(
        f"\nInterquartile mean {middle.value:.1f}, 95% interval {middle.low:.1f} to "
        f"{middle.high:.1f}; {len(solved)} of {len(seeds)} solved"
        + (
            f", median {statistics.median(s.env_steps for s in solved):,.0f} env steps and "
            f"{statistics.median(s.seconds for s in solved):.1f} CPU s of learning"
            if solved
            else ""
        )
    )
    return "\n".join(lines) + "\n"


def draw_study(
    title: str,
    curves: list[tuple[list[float], list[float]]],
    returns: Float[ndarray, "S E"],
    middle: Estimate,
    bar: float,
) -> Figure:
    """Left validations, a line a seed; right the profile of the test episodes, a band by seeds."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for steps, values in curves:
        left.plot(steps, values, color="C0", alpha=0.45, lw=1.2)
        left.plot(steps[-1], values[-1], "o", color="C0", ms=4)
    if math.isfinite(bar):
        left.axhline(bar, color="C2", ls="--", lw=1, label="counts as solved")
        left.legend(frameon=False, fontsize=9)
    left.set(xlabel="environment steps", ylabel="validation return", title=title)

    low, high = float(returns.min()), float(returns.max())
    span = max(high - low, 1e-9)
    thresholds = np.linspace(low - 0.05 * span, high + 0.02 * span, 200)
    profiles = np.stack([performance_profile(row, thresholds) for row in returns])
    for profile in profiles:
        right.plot(thresholds, profile, color="C0", alpha=0.25, lw=0.8)
    right.plot(thresholds, profiles.mean(0), color="C0", lw=2, label="all episodes")
    right.axvline(middle.value, color="C1", lw=1.5, label="interquartile mean, 95% interval")
    right.axvspan(middle.low, middle.high, color="C1", alpha=0.2, lw=0)
    right.set(xlabel="test return", ylabel="share of episodes with at least that", ylim=(0, 1.03))
    right.legend(frameon=False, fontsize=9, loc="lower left")
    for axis in (left, right):
        axis.grid(alpha=0.25)
    return figure


def interquartile_curve(
    curves: list[tuple[list[float], list[float]]], points: int = 100
) -> tuple[Float[ndarray, " P"], Float[ndarray, " P"], Float[ndarray, " P"], Float[ndarray, " P"]]:
    """Environment steps, and the least, interquartile mean and largest of the curves there."""
    end = min(steps[-1] for steps, _ in curves)
    begin = max(steps[0] for steps, _ in curves)
    at = np.linspace(begin, end, points)
    values = np.stack([np.interp(at, steps, found) for steps, found in curves])
    return at, values.min(0), interquartile_mean(values.T), values.max(0)
