"""Studies: samplers against steps, schedules against objectives, and mistakes made on purpose."""

import statistics
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
from matplotlib.figure import Figure

from diffusion.config import (
    CompareConfig,
    EvaluateConfig,
    FailuresConfig,
    Plan,
    SamplersConfig,
)
from diffusion.data import load, to_pixels
from diffusion.evaluate import Scored, score
from diffusion.figures import draw_all, draw_rows
from diffusion.samplers import evaluations
from diffusion.sampling import generate, load_trained, newest_training
from trainloop import Run, atomic_write, check, train_all

COLUMNS = 10  # samples in a row of a picture


# --- evaluate ------------------------------------------------------------------------------------


def evaluate(config: EvaluateConfig) -> dict[str, float | int | None]:
    """Score a network and draw all that `train` draws, with another sampler or more samples.

    Raises:
        LabError: no checkpoint, one of another data set, or more steps than it has.
    """
    config = Run.options("diffusion", config, "evaluate")
    trained = load_trained(config.checkpoint, config.weights, config.device)
    raw = load_trained(config.checkpoint, "model", config.device)
    data = load(replace(trained.config, data=config.data or trained.config.data))
    check(
        data.name == trained.config.data and data.shape == trained.shape,
        f"the checkpoint was trained on {trained.config.data} {trained.shape}, not on "
        f"{data.name} {data.shape}: leave out --data, or name another --checkpoint",
    )
    check(
        config.steps <= trained.process.T,
        f"--steps must be 1 to {trained.process.T}, the network's T, not {config.steps}",
    )
    run = Run.open("diffusion", config, "evaluate")
    run.resume()
    scored = score(trained, data, config.plan, config.samples, config.seed)
    run.log(config.steps, **{f"test/{name}": value for name, value in scored.figures.items()})
    draw_all(run, trained, raw, data, config.plan, scored)
    return run.finish()


# --- samplers ------------------------------------------------------------------------------------


def samplers(config: SamplersConfig) -> dict[str, float | int | None]:
    """The Frechet distance of every sampler at few steps, against ancestral sampling at all.

    The noise that sample i begins with is the same everywhere. Euler is left out: it is DDIM.

    Raises:
        LabError: no checkpoint, one of a data set without a classifier, or more steps than it has.
    """
    config = Run.options("diffusion", config, "samplers")
    checkpoint = config.checkpoint or str(newest_training(config.data))
    trained = load_trained(checkpoint, device=config.device)
    data = load(trained.config)
    check(data.scorable, f"there is no Frechet distance for {data.name}: it has no labels")
    check(
        config.steps <= trained.process.T,
        f"--steps must be 1 to {trained.process.T}, the network's T, not {config.steps}",
    )
    run = Run.open("diffusion", config, "samplers")
    run.resume()
    plans = [
        Plan(sampler, steps, config.guidance)
        for sampler in ("ddpm", "ddim", "heun", "dpm")
        for steps in config.few
    ]
    plans.append(Plan("ddpm", config.steps, config.guidance))
    scored = {}
    for plan in plans:
        scored[plan] = score(trained, data, plan, config.samples, config.seed)
        name = f"fd_{plan.sampler}_{plan.steps}"
        run.log(plan.steps, **{name: scored[plan].figures["fd"]})
    table = samplers_table(scored)
    write_text(run.folder / "samplers.md", table)
    run.picture("samplers", draw_samplers(scored))
    run.picture("steps", draw_steps(scored))
    ratios = {}
    ancestral = scored[plans[-1]].figures["fd"]
    if (ddim := Plan("ddim", 50, config.guidance)) in scored:
        ratios["ddim50_to_ancestral"] = scored[ddim].figures["fd"] / ancestral
    run.log(config.steps, **ratios)
    return run.finish(samplings=len(plans))


def samplers_table(scored: dict[Plan, Scored]) -> str:
    """Markdown: the distance by sampler and steps, and how often the network was asked."""
    steps = sorted({plan.steps for plan in scored})
    lines = [
        "| sampler | " + " | ".join(f"{count} steps" for count in steps) + " |",
        "|---|" + "---|" * len(steps),
    ]
    for sampler in dict.fromkeys(plan.sampler for plan in scored):
        found = {
            plan.steps: of.figures["fd"] for plan, of in scored.items() if plan.sampler == sampler
        }
        cells = [
            f"{found[count]:.1f} ({evaluations(sampler, count)})" if count in found else ""
            for count in steps
        ]
        lines.append(f"| {sampler} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw_samplers(scored: dict[Plan, Scored]) -> Figure:
    """Distance over calls of the network; ancestral sampling at all steps is the line."""
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axis = figure.subplots()
    *few, ancestral = scored
    for sampler in dict.fromkeys(plan.sampler for plan in few):
        own = [plan for plan in few if plan.sampler == sampler]
        axis.plot(
            [evaluations(sampler, plan.steps) for plan in own],
            [scored[plan].figures["fd"] for plan in own],
            marker="o", label=sampler,
        )  # fmt: skip
    axis.axhline(
        scored[ancestral].figures["fd"], color="0.5", linestyle="--",
        label=f"{ancestral.sampler}, {ancestral.steps} steps",
    )  # fmt: skip
    axis.set_xscale("log")
    ticks = sorted({plan.steps for plan in few})
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("calls of the network for a sample")
    axis.set_ylabel("Frechet distance")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False)
    return figure


def draw_steps(scored: dict[Plan, Scored]) -> Figure:
    """The same noise through every sampler, by steps."""
    return draw_rows(
        {
            f"{plan.sampler}, {plan.steps}": to_pixels(of.samples[:COLUMNS])
            for plan, of in scored.items()
        }
    )


# --- compare -------------------------------------------------------------------------------------


def compare(config: CompareConfig) -> dict[str, float | int | None]:
    """Train every schedule with every objective for the same steps, and score their samples."""
    config = Run.options("diffusion", config, "compare")
    run = Run.open("diffusion", config, "compare")
    run.resume()
    kinds = [
        Kind(*kind)
        for kind in product(config.schedules, config.predictions, config.weightings)
        if kind[:2] != ("flow", "eps")
    ]
    seeds = range(config.seed, config.seed + config.seeds)
    jobs = {
        f"{kind.name}/seed-{seed}": [*config.options(), *kind.options(), f"--seed={seed}"]
        for seed in seeds  # all kinds with the first seed first
        for kind in kinds
    }
    trained = train_all(run, jobs, config.workers)
    distances = {
        kind: [trained[f"{kind.name}/seed-{seed}"].metrics.get("test/fd") for seed in seeds]
        for kind in kinds
    }
    write_text(run.folder / "compare.md", compare_table(distances))
    first = {
        kind.name: trained[f"{kind.name}/seed-{config.seed}"].folder / "last.pt" for kind in kinds
    }
    run.picture("compare", draw_compare(distances))
    run.picture("compare_samples", draw_rows({n: drawn(path) for n, path in first.items()}))
    means = {f"fd_{kind.name}": _mean(values) for kind, values in distances.items()}
    run.log(config.steps, **means)
    return run.finish(trainings=len(trained))


@dataclass(frozen=True)
class Kind:
    """A schedule and an objective."""

    schedule: str
    prediction: str
    weighting: str

    @property
    def objective(self) -> str:
        return self.prediction + ("" if self.weighting == "simple" else f", {self.weighting}")

    @property
    def name(self) -> str:
        return f"{self.schedule}-{self.objective.replace(', ', '-')}"

    def options(self) -> list[str]:
        return [
            f"--schedule={self.schedule}",
            f"--prediction={self.prediction}",
            f"--weighting={self.weighting}",
        ]


Distances = dict[Kind, list[float | None]]  # of each seed; None: the training or samples broke off


def compare_table(distances: Distances) -> str:
    """Markdown: schedules down, objectives across, mean ± standard deviation over seeds."""
    objectives = list(dict.fromkeys(kind.objective for kind in distances))
    lines = ["| schedule | " + " | ".join(objectives) + " |", "|---|" + "---|" * len(objectives)]
    for schedule in dict.fromkeys(kind.schedule for kind in distances):
        found = {
            kind.objective: _spread(values)
            for kind, values in distances.items()
            if kind.schedule == schedule
        }
        lines.append(
            f"| {schedule} | " + " | ".join(found.get(name, "") for name in objectives) + " |"
        )
    return "\n".join(lines) + "\n"


def draw_compare(distances: Distances) -> Figure:
    """Distance of each kind: a dot for each seed, a bar for the mean; colours are schedules."""
    figure = Figure(figsize=(7, 0.28 * len(distances) + 1.1), layout="constrained")
    axis = figure.subplots()
    schedules = list(dict.fromkeys(kind.schedule for kind in distances))
    kinds = list(distances)[::-1]
    for place, kind in enumerate(kinds):
        colour = f"C{schedules.index(kind.schedule)}"
        values = [value for value in distances[kind] if value is not None]
        axis.plot(values, [place] * len(values), "o", color=colour, alpha=0.45)
        if values:
            axis.plot(statistics.fmean(values), place, "|", color=colour, ms=14, mew=3)
    axis.set_yticks(range(len(kinds)), [f"{kind.schedule}, {kind.objective}" for kind in kinds])
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("{x:g}")
    axis.set_xlabel("Frechet distance, each seed (dots) and their mean (bar)")
    axis.grid(axis="x", alpha=0.25, which="both")
    return figure


# --- failures ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failure:
    """A mistake: options of `train`, or another way to sample from the healthy network."""

    title: str
    options: tuple[str, ...] = ()
    plan: Plan | None = None


FAILURES = {
    "linear": Failure("linear schedule at this size", ("--schedule=linear",)),
    "no-ema": Failure("no average of the weights", ("--ema=0",)),
    "time": Failure("t/T into a net made for 0..T", ("--time-scale=0.001",)),
    "unit": Failure("images in 0..1", ("--pixels=unit",)),
    "noise": Failure("noise in the last step", plan=Plan("ddpm", 50, noise_at_zero=True)),
}


def failures(config: FailuresConfig) -> dict[str, float | int | None]:
    """Train with each mistake, and once without; sample with the same noise, score, draw."""
    config = Run.options("diffusion", config, "failures")
    run = Run.open("diffusion", config, "failures")
    run.resume()
    jobs = {
        name: [*config.options(), *options, f"--seed={config.seed}"]
        for name, options in {
            "healthy": (),
            **{name: failure.options for name, failure in FAILURES.items() if not failure.plan},
        }.items()
    }
    trained = train_all(run, jobs, config.workers)
    rows, figures = {}, {}
    for name, title, plan in [
        ("healthy", "no mistake", None),
        *((name, failure.title, failure.plan) for name, failure in FAILURES.items()),
    ]:
        done = trained.get(name, trained["healthy"])
        if plan is None:
            figures[name] = done.metrics["test/fd"]
        else:
            healthy = load_trained(str(done.folder / "last.pt"), device=config.device)
            data = load(healthy.config)
            figures[name] = score(healthy, data, plan, config.samples, config.seed).figures["fd"]
        rows[f"{title}\nFD {figures[name]:.0f}"] = drawn(done.folder / "last.pt", plan)
    titles = [row.splitlines()[0] for row in rows]
    lines = [
        f"| {title} | {figures[name]:.1f} |" for title, name in zip(titles, figures, strict=True)
    ]
    table = "\n".join(["| mistake | Frechet distance |", "|---|---|", *lines]) + "\n"
    write_text(run.folder / "failures.md", table)
    run.picture("failures", draw_rows(rows))
    run.log(config.steps, **{f"fd_{name}": value for name, value in figures.items()})
    return run.finish(trainings=len(trained))


# --- of all of them ------------------------------------------------------------------------------


def drawn(checkpoint: Path, plan: Plan | None = None) -> torch.Tensor:
    """The first samples of seed 0, by the plan of the network's training if no other is given."""
    trained = load_trained(str(checkpoint), device="cpu")
    samples = generate(trained, plan or trained.config.plan, trained.labels(COLUMNS))
    return to_pixels(samples, trained.config.pixels)


def _mean(values: list[float | None]) -> float | None:
    """Of the seeds that came to an end."""
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else None


def _spread(values: list[float | None]) -> str:
    """Mean, and the standard deviation where there are several."""
    found = [value for value in values if value is not None]
    if not found:
        return "broke off"
    mean = f"{statistics.fmean(found):.1f}"
    return f"{mean} ± {statistics.stdev(found):.1f}" if len(found) > 1 else mean


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all; and on the screen."""
    atomic_write(path, lambda file: file.write(text.encode()))
    print(text)
